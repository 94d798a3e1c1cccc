"""Figures that are a ratio of two sums over rows, and how sure they are.

Rows are drawn with replacement, as many as there are: an interval holds 95 % of the draws (percentile bootstrap, Efron
1979). Of two systems the same rows are drawn (Koehn 2004), and the p-value is that of `significance.p_value`. Rows that
add the same need not be told apart, so a draw of all rows is one multinomial draw over distinct ones.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rnnlm.determinism import derive_seed
from rnnlm.evaluation.significance import p_value

SEED = 1

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A share from 0 to 1, or a difference of two, and what holds 95 % of its values over draws of the rows."""

    value: float
    low: float
    high: float


class RowRatio:
    """What rows add (above, below) to the two sums; with `keep_rows` also which row adds what, for paired draws."""

    def __init__(self, *, keep_rows: bool = False) -> None:
        self.counts: Counter[tuple[int, int]] = Counter()
        self._keep_rows = keep_rows
        self._rows: list[Counts] = [np.zeros((0, 2), dtype=np.int64)]

    def add(self, above: npt.ArrayLike, below: npt.ArrayLike) -> None:
        """One entry a row."""
        rows = np.stack([np.asarray(above, dtype=np.int64), np.asarray(below, dtype=np.int64)], axis=1)
        self.counts.update(zip(*rows.T.tolist(), strict=True))
        if self._keep_rows:
            self._rows.append(rows)

    @property
    def below(self) -> int:
        """The sum below."""
        return sum(below * number for (_, below), number in self.counts.items())

    def estimate(self, draws: int) -> Estimate:
        """The ratio over all rows."""
        return bootstrap(self.counts, draws)

    def rows(self) -> Counts:
        """(rows, 2)."""
        assert self._keep_rows
        return np.concatenate(self._rows)


def bootstrap(counts: Counter[tuple[int, int]], draws: int, seed: int = SEED) -> Estimate:
    """Of the ratio of two sums over rows: `counts` says how many rows add (above, below) to them."""
    pairs = np.array(sorted(counts), dtype=np.float64).reshape(-1, 2)
    numbers = np.array([counts[pair] for pair in sorted(counts)], dtype=np.int64)
    above, below = (numbers @ pairs).tolist()
    if not below:
        return Estimate(0.0, 0.0, 0.0)
    return _estimate(above / below, _shares(_draw_sums(pairs, numbers, draws, seed)))


def paired_difference(ours: RowRatio, theirs: RowRatio, draws: int, seed: int = SEED) -> tuple[Estimate, float]:
    """Our ratio less theirs over the same rows, and the p-value of there being no difference."""
    rows = np.concatenate([ours.rows(), theirs.rows()], axis=1)
    pairs, numbers = np.unique(rows, axis=0, return_counts=True)
    sums = _draw_sums(pairs.astype(np.float64), numbers, draws, seed)
    drawn = _shares(sums[:, :2]) - _shares(sums[:, 2:])
    total = rows.sum(axis=0, keepdims=True).astype(np.float64)
    difference = float(_shares(total[:, :2])[0] - _shares(total[:, 2:])[0])
    return _estimate(difference, drawn), p_value(drawn, difference)


def _draw_sums(pairs: Floats, numbers: Counts, draws: int, seed: int) -> Floats:
    random = np.random.default_rng(derive_seed(seed, "bootstrap"))
    total = int(numbers.sum())
    return np.stack([random.multinomial(total, numbers / total) @ pairs for _ in range(draws)])


def _shares(sums: Floats) -> Floats:
    shares: Floats = sums[:, 0] / np.maximum(sums[:, 1], 1.0)
    return shares


def _estimate(value: float, drawn: Floats) -> Estimate:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Estimate(value, float(low), float(high))
