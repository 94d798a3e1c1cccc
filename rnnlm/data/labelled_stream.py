"""Batches of labelled words, each of about as many words.

Rows are put in an order drawn from (seed, epoch); within pools of that order they are sorted by length, so that a batch
holds rows of like length and little padding, and cut where rows times the longest would exceed the budget of `words`.
The batches of a pool come in a random order.

Batches are global: row i of a batch belongs to rank i mod world size (a rank may be left with an empty row), and the
state is (epoch, position) alone, so any number of workers goes on with the same data in the same order.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from rnnlm.data.labelled import LabelledTable, Unit
from rnnlm.data.tokenizers.labels import PADDING, UNKNOWN_LABEL
from rnnlm.determinism import numpy_generator
from rnnlm.types import Lengths, Mask, TokenIds

POOL_WORDS = 64  # budgets of words whose rows are sorted by length together

Rows = npt.NDArray[np.int64]
SpelledIds = Int[Tensor, "U C"]  # U spellings of up to C characters
PieceIds = Int[Tensor, "U P"]  # the same, of up to P pieces
SpelledLengths = Int[Tensor, " U"]
Classes = Int[Tensor, "B K"]  # up to K classes of a row


@dataclass(frozen=True)
class LabelledBatch:
    """B rows of words, padded on the right, int64 and on the processor.

    `lengths` are at least 1: a row without words has one word of padding. `labels` are UNKNOWN_LABEL behind the end and
    where no label is known, and `mask` is False there. `spellings` are the distinct ones of the batch, padded with 0,
    the longest first, `spelling_lengths` at least 1; `spelling` (B T) says in which row of them each word is spelled.
    `pieces` are those of the same spellings, in the same order, `piece_lengths` at least 1; P is 0 where the reader was
    not asked for them.

    `classes` are those of the rows where the table has some, then UNKNOWN_LABEL; K is 0 where labels are of words.
    `has_words` is False for a row that is padding alone.
    """

    words: TokenIds
    lengths: Lengths
    labels: TokenIds
    mask: Mask
    spellings: SpelledIds
    spelling_lengths: SpelledLengths
    spelling: TokenIds
    pieces: PieceIds
    piece_lengths: SpelledLengths
    classes: Classes
    has_words: Bool[Tensor, " B"]

    def parts(self, unit: Unit) -> tuple[Tensor, SpelledLengths]:
        """What the spellings consist of (U x C or U x P), and of how many."""
        if unit == "characters":
            return self.spellings, self.spelling_lengths
        assert self.pieces.shape[1], "the reader was not asked for pieces"
        return self.pieces, self.piece_lengths


class LabelledReader:
    """Makes batches of the rows of a table, whatever their order, with the `pieces` of words if a model reads some.
    Where a table has not one label a word, none is known."""

    def __init__(self, table: LabelledTable, *, pieces: bool = False) -> None:
        self._table, self._pieces = table, pieces
        self._class_ids, self._class_offsets = table.classes
        self._num_classes = np.diff(self._class_offsets)
        self._labels = table.labels if has_label_per_word(table) else np.full(len(table.words), UNKNOWN_LABEL, np.int32)
        self.lengths = np.diff(table.offsets)

    def plan(self, order: Rows, words: int, max_rows: int | None = None) -> list[Rows]:
        """Cut rows into batches; those that alone exceed the budget stand alone."""
        if not len(order):
            return []
        starts, longest = [0], 0
        for place, length in enumerate(self.lengths[order].tolist()):
            longest = max(longest, length)
            rows = place - starts[-1] + 1
            if rows > 1 and (rows * longest > words or (max_rows is not None and rows > max_rows)):
                starts.append(place)
                longest = length
        return np.split(order, starts[1:])

    def by_length(self, order: Rows) -> Rows:
        """The same rows, those of like length side by side."""
        return order[np.argsort(self.lengths[order], kind="stable")]

    def read(self, rows: Rows) -> LabelledBatch:
        """The batch of some rows; -1 is an empty row."""
        table = self._table
        lengths = np.where(rows >= 0, self.lengths[rows], 0)
        step = np.arange(max(1, lengths.max()))
        real = step < lengths[:, None]
        places = (table.offsets[rows][:, None] + step)[real]
        distinct, spelled = np.unique(table.spelling[places], return_inverse=True)
        longest_first = np.argsort(-table.spellings.characters.lengths[distinct], kind="stable")
        rank = np.empty(len(distinct), dtype=np.int64)
        rank[longest_first] = np.arange(len(distinct))
        spellings, spelling_lengths = self._spelled("characters", distinct[longest_first])
        pieces, piece_lengths = self._spelled("pieces", distinct[longest_first])
        labels = _padded(self._labels[places], real, UNKNOWN_LABEL)
        return LabelledBatch(
            words=torch.from_numpy(_padded(table.words[places], real, 0)),
            lengths=torch.from_numpy(np.maximum(lengths, 1)),
            labels=torch.from_numpy(labels),
            mask=torch.from_numpy(labels != UNKNOWN_LABEL),
            spellings=torch.from_numpy(spellings),
            spelling_lengths=torch.from_numpy(spelling_lengths),
            spelling=torch.from_numpy(_padded(rank[spelled], real, 0)),
            pieces=torch.from_numpy(pieces),
            piece_lengths=torch.from_numpy(piece_lengths),
            classes=torch.from_numpy(self._classes(rows)),
            has_words=torch.from_numpy(lengths > 0),
        )

    def _classes(self, rows: Rows) -> Rows:
        """B K: the classes of rows."""
        counts = np.where(rows >= 0, self._num_classes[rows], 0)
        step = np.arange(counts.max())
        real = step < counts[:, None]
        places = (self._class_offsets[rows][:, None] + step)[real]
        return _padded(self._class_ids[places], real, UNKNOWN_LABEL)

    def _spelled(self, unit: Unit, distinct: npt.NDArray[np.int32]) -> tuple[Rows, Rows]:
        """U P and U: what spellings consist of; one of padding if there is not a single spelling."""
        if unit == "pieces" and not self._pieces:
            return np.zeros((max(1, len(distinct)), 0), dtype=np.int64), np.zeros(max(1, len(distinct)), dtype=np.int64)
        if not len(distinct):
            return np.full((1, 1), PADDING, dtype=np.int64), np.ones(1, dtype=np.int64)
        return self._table.spellings.of(unit).padded(distinct)


class LabelledStream:
    """See the module's docstring. `rows` are those to learn from; null takes all."""

    learning_rate_factor = 1.0

    def __init__(
        self,
        reader: LabelledReader,
        *,
        words: int,
        max_rows: int | None,
        seed: int,
        rows: Rows | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self._reader = reader
        self._rows = np.arange(len(reader.lengths)) if rows is None else rows
        self._words, self._max_rows, self._seed = words, max_rows, seed
        self._rank, self._world_size = rank, world_size
        self.epoch = self.position = 0
        self._load_epoch()
        self._steps_per_epoch = len(self._batches)

    @property
    def steps_per_epoch(self) -> int:
        """Of the first epoch; others may have a batch more or less."""
        return self._steps_per_epoch

    def state(self) -> dict[str, int]:
        """Where the stream stands; give it to `restore`."""
        return {"epoch": self.epoch, "position": self.position}

    def restore(self, state: dict[str, int]) -> None:
        self.epoch, self.position = state["epoch"], state["position"]
        self._load_epoch()

    def next(self) -> LabelledBatch:
        """The next batch."""
        if self.position >= len(self._batches):
            self.epoch, self.position = self.epoch + 1, 0
            self._load_epoch()
        rows = self._batches[self.position]
        self.position += 1
        own = rows[self._rank :: self._world_size]
        return self._reader.read(own if len(own) else np.array([-1]))

    def _load_epoch(self) -> None:
        reader, generator = self._reader, numpy_generator(self._seed, "row order", self.epoch)
        order = generator.permutation(self._rows)
        num_words = max(1, int(reader.lengths[self._rows].sum()))
        pool = max(1, POOL_WORDS * self._words * len(order) // num_words)
        batches: list[Rows] = []
        for start in range(0, len(order), pool):
            found = reader.plan(reader.by_length(order[start : start + pool]), self._words, self._max_rows)
            batches += [found[place] for place in generator.permutation(len(found))]
        self._batches = batches


def has_label_per_word(table: LabelledTable) -> bool:
    """Whether each word has a label of its own, rather than each row some classes or nothing at all."""
    return not table.of_rows and np.array_equal(table.label_offsets, table.offsets)


def _padded(values: npt.NDArray[np.generic], real: npt.NDArray[np.bool_], fill: int) -> Rows:
    """Values at the places that are real, row after row, and `fill` at the others."""
    found = np.full(real.shape, fill, dtype=np.int64)
    found[real] = values
    return found
