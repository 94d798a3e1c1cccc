"""How much better or worse a run scores each row than the baseline: a histogram, and the rows that differ most."""

import heapq
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rnnlm.evaluation.page import cut
from rnnlm.evaluation.perplexity import EXCERPT, LN2, MIN_EXTREME_BYTES

EXTREMES = 5  # rows kept of each direction
BINS = 4000  # fine ones; a plot joins them

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scale:
    """The unit in which rows are compared, and where its histogram ends; what lies beyond is in the last bins."""

    unit: str
    limit: float

    @property
    def width(self) -> float:
        """Of a bin of the histogram."""
        return 2.0 * self.limit / BINS


BITS_PER_BYTE = Scale("bits per byte", 16.0)
NATS_PER_ROW = Scale("nats a row", 1000.0)  # where there is no text


@dataclass(frozen=True)
class DifferingRow:
    """A row that two runs score differently; `difference` is the run's value less the baseline's."""

    difference: float
    row: int
    id: str
    excerpt: str


class RowDifferences:
    """Differences of one run while they are read."""

    def __init__(self, scale: Scale) -> None:
        self.scale = scale
        self.histogram = np.zeros(BINS, dtype=np.int64)
        self.worse: list[DifferingRow] = []  # the most above 0 first
        self.better: list[DifferingRow] = []  # the most below 0 first

    def add(
        self, nats: Floats, rows: npt.NDArray[np.int64], num_bytes: Floats, texts: pa.Array | None, ids: pa.Array | None
    ) -> None:
        """`nats` (rows,) are -logprob less that of the baseline, `rows` their places in the data."""
        if texts is not None:  # empty texts have no bytes, and short ones are extreme by accident
            full = num_bytes > 0
            values = np.divide(nats, LN2 * num_bytes, out=np.zeros_like(nats), where=full)
            counted, eligible = values[full], np.flatnonzero(num_bytes >= MIN_EXTREME_BYTES)
        else:
            values, counted, eligible = nats, nats, np.arange(len(nats))
        ends = (-self.scale.limit, self.scale.limit)
        self.histogram += np.histogram(np.clip(counted, *ends), bins=BINS, range=ends)[0]
        for kept, direction in ((self.worse, 1.0), (self.better, -1.0)):
            ranks = direction * values[eligible]
            for place in eligible[np.argsort(-ranks, kind="stable")[:EXTREMES]].tolist():
                if direction * values[place] > 0.0:
                    kept.append(_differing(float(values[place]), int(rows[place]), place, texts, ids))
            kept[:] = heapq.nlargest(EXTREMES, kept, key=lambda one: (direction * one.difference, -one.row))


def _differing(value: float, row: int, place: int, texts: pa.Array | None, ids: pa.Array | None) -> DifferingRow:
    name = row if ids is None else ids[place].as_py()
    return DifferingRow(value, row, str(name), "" if texts is None else cut(texts[place].as_py(), EXCERPT))
