"""Quantiles of any number of values in one pass and a few kilobytes.

A sketch counts values in buckets whose width is a fixed fraction of the values in them: DDSketch (Masson, Rim and Lee,
"DDSketch: A fast and fully-mergeable quantile sketch with relative-error guarantees", VLDB 2019). The paper finds a
value's bucket by a logarithm; here it is the leading bits of the value: the logarithm to base 2, linear between the
powers of two. That takes 1 / ln 2 = 1.44 times as many buckets, but no rounding is involved: every machine fills the
same buckets, so merging in any order gives the same sketch.

A bucket holds what lies above the end of the one before it, up to and including its own end. A quantile is the end of
the bucket that the exact one lies in: never below the exact one, and beside it by less than the relative error.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from rnnlm.errors import DataError

RELATIVE_ERROR = 0.0005  # 0.05 %
SMALLEST_ERROR, LARGEST_ERROR = 1e-5, 0.25  # numbers of buckets fit 32 bits; below 0.25 there is something to see
MANTISSA_BITS = 52  # of a float64
BLOCK = 1 << 17  # values at a time: intermediate results stay in the cache, and small whatever is added
DENSE_SPAN = 1 << 16  # buckets; fewer are counted in an array, even if most of it stays zero

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


class QuantileSketch:
    """How finite values are distributed.

    `relative_error` (1e-5 to 0.25) bounds how far a quantile is from the exact one, as a fraction of the exact one, for
    values of either sign; zero is exact. Below 2.2e-308, where floats lose digits, the bound is absolute: that fraction
    of 2.2e-308. Memory: 12 bytes a bucket in use; a thousandfold range has 20,000 buckets at the default.
    """

    def __init__(self, relative_error: float = RELATIVE_ERROR) -> None:
        if not SMALLEST_ERROR <= relative_error <= LARGEST_ERROR:
            raise ValueError(f"relative_error must be {SMALLEST_ERROR} to {LARGEST_ERROR}, not {relative_error}")
        self.relative_error = relative_error
        # 2 ** -bits is the width of the widest bucket as a fraction of its values.
        self._shift = MANTISSA_BITS - math.ceil(-math.log2(relative_error))
        self._keys: npt.NDArray[np.int32] = np.zeros(0, np.int32)  # ascending
        self._counts: Counts = np.zeros(0, np.int64)
        self._minimum, self._maximum = math.inf, -math.inf

    @property
    def count(self) -> int:
        """How many values were added."""
        return int(self._counts.sum())

    @property
    def minimum(self) -> float | None:
        """The smallest value, exact; None before the first."""
        return self._minimum if len(self._keys) else None

    @property
    def maximum(self) -> float | None:
        """The largest value, exact; None before the first."""
        return self._maximum if len(self._keys) else None

    @property
    def num_bytes(self) -> int:
        """Size of the buckets in memory."""
        return self._keys.nbytes + self._counts.nbytes

    def add(self, values: Floats) -> None:
        """Count `values`, of any shape. Raises ValueError, and counts none of them, if one is not finite."""
        flat = np.ascontiguousarray(values).reshape(-1)
        if not len(flat):
            return
        low, high = float(flat.min()), float(flat.max())  # NaN if there is one among them
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError("a sketch takes finite values only; count the others apart")
        for start in range(0, len(flat), BLOCK):
            self._include(*self._tally(flat[start : start + BLOCK]))
        # Adding zero makes a zero of a negative zero, so that it does not matter which of them came first.
        self._minimum, self._maximum = min(self._minimum, low) + 0.0, max(self._maximum, high) + 0.0

    def merge(self, *others: "QuantileSketch") -> None:
        """Count what the others have counted. Raises ValueError if a relative error is another."""
        for other in others:
            if other.relative_error != self.relative_error:
                raise ValueError(f"relative errors differ: {self.relative_error} and {other.relative_error}")
        for other in others:
            self._include(other._keys, other._counts)
            self._minimum, self._maximum = min(self._minimum, other._minimum), max(self._maximum, other._maximum)

    def quantile(self, q: float) -> float:
        """The value of rank floor(q * (count - 1)) in ascending order, from 0, or one above it within the error.

        It is at most `maximum`. Values above it are in higher buckets: splitting there splits as the buckets do.
        Raises ValueError if q is outside 0 to 1 or nothing was added.
        """
        return self.quantiles([q])[0]

    def quantiles(self, qs: Iterable[float]) -> list[float]:
        """`quantile` of each."""
        wanted = list(qs)
        if not len(self._keys):
            raise ValueError("a sketch of nothing has no quantiles")
        if not all(0.0 <= q <= 1.0 for q in wanted):
            raise ValueError(f"quantiles are 0 to 1, not {wanted}")
        reached = np.cumsum(self._counts)
        ranks = [math.floor(q * (int(reached[-1]) - 1)) for q in wanted]
        ends, _ = self.buckets()
        return [float(ends[place]) for place in np.searchsorted(reached, ranks, side="right")]

    def buckets(self) -> tuple[Floats, Counts]:
        """The buckets in use, ascending: the highest value each can hold (at most `maximum`), and its count."""
        ordered = self._keys.astype(np.int64) << self._shift
        bits = np.where(ordered < 0, -ordered | np.int64(-(2**63)), ordered)  # the sign goes back to its bit
        return np.minimum(bits.view(np.float64), self._maximum), self._counts.copy()

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; the keys as differences, which are short."""
        return {
            "relative_error": self.relative_error,
            "minimum": self.minimum,
            "maximum": self.maximum,
            "key_steps": np.diff(self._keys, prepend=np.int32(0)).tolist(),
            "counts": self._counts.tolist(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "QuantileSketch":
        """The inverse of `to_dict`. Raises DataError if `data` did not come from there."""
        try:
            sketch = cls(data["relative_error"])
            steps, counts = np.asarray(data["key_steps"], np.int64), np.asarray(data["counts"], np.int64)
            ends = (data["minimum"], data["maximum"]) if len(counts) else (math.inf, -math.inf)
            sketch._minimum, sketch._maximum = float(ends[0]), float(ends[1])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"this is not a sketch of quantiles: {error!r}", todo="count the scores again") from error
        if len(steps) != len(counts) or (steps[1:] <= 0).any() or (counts <= 0).any():
            raise DataError("the buckets of this sketch are not in order", todo="count the scores again")
        sketch._keys, sketch._counts = np.cumsum(steps).astype(np.int32), counts
        return sketch

    def _tally(self, values: Floats) -> tuple[npt.NDArray[np.int32], Counts]:
        """The buckets of finite values, ascending, with their counts."""
        ordered = values.view(np.int64)  # positive floats are in the order of their bits
        if ordered.min() < 0:
            ordered = np.where(ordered < 0, -(ordered & np.int64(2**63 - 1)), ordered)
        keys = -(-ordered >> self._shift)  # divided by the width and rounded up
        first = int(keys.min())
        if int(keys.max()) - first < max(DENSE_SPAN, 4 * len(keys)):
            dense = np.bincount(keys - first)
            used = np.flatnonzero(dense)
            return (used + first).astype(np.int32), dense[used].astype(np.int64)
        used, counts = np.unique(keys, return_counts=True)
        return used.astype(np.int32), counts.astype(np.int64)

    def _include(self, keys: npt.NDArray[np.int32], counts: Counts) -> None:
        """Add the counts of ascending `keys`; the longer the sketch has lived, the fewer of them are new."""
        places = np.searchsorted(self._keys, keys)
        known = np.zeros(len(keys), np.bool_)
        inside = places < len(self._keys)
        known[inside] = self._keys[places[inside]] == keys[inside]
        self._counts[places[known]] += counts[known]
        if not known.all():
            self._keys = np.insert(self._keys, places[~known], keys[~known])
            self._counts = np.insert(self._counts, places[~known], counts[~known])
