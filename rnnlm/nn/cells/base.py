"""What every recurrent cell gives, so that training, packed scoring and generation need to know no cell by name.

A recurrence splits into a product with the inputs, which does not depend on time and can be done for all steps at
once (`project`), and a step that does (`advance`). The slow truth is `step` = `advance(project(...))`, repeated; a
cell overrides `forward` where a fused kernel is faster, and the contract tests hold the two equal.
"""

from abc import abstractmethod

import torch
from pydantic import Field
from torch import Tensor, nn

from rnnlm.config import config
from rnnlm.types import (
    LayerInputs,
    LayerOutputs,
    PackedInputs,
    Projected,
    ProjectedStep,
    State,
    StepInputs,
    StepOutputs,
)


@config
class CellConfig:
    """Base of the configs in conf/cell."""

    hidden_size: int = Field(default=256, ge=1)
    "Size H of the hidden state."

    @abstractmethod
    def build(self, input_size: int) -> "Cell":
        """A cell with freshly drawn weights that reads inputs of `input_size`."""


class Cell(nn.Module):
    """A recurrence from B T D to B T H. The state is a tuple of `B x size` tensors, one for each of `state_sizes`."""

    def __init__(self, input_size: int, hidden_size: int, state_sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.input_size = input_size
        self.output_size = hidden_size
        self.state_sizes = state_sizes

    def initial_state(self, batch_size: int) -> State:
        """Zeros, on the device and in the precision of the weights."""
        like = next(self.parameters())
        return tuple(like.new_zeros(batch_size, size) for size in self.state_sizes)

    @abstractmethod
    def project(self, inputs: PackedInputs) -> Projected:
        """The part of the recurrence that depends on the input alone, for any number of positions at once."""

    @abstractmethod
    def advance(self, projected: ProjectedStep, state: State) -> tuple[StepOutputs, State]:
        """One step of time for B rows, given what `project` made of their inputs."""

    def step(self, inputs: StepInputs, state: State) -> tuple[StepOutputs, State]:
        """One step of time for B rows."""
        return self.advance(self.project(inputs), state)

    def forward(self, inputs: LayerInputs, state: State) -> tuple[LayerOutputs, State]:
        """All T steps; the same as T calls of `step`."""
        projected = self.project(inputs.flatten(0, 1)).unflatten(0, inputs.shape[:2])
        outputs: list[Tensor] = []
        for time in range(inputs.shape[1]):
            output, state = self.advance(projected[:, time], state)
            outputs.append(output)
        return torch.stack(outputs, dim=1), state


class FusedCell(Cell):
    """A cell whose weights live in one of torch's own recurrent modules, which runs all steps in one kernel."""

    def __init__(self, fused: nn.RNNBase, state_sizes: tuple[int, ...]) -> None:
        super().__init__(fused.input_size, fused.hidden_size, state_sizes)
        self.fused = fused

    def weights(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """W, U, the bias beside W and the bias beside U."""
        input_weight, recurrent_weight, input_bias, recurrent_bias = self.fused.all_weights[0]
        return input_weight, recurrent_weight, input_bias, recurrent_bias

    def forward(self, inputs: LayerInputs, state: State) -> tuple[LayerOutputs, State]:
        # torch keeps layers first in its states, we keep the batch first; there is one layer.
        states = [tensor.unsqueeze(0) for tensor in state]
        outputs, new_state = self.fused(inputs, states[0] if len(states) == 1 else tuple(states))
        new_states = [new_state] if len(states) == 1 else new_state
        return outputs, tuple(tensor.squeeze(0) for tensor in new_states)
