"""Weights laid out once for the products of a model that no longer changes.

`linear` and the softmaxes look here first: within `PreparedWeights.active()` a product with a known weight takes the
layout of the chosen precision, made when the weight is first met and kept.

float32   as it is, in the order in which oneDNN reads it: a product of few rows need not rearrange the weight first
int8      each output's weights share a scale, each row of inputs has its own, found as it comes (so that no row's
          result depends on its neighbours); sums are exact integers (Jacob et al. 2018, equation 4)

              w ~ s_v q,   q in -127 .. 127          x ~ s r,   r in -127 .. 127          w x ~ s s_v sum q r

bfloat16, float16   inputs and weights rounded, sums in float32 where the hardware keeps them

Where the processor has AVX-512 and torch one thread, products in float32 and int8 are our own (`native/products.c`),
and what follows a product is done with it: the step of an LSTM, the log-normaliser. Elsewhere oneDNN does them.

Biases, states, nonlinearities and sums of probabilities stay in float32 throughout, except that cuDNN, which runs whole
layers on a GPU, rounds their biases and states as it rounds their weights.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, NamedTuple, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rnnlm.errors import ConfigError
from rnnlm.native import kernels
from rnnlm.native.library import has_products, library
from rnnlm.native.products import LEAST_SCALE, LEVELS, ZERO, Panels, Rows

Precision = Literal["float32", "int8", "bfloat16", "float16"]
Made = TypeVar("Made")

LEAST_WORK = 2_000_000  # multiplications of a product, below which MKL's shorter way to the arithmetic wins
ROWS_HINT = 256  # of a typical product; oneDNN chooses a layout for it
FINE_ROWS, COARSE_ROWS = 128, 512  # products of up to so many rows come in multiples of 8, of 16, and above of 64
HAS_ONEDNN = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
HAS_INT8 = torch.backends.mkldnn.is_available() and hasattr(torch.ops.onednn, "qlinear_pointwise")


def rounded_up(rows: int) -> int:
    """The number of rows that a product of `rows` rows is done with.

    oneDNN compiles code of its own, 0.2 MB, for every number of rows it meets with a weight, and keeps it. Rows of
    unequal length give hundreds of numbers; rounded up they are a few dozen, for some rows that nobody reads.
    """
    step = 8 if rows <= FINE_ROWS else 16 if rows <= COARSE_ROWS else 64
    return -(-rows // step) * step


def with_rows(tensor: Tensor, rows: int) -> Tensor:
    """`tensor` (N x D) with anything at all in further rows: what lies behind it in memory, or else in a copy."""
    if len(tensor) == rows:
        return tensor
    end = tensor.storage_offset() + (rows - 1) * tensor.stride(0) + tensor.shape[1]
    if tensor.stride(1) == 1 and end * tensor.element_size() <= tensor.untyped_storage().nbytes():
        return tensor.as_strided((rows, tensor.shape[1]), tensor.stride())
    longer = tensor.new_empty(rows, tensor.shape[1])
    longer[: len(tensor)] = tensor
    return longer


class Quantised(NamedTuple):
    """Rows of inputs as unsigned bytes (N x D, ZERO stands for 0) and the scale of each (N x 1), which is not finite
    where the row is not."""

    values: Tensor
    scale: Tensor


class PreparedWeight(ABC):
    """One weight, M x D, ready for products."""

    @abstractmethod
    def operand(self, inputs: Tensor, factor: float = 1.0) -> Any:
        """`factor * inputs` (N x D) as products want it; the same for all weights of one precision."""

    @abstractmethod
    def product(self, operand: Any, bias: Tensor | None = None, added: Tensor | None = None) -> Tensor:
        """`operand @ weight^T + bias + added`: N x D to N x M, in float32."""

    def unscaled(self, operand: Any) -> tuple[Tensor, Tensor | None]:
        """The same without bias, and what its rows have still to be multiplied by (N x 1), if by anything."""
        return self.product(operand), None


class FloatWeight(PreparedWeight):
    """float32 in oneDNN's order. `weight` stays for products too small to gain from it."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight
        self._ordered = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), ROWS_HINT)

    def operand(self, inputs: Tensor, factor: float = 1.0) -> Tensor:
        return inputs if factor == 1.0 else inputs * factor

    def product(self, operand: Tensor, bias: Tensor | None = None, added: Tensor | None = None) -> Tensor:
        if operand.numel() * len(self.weight) < LEAST_WORK:
            small = F.linear(operand, self.weight, bias)
            return small if added is None else small.add_(added)
        rows, count = len(operand), rounded_up(len(operand))
        operand = with_rows(operand, count)
        result: Tensor
        if added is None:
            result = torch.ops.mkldnn._linear_pointwise(operand, self._ordered, bias, "none", [], "")
        else:
            added = with_rows(added, count)
            result = torch.ops.mkldnn._linear_pointwise.binary(operand, added, self._ordered, bias, "add")
        return result[:rows]


class HalfWeight(PreparedWeight):
    """bfloat16 or float16, on a CPU in oneDNN's order."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight.contiguous()
        self._ordered = None
        if weight.device.type == "cpu" and _onednn_has(weight.dtype):
            self._ordered = torch.ops.mkldnn._reorder_linear_weight(self.weight, ROWS_HINT)

    def operand(self, inputs: Tensor, factor: float = 1.0) -> Tensor:
        return (inputs if factor == 1.0 else inputs * factor).to(self.weight.dtype)

    def product(self, operand: Tensor, bias: Tensor | None = None, added: Tensor | None = None) -> Tensor:
        if operand.device.type == "cuda":
            result = torch.mm(operand, self.weight.t(), out_dtype=torch.float32)
        elif self._ordered is not None:
            result = torch.ops.mkldnn._linear_pointwise(operand, self._ordered, None, "none", [], "").float()
        else:
            result = F.linear(operand, self.weight).float()
        # Biases are added in float32: rounded they would be off by the same amount in every row.
        if bias is not None:
            result.add_(bias)
        return result if added is None else result.add_(added)


class IntWeight(PreparedWeight):
    """int8 on a CPU."""

    def __init__(self, weight: Tensor) -> None:
        self.scale = weight.abs().amax(1).clamp_min_(LEAST_SCALE).div_(LEVELS)
        values = (weight / self.scale.unsqueeze(1)).round_().to(torch.int8)
        self._ordered = torch.ops.onednn.qlinear_prepack(values, [ROWS_HINT, values.shape[1]])
        self._zeros = torch.zeros(len(values), dtype=torch.int32)

    def operand(self, inputs: Tensor, factor: float = 1.0) -> Quantised:
        if native(inputs):
            return Quantised(*kernels.quantise(inputs, factor))
        scale = inputs.abs().amax(1, keepdim=True).clamp_min_(LEAST_SCALE).div_(LEVELS)
        # Truncation rounds to the nearest, as all is above 0.
        values = (inputs * scale.reciprocal()).add_(ZERO + 0.5).to(torch.uint8)
        return Quantised(values, scale if factor == 1.0 else scale.mul_(factor))

    def product(self, operand: Quantised, bias: Tensor | None = None, added: Tensor | None = None) -> Tensor:
        result, scale = self.unscaled(operand)[0], operand.scale
        if native(result) and (bias is None or added is None):
            return kernels.rescale(result, scale, added if bias is None else bias)
        result.mul_(scale)
        if bias is not None:
            result.add_(bias)
        return result if added is None else result.add_(added)

    def unscaled(self, operand: Quantised) -> tuple[Tensor, Tensor | None]:
        if not len(operand.values):
            return operand.scale.new_empty(0, len(self.scale)), operand.scale
        rows = len(operand.values)
        result: Tensor = torch.ops.onednn.qlinear_pointwise(
            with_rows(operand.values, rounded_up(rows)),
            1.0,
            ZERO,
            self._ordered,
            self.scale,
            self._zeros,
            None,
            1.0,
            0,
            torch.float32,
            "none",
            [],
            "",
        )
        return result[:rows], operand.scale


class PanelWeight(PreparedWeight):
    """float32 or int8 in panels, for our own products."""

    def __init__(self, panels: Panels) -> None:
        self._panels = panels

    def operand(self, inputs: Tensor, factor: float = 1.0) -> Rows:
        return self._panels.rows(inputs, factor)

    def write(self, operand: Rows, bias: Tensor, result: Tensor) -> None:
        """The product with `bias`, into `result` (N x M, contiguous)."""
        self._panels.times(operand, bias, result)

    def product(self, operand: Rows, bias: Tensor | None = None, added: Tensor | None = None) -> Tensor:
        result = self._panels.times(operand, bias if added is None else added)
        return result if added is None or bias is None else result.add_(bias)


def _onednn_has(dtype: torch.dtype) -> bool:
    """Whether this processor multiplies so by itself."""
    name = "_is_mkldnn_fp16_supported" if dtype == torch.float16 else "_is_mkldnn_bf16_supported"
    return HAS_ONEDNN and bool(getattr(torch.ops.mkldnn, name)())


class PreparedWeights:
    """The weights of a model as they were met in products of one precision. The model must not change any more."""

    def __init__(
        self, precision: Precision, device: torch.device, *, native: bool = True, products: bool = True
    ) -> None:
        """`native` allows our own kernels, if they can be had and torch has one thread; `products` those of products.
        Raises ConfigError for a precision that this device or this build of torch cannot give."""
        # They have one thread, torch's operations as many as it is given.
        self.native = native and device.type == "cpu" and torch.get_num_threads() == 1 and library() is not None
        self.in_panels = self.native and products and has_products(precision)
        if precision == "int8" and (device.type != "cpu" or not (HAS_INT8 or self.in_panels)):
            where = "a GPU" if device.type != "cpu" else "this build of torch, which lacks oneDNN"
            raise ConfigError(f"precision: int8 is not for {where}; take bfloat16 or float32")
        self.precision: Precision = precision
        self._made: dict[int, tuple[Tensor, PreparedWeight]] = {}
        self._kept: dict[int, tuple[object, object]] = {}
        self._room: Tensor | None = None

    @contextmanager
    def active(self) -> Iterator[None]:
        """Within, products without a gradient take prepared weights."""
        before = _ACTIVE.set(self)
        try:
            yield
        finally:
            _ACTIVE.reset(before)

    def of(self, weight: Tensor) -> PreparedWeight | None:
        """The prepared form of a parameter; None for what is not one, and where there is nothing to prepare."""
        found = self._made.get(id(weight))
        if found is None:
            if not isinstance(weight, nn.Parameter) or not self.gains(weight):
                return None
            found = self._made.setdefault(id(weight), (weight, self.prepare(weight)))
        return found[1]

    def prepare(self, weight: Tensor) -> PreparedWeight:
        """A fresh prepared form."""
        weight = weight.detach()
        if self.in_panels:
            return PanelWeight(self.panels(weight))
        if self.precision == "int8":
            return IntWeight(weight)
        if self.precision == "float32":
            return FloatWeight(weight)
        return HalfWeight(weight.to(getattr(torch, self.precision)))

    def panels(self, weight: Tensor, *, gates: bool = False) -> Panels:
        """A fresh packed form for our own products, where they are `in_panels`."""
        return Panels(weight, in_bytes=self.precision == "int8", gates=gates)

    def room(self, rows: int, columns: int) -> Tensor:
        """Numbers that last until this is called again: for what is large and soon used up."""
        if self._room is None or self._room.numel() < rows * columns:
            self._room = torch.empty(rows * columns)
        return self._room[: rows * columns].view(rows, columns)

    def keep(self, owner: object, make: Callable[[], Made]) -> Made:
        """What `make` gives for `owner`, made once and kept as long as this."""
        found = self._kept.get(id(owner))
        if found is None:
            found = self._kept.setdefault(id(owner), (owner, make()))
        return cast(Made, found[1])

    def gains(self, weight: Tensor) -> bool:
        """Whether there is anything to prepare."""
        if weight.dtype != torch.float32:
            return False
        return self.precision != "float32" or self.in_panels or (HAS_ONEDNN and weight.device.type == "cpu")


_ACTIVE: ContextVar[PreparedWeights | None] = ContextVar("prepared", default=None)


def active_weights() -> PreparedWeights | None:
    """The prepared weights within whose `active()` this is called."""
    return None if torch.is_grad_enabled() else _ACTIVE.get()


def native(tensor: Tensor) -> bool:
    """Whether our own kernels are to work on this."""
    active = active_weights()
    return active is not None and active.native and tensor.dtype == torch.float32
