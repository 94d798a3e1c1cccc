"""Perplexity, bits per byte and their like, from the log-probabilities of rows; one pass in bounded memory.

    perplexity a token      exp(-sum logprob / sum num_tokens)           ends of sequence counted
    perplexity a word       exp(-sum logprob / (words + rows))           white-space words; each row's end counts as one
    bits per byte           -sum logprob / ln 2 / UTF-8 bytes
    bits per character      -sum logprob / ln 2 / characters

Only the last three compare models with different tokenizers.
"""

import heapq
import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rnnlm.evaluation.scored import ScoredColumns, open_scored, read_batches

LN2 = math.log(2.0)
HISTOGRAM_EDGES = np.linspace(0.0, 16.0, 321)  # bits per byte; what lies beyond falls into the last bin
EXTREMES = 8  # most and least surprising rows that are kept
MIN_EXTREME_BYTES = 64  # shorter rows are extreme by accident
EXCERPT = 400  # characters


@dataclass
class Totals:
    """Sums over rows. Rows without a score count in `errors` and nowhere else."""

    rows: int = 0
    errors: int = 0
    logprob: float = 0.0
    tokens: int = 0
    num_bytes: int = 0
    chars: int = 0
    words: int = 0

    @property
    def scored_rows(self) -> int:
        return self.rows - self.errors

    @property
    def token_perplexity(self) -> float | None:
        return _exp(-self.logprob, self.tokens)

    @property
    def word_perplexity(self) -> float | None:
        return _exp(-self.logprob, self.words + self.scored_rows) if self.words else None

    @property
    def bits_per_byte(self) -> float | None:
        return -self.logprob / LN2 / self.num_bytes if self.num_bytes else None

    @property
    def bits_per_char(self) -> float | None:
        return -self.logprob / LN2 / self.chars if self.chars else None


@dataclass(frozen=True)
class Extreme:
    """A row that the model found much or little surprising."""

    bits_per_byte: float
    row: int
    id: str
    group: str
    excerpt: str


@dataclass
class Evaluation:
    """The whole and its groups; `histograms` count rows by bits per byte between HISTOGRAM_EDGES."""

    total: Totals = field(default_factory=Totals)
    groups: dict[str, Totals] = field(default_factory=dict)
    histograms: dict[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    most_surprising: list[Extreme] = field(default_factory=list)
    least_surprising: list[Extreme] = field(default_factory=list)


def evaluate_scored(path: str, columns: ScoredColumns) -> Evaluation:
    """Evaluate the scored data set at `path`."""
    files, names = open_scored(path, columns)
    result = Evaluation()
    most: list[tuple[float, int, Extreme]] = []
    least: list[tuple[float, int, Extreme]] = []
    first_row = 0
    for batch in read_batches(files, names):
        _add_batch(result, batch, columns, first_row, most, least)
        first_row += batch.num_rows
    result.groups = dict(sorted(result.groups.items()))
    result.most_surprising = [extreme for _, _, extreme in sorted(most, key=lambda item: item[:2], reverse=True)]
    result.least_surprising = [extreme for _, _, extreme in sorted(least, key=lambda item: item[:2], reverse=True)]
    return result


def _add_batch(
    result: Evaluation,
    batch: pa.RecordBatch,
    columns: ScoredColumns,
    first_row: int,
    most: list[tuple[float, int, Extreme]],
    least: list[tuple[float, int, Extreme]],
) -> None:
    logprobs = batch.column("logprob").to_pylist()
    tokens = batch.column("num_tokens").to_pylist()
    texts = batch.column(columns.text).to_pylist() if columns.text else [None] * batch.num_rows
    groups = batch.column(columns.group).to_pylist() if columns.group else [None] * batch.num_rows
    ids = batch.column(columns.id).to_pylist() if columns.id else [None] * batch.num_rows
    for index, (logprob, count, text, group, name) in enumerate(zip(logprobs, tokens, texts, groups, ids, strict=True)):
        key = "null" if group is None else str(group)
        mine = [result.total]
        if columns.group:
            mine.append(result.groups.setdefault(key, Totals()))
        for totals in mine:
            _add_row(totals, logprob, count, text)
        if not text or logprob is None or not math.isfinite(logprob):
            continue
        num_bytes = len(text.encode())
        bits = -logprob / LN2 / num_bytes
        histogram = result.histograms.setdefault(
            key if columns.group else "all", np.zeros(len(HISTOGRAM_EDGES) - 1, dtype=np.int64)
        )
        histogram[min(len(histogram) - 1, int(np.searchsorted(HISTOGRAM_EDGES, bits, side="right")) - 1)] += 1
        if num_bytes >= MIN_EXTREME_BYTES:
            row = first_row + index
            extreme = Extreme(
                bits, row, str(row if name is None else name), "" if group is None else key, text[:EXCERPT]
            )
            _keep(most, (bits, -row, extreme))
            _keep(least, (-bits, -row, extreme))


def _add_row(totals: Totals, logprob: float | None, count: int | None, text: str | None) -> None:
    totals.rows += 1
    if logprob is None or count is None or not math.isfinite(logprob):
        totals.errors += 1
        return
    totals.logprob += logprob
    totals.tokens += count
    if text is not None:
        totals.num_bytes += len(text.encode())
        totals.chars += len(text)
        totals.words += len(text.split())


def _keep(heap: list[tuple[float, int, Extreme]], item: tuple[float, int, Extreme]) -> None:
    """Keep the EXTREMES largest; rows are distinct, so extremes themselves are never compared."""
    if len(heap) < EXTREMES:
        heapq.heappush(heap, item)
    elif item[:2] > heap[0][:2]:
        heapq.heapreplace(heap, item)


def _exp(nll: float, count: int) -> float | None:
    return math.exp(min(700.0, nll / count)) if count else None
