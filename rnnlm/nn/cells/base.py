"""Recurrent cells: layers whose state is what they remember of the sequence.

A `DenseCell` mixes its last state through recurrent matrices U, so its steps follow one another. Cells whose state
decays element by element have no U; their steps can be computed in parallel.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.rnn import PackedSequence

from rnnlm.config import config
from rnnlm.nn.layer import Layer, LayerConfig
from rnnlm.nn.packing import Packing
from rnnlm.nn.prepared import active_weights
from rnnlm.types import (
    LayerInputs,
    LayerOutputs,
    PackedHidden,
    PackedInputs,
    PackedScales,
    PackedTokens,
    Projected,
    ProjectedSequence,
    State,
)


@config
class CellConfig(LayerConfig):
    """Base of the configs in conf/cell."""

    hidden_size: int = Field(default=256, ge=1)
    "Size H of the hidden state."

    def output_size(self, input_size: int) -> int:  # noqa: ARG002 - a cell reads any size
        return self.hidden_size


@config
class DenseCellConfig(CellConfig):
    """Base of cells with recurrent matrices."""

    weight_drop: float = Field(default=0.0, ge=0.0, lt=1.0)
    "Share of the recurrent weights U left out in training, drawn once a window (Merity, Keskar & Socher 2018)."


def drawn(hidden_size: int, *shape: int) -> nn.Parameter:
    """A parameter that starts as torch's recurrent modules start theirs: uniform within 1/sqrt(H) of 0."""
    bound = hidden_size**-0.5
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))


class Cell(Layer):
    """A recurrence; its outputs are hidden states."""


class DenseCell(Cell):
    """A cell with recurrent matrices, the parameters named in `recurrent_names`."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        state_sizes: tuple[int, ...],
        *,
        recurrent_names: tuple[str, ...],
        weight_drop: float,
    ) -> None:
        super().__init__(input_size, hidden_size, state_sizes)
        self.recurrent_names = recurrent_names
        self.weight_drop = weight_drop
        self._thinned: dict[str, Tensor] = {}

    def matrix(self, name: str) -> Tensor:
        """A recurrent matrix, thinned out if this is a training pass with weight drop."""
        return self._thinned[name] if name in self._thinned else self.get_parameter(name)

    @contextmanager
    def thinned(self) -> Iterator[None]:
        """Within, `matrix` gives one and the same random thinning; none in evaluation."""
        if self.training and self.weight_drop > 0.0:
            self._thinned = {
                name: F.dropout(self.get_parameter(name), self.weight_drop) for name in self.recurrent_names
            }
        try:
            yield
        finally:
            self._thinned = {}

    def advance_sequence(self, projected: ProjectedSequence, state: State) -> tuple[LayerOutputs, State]:
        with self.thinned():
            return super().advance_sequence(projected, state)


class FusedCell(DenseCell):
    """A cell whose weights live in one of torch's own recurrent modules, which runs all steps in one kernel.

    On a GPU that kernel is cuDNN's. It reads packed rows too, in the layout of our `Packing`, and multiplies the inputs
    itself. In bfloat16 and float16 all that it is given has that precision, biases and states too.
    """

    most_one_hot = None

    def __init__(self, fused: nn.RNNBase, state_sizes: tuple[int, ...], *, weight_drop: float) -> None:
        super().__init__(
            fused.input_size,
            fused.proj_size or fused.hidden_size,
            state_sizes,
            recurrent_names=("fused.weight_hh_l0",),
            weight_drop=weight_drop,
        )
        self.fused = fused

    def weights(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """W, U (thinned out in training with weight drop), the bias beside W and the bias beside U."""
        input_weight, _, input_bias, recurrent_bias = self.fused.all_weights[0][:4]  # a fifth projects the outputs
        return input_weight, self.recurrent_weight(), input_bias, recurrent_bias

    def recurrent_weight(self) -> Tensor:
        """U alone; asked for at each step, so without a search by name."""
        return self._thinned["fused.weight_hh_l0"] if self._thinned else cast(Tensor, self.fused.weight_hh_l0)

    def project_one_hot(self, tokens: PackedTokens, scales: PackedScales) -> Projected:
        # project(x) = W x + c: the column of W at the token, and c, which is what zeros give.
        input_weight = self.weights()[0]
        constant = self.project(input_weight.new_zeros(1, self.input_size))
        return input_weight.index_select(1, tokens).t() * scales[:, None] + constant

    @property
    def prefers_inputs(self) -> bool:
        return self.recurrent_weight().device.type == "cuda" and not self.fused.proj_size

    def run_packed(self, inputs: PackedInputs, packing: Packing, state: State) -> tuple[PackedHidden, State]:
        if not self.prefers_inputs:
            return super().run_packed(inputs, packing, state)
        module, precision = self._for_reading(), state[0].dtype
        dtype = cast(Tensor, module.weight_hh_l0).dtype
        states = [tensor.to(dtype).unsqueeze(0) for tensor in state]
        packed = PackedSequence(inputs.to(dtype), torch.tensor(packing.alive))
        with _tf32_as_in_products():
            outputs, new_state = module(packed, states[0] if len(states) == 1 else tuple(states))
        new_states = [new_state] if len(states) == 1 else new_state
        return outputs.data.to(precision), tuple(tensor.squeeze(0).to(precision) for tensor in new_states)

    def _for_reading(self) -> nn.RNNBase:
        """torch's module in the precision of the prepared weights, if there are any."""
        active = active_weights()
        if active is None or active.precision == "float32":
            return self.fused
        dtype = getattr(torch, active.precision)

        def make() -> nn.RNNBase:
            with torch.inference_mode(mode=False), torch.no_grad():  # an ordinary module, which may lay out its weights
                return copy.deepcopy(self.fused).to(dtype)

        return active.keep(self, make)

    def forward(self, inputs: LayerInputs, state: State) -> tuple[LayerOutputs, State]:
        # torch keeps layers first in its states, we keep the batch first; there is one layer.
        states = [tensor.unsqueeze(0) for tensor in state]
        given = (inputs, states[0] if len(states) == 1 else tuple(states))
        with self.thinned():
            replaced = {name.removeprefix("fused."): matrix for name, matrix in self._thinned.items()}
            outputs, new_state = functional_call(self.fused, replaced, given) if replaced else self.fused(*given)
        new_states = [new_state] if len(states) == 1 else new_state
        return outputs, tuple(tensor.squeeze(0) for tensor in new_states)


@contextmanager
def _tf32_as_in_products() -> Iterator[None]:
    """Within, cuDNN rounds float32 to TF32 only if torch's products do: by default it does, and they do not."""
    flags = torch.backends.cudnn
    before = flags.allow_tf32
    flags.allow_tf32 = torch.backends.cuda.matmul.allow_tf32
    try:
        yield
    finally:
        flags.allow_tf32 = before
