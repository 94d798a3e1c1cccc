"""What stands in a stack: a layer maps sequences B T D to sequences B T H. Cells are layers; so are convolutions,
attention, feed-forward networks and what wraps other layers.

A layer that reads from left to right splits into a part that looks at one position alone and can be done for all at
once (`project`), and a step of time that looks at the state (`advance`). The slow truth is `step` =
`advance(project(...))`, repeated; a layer overrides `forward` where there is a faster way, and the contract tests hold
the two equal. A layer that `sees_future` (a backward direction, say) has no steps and no state: it only reads whole
sequences. A language model refuses it, a tagger wants it.
"""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from rnnlm.config import config
from rnnlm.types import (
    LayerInputs,
    LayerOutputs,
    Lengths,
    PackedInputs,
    Projected,
    ProjectedStep,
    State,
    StepInputs,
    StepOutputs,
)


@config
class LayerConfig:
    """Base of everything that can stand in a stack: conf/layer and conf/cell."""

    @abstractmethod
    def build(self, input_size: int) -> "Layer":
        """A layer with freshly drawn weights that reads inputs of `input_size`."""

    @abstractmethod
    def output_size(self, input_size: int) -> int:
        """Size of the outputs for inputs of `input_size`. Raises ValueError if such inputs do not fit."""

    def sees_future(self) -> str | None:
        """The dotted path, below this config, of the module that looks at later positions; None if none does."""
        return None


class Layer(nn.Module):
    """B T D to B T H. The state is a tuple of `B x size` tensors, one for each of `state_sizes`."""

    sees_future = False

    def __init__(self, input_size: int, output_size: int, state_sizes: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.input_size = input_size
        self.output_size = output_size
        self.state_sizes = state_sizes

    def initial_state(self, batch_size: int) -> State:
        """Zeros, on the device and in the precision of the weights."""
        if not self.state_sizes:
            return ()
        like = next(self.parameters())
        return tuple(like.new_zeros(batch_size, size) for size in self.state_sizes)

    def project(self, inputs: PackedInputs) -> Projected:
        """What depends on one position's input alone, for any number of positions at once."""
        return inputs

    def advance(self, projected: ProjectedStep, state: State) -> tuple[StepOutputs, State]:
        """One step of time for B rows, given what `project` made of their inputs."""
        raise NotImplementedError(f"{type(self).__name__} sees later positions and has no steps")

    def step(self, inputs: StepInputs, state: State) -> tuple[StepOutputs, State]:
        """One step of time for B rows."""
        return self.advance(self.project(inputs), state)

    def forward(self, inputs: LayerInputs, state: State) -> tuple[LayerOutputs, State]:
        """All T steps; the same as T calls of `step`."""
        projected = self.project(inputs.flatten(0, 1)).unflatten(0, inputs.shape[:2])
        outputs: list[Tensor] = []
        # unbind, since the gradient of T single selections would be T tensors of full size.
        for step in projected.unbind(1):
            output, state = self.advance(step, state)
            outputs.append(output)
        return torch.stack(outputs, dim=1), state

    def read(self, inputs: LayerInputs, lengths: Lengths) -> LayerOutputs:  # noqa: ARG002 - what comes later changes nothing
        """Whole sequences, padded on the right; outputs behind a row's length mean nothing."""
        outputs, _ = self.forward(inputs, self.initial_state(len(inputs)))
        return outputs
