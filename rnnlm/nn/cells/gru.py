"""Gated recurrent unit (Cho et al. 2014, equations 5-8), with the reset gate applied after the recurrent product.

    r, z, n = W x_t + b                      r', z', n' = U h_{t-1} + b'      (three blocks of H rows, in this order)
    r = sigmoid(r + r')    z = sigmoid(z + z')    n = tanh(n + r * n')
    h_t = (1 - z) * n + z * h_{t-1}

Applying the reset after the product (v3 in cuDNN's words) lets one matrix product serve all gates. Names and layout
of the weights are those of torch.nn.GRU, which also gives the fused kernel.
"""

from typing import cast

import torch
from torch import Tensor, nn

from rnnlm.config import config
from rnnlm.nn.activations import tanh
from rnnlm.nn.cells.base import DenseCellConfig, FusedCell
from rnnlm.nn.products import linear
from rnnlm.types import PackedInputs, Projected, ProjectedStep, State, StepOutputs


@config
class GRUConfig(DenseCellConfig):
    """Gated recurrent unit."""

    def build(self, input_size: int) -> "GRU":
        return GRU(input_size, self.hidden_size, weight_drop=self.weight_drop)


class GRU(FusedCell):
    """State: (h,)."""

    def __init__(self, input_size: int, hidden_size: int, *, weight_drop: float) -> None:
        fused = nn.GRU(input_size, hidden_size, batch_first=True)
        super().__init__(fused, (hidden_size,), weight_drop=weight_drop)

    def project(self, inputs: PackedInputs) -> Projected:
        input_weight, _, input_bias, _ = self.weights()
        return linear(inputs, input_weight, input_bias)

    def advance(self, projected: ProjectedStep, state: State) -> tuple[StepOutputs, State]:
        hidden = state[0]
        recurrent = linear(hidden, self.recurrent_weight(), cast(Tensor, self.fused.bias_hh_l0))
        input_reset, input_keep, input_new = projected.chunk(3, dim=1)
        hidden_reset, hidden_keep, hidden_new = recurrent.chunk(3, dim=1)
        keep = (input_keep + hidden_keep).sigmoid()
        new = tanh(torch.addcmul(input_new, (input_reset + hidden_reset).sigmoid(), hidden_new))
        hidden = torch.lerp(new, hidden, keep)
        return hidden, (hidden,)
