"""The k nearest of many vectors by cosine: exact, without an index, as products of blocks.

    cos(q, x) = q . x / (|q| |x|)

Blocks of vectors pass by the queries, and the k best of each query so far stay. A block's cosines are a product in
float32, which is off by less than a margin e (Higham 2002, section 3.1: D products and sums in float32). They only
choose: what may be one of the k best within e is computed again, pair by pair, in float64; rounded to float32 that is
the cosine. So neither the result nor the order depends on how vectors are cut into blocks. Of equal cosines the smaller
row number comes first.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rnnlm.nn.prepared import PreparedWeights
from rnnlm.vectors.columns import Vectors

QUERY_ROWS, BLOCK_ROWS = 8192, 512  # of one product, whose result takes 16 MB
CROWDED = 4  # times k candidates of a query: choose among them by the product first
PAIR_NUMBERS = 1 << 18  # of vectors that are multiplied pair by pair at a time; they stay in the cache

Flat = npt.NDArray[np.int64]


class Neighbours(NamedTuple):
    """For each query (Q x k) the numbers of the nearest rows, the nearest first, and their cosines. Where there are
    fewer than k, -1 and -inf."""

    rows: npt.NDArray[np.int64]
    cosines: npt.NDArray[np.float32]

    @staticmethod
    def none(k: int) -> "Neighbours":
        """Of no queries."""
        return Neighbours(np.zeros((0, k), dtype=np.int64), np.zeros((0, k), dtype=np.float32))

    def followed_by(self, other: "Neighbours") -> "Neighbours":
        """These queries, then the others."""
        return Neighbours(np.concatenate([self.rows, other.rows]), np.concatenate([self.cosines, other.cosines]))


class Nearest:
    """Looks for the k nearest of each query among all blocks that are added, in the order of their rows."""

    def __init__(self, queries: Vectors, k: int, *, min_cosine: float = -1.0, leave_out_self: bool = False) -> None:
        """With `leave_out_self` a query is no neighbour of its own: of the row that has its number."""
        self._queries, self._min_cosine, self._leave_out_self = queries, np.float32(min_cosine), leave_out_self
        self._directions = _directions(queries)
        shape = (len(queries.rows), k)
        self._rows = np.full(shape, -1, dtype=np.int64)
        self._cosines = np.full(shape, -np.inf, dtype=np.float32)
        self._weights = PreparedWeights("float32", self._directions.device)
        # Twice the bound for D products and sums and the rounding of both factors, for vectors of length 1.
        self._margin = np.float32((queries.values.shape[1] + 8) * 2.0**-23)

    @property
    def found(self) -> Neighbours:
        return Neighbours(self._rows, self._cosines)

    def add(self, block: Vectors) -> None:
        """Rows of greater numbers than any before."""
        query, place = self._candidates(self._product(_directions(block)))
        if self._leave_out_self:
            others = self._queries.rows[query] != block.rows[place]
            query, place = query[others], place[others]
        cosines = self._exact(block, query, place)
        better = (cosines > self._cosines[query, -1]) & (cosines >= self._min_cosine)
        if better.any():
            self._merge(query[better], block.rows[place[better]], cosines[better])

    def _product(self, directions: Tensor) -> Tensor:
        """Cosines of all queries and a block, off by the margin at the most."""
        if not self._weights.gains(directions):
            return self._directions @ directions.t()
        prepared = self._weights.prepare(directions)
        return prepared.product(prepared.operand(self._directions))

    def _candidates(self, cosines: Tensor) -> tuple[Flat, Flat]:
        """Pairs of a query and a place in the block that may be among the k best; ordered by query, then place."""
        worst = self._cosines[:, -1]
        limit = np.maximum(worst, self._min_cosine) - self._margin
        limit[worst >= 1.0] = np.inf  # nothing is more alike, and of equals the first stay
        over = _at_least(cosines, limit)
        most = self._rows.shape[1] + self._leave_out_self
        if np.count_nonzero(over) > CROWDED * most * len(limit) and cosines.shape[1] > most:
            # k vectors of this block are as good as the k-th best product says, but for the margin.
            kth = cosines.topk(most, dim=1, sorted=False).values.amin(1).numpy()
            over = _at_least(cosines, np.maximum(limit, kth - 2 * self._margin))
        query, place = np.divmod(np.flatnonzero(over.reshape(-1)), cosines.shape[1])
        return query, place

    def _exact(self, block: Vectors, query: Flat, place: Flat) -> npt.NDArray[np.float32]:
        """The cosines of pairs, whatever stands beside them in a block."""
        found = np.empty(len(query))
        step = max(1, PAIR_NUMBERS // block.values.shape[1])
        for start in range(0, len(query), step):
            pair = slice(start, start + step)
            products = np.multiply(self._queries.values[query[pair]], block.values[place[pair]], dtype=np.float64)
            found[pair] = products.sum(axis=1)
        found /= self._queries.lengths[query] * block.lengths[place]
        return found.astype(np.float32)

    def _merge(self, query: Flat, rows: Flat, cosines: npt.NDArray[np.float32]) -> None:
        """Put new neighbours, all of greater rows than those there are, into their places."""
        changed = np.unique(query)
        k = self._rows.shape[1]
        query = np.concatenate([np.repeat(changed, k), query])
        rows = np.concatenate([self._rows[changed].reshape(-1), rows])
        cosines = np.concatenate([self._cosines[changed].reshape(-1), cosines])
        order = np.lexsort((-cosines, query))  # stable: equals stay in the order of their rows
        starts = np.searchsorted(query[order], changed)
        best = order[(starts[:, None] + np.arange(k)).reshape(-1)]
        self._rows[changed] = rows[best].reshape(-1, k)
        self._cosines[changed] = cosines[best].reshape(-1, k)


def _directions(vectors: Vectors) -> Tensor:
    """The vectors at length 1, in float32."""
    return torch.from_numpy((vectors.values / vectors.lengths[:, None]).astype(np.float32))


def _at_least(cosines: Tensor, limit: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = torch.ge(cosines, torch.from_numpy(limit)[:, None]).numpy()
    return found
