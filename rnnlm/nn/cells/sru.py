"""The simple recurrent unit (Lei, Zhang, Wang, Dai & Artzi 2018, "Simple recurrent units for highly parallelizable
recurrence", section 3).

    f_t = sigmoid(W_f x_t + v_f * c_{t-1} + b_f)
    r_t = sigmoid(W_r x_t + v_r * c_{t-1} + b_r)
    c_t = f_t * c_{t-1} + (1 - f_t) * (W x_t)
    h_t = r_t * c_t + (1 - r_t) * alpha * x_t        alpha = sqrt(1 + 2 exp(b_r at the start))

`peephole` switches the terms with v on. Without them (the form of the first version of the paper, 2017) the recurrence
is linear and its steps are computed at once; with them steps follow one another, though elementwise. v starts at 0.
Where the sizes of x and h differ, the highway carries W_x x_t in place of x_t. W is drawn uniformly with variance 1/D,
which together with alpha keeps the variance of h at that of x (section 3.2).
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from rnnlm.config import config
from rnnlm.nn.cells.base import CellConfig
from rnnlm.nn.cells.scan import ScanCell, mixing
from rnnlm.nn.linear_scan import flow_back
from rnnlm.nn.products import linear
from rnnlm.types import LayerInputs, LayerOutputs, PackedInputs, Parts, Projected, State, StepOutputs


@config
class SRUConfig(CellConfig):
    """Simple recurrent unit."""

    peephole: bool = False
    "Let the gates see the last state elementwise, as published in 2018; steps can then not be computed at once."
    highway_bias: float = 0.0
    "What the bias b_r starts at; below 0 the input passes more than the state at first."

    def build(self, input_size: int) -> "SRU":
        return SRU(input_size, self.hidden_size, self.highway_bias, peephole=self.peephole)


class SRU(ScanCell):
    """State: (c,)."""

    def __init__(self, input_size: int, hidden_size: int, highway_bias: float, *, peephole: bool) -> None:
        super().__init__(input_size, hidden_size, (hidden_size,) * 4)
        self.skips = input_size == hidden_size
        self.alpha = math.sqrt(1.0 + 2.0 * math.exp(highway_bias))
        limit = math.sqrt(3.0 / input_size)
        blocks = 3 if self.skips else 4  # f, r, W, and W_x
        self.weight = nn.Parameter(torch.empty(blocks * hidden_size, input_size).uniform_(-limit, limit))
        self.bias = nn.Parameter(torch.zeros(2 * hidden_size))
        with torch.no_grad():
            self.bias[hidden_size:] = highway_bias
        self.peephole = nn.Parameter(torch.zeros(2, hidden_size)) if peephole else None  # v_f, v_r

    def products(self, inputs: Tensor) -> Tensor:
        """f, r, W x and, unless the inputs themselves take the highway, W_x x."""
        gates, blocks = len(self.bias), len(self.weight)
        return linear(inputs, self.weight, F.pad(self.bias, (0, blocks - gates)))

    def project(self, inputs: PackedInputs) -> Projected:
        products = self.products(inputs)
        return torch.cat([products, inputs], dim=1) if self.skips else products

    def parts(self, inputs: LayerInputs) -> Parts:
        parts = self.products(inputs).split(self.output_size, dim=-1)
        return (*parts, inputs) if self.skips else parts

    def coefficients(self, parts: Parts) -> tuple[Tensor, Tensor]:
        forget, _, candidate, _ = parts
        return mixing(forget.sigmoid(), candidate)

    def outputs(self, parts: Parts, memory: Tensor) -> Tensor:
        _, read, _, skipped = parts
        return torch.lerp(self.alpha * skipped, memory, read.sigmoid())

    def run_one(self, parts: Parts, state: State) -> tuple[StepOutputs, State]:
        if self.peephole is not None:
            seen = [torch.addcmul(part, weight, state[0]) for part, weight in zip(parts, self.peephole, strict=False)]
            parts = (*seen, *parts[2:])
        return super().run_one(parts, state)

    def run(self, parts: Parts, state: State) -> tuple[LayerOutputs, State]:
        if self.peephole is None:
            return super().run(parts, state)
        forget, read, candidate, skipped = parts
        memory = _PeepholeMemory.apply(forget, candidate, self.peephole[0], state[0])
        read = torch.addcmul(read, self.peephole[1], before(state[0], memory))
        return self.outputs((forget, read, candidate, skipped), memory), (memory[:, -1].clone(),)


def before(start: Tensor, memory: Tensor) -> Tensor:
    """c_0 ... c_{T-1}, given c_1 ... c_T."""
    return torch.cat([start.unsqueeze(1), memory[:, :-1]], dim=1)


class _PeepholeMemory(torch.autograd.Function):
    """All c_t where the forget gate sees c_{t-1}. Forwards that is a loop; backwards it is a linear recurrence, since
    dc_t / dc_{t-1} = f_t + v_f * slope_t is known by then, with slope_t = (c_{t-1} - W x_t) * f_t * (1 - f_t)."""

    @staticmethod
    def forward(ctx: Any, forget: Tensor, candidate: Tensor, weight: Tensor, start: Tensor) -> Tensor:
        keep = torch.empty_like(candidate, memory_format=torch.contiguous_format)
        memory = torch.empty_like(keep)
        last = start
        for gate, new, kept, result in zip(*(t.unbind(1) for t in (forget, candidate, keep, memory)), strict=True):
            torch.addcmul(gate, weight, last, out=kept).sigmoid_()
            last = torch.lerp(new, last, kept, out=result)
        ctx.save_for_backward(candidate, weight, start, keep, memory)
        return memory

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        candidate, weight, start, keep, memory = ctx.saved_tensors
        previous = before(start, memory)
        slope = (previous - candidate).mul_(keep).mul_(1.0 - keep)
        carried = torch.addcmul(keep, slope, weight)
        flow = flow_back(carried, grad_outputs[0], chunked=False)  # carried may be above 1
        gate_grad = slope.mul_(flow)
        weight_grad = (gate_grad * previous).sum(dim=(0, 1))
        return gate_grad, (1.0 - keep).mul_(flow), weight_grad, carried[:, 0] * flow[:, 0]
