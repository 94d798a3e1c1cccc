"""What was wrong, in its sentence."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from rnnlm.evaluation.labelled.columns import Columns

MAX_MISTAKES = 24  # that are shown, of each sort
AROUND = 12  # words on either side of a mistake
MAX_CHARS = 300  # of a text that stands for a row


@dataclass(frozen=True)
class Mistake:
    """A wrong word, span or row. `reference` and `predicted` are labels, classes, or the types of spans there;
    `confidence` is that of the prediction, if it is known. `row` counts from 0 over all parts."""

    row: int
    before: str
    text: str
    after: str
    reference: str
    predicted: str
    confidence: float | None = None


class Context:
    """The words and texts of a batch, where there are any."""

    def __init__(self, batch: pa.RecordBatch, columns: Columns) -> None:
        self.words_column = columns.words
        self.words = batch.column(columns.words) if columns.words is not None else None
        self._texts = batch.column(columns.text) if columns.text is not None else None

    def around(self, row: int, start: int, end: int) -> tuple[str, str, str]:
        """What is before, within and behind some words; without a column of words, their numbers and the text."""
        words = self.words_of(row)
        if words and end <= len(words):
            before, after = words[max(0, start - AROUND) : start], words[end : end + AROUND]
            return _joined(before), _joined(words[start:end]), _joined(after)
        return "", f"word {start + 1}" if end == start + 1 else f"words {start + 1} to {end}", self._text(row)

    def whole(self, row: int) -> tuple[str, str, str]:
        """The row, with nothing around it."""
        words = self.words_of(row)
        return "", _joined(words)[:MAX_CHARS] if words else self._text(row), ""

    def words_of(self, row: int) -> list[str] | None:
        """The words of a row, empty where they are null, if there is a column of words."""
        found: list[str | None] | None = self.words[row].as_py() if self.words is not None else None
        return None if found is None else [word or "" for word in found]

    def _text(self, row: int) -> str:
        return (self._texts[row].as_py() or "" if self._texts is not None else "")[:MAX_CHARS]


def most_confident(mistakes: Sequence[Mistake]) -> list[Mistake]:
    """As many as are shown; of equals, and without confidences, the first."""
    return sorted(mistakes, key=lambda one: -(one.confidence or 0.0))[:MAX_MISTAKES]


def _joined(words: Sequence[str]) -> str:
    return " ".join(words)
