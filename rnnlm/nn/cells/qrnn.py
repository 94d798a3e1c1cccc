"""The quasi-recurrent network (Bradbury, Merity, Xiong & Socher 2017, section 2): a convolution over time makes gates,
and a recurrence without weights ("fo-pooling") goes through them.

    z_t = tanh(W_z x_t + V_z x_{t-1} + b_z)        V = 0 for a window of 1
    f_t = sigmoid(W_f x_t + V_f x_{t-1} + b_f)
    o_t = sigmoid(W_o x_t + V_o x_{t-1} + b_o)
    c_t = f_t * c_{t-1} + (1 - f_t) * z_t
    h_t = o_t * c_t

A sequence begins with x_0 = 0. What the state keeps of the last input are its products V x_t, so that a step has no
matrix to multiply by. Zoneout (section 2.1) zeroes 1 - f_t at random in training, without scaling; in evaluation
1 - f_t is multiplied by the share that is kept, its expectation.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from rnnlm.config import config
from rnnlm.nn.activations import tanh
from rnnlm.nn.cells.base import CellConfig
from rnnlm.nn.cells.scan import ScanCell, mixing
from rnnlm.nn.products import linear
from rnnlm.types import LayerOutputs, PackedInputs, Parts, Projected, State, StepOutputs

Window = Literal[1, 2]


@config
class QRNNConfig(CellConfig):
    """Quasi-recurrent network."""

    window: Window = 2
    "Inputs the convolution sees: this one, or this one and the one before."
    zoneout: float = Field(default=0.0, ge=0.0, lt=1.0)
    "Probability that an element of the state is copied from the step before, in training."

    def build(self, input_size: int) -> "QRNN":
        return QRNN(input_size, self.hidden_size, self.window, zoneout=self.zoneout)


class QRNN(ScanCell):
    """State: (c,) and, for a window of 2, V x_t for z, f and o."""

    def __init__(self, input_size: int, hidden_size: int, window: Window, *, zoneout: float) -> None:
        gates = 3 * hidden_size
        super().__init__(input_size, hidden_size, (gates,) * window, (gates,) * (window - 1))
        self.zoneout = zoneout
        limit = (window * input_size) ** -0.5
        self.weight = nn.Parameter(torch.empty(window * gates, input_size).uniform_(-limit, limit))  # W, then V
        self.bias = nn.Parameter(torch.empty(gates).uniform_(-limit, limit))

    def project(self, inputs: PackedInputs) -> Projected:
        return linear(inputs, self.weight, self.padded_bias())

    def padded_bias(self) -> Tensor:
        """b for the products with W, 0 for those with V."""
        return F.pad(self.bias, (0, len(self.weight) - len(self.bias)))

    def coefficients(self, parts: Parts) -> tuple[Tensor, Tensor]:
        candidate, forget, _ = parts[0].chunk(3, dim=-1)
        keep = forget.sigmoid()
        if self.zoneout > 0.0:
            write = 1.0 - keep
            kept = torch.rand_like(write) >= self.zoneout if self.training else 1.0 - self.zoneout
            keep = 1.0 - write * kept
        return mixing(keep, tanh(candidate))

    def outputs(self, parts: Parts, memory: Tensor) -> Tensor:
        return parts[0].narrow(-1, 2 * self.output_size, self.output_size).sigmoid() * memory

    def run_one(self, parts: Parts, state: State) -> tuple[StepOutputs, State]:
        if len(state) == 1:
            return super().run_one(parts, state)
        here, later = parts
        hidden, memory = super().run_one((here + state[1],), state[:1])
        return hidden, (*memory, later)

    def run(self, parts: Parts, state: State) -> tuple[LayerOutputs, State]:
        if len(state) == 1:
            return super().run(parts, state)
        here, later = parts
        before = torch.cat([state[1].unsqueeze(1), later[:, :-1]], dim=1)
        outputs, memory = super().run((here + before,), state[:1])
        return outputs, (*memory, later[:, -1].clone())
