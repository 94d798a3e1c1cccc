"""What stands in a stack: a layer maps sequences B T D to sequences B T H. Cells are layers; so are convolutions,
attention, feed-forward networks and what wraps other layers.

A layer that reads from left to right splits into a part that looks at one position alone and can be done for all at
once (`project`), and a step of time that looks at the state (`advance`). The slow truth is `step` =
`advance(project(...))`, repeated; a layer overrides `forward` (rows of equal length) and `advance_packed` (rows of
unequal length, without padding) where there is a faster way, and the contract tests hold all of them equal. Where the
fastest way begins with the inputs themselves, a layer overrides `run_packed` and says so (`prefers_inputs`). A layer
that `sees_future` (a backward direction, say) has no steps and no state: it only reads whole sequences. A language
model refuses it, a tagger wants it.
"""

import dataclasses
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rnnlm.config import PlacedError, config, join_path
from rnnlm.nn.packing import Packing
from rnnlm.types import (
    LayerInputs,
    LayerOutputs,
    Lengths,
    PackedHidden,
    PackedInputs,
    PackedScales,
    PackedTokens,
    Projected,
    ProjectedSequence,
    ProjectedStep,
    ProjectedTable,
    State,
    StepInputs,
    StepOutputs,
)

ONE_HOT_CHUNK = 256  # positions that are one-hot vectors at a time


class Foresight(NamedTuple):
    """Which module looks at later positions (its dotted path; empty for the config itself), and how."""

    path: str
    reason: str


@config
class LayerConfig:
    """Base of everything that can stand in a stack: conf/layer and conf/cell."""

    @abstractmethod
    def build(self, input_size: int) -> "Layer":
        """A layer with freshly drawn weights that reads inputs of `input_size`."""

    @abstractmethod
    def output_size(self, input_size: int) -> int:
        """Size of the outputs for inputs of `input_size`. Raises ValueError if such inputs do not fit, a PlacedError if
        what they do not fit is an inner layer."""

    def looks_ahead(self) -> str | None:
        """How this layer by itself, its inner layers apart, looks at later positions; None if it does not."""
        return None

    def inner_layers(self) -> Iterator[tuple[str, "LayerConfig"]]:
        """The layers this one is made of, by the place of each in this config: every field that holds some."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, LayerConfig):
                yield field.name, value
            elif isinstance(value, list):
                for index, item in enumerate(value):
                    if isinstance(item, LayerConfig):
                        yield f"{field.name}[{index}]", item

    def sees_future(self) -> Foresight | None:
        """Where and how this layer or one inside it looks at later positions; None if none does."""
        reason = self.looks_ahead()
        if reason is not None:
            return Foresight("", reason)
        for place, inner in self.inner_layers():
            found = inner.sees_future()
            if found is not None:
                return Foresight(join_path(place, found.path), found.reason)
        return None


def checked_size(place: str, layer: LayerConfig, input_size: int) -> int:
    """`layer.output_size(input_size)`; an error names `place`, where the layer stands."""
    try:
        return layer.output_size(input_size)
    except PlacedError as error:
        raise PlacedError(join_path(place, error.place), error.problem) from None
    except ValueError as error:
        raise PlacedError(place, str(error)) from None


def chained_size(place: str, layers: Iterable[LayerConfig], input_size: int) -> int:
    """Size of the outputs of layers on top of one another; errors name `place[i]`."""
    for index, layer in enumerate(layers):
        input_size = checked_size(f"{place}[{index}]", layer, input_size)
    return input_size


class Layer(nn.Module):
    """B T D to B T H. The state is a tuple of `B x size` tensors, one for each of `state_sizes`; it starts as zeros."""

    looks_ahead = False  # whether this layer by itself, its inner layers apart, looks at later positions
    most_one_hot: int | None = 10_000  # largest one-hot vectors it reads; None where `project_one_hot` makes none

    def __init__(self, input_size: int, output_size: int, state_sizes: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.input_size = input_size
        self.output_size = output_size
        self.state_sizes = state_sizes

    @property
    def sees_future(self) -> bool:
        """Whether this layer or one inside it looks at later positions."""
        return any(module.looks_ahead for module in self.modules() if isinstance(module, Layer))

    def no_steps(self) -> NotImplementedError:
        """The error of asking a layer for a step that can only `read`."""
        return NotImplementedError(f"{type(self).__name__} sees later positions and has no steps")

    def initial_state(self, batch_size: int) -> State:
        """Zeros, on the device and in the precision of the weights."""
        if not self.state_sizes:
            return ()
        like = next(self.parameters())
        return tuple(like.new_zeros(batch_size, size) for size in self.state_sizes)

    def project(self, inputs: PackedInputs) -> Projected:
        """What depends on one position's input alone, for any number of positions at once."""
        return inputs

    def project_one_hot(self, tokens: PackedTokens, scales: PackedScales) -> Projected:
        """`project` of vectors that are `scales[n]` at place `tokens[n]` and 0 elsewhere.

        Here the vectors are made, some positions at a time; a layer with a matrix W looks up columns of W instead.
        """
        parts = []
        for start in range(0, len(tokens), ONE_HOT_CHUNK):
            part = slice(start, start + ONE_HOT_CHUNK)
            vectors = F.one_hot(tokens[part], self.input_size).to(scales.dtype) * scales[part, None]
            parts.append(self.project(vectors))
        return torch.cat(parts)

    def advance(self, projected: ProjectedStep, state: State) -> tuple[StepOutputs, State]:  # noqa: ARG002 - none is made
        """One step of time for B rows, given what `project` made of their inputs."""
        raise self.no_steps()

    def step(self, inputs: StepInputs, state: State) -> tuple[StepOutputs, State]:
        """One step of time for B rows."""
        return self.advance(self.project(inputs), state)

    def forward(self, inputs: LayerInputs, state: State) -> tuple[LayerOutputs, State]:
        """All T steps; the same as T calls of `step`."""
        return self.advance_sequence(self.project(inputs.flatten(0, 1)).unflatten(0, inputs.shape[:2]), state)

    def advance_sequence(self, projected: ProjectedSequence, state: State) -> tuple[LayerOutputs, State]:
        """All T steps, given what `project` made of their inputs."""
        outputs: list[Tensor] = []
        for one in projected.unbind(1):  # not slice by slice: each slice's gradient would be as large as the whole
            output, state = self.advance(one, state)
            outputs.append(output)
        return torch.stack(outputs, dim=1), state

    def advance_packed(self, projected: Projected, packing: Packing, state: State) -> tuple[PackedHidden, State]:
        """All steps of rows of unequal length. Each row's state is that after its last step."""
        outputs = projected.new_empty(len(projected), self.output_size)
        ended: list[State] = []
        begin, rows = 0, packing.rows
        for count in packing.alive:
            if count < rows:
                ended.append(tuple(tensor[count:] for tensor in state))
                state, rows = tuple(tensor[:count] for tensor in state), count
            hidden, state = self.advance(projected[begin : begin + count], state)
            outputs[begin : begin + count] = hidden
            begin += count
        if ended:
            state = tuple(torch.cat(parts) for parts in zip(state, *reversed(ended), strict=True))
        return outputs, state

    def advance_looked_up(
        self, table: ProjectedTable, places: PackedTokens, packing: Packing, state: State
    ) -> tuple[PackedHidden, State]:
        """The same, position n having row `places[n]` of a table of projected inputs."""
        return self.advance_packed(table.index_select(0, places), packing, state)

    @property
    def prefers_inputs(self) -> bool:
        """Whether `run_packed` beats `advance_packed` of projections that were looked up, where the weights are now."""
        return False

    def run_packed(self, inputs: PackedInputs, packing: Packing, state: State) -> tuple[PackedHidden, State]:
        """The same from the inputs."""
        return self.advance_packed(self.project(inputs), packing, state)

    def read(self, inputs: LayerInputs, lengths: Lengths) -> LayerOutputs:  # noqa: ARG002 - what comes later changes nothing
        """Whole sequences, padded on the right; outputs behind a row's length mean nothing."""
        outputs, _ = self.forward(inputs, self.initial_state(len(inputs)))
        return outputs


class PositionLayer(Layer):
    """A layer that looks at each position alone: `project` is all of it, there is no state."""

    def advance(self, projected: ProjectedStep, state: State) -> tuple[StepOutputs, State]:
        return projected, state

    def advance_sequence(self, projected: ProjectedSequence, state: State) -> tuple[LayerOutputs, State]:
        return projected, state

    def advance_packed(
        self,
        projected: Projected,
        packing: Packing,  # noqa: ARG002 - positions are all the same
        state: State,
    ) -> tuple[PackedHidden, State]:
        return projected, state
