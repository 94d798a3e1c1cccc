"""Long short-term memory (Hochreiter & Schmidhuber 1997; forget gate: Gers, Schmidhuber & Cummins 2000).

    i, f, g, o = W x_t + U h_{t-1} + b       (four blocks of H rows, in this order)
    c_t = sigmoid(f) * c_{t-1} + sigmoid(i) * tanh(g)
    h_t = sigmoid(o) * tanh(c_t)

Names and layout of the weights are those of torch.nn.LSTM, which also gives the fused kernel. The forget gate's bias
starts at 1, so that memory is kept until the network learns to drop it (Jozefowicz, Zaremba & Sutskever 2015, 4.2).
Where dependencies of a known length matter, `memory_steps` spreads the cells' time constants up to it ("chrono
initialisation", Tallec & Ollivier 2018, equation 16): b_f = log(U(1, memory_steps - 1)), b_i = -b_f.
"""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from rnnlm.config import config
from rnnlm.nn.cells.base import DenseCellConfig, FusedCell
from rnnlm.types import PackedInputs, Projected, ProjectedStep, State, StepOutputs


@config
class LSTMConfig(DenseCellConfig):
    """Long short-term memory."""

    forget_bias: float = 1.0
    "What the forget gate's bias starts at."
    memory_steps: int | None = Field(default=None, ge=3)
    "Longest dependency, in steps, that the gates' biases are spread over at the start; takes the place of forget_bias."

    def build(self, input_size: int) -> "LSTM":
        cell = LSTM(input_size, self.hidden_size, self.forget_bias, weight_drop=self.weight_drop)
        if self.memory_steps is not None:
            cell.spread_memory(self.memory_steps)
        return cell


class LSTM(FusedCell):
    """State: (h, c)."""

    def __init__(self, input_size: int, hidden_size: int, forget_bias: float, *, weight_drop: float) -> None:
        fused = nn.LSTM(input_size, hidden_size, batch_first=True)
        super().__init__(fused, (hidden_size, hidden_size), weight_drop=weight_drop)
        _, _, input_bias, recurrent_bias = self.weights()
        with torch.no_grad():
            input_bias[hidden_size : 2 * hidden_size] = forget_bias
            recurrent_bias[hidden_size : 2 * hidden_size] = 0.0

    def spread_memory(self, steps: int) -> None:
        """Biases of the gates by chrono initialisation."""
        _, _, input_bias, recurrent_bias = self.weights()
        with torch.no_grad():
            keep = torch.empty(self.output_size).uniform_(1.0, steps - 1.0).log()
            input_bias[: 2 * self.output_size] = torch.cat([-keep, keep])
            recurrent_bias[: 2 * self.output_size] = 0.0

    def project(self, inputs: PackedInputs) -> Projected:
        input_weight, _, input_bias, recurrent_bias = self.weights()
        return F.linear(inputs, input_weight, input_bias + recurrent_bias)

    def advance(self, projected: ProjectedStep, state: State) -> tuple[StepOutputs, State]:
        hidden, cell = state
        _, recurrent_weight, _, _ = self.weights()
        gates = torch.addmm(projected, hidden, recurrent_weight.t())
        write, keep, candidate, read = gates.chunk(4, dim=1)
        cell = torch.addcmul(keep.sigmoid() * cell, write.sigmoid(), candidate.tanh())
        hidden = read.sigmoid() * cell.tanh()
        return hidden, (hidden, cell)
