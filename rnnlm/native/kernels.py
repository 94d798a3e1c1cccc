"""The kernels as functions of tensors: float32, on a CPU, row-major; what they return is fresh."""

import ctypes
from typing import NamedTuple

import torch
from torch import Tensor

from rnnlm.native.library import library


class LogSums(NamedTuple):
    """Of n rows, what is known after some tiles of logits: the largest, the sum of 2^(z - largest), the target's."""

    top: Tensor
    total: Tensor
    found: Tensor


def quantise(inputs: Tensor, factor: float, width: int | None = None) -> tuple[Tensor, Tensor]:
    """Rows (N x D) as unsigned bytes around 128, and their scales (N x 1) times `factor`. With a `width` above D, rows
    have so many bytes, the last of which mean nothing."""
    inputs = inputs if inputs.stride(1) == 1 else inputs.contiguous()
    rows, size = inputs.shape
    values = torch.empty(rows, width or size, dtype=torch.uint8)
    scale = torch.empty(rows, 1)
    _kernels().quantise(
        inputs.data_ptr(), rows, size, inputs.stride(0), factor, values.shape[1], values.data_ptr(), scale.data_ptr()
    )
    return values, scale


def rescale(product: Tensor, scale: Tensor | None, offset: Tensor | None) -> Tensor:
    """`product * scale + offset` in place: N x M, N x 1, N x M or M."""
    step = 0
    if offset is not None:
        offset = offset if offset.stride(-1) == 1 else offset.contiguous()
        step = offset.stride(0) if offset.dim() == 2 else 0
    rows, size = product.shape
    _kernels().rescale(product.data_ptr(), _address(scale), _address(offset), rows, size, step)
    return product


def lstm_gates(gates: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
    """h_t and c_t of gates i, f, g, o (N x 4H, contiguous) and c_{t-1} (N x H)."""
    gates, memory = gates.contiguous(), memory if memory.stride(1) == 1 else memory.contiguous()
    rows, size = memory.shape
    hidden, new = torch.empty(rows, size), torch.empty(rows, size)
    _kernels().lstm_gates(
        gates.data_ptr(), memory.data_ptr(), memory.stride(0), rows, size, hidden.data_ptr(), new.data_ptr()
    )
    return hidden, new


def log_sum_exp(
    logits: Tensor, scale: Tensor | None, bias: Tensor | None, targets: Tensor, first: int, sums: LogSums
) -> None:
    """Add a tile of logits in base 2 (N x M, overwritten), of outputs `first` on, to `sums`."""
    rows, size = logits.shape
    _kernels().log_sum_exp(
        logits.data_ptr(), _address(scale), _address(bias), rows, size, targets.data_ptr(), first,
        sums.top.data_ptr(), sums.total.data_ptr(), sums.found.data_ptr(),
    )  # fmt: skip


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _kernels() -> ctypes.CDLL:
    found = library()
    assert found is not None, "whoever calls has asked for it"
    return found
