"""The simple recurrent network (Elman 1990, "Finding structure in time").

    h_t = f(W x_t + U h_{t-1} + b)        f = tanh or relu

W is `weight_ih_l0`, U is `weight_hh_l0`; V, which maps h_t to the vocabulary, is the softmax's. E, the embedding that
makes x_t of a token, is the language model's. Names and layout of the weights are those of torch.nn.RNN, which also
gives the fused kernel.
"""

from typing import Literal

import torch
from torch import nn

from rnnlm.config import config
from rnnlm.nn.activations import tanh
from rnnlm.nn.cells.base import DenseCellConfig, FusedCell
from rnnlm.nn.products import linear
from rnnlm.types import PackedInputs, Projected, ProjectedStep, State, StepOutputs


@config
class ElmanConfig(DenseCellConfig):
    """Elman's simple recurrent network."""

    nonlinearity: Literal["tanh", "relu"] = "tanh"
    "The function f."

    def build(self, input_size: int) -> "Elman":
        return Elman(input_size, self.hidden_size, self.nonlinearity, weight_drop=self.weight_drop)


class Elman(FusedCell):
    """State: (h,)."""

    def __init__(
        self, input_size: int, hidden_size: int, nonlinearity: Literal["tanh", "relu"], *, weight_drop: float
    ) -> None:
        fused = nn.RNN(input_size, hidden_size, nonlinearity=nonlinearity, batch_first=True)
        super().__init__(fused, (hidden_size,), weight_drop=weight_drop)
        self.activation = tanh if nonlinearity == "tanh" else torch.relu

    def project(self, inputs: PackedInputs) -> Projected:
        input_weight, _, input_bias, recurrent_bias = self.weights()
        return linear(inputs, input_weight, input_bias + recurrent_bias)

    def advance(self, projected: ProjectedStep, state: State) -> tuple[StepOutputs, State]:
        hidden = self.activation(linear(state[0], self.recurrent_weight(), added=projected))
        return hidden, (hidden,)
