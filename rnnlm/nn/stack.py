"""Layers on top of one another, with dropout between. The stack's state is its layers' states in order."""

from collections.abc import Iterator, Sequence

from torch import nn

from rnnlm.nn.dropout import Dropout
from rnnlm.nn.layer import Layer
from rnnlm.types import LayerInputs, LayerOutputs, State, StepInputs, StepOutputs


class Stack(nn.Module):
    """Each layer reads the outputs of the one below; dropout on every layer's input but the first's."""

    def __init__(self, layers: Sequence[Layer], dropout: Dropout) -> None:
        super().__init__()
        assert layers, "a stack needs a layer"
        self.layers = nn.ModuleList(layers)
        self.dropout = dropout
        self.output_size = layers[-1].output_size

    def cells(self) -> Iterator[Layer]:
        """The layers from the bottom up."""
        for layer in self.layers:
            assert isinstance(layer, Layer)
            yield layer

    def initial_state(self, batch_size: int) -> State:
        return tuple(tensor for cell in self.cells() for tensor in cell.initial_state(batch_size))

    def split_state(self, state: State) -> list[State]:
        """The stack's state as one state a layer."""
        states, start = [], 0
        for cell in self.cells():
            stop = start + len(cell.state_sizes)
            states.append(state[start:stop])
            start = stop
        return states

    def step(self, inputs: StepInputs, state: State) -> tuple[StepOutputs, State]:
        new_state: State = ()
        for index, (cell, cell_state) in enumerate(zip(self.cells(), self.split_state(state), strict=True)):
            inputs, cell_state = cell.step(self.dropout(inputs) if index else inputs, cell_state)
            new_state += cell_state
        return inputs, new_state

    def forward(self, inputs: LayerInputs, state: State) -> tuple[LayerOutputs, State]:
        new_state: State = ()
        for index, (cell, cell_state) in enumerate(zip(self.cells(), self.split_state(state), strict=True)):
            inputs, cell_state = cell(self.dropout(inputs) if index else inputs, cell_state)
            new_state += cell_state
        return inputs, new_state
