"""The one setting of a baseline that matters most, chosen on held-out rows by trying some values."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from rnnlm.baselines.base import Baseline, BaselineConfig
from rnnlm.data.labelled import LabelledRows
from rnnlm.errors import ConfigError


@dataclass(frozen=True)
class Tuned:
    """The best model, the value of the field that it was fitted with, and the figure of each value."""

    model: Baseline
    field: str
    value: float
    figures: dict[float, float]


def tune(
    settings: BaselineConfig, rows: LabelledRows, measure: Callable[[Baseline], float], *, multi_label: bool = False
) -> Tuned:
    """Fit `rows` with every value of `settings.tunable` and keep the model that `measure` finds best, the first of
    equals. Raises ConfigError if there is nothing to tune."""
    if settings.tunable is None:
        raise ConfigError("tune: this baseline has no setting to tune; leave tune out")
    field, values = settings.tunable
    best: Baseline | None = None
    figures: dict[float, float] = {}
    for value in values:
        model = replace(settings, **{field: value}).fit(rows, multi_label=multi_label)
        figure = measure(model)
        if best is None or figure > max(figures.values()):
            best = model
        figures[value] = figure
    assert best is not None
    return Tuned(best, field, max(figures, key=lambda value: figures[value]), figures)
