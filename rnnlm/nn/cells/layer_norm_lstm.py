"""The LSTM with layer normalisation (Ba, Kiros & Hinton 2016, equations 20-22).

    i, f, g, o = LN(U h_{t-1}; a_1) + LN(W x_t; a_2) + b         (four blocks of H rows, in this order)
    c_t = sigmoid(f) * c_{t-1} + sigmoid(i) * tanh(g)
    h_t = sigmoid(o) * tanh(LN(c_t; a_3) + b_3)

    LN(z; a) = a * (z - mean(z)) / std(z)

Mean and variance are taken over all 4H elements of a product, as in the paper, and not gate by gate; the memory that is
carried on is c_t itself, not its normalisation. The paper gives each LN a shift; those of the two products would only
add to b and are left out. Gains a start at 1, the shift b_3 at 0.
"""

import torch
import torch.nn.functional as F
from torch import nn

from rnnlm.config import config
from rnnlm.nn.activations import tanh
from rnnlm.nn.cells.gated import GatedCell, GatedConfig
from rnnlm.nn.products import linear
from rnnlm.types import PackedInputs, Projected, ProjectedStep, State, StepOutputs


@config
class LayerNormLSTMConfig(GatedConfig):
    """Long short-term memory with layer normalisation."""

    def build(self, input_size: int) -> "LayerNormLSTM":
        return LayerNormLSTM(input_size, self)


class LayerNormLSTM(GatedCell):
    """State: (h, c). a_1 is `recurrent_gain`, a_2 `input_gain`, a_3 and b_3 `memory_gain` and `memory_shift`."""

    def __init__(self, input_size: int, options: LayerNormLSTMConfig) -> None:
        super().__init__(input_size, options)
        self.input_gain = nn.Parameter(torch.ones(4 * self.hidden_size))
        self.recurrent_gain = nn.Parameter(torch.ones(4 * self.hidden_size))
        self.memory_gain = nn.Parameter(torch.ones(self.hidden_size))
        self.memory_shift = nn.Parameter(torch.zeros(self.hidden_size))

    def project(self, inputs: PackedInputs) -> Projected:
        return F.layer_norm(linear(inputs, self.input_weight), self.bias.shape, self.input_gain, self.bias)

    def advance(self, projected: ProjectedStep, state: State) -> tuple[StepOutputs, State]:
        hidden, cell = state
        recurrent = linear(hidden, self.matrix("recurrent_weight"))
        gates = projected + F.layer_norm(recurrent, self.bias.shape, self.recurrent_gain)
        write, keep, candidate, read = gates.chunk(4, dim=1)
        cell = torch.addcmul(keep.sigmoid() * cell, write.sigmoid(), tanh(candidate))
        normal = F.layer_norm(cell, self.memory_gain.shape, self.memory_gain, self.memory_shift)
        hidden = read.sigmoid() * tanh(normal)
        return hidden, (hidden, cell)
