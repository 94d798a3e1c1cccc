"""The precision of matrix products, and those of float32 on a CPU through oneDNN.

torch gives float32 products to MKL, which on an AMD EPYC (Zen 5) reaches 65 to 95 GFLOP/s a thread where oneDNN reaches
150 to 210, with the same rounding error. The operation is the one that torch's compiler puts in for a linear layer; it
takes a row of biases along at no cost, and has no gradient of its own.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from rnnlm.nn.prepared import HAS_ONEDNN, LEAST_WORK, active_weights


def linear(values: Tensor, weight: Tensor, bias: Tensor | None = None, added: Tensor | None = None) -> Tensor:
    """`values @ weight^T + bias + added`, ... x K and M x K to ... x M, in the precision that autocast asks for, or in
    that of the weights that are prepared (`prepared.py`)."""
    active = active_weights()
    prepared = None if active is None else active.of(weight)
    if prepared is not None:
        if values.dim() == 2:
            return prepared.product(prepared.operand(values), bias, added)
        flat = None if added is None else added.flatten(0, -2)
        product = prepared.product(prepared.operand(values.flatten(0, -2)), bias, flat)
        unflattened: Tensor = product.unflatten(0, values.shape[:-1])
        return unflattened
    result = _linear(values, weight, bias)
    return result if added is None else result + added


def _linear(values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    small = values.numel() * len(weight) < LEAST_WORK
    if small or not _through_onednn(values) or product_dtype(values) != torch.float32:
        result: Tensor = F.linear(values, weight, bias)
    elif torch.is_grad_enabled() and (values.requires_grad or weight.requires_grad):
        result = _Linear.apply(values.flatten(0, -2), weight, bias).unflatten(0, values.shape[:-1])
    else:
        result = times_transposed(values, weight, bias)
    return result


class Linear(nn.Linear):
    """torch's, by `linear`."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        return linear(input, self.weight, self.bias)


def times_transposed(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """`left @ right^T + bias`: N x K and M x K to N x M. For use where no gradient is recorded."""
    if _through_onednn(left):
        product: Tensor = torch.ops.mkldnn._linear_pointwise(left, right, bias, "none", [], "")
        return product
    return left @ right.t() if bias is None else torch.addmm(bias, left, right.t())


def product_dtype(tensor: Tensor) -> torch.dtype:
    """The precision that large products are done in: what autocast asks for, else the tensor's own."""
    device = tensor.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else tensor.dtype


def _through_onednn(tensor: Tensor) -> bool:
    usual = HAS_ONEDNN and tensor.dtype == torch.float32 and tensor.device.type == "cpu" and tensor.numel() > 0
    return usual and not torch._C._is_tracing()  # the tracer knows no operation of oneDNN


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(values, weight)
        return times_transposed(values, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        values, weight = ctx.saved_tensors
        by_values, by_weight, by_bias = ctx.needs_input_grad
        return (
            times_transposed(gradient, weight.t()) if by_values else None,
            # Rows with gaps between them (a part of a state) would take oneDNN seconds.
            times_transposed(gradient.t().contiguous(), values.contiguous().t()) if by_weight else None,
            gradient.sum(0) if by_bias else None,
        )
