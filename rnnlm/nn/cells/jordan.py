"""The Jordan network (Jordan 1986, "Serial order: a parallel distributed processing approach").

    h_t = f(W x_t + U y_{t-1} + b)        f = tanh or relu
    y_t = g(V h_t + a)                    g = sigmoid, tanh or the identity

Where Elman's network feeds back what it is thinking, h_{t-1}, Jordan's feeds back what it said, y_{t-1}. As a layer of
a stack, y_t is both its output and its state, and like h_t it has H elements: it is what the layer above (or the
softmax) sees, not a distribution over the vocabulary, which would cost V times H a step. h_t is not carried on.
Jordan's state units also kept a share of their own last value; that is left out, as is usual.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from rnnlm.config import config
from rnnlm.nn.activations import tanh
from rnnlm.nn.cells.base import DenseCell, DenseCellConfig, drawn
from rnnlm.nn.products import linear
from rnnlm.types import PackedInputs, Projected, ProjectedStep, State, StepOutputs

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": tanh,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "identity": lambda values: values,
}


@config
class JordanConfig(DenseCellConfig):
    """Jordan's network, which feeds back its outputs."""

    nonlinearity: Literal["tanh", "relu"] = "tanh"
    "The function f, of the hidden units."
    output_nonlinearity: Literal["sigmoid", "tanh", "identity"] = "tanh"
    "The function g, of the outputs that are fed back."

    def build(self, input_size: int) -> "Jordan":
        return Jordan(input_size, self)


class Jordan(DenseCell):
    """State: (y,). W is `input_weight`, U is `recurrent_weight`, b is `bias`, V is `output_weight`, a `output_bias`."""

    def __init__(self, input_size: int, options: JordanConfig) -> None:
        size = options.hidden_size
        super().__init__(
            input_size, size, (size,), recurrent_names=("recurrent_weight",), weight_drop=options.weight_drop
        )
        self.input_weight = drawn(size, size, input_size)
        self.recurrent_weight = drawn(size, size, size)
        self.bias = drawn(size, size)
        self.output_weight = drawn(size, size, size)
        self.output_bias = drawn(size, size)
        self.activation = FUNCTIONS[options.nonlinearity]
        self.output_activation = FUNCTIONS[options.output_nonlinearity]

    def project(self, inputs: PackedInputs) -> Projected:
        return linear(inputs, self.input_weight, self.bias)

    def advance(self, projected: ProjectedStep, state: State) -> tuple[StepOutputs, State]:
        hidden = self.activation(linear(state[0], self.matrix("recurrent_weight"), added=projected))
        output = self.output_activation(linear(hidden, self.output_weight, self.output_bias))
        return output, (output,)
