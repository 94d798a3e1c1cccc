"""A cell as a user would add one: a config and a class, and a YAML. The contract tests run on it."""

import torch
from pydantic import Field
from torch import nn

from rnnlm.config import config
from rnnlm.nn.cells.base import Cell, CellConfig
from rnnlm.types import PackedInputs, Projected, ProjectedStep, State, StepOutputs

TOY_YAML = """\
# A running mean of what was read.
_target_: tests.toy_cell.RunningMeanConfig
hidden_size: 8
decay: 0.5
"""


@config
class RunningMeanConfig(CellConfig):
    """A running mean of what was read."""

    decay: float = Field(default=0.5, gt=0.0, lt=1.0)
    "Share of the last state that is kept."

    def build(self, input_size: int) -> "RunningMean":
        return RunningMean(input_size, self.hidden_size, self.decay)


class RunningMean(Cell):
    """h_t = decay * h_{t-1} + (1 - decay) * tanh(W x_t + b). State: (h,)."""

    def __init__(self, input_size: int, hidden_size: int, decay: float) -> None:
        super().__init__(input_size, hidden_size, (hidden_size,))
        self.read_in = nn.Linear(input_size, hidden_size)
        self.decay = decay

    def project(self, inputs: PackedInputs) -> Projected:
        return self.read_in(inputs).tanh()

    def advance(self, projected: ProjectedStep, state: State) -> tuple[StepOutputs, State]:
        hidden = torch.lerp(projected, state[0], self.decay)
        return hidden, (hidden,)
