"""A run of jobs.train: best validation, size, cost and settings.

The parameters are counted from the header of the weights file (safetensors: its length as a 64-bit little-endian
number, then JSON with the shape of each tensor), so no model is built.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from rnnlm.checkpoint import CONFIG, LARGEST_JSON_BYTES, resolve_checkpoint, weights_file
from rnnlm.config import flatten
from rnnlm.errors import CheckpointError, DataError
from rnnlm.evaluation.comparison.runs import Run
from rnnlm.storage import Location, open_location

FINGERPRINTS = ("tokenizer", "train_tokens", "valid_tokens")  # fields of run.json


def training_run(name: str, path: str, metrics: Sequence[Mapping[str, Any]]) -> Run:
    """`metrics` are the rows of its metrics.jsonl. Raises DataError if there are none."""
    if not metrics:
        raise DataError(f"{path}: metrics.jsonl is empty", todo="train for longer than loop.log_every_steps")
    folder = resolve_checkpoint(path)
    settings, fingerprints = _settings(open_location(path))
    weights = weights_file(folder)
    figures = {
        **_figures(metrics),
        "parameters": _count_parameters(weights),
        "weight_bytes": weights.info().size,
    }
    workers = settings.get("workers")
    if workers is not None:
        figures |= {"workers": workers, "worker_seconds": workers * metrics[-1]["wall_seconds"]}
    fingerprints["weights"] = folder.join(CONFIG).read_json()["weights_sha256"]
    return Run(name, path, figures, {**settings, **flatten({"fingerprint": fingerprints})}, metrics)


def _figures(metrics: Sequence[Mapping[str, Any]]) -> dict[str, float | int | None]:
    last = metrics[-1]
    speeds = [row["tokens_per_second"] for row in metrics if row["kind"] == "train"]
    valid = [row for row in metrics if row["kind"] == "valid" and math.isfinite(row["nll"])]  # the last may not be
    top = min(valid, key=lambda row: float(row["nll"]), default=None)
    return {
        "steps": last["step"],
        "targets": last["tokens"],
        "wall_seconds": last["wall_seconds"],
        "tokens_per_second": sum(speeds) / len(speeds) if speeds else None,
        "best_valid_nll": top and top["nll"],
        "valid_perplexity": top and math.exp(min(700.0, top["nll"])),
        "seconds_to_best": top and top["wall_seconds"],
        "targets_to_best": top and top["tokens"],
    }


def _settings(folder: Location) -> tuple[dict[str, Any], dict[str, Any]]:
    """As the job was configured (a run of the library alone has only what decides its weights), and fingerprints."""
    identity = folder.join("run.json").read_json()
    given = folder.join("settings.json")
    settings = given.read_json() if given.exists() else {k: v for k, v in identity.items() if k not in FINGERPRINTS}
    return flatten({key: value for key, value in settings.items() if key != "output"}), {
        name: identity.get(name) for name in FINGERPRINTS
    }


def _count_parameters(weights: Location) -> int:
    size = int.from_bytes(weights.read_range(0, 8), "little")
    if not 0 < size <= LARGEST_JSON_BYTES:
        raise CheckpointError(f"{weights.uri} is not a safetensors file", todo="copy the checkpoint again")
    try:
        header = json.loads(weights.read_range(8, size))
        return sum(math.prod(one["shape"]) for name, one in header.items() if name != "__metadata__")
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{weights.uri} has no header of tensors", todo="copy the checkpoint again") from error
