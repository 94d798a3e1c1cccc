"""Frames: the intent of a text and its slots together, of which one is right if all of it is (Hakkani-Tür et al. 2016,
"Multi-domain joint semantic frame parsing using bi-directional RNN-LSTM")."""

from dataclasses import dataclass

import numpy as np

from rnnlm.data.labels.schemes import Span
from rnnlm.evaluation.labelled.bootstrap import Estimate, RowRatio
from rnnlm.evaluation.labelled.class_sets import ClassSetScorer
from rnnlm.evaluation.labelled.mistakes import MAX_MISTAKES, Mistake
from rnnlm.evaluation.labelled.pairs import Pair
from rnnlm.evaluation.labelled.spans import SpanScorer
from rnnlm.evaluation.labelled.words import TagScorer


@dataclass(frozen=True)
class FrameScores:
    """The share of rows with the right intent and all slots right."""

    accuracy: Estimate
    mistakes: list[Mistake]  # the first


class FrameScorer:
    """Adds up batches of slots and of intents, and gives them to the scorers of both."""

    def __init__(self, slots: SpanScorer, intents: TagScorer | ClassSetScorer, *, keep_rows: bool = False) -> None:
        self.accuracy = RowRatio(keep_rows=keep_rows)
        self._slots, self._intents = slots, intents
        self._mistakes: list[Mistake] = []

    def add(self, slots: Pair, intents: Pair) -> None:
        """The same rows count in both."""
        right = self._slots.add(slots) & self._intents.add(intents)
        self.accuracy.add(right[slots.given], np.ones(int(slots.given.sum())))
        wrong = np.flatnonzero(slots.given & ~right)[: MAX_MISTAKES - len(self._mistakes)]
        self._mistakes += [self._mistake(slots, intents, row) for row in wrong.tolist()]

    def scores(self, draws: int) -> FrameScores:
        """Of all batches."""
        return FrameScores(self.accuracy.estimate(draws), self._mistakes)

    def _mistake(self, slots: Pair, intents: Pair, row: int) -> Mistake:
        """The intents, and of the slots those that differ."""
        words = slots.context.words_of(row)
        failed = bool(slots.failed[row])
        right = self._slots.read(slots, slots.reference[row].as_py(), row, slots.columns.reference)
        predicted = slots.predicted[row].as_py()
        found = set() if failed else self._slots.read(slots, predicted, row, slots.columns.predicted)
        reference = _frame(intents.reference[row].as_py(), right - found, words)
        frame = "" if failed else _frame(intents.predicted[row].as_py(), found - right, words)
        return Mistake(slots.first + row, *slots.context.whole(row), reference, frame)


def _frame(intents: list[str], slots: set[Span], words: list[str] | None) -> str:
    return "; ".join([", ".join(intents), *(_slot(span, words) for span in sorted(slots))])


def _slot(span: Span, words: list[str] | None) -> str:
    if words and span.end_word <= len(words):
        return f"{span.type} = {' '.join(words[span.start_word : span.end_word])}"
    return f"{span.type} (words {span.start_word + 1}\N{EN DASH}{span.end_word})"
