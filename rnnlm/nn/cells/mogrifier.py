"""The Mogrifier LSTM (Melis, Kocisky & Blunsom 2020, equations 1 and 2).

Before an LSTM's step, the input and the last hidden state scale one another, in turns, `rounds` times:

    x <- 2 sigmoid(Q_i h) * x     in rounds i = 1, 3, 5 ...      Q_i is D x H
    h <- 2 sigmoid(R_i x) * h     in rounds i = 2, 4 ...         R_i is H x D

    i, f, g, o = W x + U h + b       (four blocks of H rows, in this order)
    c_t = sigmoid(f) * c_{t-1} + sigmoid(i) * tanh(g)
    h_t = sigmoid(o) * tanh(c_t)

With no rounds it is the LSTM. With a `rank` k, each Q_i and R_i is a product of two matrices with k columns and k rows.
Since x depends on h, the product W x cannot be made for all steps at once: `project` hands on the inputs as they are.

Weight drop thins out U alone. The gates 2 sigmoid(.) only scale what passes through U and W; thinning out Q and R too
would be noise upon noise, and the paper drops none of them.
"""

import itertools

from pydantic import Field
from torch import nn

from rnnlm.config import config
from rnnlm.nn.cells.gated import GatedCell, GatedConfig, remember
from rnnlm.nn.products import Linear, linear
from rnnlm.types import PackedInputs, Projected, ProjectedStep, State, StepOutputs


@config
class MogrifierConfig(GatedConfig):
    """Mogrifier LSTM: input and hidden state scale one another before each step."""

    rounds: int = Field(default=5, ge=0)
    "How many times; odd rounds scale the input, even ones the hidden state. 0 is an LSTM."
    rank: int | None = Field(default=None, ge=1)
    "Rank k of the matrices Q and R, below `hidden_size` and the input's size; null for full matrices."

    def __post_init__(self) -> None:
        if self.rank is not None and self.rank >= self.hidden_size:
            raise ValueError(
                f"rank ({self.rank}) must be smaller than hidden_size ({self.hidden_size}); null leaves the rank full"
            )

    def output_size(self, input_size: int) -> int:
        if self.rank is not None and self.rank >= input_size:
            raise ValueError(
                f"rank ({self.rank}) must be smaller than the input's size ({input_size}); null leaves the rank full"
            )
        return super().output_size(input_size)

    def build(self, input_size: int) -> "Mogrifier":
        return Mogrifier(input_size, self)


class Mogrifier(GatedCell):
    """State: (h, c). Q_1, R_2, Q_3 ... are the items of `scaling`."""

    def __init__(self, input_size: int, options: MogrifierConfig) -> None:
        super().__init__(input_size, options)
        sizes = itertools.cycle([(self.hidden_size, input_size), (input_size, self.hidden_size)])
        self.scaling = nn.ModuleList(
            _matrix(columns, rows, options.rank) for columns, rows in itertools.islice(sizes, options.rounds)
        )

    def project(self, inputs: PackedInputs) -> Projected:
        return inputs

    def advance(self, projected: ProjectedStep, state: State) -> tuple[StepOutputs, State]:
        inputs, (hidden, cell) = projected, state
        for index, matrix in enumerate(self.scaling):
            if index % 2 == 0:
                inputs = 2.0 * matrix(hidden).sigmoid() * inputs
            else:
                hidden = 2.0 * matrix(inputs).sigmoid() * hidden
        gates = linear(inputs, self.input_weight, self.bias)
        gates = linear(hidden, self.matrix("recurrent_weight"), added=gates)
        hidden, cell = remember(gates, cell)
        return hidden, (hidden, cell)


def _matrix(columns: int, rows: int, rank: int | None) -> nn.Module:
    """A linear map without a bias, starting as torch's does: uniform within 1/sqrt(columns) of 0."""
    if rank is None:
        return Linear(columns, rows, bias=False)
    return nn.Sequential(Linear(columns, rank, bias=False), Linear(rank, rows, bias=False))
