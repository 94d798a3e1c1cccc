"""Products with weights that are packed once, as functions of tensors: float32 or int8, on a CPU (products.c)."""

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rnnlm.native.kernels import quantise
from rnnlm.native.library import library

PANEL, LANES, BYTES = 64, 16, 4  # outputs of a panel and of a vector; inputs that are multiplied at once in int8
LEVELS = 127  # of int8 on each side of 0
LEAST_SCALE = 1e-30  # of an output whose weights are all 0
ZERO = 128  # what stands for 0 in the unsigned bytes of inputs


class _Product(ctypes.Structure):
    """Inputs and weights as C wants them."""

    _fields_ = (
        ("inputs", ctypes.c_void_p),
        ("stride", ctypes.c_int64),
        ("row_scale", ctypes.c_void_p),
        ("factor", ctypes.c_float),
        ("weights", ctypes.c_void_p),
        ("scale", ctypes.c_void_p),
        ("surplus", ctypes.c_void_p),
        ("depth", ctypes.c_int64),
        ("bytes", ctypes.c_int64),
    )


@dataclass(frozen=True)
class Rows:
    """Inputs of a product, N x D: floats and a factor for all, or bytes with a scale a row (N x 1)."""

    values: Tensor
    scale: Tensor | None = None
    factor: float = 1.0


class Panels:
    """A weight (M x D) in panels of 64 outputs. As `gates`, its M = 4H outputs are four blocks of H, and a panel holds
    16 units of each."""

    def __init__(self, weight: Tensor, *, in_bytes: bool, gates: bool = False) -> None:
        weight = weight.detach().float()
        self.num_outputs, self.num_inputs = weight.shape
        self.in_bytes = in_bytes
        if gates:
            blocks = F.pad(weight.unflatten(0, (4, -1)), (0, 0, 0, -(self.num_outputs // 4) % LANES))
            weight = blocks.unflatten(1, (-1, LANES)).transpose(0, 1).flatten(0, 2)
        weight = F.pad(weight, (0, 0, 0, -len(weight) % PANEL))
        self._scale = self._surplus = None
        if in_bytes:
            weight = F.pad(weight, (0, -self.num_inputs % BYTES))
            self._scale = weight.abs().amax(1).clamp_min_(LEAST_SCALE).div_(LEVELS)
            weight = (weight / self._scale.unsqueeze(1)).round_().to(torch.int8)
            self._surplus = weight.sum(1, dtype=torch.int32) * ZERO
        self.depth = weight.shape[1]
        step = BYTES if in_bytes else 1
        panels = weight.unflatten(1, (-1, step)).unflatten(0, (-1, PANEL)).transpose(1, 2)
        self._weights = panels.contiguous()

    def rows(self, inputs: Tensor, factor: float = 1.0) -> Rows:
        """`factor * inputs` (N x D) as products want them; the same for all panels of one precision and D."""
        if self.in_bytes:
            return Rows(*quantise(inputs, factor, self.depth))
        return Rows(inputs if inputs.stride(1) == 1 else inputs.contiguous(), factor=factor)

    def times(self, rows: Rows, offset: Tensor | None = None, result: Tensor | None = None) -> Tensor:
        """N x M: the product, plus `offset` (M or N x M); in `result`, if that is given."""
        result = torch.empty(len(rows.values), self.num_outputs) if result is None else result
        if offset is not None and offset.stride(-1) != 1:
            offset = offset.contiguous()
        _library().product(
            self._with(rows), len(result), self.num_outputs, _address(offset),
            0 if offset is None or offset.dim() == 1 else offset.stride(0), result.data_ptr(),
        )  # fmt: skip
        return result

    def log_sum_exp(self, rows: Rows, bias: Tensor | None, targets: Tensor) -> tuple[Tensor, Tensor]:
        """log2 of the sum over outputs of 2^(product + bias), and the target's product + bias (N each)."""
        log_sum, found = torch.empty(len(rows.values)), torch.empty(len(rows.values))
        targets = targets.contiguous()  # named, since a copy that nothing names is gone before C reads it
        _library().log_sum_exp_product(
            self._with(rows), len(log_sum), self.num_outputs, _address(bias), targets.data_ptr(),
            log_sum.data_ptr(), found.data_ptr(),
        )  # fmt: skip
        return log_sum, found

    def lstm(
        self, alive: list[int], projected: Tensor, places: Tensor | None, state: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """All steps of an LSTM whose U this is, as `gates`: outputs of all positions, and (h, c) after each row's last
        step. Row i of the inputs' gates is `projected[places[i]]`, or `projected[i]` (4H each)."""
        hidden, memory = (tensor.clone(memory_format=torch.contiguous_format) for tensor in state)
        rows, size = memory.shape
        counts = np.array(alive, dtype=np.int64)
        outputs = torch.empty(int(counts.sum()), size)
        room = torch.empty(rows, self.depth, dtype=torch.uint8) if self.in_bytes else None
        scale = torch.empty(rows) if self.in_bytes else None
        projected = projected.contiguous()  # named, as above
        _library().lstm_packed(
            self._with(None), counts.ctypes.data, len(counts), size, projected.data_ptr(),
            _address(places), hidden.data_ptr(), memory.data_ptr(), outputs.data_ptr(), _address(room), _address(scale),
        )  # fmt: skip
        return outputs, (hidden, memory)

    def _with(self, rows: Rows | None) -> Any:
        product = _Product(
            weights=self._weights.data_ptr(),
            scale=_address(self._scale),
            surplus=_address(self._surplus),
            factor=1.0,
            depth=self.depth,
            bytes=int(self.in_bytes),
        )
        if rows is not None:
            product.factor = rows.factor
            product.inputs, product.stride = rows.values.data_ptr(), rows.values.stride(0)
            product.row_scale = _address(rows.scale)
        return ctypes.byref(product)


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _library() -> ctypes.CDLL:
    found = library()
    assert found is not None, "whoever packs has asked for it"
    return found
