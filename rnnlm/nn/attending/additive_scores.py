"""The scores of additive attention without the tensor B x T x S x size that the formula asks for.

    s_bts = sum over a of v_a z_btsa        z_btsa = tanh(q_bta + k_bsa)

z is made some queries at a time, while it lies in the processor's cache, and once more in the backward pass:

    dz = g_bts v_a (1 - z^2)        dq = sum over s of dz        dk = sum over t of dz        dv = sum of g_bts z
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rnnlm.nn.activations import tanh

CHUNK = 1 << 19  # elements of z at a time: 2 MB, which a core's cache holds
CHUNK_ON_GPU = 1 << 25


class AdditiveScores(torch.autograd.Function):
    """Queries B T A, keys B S A and v (A) to scores B T S."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, scorer: Tensor) -> Tensor:
        ctx.save_for_backward(queries, keys, scorer)
        scores = queries.new_empty(len(queries), queries.shape[1], keys.shape[1])
        for rows, steps in _chunks(queries, keys):
            scores[rows, steps] = _compared(queries[rows, steps], keys[rows]) @ scorer
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        queries, keys, scorer = ctx.saved_tensors
        by_queries, by_keys = torch.empty_like(queries), torch.zeros_like(keys)
        by_scorer = torch.zeros_like(scorer)
        for rows, steps in _chunks(queries, keys):
            compared, part = _compared(queries[rows, steps], keys[rows]), gradient[rows, steps]
            by_scorer += part.flatten() @ compared.flatten(0, 2)
            inner = compared.square_().neg_().add_(1.0).mul_(part.unsqueeze(3)).mul_(scorer)
            by_queries[rows, steps] = inner.sum(2)
            by_keys[rows] += inner.sum(1)
        return by_queries, by_keys, by_scorer


def _compared(queries: Tensor, keys: Tensor) -> Tensor:
    """z of some rows and queries."""
    return tanh(queries.unsqueeze(2) + keys.unsqueeze(1))


def _chunks(queries: Tensor, keys: Tensor) -> Iterator[tuple[slice, slice]]:
    """Rows and queries of which z has about CHUNK elements."""
    rows, steps, size = queries.shape
    a_query = max(1, keys.shape[1] * size)
    at_a_time = max(1, (CHUNK if queries.device.type == "cpu" else CHUNK_ON_GPU) // a_query)
    rows_at_a_time = max(1, at_a_time // max(1, steps))
    steps_at_a_time = min(steps, at_a_time)
    for row in range(0, rows, rows_at_a_time):
        for step in range(0, steps, steps_at_a_time):
            yield slice(row, row + rows_at_a_time), slice(step, step + steps_at_a_time)
