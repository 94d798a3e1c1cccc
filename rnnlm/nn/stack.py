"""Layers on top of one another, with dropout between: itself a layer. Its state is its layers' states in order."""

from collections.abc import Iterator, Sequence

from torch import nn

from rnnlm.nn.dropout import Dropout
from rnnlm.nn.layer import Layer, LayerConfig
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
    StepOutputs,
)


class Stack(Layer):
    """Each layer reads the outputs of the one below; dropout on every layer's input but the first's."""

    def __init__(self, layers: Sequence[Layer], dropout: Dropout) -> None:
        assert layers, "a stack needs a layer"
        only_reads = any(layer.sees_future for layer in layers)
        state_sizes = () if only_reads else tuple(size for layer in layers for size in layer.state_sizes)
        super().__init__(layers[0].input_size, layers[-1].output_size, state_sizes)
        self._only_reads = only_reads
        self.layers = nn.ModuleList(layers)
        self.dropout = dropout

    def cells(self) -> Iterator[Layer]:
        """The layers from the bottom up."""
        for layer in self.layers:
            assert isinstance(layer, Layer)
            yield layer

    def split_state(self, state: State) -> list[State]:
        """The stack's state as one state a layer."""
        if self._only_reads:
            raise self.no_steps()
        states, start = [], 0
        for layer in self.cells():
            stop = start + len(layer.state_sizes)
            states.append(state[start:stop])
            start = stop
        return states

    def project(self, inputs: PackedInputs) -> Projected:
        return self._first.project(inputs)

    def project_one_hot(self, tokens: PackedTokens, scales: PackedScales) -> Projected:
        return self._first.project_one_hot(tokens, scales)

    def advance(self, projected: ProjectedStep, state: State) -> tuple[StepOutputs, State]:
        states = self.split_state(state)
        outputs, new_state = self._first.advance(projected, states[0])
        for layer, layer_state in self._others(states):
            outputs, layer_state = layer.step(self.dropout(outputs), layer_state)
            new_state += layer_state
        return outputs, new_state

    def forward(self, inputs: LayerInputs, state: State) -> tuple[LayerOutputs, State]:
        states = self.split_state(state)
        outputs, new_state = self._first(inputs, states[0])
        return self._through_the_others(outputs, new_state, states)

    def advance_sequence(self, projected: ProjectedSequence, state: State) -> tuple[LayerOutputs, State]:
        states = self.split_state(state)
        outputs, new_state = self._first.advance_sequence(projected, states[0])
        return self._through_the_others(outputs, new_state, states)

    def advance_packed(self, projected: Projected, packing: Packing, state: State) -> tuple[PackedHidden, State]:
        states = self.split_state(state)
        outputs, new_state = self._first.advance_packed(projected, packing, states[0])
        return self._packed_through_the_others(outputs, packing, new_state, states)

    def advance_looked_up(
        self, table: ProjectedTable, places: PackedTokens, packing: Packing, state: State
    ) -> tuple[PackedHidden, State]:
        states = self.split_state(state)
        outputs, new_state = self._first.advance_looked_up(table, places, packing, states[0])
        return self._packed_through_the_others(outputs, packing, new_state, states)

    @property
    def prefers_inputs(self) -> bool:
        return self._first.prefers_inputs

    def run_packed(self, inputs: PackedInputs, packing: Packing, state: State) -> tuple[PackedHidden, State]:
        states = self.split_state(state)
        outputs, new_state = self._first.run_packed(inputs, packing, states[0])
        return self._packed_through_the_others(outputs, packing, new_state, states)

    def read(self, inputs: LayerInputs, lengths: Lengths) -> LayerOutputs:
        for index, layer in enumerate(self.cells()):
            inputs = layer.read(self.dropout(inputs) if index else inputs, lengths)
        return inputs

    @property
    def _first(self) -> Layer:
        return next(self.cells())

    def _others(self, states: list[State]) -> Iterator[tuple[Layer, State]]:
        """All layers but the first, each with its state."""
        return zip(list(self.cells())[1:], states[1:], strict=True)

    def _through_the_others(
        self, outputs: LayerInputs, new_state: State, states: list[State]
    ) -> tuple[LayerOutputs, State]:
        """On from what the first layer gave."""
        for layer, layer_state in self._others(states):
            outputs, layer_state = layer(self.dropout(outputs), layer_state)
            new_state += layer_state
        return outputs, new_state

    def _packed_through_the_others(
        self, outputs: PackedInputs, packing: Packing, new_state: State, states: list[State]
    ) -> tuple[PackedHidden, State]:
        """The same for rows of unequal length."""
        for layer, layer_state in self._others(states):
            outputs, layer_state = layer.run_packed(self.dropout(outputs), packing, layer_state)
            new_state += layer_state
        return outputs, new_state


def build_stack(layers: Sequence[LayerConfig], input_size: int, dropout: Dropout) -> Stack:
    """Layers with fresh weights, each for the outputs of the one below."""
    built: list[Layer] = []
    for layer in layers:
        built.append(layer.build(built[-1].output_size if built else input_size))
    return Stack(built, dropout)
