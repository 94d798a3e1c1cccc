"""Which words surprised a model: texts to look at, and the words of the corpus; one pass in bounded memory.

    surprisal of a word     -log2 P(word | all before it)      bits (Hale 2001; Levy 2008)

Read from the column `words` of jobs.score words=true. A word is what white space separates, as it stands; one without
a log-probability is left out, and one longer than MAX_CHARS is in no table.

Types are counted exactly up to MAX_TYPES of them. Where there are more, the rarer ones are dropped until half are left
(as in lossy counting; Manku & Motwani 2002, "Approximate frequency counts over data streams"); what is shown of a word
is then about all its occurrences but at most `missed`.
"""

import heapq
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rnnlm.determinism import numpy_generator
from rnnlm.errors import DataError, Place
from rnnlm.evaluation.scored import WORDS, Need, ScoredColumns, read_batches, words_need

LN2 = math.log(2.0)
ROWS = 256  # looked at together; bounds the words in memory
MAX_TYPES = 500_000  # of which there is a count; some 150 bytes each
MAX_CHARS = 32  # of a word in the tables: longer ones are addresses, rulers and the like, and surprise by their length
MIN_COUNT, MIN_SHARE = 5, 1e-5  # a type in the tables was seen so often, and makes up so much of the corpus
SHOWN_TYPES, SHOWN_OCCURRENCES = 20, 12
CONTEXT_CHARS = 60  # before an occurrence
MIN_WORDS = 12  # texts with fewer are extreme by accident
SHOWN_TEXTS = 3  # most and least surprising ones, and typical ones
DRAWN_TEXTS = 256  # drawn at random, among which the typical ones are looked for
TEXT_CHARS = 400  # of a text that is shown

Bits = npt.NDArray[np.float64]


@dataclass(frozen=True)
class WordType:
    """A word and what all its occurrences cost."""

    word: str
    count: int
    mean_bits: float
    total_bits: float


@dataclass(frozen=True)
class Occurrence:
    """A word that surprised, and what stood before it."""

    word: str
    bits: float
    before: str
    row: int
    id: str


@dataclass(frozen=True)
class HeatText:
    """The beginning of a text: words, what stands before each, and bits (None where no token begins)."""

    row: int
    id: str
    mean_bits: float  # of the whole text
    num_words: int  # the same
    words: list[tuple[str, str, float | None]]
    cut: bool


@dataclass(frozen=True)
class Surprisal:
    """Of all words of the corpus; the lists are in order of their figure, the largest first, typical texts by row."""

    num_words: int
    mean_bits: float
    min_count: int  # of a type that is shown
    missed: int  # occurrences of a type that may not be counted; 0: all figures are exact
    by_mean: list[WordType]
    by_total: list[WordType]
    occurrences: list[Occurrence]
    most: list[HeatText]
    typical: list[HeatText]
    least: list[HeatText]


def measure_surprisal(files: list[str], needs: Mapping[str, Need], columns: ScoredColumns) -> Surprisal | None:
    """Stream the words of scored data, opened by `open_scored`; None if there are none. Raises DataError if they are
    not those of the text."""
    run = _Pass()
    row = 0
    for batch in read_batches(files, {**needs, WORDS: words_need()}):
        for start in range(0, batch.num_rows, ROWS):
            run.add(_Rows.read(batch.slice(start, ROWS), row + start, columns))
        row += batch.num_rows
    return run.result()


@dataclass(frozen=True)
class _Rows:
    """Some rows with words, and their words one after the other."""

    texts: list[str]
    numbers: list[int]
    ids: list[str]
    words: list[str]
    row: npt.NDArray[np.int64]  # of each word: which of the rows
    starts: npt.NDArray[np.int64]
    bits: Bits  # NaN where unknown

    @staticmethod
    def read(batch: pa.RecordBatch, first_row: int, columns: ScoredColumns) -> "_Rows":
        present = np.flatnonzero(pc.is_valid(batch.column(WORDS)).to_numpy(zero_copy_only=False))
        batch = batch.take(pa.array(present))
        numbers = (first_row + present).tolist()
        texts = ["" if text is None else text for text in batch.column(columns.text).to_pylist()]
        ids = numbers if columns.id is None else batch.column(columns.id).to_pylist()
        flat = pc.list_flatten(batch.column(WORDS))
        starts, ends, logprobs = (
            flat.field(name).to_numpy(zero_copy_only=False) for name in ("start_char", "end_char", "logprob")
        )
        words = [word for text in texts for word in text.split()]
        row = pc.list_parent_indices(batch.column(WORDS)).to_numpy()
        if not (
            np.array_equal(ends - starts, np.fromiter(map(len, words), np.int64))
            and all(map(str.startswith, map(texts.__getitem__, row.tolist()), words, starts.tolist()))
        ):
            raise DataError(
                f"the words of rows {numbers[0]} to {numbers[-1]} are not those of their texts",
                where=Place("the scored data", column=WORDS),
                todo=f"name the column that was scored: text_column is '{columns.text}'",
            )
        bits = np.asarray(logprobs, dtype=np.float64) / -LN2
        bits[~np.isfinite(bits)] = np.nan
        return _Rows(texts, numbers, [str(one) for one in ids], words, row, starts.astype(np.int64), bits)

    def means(self) -> Bits:
        """Bits a word of each row; NaN for those of few words."""
        known = ~np.isnan(self.bits)
        counts = np.bincount(self.row[known], minlength=len(self.texts))
        sums = np.bincount(self.row[known], weights=self.bits[known], minlength=len(self.texts))
        return np.where(counts >= MIN_WORDS, sums / np.maximum(counts, 1), np.nan)

    def heat_text(self, place: int, mean_bits: float) -> HeatText:
        text = self.texts[place]
        first, behind = np.searchsorted(self.row, [place, place + 1]).tolist()
        words: list[tuple[str, str, float | None]] = []
        end = int(self.starts[first])
        for index in range(first, behind):
            start, word, bits = int(self.starts[index]), self.words[index], float(self.bits[index])
            if words and start + len(word) - int(self.starts[first]) > TEXT_CHARS:
                break
            words.append((text[end:start], word, None if math.isnan(bits) else bits))
            end = start + len(word)
        return HeatText(
            self.numbers[place], self.ids[place], mean_bits, behind - first, words, first + len(words) < behind
        )

    def occurrence(self, index: int) -> Occurrence:
        place, start = int(self.row[index]), int(self.starts[index])
        before = self.texts[place][max(0, start - CONTEXT_CHARS) : start]
        return Occurrence(
            self.words[index],
            float(self.bits[index]),
            ("\N{HORIZONTAL ELLIPSIS}" if start > CONTEXT_CHARS else "") + before,
            self.numbers[place],
            self.ids[place],
        )


class _Best:
    """The few things of the highest rank, of those with the same key the best one, of equals the first."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._heap: list[tuple[float, int, str, Any]] = []
        self._offered = 0

    def offer(self, ranks: Bits, key: Callable[[int], str], make: Callable[[int], Any]) -> None:
        """Things 0, 1, ...; what has no rank (NaN) is none. `key` and `make` are asked about a few of them."""
        above = np.flatnonzero(ranks > self._least)
        for place in above[np.argsort(-ranks[above], kind="stable")].tolist():
            if ranks[place] <= self._least:
                break
            name = key(place)
            same = next((entry for entry in self._heap if entry[2] == name), None)
            if same is None and len(self._heap) == self._size:
                same = self._heap[0]
            if same is not None:
                if ranks[place] <= same[0]:
                    continue
                self._heap.remove(same)
                heapq.heapify(self._heap)
            # The numbers are distinct, so what is kept is never compared.
            heapq.heappush(self._heap, (float(ranks[place]), -self._offered - place, name, make(place)))
        self._offered += len(ranks)

    def ranked(self) -> list[Any]:
        return [entry[3] for entry in sorted(self._heap, key=lambda entry: entry[:2], reverse=True)]

    @property
    def _least(self) -> float:
        """What a newcomer has to surpass."""
        return self._heap[0][0] if len(self._heap) == self._size else -math.inf


class _Types:
    """Count and sum of bits of each type, as the docstring of this file says."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[int, float]] = {}
        self.missed = 0

    def add(self, words: list[str], bits: Bits) -> None:
        coded = pa.array(words, pa.string()).dictionary_encode()
        codes = coded.indices.to_numpy()
        counts, sums = np.bincount(codes).tolist(), np.bincount(codes, weights=bits).tolist()
        for word, count, total in zip(coded.dictionary.to_pylist(), counts, sums, strict=True):
            before = self._sums.get(word, (0, 0.0))
            self._sums[word] = (before[0] + count, before[1] + total)
        if len(self._sums) > MAX_TYPES:
            ordered = sorted(self._sums.items(), key=lambda item: -item[1][0])
            self.missed += ordered[MAX_TYPES // 2][1][0]
            self._sums = dict(ordered[: MAX_TYPES // 2])

    def seen(self, min_count: int) -> Iterator[WordType]:
        """Those that were counted so often."""
        for word, (count, total) in self._sums.items():
            if count >= min_count:
                yield WordType(word, count, total / count, total)


class _Pass:
    """One walk over the rows, in order."""

    def __init__(self) -> None:
        self._num_words, self._total_bits = 0, 0.0
        self._types = _Types()
        self._occurrences = _Best(SHOWN_OCCURRENCES)
        self._most, self._least, self._drawn = _Best(SHOWN_TEXTS), _Best(SHOWN_TEXTS), _Best(DRAWN_TEXTS)
        self._random = numpy_generator(0, "typical texts")

    def add(self, rows: _Rows) -> None:
        known = np.flatnonzero(~np.isnan(rows.bits))
        self._num_words += len(known)
        self._total_bits += float(rows.bits[known].sum())
        short = np.fromiter(map(len, rows.words), np.int64, count=len(rows.words)) <= MAX_CHARS
        known = known[short[known]]
        self._types.add([rows.words[index] for index in known.tolist()], rows.bits[known])
        self._occurrences.offer(np.where(short, rows.bits, np.nan), rows.words.__getitem__, rows.occurrence)
        means = rows.means()
        draw = np.where(np.isnan(means), np.nan, self._random.random(len(means)))
        for best, ranks in ((self._most, means), (self._least, -means), (self._drawn, draw)):
            best.offer(
                ranks,
                lambda place: rows.texts[place][:TEXT_CHARS],
                lambda place: rows.heat_text(place, float(means[place])),
            )

    def result(self) -> Surprisal | None:
        if not self._num_words:
            return None
        min_count = max(MIN_COUNT, math.ceil(MIN_SHARE * self._num_words))
        return Surprisal(
            num_words=self._num_words,
            mean_bits=self._total_bits / self._num_words,
            min_count=min_count,
            missed=self._types.missed,
            by_mean=heapq.nlargest(SHOWN_TYPES, self._types.seen(min_count), key=lambda one: one.mean_bits),
            by_total=heapq.nlargest(SHOWN_TYPES, self._types.seen(min_count), key=lambda one: one.total_bits),
            occurrences=self._occurrences.ranked(),
            most=self._most.ranked(),
            typical=_typical(self._drawn.ranked()),
            least=self._least.ranked(),
        )


def _typical(drawn: list[HeatText]) -> list[HeatText]:
    """Those nearest to the median of what was drawn."""
    if not drawn:
        return []
    median = float(np.median([text.mean_bits for text in drawn]))
    nearest = heapq.nsmallest(SHOWN_TEXTS, drawn, key=lambda text: (abs(text.mean_bits - median), text.row))
    return sorted(nearest, key=lambda text: text.row)
