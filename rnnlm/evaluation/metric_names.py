"""Names of the metrics of outputs that have a right answer, apart from their computation, which is slow to import."""

from collections.abc import Sequence
from typing import Literal

Unit = Literal["words", "chars", "phonemes"]

USUAL: dict[Unit, tuple[str, ...]] = {
    "words": ("bleu", "chrf", "exact_match", "token_accuracy", "error_rate"),
    "chars": ("chrf", "exact_match", "error_rate"),
    "phonemes": ("error_rate", "miss_rate", "exact_match"),
}
METRICS = ("bleu", "chrf", "exact_match", "token_accuracy", "error_rate", "miss_rate")
CORPUS_METRICS = ("bleu", "chrf")  # no sums of counts that are fractions of one another
LESS_IS_BETTER = frozenset({"error_rate", "miss_rate"})
NAMES: dict[Unit, dict[str, str]] = {
    "words": {"error_rate": "word error rate", "miss_rate": "sentence error rate"},
    "chars": {"error_rate": "character error rate", "miss_rate": "sentence error rate"},
    "phonemes": {
        "error_rate": "phoneme error rate",
        "miss_rate": "word error rate",
        "token_accuracy": "phonemes in place",
    },
}
COMMON_NAMES = {"bleu": "BLEU", "chrf": "chrF", "exact_match": "exact match", "token_accuracy": "words in place"}


def check_metrics(metrics: Sequence[str]) -> None:
    """Refuse a name that is none, and one that stands there twice; raises ValueError."""
    unknown = [name for name in metrics if name not in METRICS]
    if unknown or not metrics or len(set(metrics)) < len(metrics):
        problem = f"unknown: {', '.join(unknown)}" if unknown else "give each once, and at least one"
        raise ValueError(f"metrics: {problem}; choose of {', '.join(METRICS)}")


def metric_name(metric: str, unit: Unit) -> str:
    """What people call it."""
    return NAMES[unit].get(metric) or COMMON_NAMES[metric]
