"""What the tables show of each kind of run, and which value of a figure is the best."""

from collections.abc import Sequence
from dataclasses import dataclass

from rnnlm.evaluation.comparison.runs import Kind, Run


@dataclass(frozen=True)
class Measure:
    """A figure by its key in `Run.figures`; `less_is_better` is null where no value is better than another."""

    key: str
    name: str
    digits: int = 0
    less_is_better: bool | None = None


QUALITY: dict[Kind, tuple[Measure, ...]] = {
    "train": (
        Measure("best_valid_nll", "best validation, nats a target", 4, less_is_better=True),
        Measure("valid_perplexity", "validation perplexity", 2, less_is_better=True),
        Measure("steps", "steps"),
        Measure("targets", "targets"),
        Measure("parameters", "parameters"),
        Measure("weight_bytes", "bytes of weights"),
    ),
    "score": (
        Measure("bits_per_byte", "bits per byte", 4, less_is_better=True),
        Measure("token_perplexity", "perplexity a token", 2, less_is_better=True),
        Measure("word_perplexity", "perplexity a word", 2, less_is_better=True),
        Measure("nats_per_row", "nats a row", 3, less_is_better=True),
        Measure("tokens", "tokens"),
        Measure("errors", "rows without a score", less_is_better=True),
    ),
    "evaluate": (
        Measure("stream_perplexity", "perplexity of the stream", 2, less_is_better=True),
        Measure("bits_per_byte", "bits per byte", 4, less_is_better=True),
        Measure("token_perplexity", "perplexity a token", 2, less_is_better=True),
        Measure("word_perplexity", "perplexity a word", 2, less_is_better=True),
        Measure("bleu", "BLEU", 2, less_is_better=False),
        Measure("chrf", "chrF", 2, less_is_better=False),
        Measure("exact_match", "exact match", 2, less_is_better=False),
        Measure("token_accuracy", "tokens in place", 2, less_is_better=False),
        Measure("error_rate", "error rate", 2, less_is_better=True),
        Measure("miss_rate", "sentence error rate", 2, less_is_better=True),
        Measure("rows", "rows"),
        Measure("errors", "rows with an error", less_is_better=True),
    ),
}
COST = (
    Measure("wall_seconds", "seconds on the clock", 1, less_is_better=True),
    Measure("workers", "workers"),
    Measure("worker_seconds", "seconds of workers", 1, less_is_better=True),
    Measure("tokens_per_second", "tokens a second", less_is_better=False),
    Measure("scored_per_second", "tokens scored a second", less_is_better=False),
    Measure("seconds_to_best", "seconds to the best validation", 1, less_is_better=True),
    Measure("targets_to_best", "targets to it"),
)
PARETO: dict[Kind, tuple[str, str]] = {  # cost and quality, less of both is better
    "train": ("seconds_to_best", "valid_perplexity"),
    "score": ("worker_seconds", "bits_per_byte"),
    "evaluate": ("wall_seconds", "word_perplexity"),
}


def shown(measures: Sequence[Measure], runs: Sequence[Run]) -> list[Measure]:
    """Those that at least one run has."""
    return [one for one in measures if any(run.figures.get(one.key) is not None for run in runs)]


def measure(key: str) -> Measure:
    """By its key."""
    return next(one for one in (*COST, *(one for kind in QUALITY.values() for one in kind)) if one.key == key)


def best(one: Measure, runs: Sequence[Run]) -> list[str]:
    """Names of the runs with the best value; none if the figure has no direction or all values are the same."""
    values = {run.name: value for run in runs if (value := run.figures.get(one.key)) is not None}
    if one.less_is_better is None or len(set(values.values())) < 2:
        return []
    top = min(values.values()) if one.less_is_better else max(values.values())
    return [name for name, value in values.items() if value == top]
