"""Scored runs side by side, row by row; one pass in bounded memory.

Only rows that have a score in every run count, so that all figures are over the same rows. Beside sums there are kept
histograms and extremes of the differences (`RowDifferences`) and, for the tests, `Blocks` of rows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rnnlm.evaluation.comparison.blocks import Blocks
from rnnlm.evaluation.comparison.differences import BITS_PER_BYTE, NATS_PER_ROW, RowDifferences, Scale
from rnnlm.evaluation.comparison.same_rows import RowColumns, read_same_rows
from rnnlm.evaluation.perplexity import LN2, Totals
from rnnlm.evaluation.scored import ERROR

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PairedRows:
    """All that is kept. `nats` (runs, blocks) are sums of -logprob; `weights` (blocks,) turn them into the unit:
    bytes x ln 2, or rows."""

    rows: int
    common: int  # rows with a score in every run
    errors: dict[str, int]  # by run, rows without a score
    totals: dict[str, Totals]  # by run, over the common rows
    rows_a_block: int
    nats: Floats
    weights: Floats
    scale: Scale
    differences: dict[str, RowDifferences]  # by run, all but the baseline


def read_paired(
    paths: Mapping[str, str], columns: RowColumns, baseline: str, on_rows: Callable[[int], None] = lambda _: None
) -> PairedRows:
    """Read all runs; `on_rows` hears how many rows are done. Raises DataError at the first row that is not the same."""
    reading = _Pass(list(paths), columns, baseline)
    for batches in read_same_rows(paths, columns):
        reading.add(batches)
        on_rows(reading.rows)
    return reading.result()


class _Pass:
    """One walk over the rows of all runs."""

    def __init__(self, names: list[str], columns: RowColumns, baseline: str) -> None:
        self._names, self._baseline = names, baseline
        self._text, self._id = columns.texts[baseline], columns.id
        self._scale = NATS_PER_ROW if self._text is None else BITS_PER_BYTE
        self.rows = 0
        self._errors = dict.fromkeys(names, 0)
        self._sums = dict.fromkeys(names, np.zeros(2))  # logprob, tokens
        self._size = np.zeros(4, dtype=np.int64)  # rows, bytes, characters, words
        self._blocks = Blocks(len(names) + 1)
        self._differences = {name: RowDifferences(self._scale) for name in names if name != baseline}

    def add(self, batches: Mapping[str, pa.RecordBatch]) -> None:
        scored = {name: _scored(batch) for name, batch in batches.items()}
        common = np.logical_and.reduce(list(scored.values()))
        kept = {name: batch.filter(pa.array(common)) for name, batch in batches.items()}
        nats = {name: -_floats(batch.column("logprob")) for name, batch in kept.items()}
        for name, batch in kept.items():
            self._errors[name] += int((~scored[name]).sum())
            added = [-nats[name].sum(), _floats(batch.column("num_tokens")).sum()]
            self._sums[name] = self._sums[name] + added
        texts = pc.cast(kept[self._baseline].column(self._text), pa.large_string()) if self._text is not None else None
        ids = kept[self._baseline].column(self._id) if self._id is not None else None
        rows = self.rows + np.flatnonzero(common)
        num_bytes = np.zeros(len(rows)) if texts is None else _floats(pc.fill_null(pc.binary_length(texts), 0))
        self._size += [len(rows), int(num_bytes.sum()), *(_chars_and_words(texts) if texts is not None else (0, 0))]
        weights = np.ones(len(rows)) if texts is None else num_bytes * LN2
        self._blocks.add(np.stack([*(nats[name] for name in self._names), weights]))
        for name, found in self._differences.items():
            found.add(nats[name] - nats[self._baseline], rows, num_bytes, texts, ids)
        self.rows += len(common)

    def result(self) -> PairedRows:
        rows, num_bytes, chars, words = map(int, self._size)
        totals = {
            name: Totals(
                rows=rows, logprob=float(logprob), tokens=int(tokens), num_bytes=num_bytes, chars=chars, words=words
            )
            for name, (logprob, tokens) in self._sums.items()
        }
        *nats, weights = self._blocks.sums()
        return PairedRows(
            self.rows,
            rows,
            self._errors,
            totals,
            self._blocks.size,
            np.stack(nats),
            weights,
            self._scale,
            self._differences,
        )


def _scored(batch: pa.RecordBatch) -> npt.NDArray[np.bool_]:
    """Whether each row has a finite logprob, a num_tokens and no error."""
    good = pc.and_(pc.is_finite(batch.column("logprob")), pc.is_valid(batch.column("num_tokens")))
    if ERROR in batch.schema.names:
        good = pc.and_(good, pc.is_null(batch.column(ERROR)))
    return np.asarray(pc.fill_null(good, False))


def _floats(column: pa.Array) -> Floats:
    return np.asarray(column, dtype=np.float64)


def _chars_and_words(texts: pa.Array) -> tuple[int, int]:
    words = sum(len(text.split()) for text in texts.to_pylist() if text)
    return pc.sum(pc.utf8_length(texts)).as_py() or 0, words
