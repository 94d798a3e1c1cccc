"""Figures that do not compare, and why: then no value of theirs is marked as the best."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rnnlm.evaluation.comparison.measures import QUALITY
from rnnlm.evaluation.comparison.runs import Kind, Run

LOSSES = frozenset({"best_valid_nll", "valid_perplexity"})
PER_TOKEN = frozenset({"token_perplexity", "stream_perplexity"})
REPORTED = frozenset(one.key for one in QUALITY["evaluate"])


@dataclass(frozen=True)
class Note:
    """A sentence, and the keys of the measures that it is about."""

    text: str
    measures: frozenset[str]


def incomparable(kind: Kind, runs: Sequence[Run]) -> list[Note]:
    """At most one note; what it says follows from the runs' settings and figures."""
    if kind == "train" and _several(run.settings["fingerprint.tokenizer"] for run in runs):
        text = (
            "The runs have different tokenizers, so nats and perplexity of a target do not compare. Score the same "
            "texts with jobs.score and compare bits per byte."
        )
        return [Note(text, LOSSES)]
    if kind == "train" and _several(run.settings["fingerprint.valid_tokens"] for run in runs):
        return [Note("The runs were validated on different tables, so their losses do not compare.", LOSSES)]
    if kind == "evaluate" and _several((run.figures["rows"], run.figures["num_bytes"]) for run in runs):
        return [Note("The reports are about different texts, so their figures do not compare.", REPORTED)]
    if kind != "train" and any(_several(_known(key, runs)) for key in ("tokens", "stream_tokens")):
        text = "The models cut the texts into different numbers of tokens, so perplexity a token does not compare."
        return [Note(text, PER_TOKEN)]
    return []


def _known(key: str, runs: Sequence[Run]) -> list[float]:
    return [value for run in runs if (value := run.figures.get(key)) is not None]


def _several(values: Iterable[object]) -> bool:
    return len(set(values)) > 1
