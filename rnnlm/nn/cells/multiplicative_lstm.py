"""The multiplicative LSTM (Krause, Lu, Murray & Renals 2016, "Multiplicative LSTM for sequence modelling").

    m_t = (W_m x_t) * (U_m h_{t-1})
    i, f, g, o = W x_t + U m_t + b           (four blocks of H rows, in this order)
    c_t = sigmoid(f) * c_{t-1} + sigmoid(i) * tanh(g)
    h_t = sigmoid(o) * tanh(c_t)

Each input has its own transition from h_{t-1} to the gates, U diag(W_m x_t) U_m. The paper's name is mLSTM; the xLSTM
has since used that name for a cell with a matrix for a memory, so it is spelt out here.
"""

import torch

from rnnlm.config import config
from rnnlm.nn.cells.base import drawn
from rnnlm.nn.cells.gated import GatedCell, GatedConfig, remember
from rnnlm.nn.products import linear
from rnnlm.types import PackedInputs, Projected, ProjectedStep, State, StepOutputs


@config
class MultiplicativeLSTMConfig(GatedConfig):
    """Multiplicative LSTM (mLSTM of Krause et al. 2016): each input has its own transition."""

    def build(self, input_size: int) -> "MultiplicativeLSTM":
        return MultiplicativeLSTM(input_size, self)


class MultiplicativeLSTM(GatedCell):
    """State: (h, c). W_m is `factor_input_weight`, U_m `factor_recurrent_weight`; weight drop falls on U and U_m."""

    def __init__(self, input_size: int, options: MultiplicativeLSTMConfig) -> None:
        super().__init__(input_size, options, recurrent_names=("recurrent_weight", "factor_recurrent_weight"))
        size = self.hidden_size
        self.factor_input_weight = drawn(size, size, input_size)
        self.factor_recurrent_weight = drawn(size, size, size)

    def project(self, inputs: PackedInputs) -> Projected:
        """W x + b and W_m x side by side."""
        return torch.cat([super().project(inputs), linear(inputs, self.factor_input_weight)], dim=1)

    def advance(self, projected: ProjectedStep, state: State) -> tuple[StepOutputs, State]:
        hidden, cell = state
        gates, factor = projected.split([4 * self.hidden_size, self.hidden_size], dim=1)
        mixed = factor * linear(hidden, self.matrix("factor_recurrent_weight"))
        hidden, cell = remember(linear(mixed, self.matrix("recurrent_weight"), added=gates), cell)
        return hidden, (hidden, cell)
