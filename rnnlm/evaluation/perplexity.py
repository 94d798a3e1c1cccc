"""Perplexity, bits per byte and their like, from the log-probabilities of rows; one pass in bounded memory.

    nats a token            -sum logprob / sum num_tokens                ends of sequence counted
    perplexity a token      exp(nats a token)
    perplexity a word       exp(-sum logprob / (words + rows))           white-space words; each row's end counts as one
    bits per byte           -sum logprob / ln 2 / UTF-8 bytes
    bits per character      -sum logprob / ln 2 / characters

Only the last three compare models with different tokenizers. All sums are over rows with a score: a finite `logprob`,
a `num_tokens` and no `error`.
"""

import heapq
import math
from dataclasses import asdict, dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rnnlm.errors import DataError
from rnnlm.evaluation.scored import ERROR, ScoredColumns, open_scored, read_batches

LN2 = math.log(2.0)
HISTOGRAM_EDGES = np.linspace(0.0, 16.0, 321)  # bits per byte; what lies beyond falls into the first or last bin
EXTREMES = 8  # most and least surprising rows that are kept
MIN_EXTREME_BYTES = 64  # shorter rows are extreme by accident
EXCERPT = 400  # characters
MAX_GROUPS = 1000  # what a group costs is kept in memory: its sums and its histogram


@dataclass(frozen=True)
class Totals:
    """Sums over rows. Rows without a score count in `rows` and `errors` and nowhere else."""

    rows: int = 0
    errors: int = 0  # rows without a score
    nulls: int = 0  # those among them that name no error
    logprob: float = 0.0  # nats
    tokens: int = 0
    num_bytes: int = 0
    chars: int = 0
    words: int = 0

    @property
    def scored_rows(self) -> int:
        return self.rows - self.errors

    @property
    def nats_per_token(self) -> float | None:
        return -self.logprob / self.tokens if self.tokens else None

    @property
    def token_perplexity(self) -> float | None:
        return _exp(-self.logprob, self.tokens)

    @property
    def word_perplexity(self) -> float | None:
        """exp(nll / words): words are what white space separates, and the end of each row is one more.

        Where tokens are such words, this is `token_perplexity`.
        """
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


@dataclass(frozen=True)
class Evaluation:
    """The whole and its groups; `histograms` count rows by bits per byte between HISTOGRAM_EDGES."""

    total: Totals = field(default_factory=Totals)
    groups: dict[str, Totals] = field(default_factory=dict)
    histograms: dict[str, npt.NDArray[np.int64]] = field(default_factory=dict)
    most_surprising: list[Extreme] = field(default_factory=list)
    least_surprising: list[Extreme] = field(default_factory=list)


def evaluate_scored(path: str, columns: ScoredColumns) -> Evaluation:
    """Evaluate the scored data set at `path`."""
    files, needs = open_scored(path, columns)
    run = _Pass(columns)
    for batch in read_batches(files, needs):
        run.add_batch(batch)
    return run.result()


@dataclass(slots=True)
class _Sums:
    """Totals while they grow; fields as there."""

    rows: int = 0
    errors: int = 0
    nulls: int = 0
    logprob: float = 0.0
    tokens: int = 0
    num_bytes: int = 0
    chars: int = 0
    words: int = 0

    def add(self, logprob: float, tokens: int, text: str | None, num_bytes: int) -> None:
        self.rows += 1
        self.logprob += logprob
        self.tokens += tokens
        if text:
            self.num_bytes += num_bytes
            self.chars += len(text)
            self.words += len(text.split())

    def add_unscored(self, *, named: bool) -> None:
        self.rows += 1
        self.errors += 1
        self.nulls += not named


class _Pass:
    """One walk over the rows, in order."""

    def __init__(self, columns: ScoredColumns) -> None:
        self._columns = columns
        self._total = _Sums()
        self._groups: dict[str, _Sums] = {}
        self._histograms: dict[str, npt.NDArray[np.int64]] = {}
        self._most: list[tuple[float, int, Extreme]] = []
        self._least: list[tuple[float, int, Extreme]] = []

    def add_batch(self, batch: pa.RecordBatch) -> None:
        wanted = ("logprob", "num_tokens", self._columns.text, self._columns.group, self._columns.id, ERROR)
        values = [
            batch.column(name).to_pylist() if name in batch.schema.names else [None] * batch.num_rows for name in wanted
        ]
        for logprob, tokens, text, group, name, error in zip(*values, strict=True):
            key = "null" if group is None else str(group)
            sums = [self._total, self._group(key)] if self._columns.group is not None else [self._total]
            if logprob is None or tokens is None or error is not None or not math.isfinite(logprob):
                for one in sums:
                    one.add_unscored(named=error is not None)
                continue
            num_bytes = len(text.encode()) if text else 0
            for one in sums:
                one.add(logprob, tokens, text, num_bytes)
            if text:
                self._add_text(-logprob / LN2 / num_bytes, text, num_bytes, key, name)

    def result(self) -> Evaluation:
        return Evaluation(
            total=Totals(**asdict(self._total)),
            groups={key: Totals(**asdict(sums)) for key, sums in sorted(self._groups.items())},
            histograms=self._histograms,
            most_surprising=_ranked(self._most),
            least_surprising=_ranked(self._least),
        )

    def _group(self, key: str) -> _Sums:
        if key not in self._groups and len(self._groups) == MAX_GROUPS:
            raise DataError(
                f"the column '{self._columns.group}' has more than {MAX_GROUPS:,} values",
                todo="group_by is for a few kinds of rows; set another column, or null to do without",
            )
        return self._groups.setdefault(key, _Sums())

    def _add_text(self, bits: float, text: str, num_bytes: int, key: str, name: object) -> None:
        """Take a scored text into the histogram, and among the extremes if it is one. `bits` per byte."""
        bins = len(HISTOGRAM_EDGES) - 1
        place = "all" if self._columns.group is None else key
        histogram = self._histograms.setdefault(place, np.zeros(bins, dtype=np.int64))
        # A log-probability that rounding made positive belongs into the first bin, not to index -1.
        histogram[min(bins - 1, max(0, int(np.searchsorted(HISTOGRAM_EDGES, bits, side="right")) - 1))] += 1
        if num_bytes < MIN_EXTREME_BYTES:
            return
        row = self._total.rows - 1
        for heap, rank in ((self._most, bits), (self._least, -bits)):
            if len(heap) == EXTREMES and (rank, -row) <= heap[0][:2]:
                continue
            excerpt = text if len(text) <= EXCERPT else text[:EXCERPT] + "\N{HORIZONTAL ELLIPSIS}"
            shown = Extreme(
                bits, row, str(row if name is None else name), "" if self._columns.group is None else key, excerpt
            )
            # Rows are distinct, so extremes themselves are never compared.
            (heapq.heapreplace if len(heap) == EXTREMES else heapq.heappush)(heap, (rank, -row, shown))


def _ranked(heap: list[tuple[float, int, Extreme]]) -> list[Extreme]:
    return [extreme for _, _, extreme in sorted(heap, key=lambda item: item[:2], reverse=True)]


def _exp(nll: float, count: int) -> float | None:
    return math.exp(min(700.0, nll / count)) if count else None
