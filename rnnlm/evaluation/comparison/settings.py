"""What sets runs apart: the settings in which they differ."""

from collections.abc import Mapping, Sequence
from typing import Any

from rnnlm.config import flatten
from rnnlm.evaluation.comparison.runs import Run


def differing(runs: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """Dotted path -> name of a run -> its value; only paths that not all runs have with the same value, in order.

    A run that lacks the setting is missing from its entry. 1, 1.0 and true are different values.
    """
    settings = {run.name: _expanded(run.settings) for run in runs}
    found: dict[str, dict[str, Any]] = {}
    for path in sorted({path for one in settings.values() for path in one}):
        values = {name: one[path] for name, one in settings.items() if path in one}
        if len(values) < len(runs) or len({repr(value) for value in values.values()}) > 1:
            found[path] = values
    return found


def _expanded(settings: Mapping[str, Any]) -> dict[str, Any]:
    """With a path for each field of a list of configs (`task.layers.0.hidden_size`), which `flatten` leaves whole."""
    flat: dict[str, Any] = {}
    for path, value in settings.items():
        if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
            flat |= _expanded(flatten({str(place): item for place, item in enumerate(value)}, f"{path}."))
        else:
            flat[path] = value
    return flat
