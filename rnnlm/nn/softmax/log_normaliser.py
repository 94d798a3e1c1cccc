"""log sum_v exp(W_v h + b_v) for many h at once, and what its gradients need, without all logits at once.

Rows of hidden states come a chunk at a time, and a chunk meets the table W a tile of rows at a time, so that a tile of
logits is made, shifted, exponentiated and used while it lies in the processor's cache. The largest logit of a row is
known only at the end; until then the largest so far is subtracted, and what was summed is shrunk when a larger one
comes (Milakov & Gimelshein 2018, algorithm 3):

    s_t = s_{t-1} 2^(m_{t-1} - m_t) + sum over the tile of 2^(z - m_t)

The gradient by h is the mean of W under the softmax, and adds up in the same pass. The gradient by W_v is the sum of
c_i p_iv h_i over rows i, where c_i is the derivative of the loss by row i's log-normaliser. It needs the sum to be
complete, so the powers 2^(z - m_t) are kept for the chunk, and what they lack is put on the few hidden states instead.

Logits are in base 2 (the hidden states are scaled by log2(e)): torch's exp2 takes a quarter of the time of its exp.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rnnlm.native import kernels
from rnnlm.native.kernels import LogSums
from rnnlm.nn.prepared import PreparedWeights, native
from rnnlm.nn.products import times_transposed

# The powers of a chunk are CHUNK x V numbers: 85 MB in float32 at V = 33,278. Measured there with H = 256, a thread of
# an EPYC (Zen 5), ms for 1,120 positions with gradients, in float32 and bfloat16 products: chunks of 256 rows 490 and
# 281, of 384 467 and 272, of 560 416 and 259, of 1,120 419 and 256; the gradient of W is read and written once a chunk.
# Tiles of 1,024, 2,048 and 4,096 rows differ by less than their spread. All logits of 256 rows at once, with torch's
# logsumexp and products by MKL, took 880 ms.
CHUNK = 640  # rows of hidden states
TILE = 2048  # rows of the table
LOG2_E = math.log2(math.e)
BELOW_ALL = -1e30  # where the running maximum begins: finite, so that a row without any logit gives no NaN


def chunks(count: int, group: int = 1) -> Iterator[slice]:
    """Even parts of `count` rows, about CHUNK long, that cut no group of `group` rows apart."""
    groups = count // group
    parts = math.ceil(groups / max(1, CHUNK // group))
    size = group * math.ceil(groups / max(1, parts))
    return (slice(start, min(count, start + size)) for start in range(0, count, max(1, size)))


class Table:
    """W (V x H) and b as products want them: W in the precision of the products, b in base 2."""

    def __init__(self, weight: Tensor, bias: Tensor | None, precision: torch.dtype) -> None:
        self.exact_weight, self.exact_bias = weight, bias
        self.weight = weight.to(precision)
        self.bias = None if bias is None else bias * LOG2_E
        self.sum_dtype = weight.dtype

    def tiles(self) -> Iterator[slice]:
        size = len(self.weight)
        return (slice(start, min(size, start + TILE)) for start in range(0, size, TILE))

    def operand(self, hidden: Tensor) -> Tensor:
        """Hidden states as `logits` wants them."""
        return (hidden * LOG2_E).to(self.weight.dtype)

    def logits(self, scaled: Tensor, tile: slice) -> Tensor:
        """Of one tile, in base 2, in the precision of sums."""
        bias = None if self.bias is None else self.bias[tile]
        if self.weight.dtype == self.sum_dtype:
            return times_transposed(scaled, self.weight[tile], bias)
        # The bias does not go through the product: rounded to bfloat16 it would be off by the same amount in every row.
        logits = times_transposed(scaled, self.weight[tile]).to(self.sum_dtype)
        return logits if bias is None else logits.add_(bias)


class PreparedTable:
    """A table in the precision of prepared weights, each tile laid out for itself; for reading only."""

    sum_dtype = torch.float32

    def __init__(self, weights: PreparedWeights, weight: Tensor, bias: Tensor | None) -> None:
        self._tiles = [slice(start, min(len(weight), start + TILE)) for start in range(0, len(weight), TILE)]
        self._weights = {tile.start: weights.prepare(weight[tile]) for tile in self._tiles}
        self._bias = None if bias is None else bias.detach() * LOG2_E

    def tiles(self) -> Iterator[slice]:
        return iter(self._tiles)

    def operand(self, hidden: Tensor) -> Any:
        """Hidden states as `logits` wants them."""
        return self._weights[0].operand(hidden, LOG2_E)

    def logits(self, operand: Any, tile: slice) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Of one tile, in base 2, in float32: z, s, b for z * s + b (n x tile, n x 1, tile)."""
        logits, scale = self._weights[tile.start].unscaled(operand)
        return logits, scale, None if self._bias is None else self._bias[tile]


class KernelTable(ABC):
    """A table that a kernel of the device reads whole, for any number of rows; for reading only."""

    sum_dtype = torch.float32

    @abstractmethod
    def read(self, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """What `read_prepared` gives, for hidden states in float32."""


class PanelTable(KernelTable):
    """In panels on a CPU: logits exist 64 at a time."""

    def __init__(self, weights: PreparedWeights, weight: Tensor, bias: Tensor | None) -> None:
        self._panels = weights.panels(weight)
        self._bias = None if bias is None else bias.detach() * LOG2_E

    def read(self, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        log_sum, found = self._panels.log_sum_exp(self._panels.rows(hidden, LOG2_E), self._bias, targets)
        return log_sum.div_(LOG2_E), found.div_(LOG2_E)


ReadingTable = Table | PreparedTable | KernelTable


@dataclass(frozen=True)
class Struck:
    """Logits of a chunk that count as absent: in row `rows[i]` that of column `columns[i]`."""

    rows: Tensor
    columns: Tensor

    def strike(self, logits: Tensor, tile: slice) -> None:
        inside = (self.columns >= tile.start) & (self.columns < tile.stop)
        logits[self.rows[inside], self.columns[inside] - tile.start] = -torch.inf


@dataclass(frozen=True)
class Powers:
    """2^(z - m_t) of one chunk and one tile (n x tile), and m_t (n x 1), the largest logit of each row so far."""

    tile: slice
    values: Tensor
    top: Tensor


@dataclass(frozen=True)
class Reading:
    """What one pass of n rows over the table gives: log-normalisers (n), and if they are to be differentiated the means
    of W under the softmax (n x H) and what `add_gradients` needs."""

    log_normaliser: Tensor
    mean: Tensor
    powers: list[Powers]
    top: Tensor  # n x 1, the largest logit
    total: Tensor  # n x 1, the sum of 2^(z - top)

    def add_gradients(self, hidden: Tensor, factor: Tensor, weight_grad: Tensor, bias_grad: Tensor | None) -> None:
        """Add the gradients by W (H x V, the faster way round) and b of the sum of factor_i log_normaliser_i."""
        share = factor.unsqueeze(1) / self.total
        for powers in self.powers:
            scale = share * torch.exp2(powers.top - self.top)
            scaled = (hidden * scale).to(powers.values.dtype)
            weight_grad[:, powers.tile].add_(times_transposed(scaled.t(), powers.values.t()))
            if bias_grad is not None:
                bias_grad[powers.tile].addmv_(powers.values.t().to(scale.dtype), scale.squeeze(1))


def read_prepared(hidden: Tensor, targets: Tensor, table: PreparedTable) -> tuple[Tensor, Tensor]:
    """One pass of hidden states (n x H) over a prepared table: log-normalisers and the targets' logits (n each), made
    of the same rounded numbers, so that probabilities add up to 1."""
    operand, count = table.operand(hidden), len(hidden)
    sums = LogSums(hidden.new_full((count,), BELOW_ALL), hidden.new_zeros(count), hidden.new_zeros(count))
    for tile in table.tiles():
        logits, scale, bias = table.logits(operand, tile)
        if native(logits):
            kernels.log_sum_exp(logits, scale, bias, targets, tile.start, sums)
        else:
            _add_tile(logits, scale, bias, targets - tile.start, sums)
    return (sums.total.log2() + sums.top) / LOG2_E, sums.found / LOG2_E


def _add_tile(logits: Tensor, scale: Tensor | None, bias: Tensor | None, places: Tensor, sums: LogSums) -> None:
    """`kernels.log_sum_exp` by torch; `places` are those of the targets in the tile."""
    if scale is not None:
        logits.mul_(scale)
    if bias is not None:
        logits.add_(bias)
    rows = ((places >= 0) & (places < logits.shape[1])).nonzero().squeeze(1)
    sums.found[rows] = logits[rows, places[rows]]
    top = torch.maximum(sums.top, logits.amax(1))
    sums.total.mul_(torch.exp2(sums.top - top)).add_(logits.sub_(top.unsqueeze(1)).exp2_().sum(1))
    sums.top.copy_(top)


def read(hidden: Tensor, table: Table, struck: Struck | None = None, *, differentiate: bool) -> Reading:
    """One pass of hidden states (n x H) over the table."""
    scaled = table.operand(hidden)
    top = hidden.new_full((len(hidden), 1), BELOW_ALL)
    total, mean = torch.zeros_like(top), torch.zeros_like(hidden)
    kept: list[Powers] = []
    for tile in table.tiles():
        logits = table.logits(scaled, tile)
        if struck is not None:
            struck.strike(logits, tile)
        below, top = top, torch.maximum(top, logits.amax(1, keepdim=True))
        shrink = torch.exp2(below - top)
        values = logits.sub_(top).exp2_()
        total.mul_(shrink).add_(values.sum(1, keepdim=True))
        if differentiate:
            values = values.to(table.weight.dtype)
            mean.mul_(shrink).add_(times_transposed(values, table.weight[tile].t()))
            kept.append(Powers(tile, values, top))
    log_normaliser = (total.log2() + top).squeeze(1) / LOG2_E
    total.clamp_min_(torch.finfo(total.dtype).tiny)  # a row without any logit has gradient 0, not 0/0
    return Reading(log_normaliser, mean.div_(total), kept, top, total)
