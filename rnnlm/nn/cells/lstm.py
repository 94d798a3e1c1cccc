"""Long short-term memory (Hochreiter & Schmidhuber 1997; forget gate: Gers, Schmidhuber & Cummins 2000).

    i, f, g, o = W x_t + U h_{t-1} + b       (four blocks of H rows, in this order)
    c_t = sigmoid(f) * c_{t-1} + sigmoid(i) * tanh(g)
    h_t = sigmoid(o) * tanh(c_t)

The forget gate's bias starts at 1, so that memory is kept until the network learns to drop it (Jozefowicz, Zaremba &
Sutskever 2015, 4.2); `memory_steps` is the other way to begin (`gated.py`). Three options, in any combination:

peepholes (Gers & Schmidhuber 2000): the gates see the memory, element by element. p_i, p_f, p_o are vectors of H.

    i + p_i * c_{t-1}    f + p_f * c_{t-1}    o + p_o * c_t      in place of i, f, o

coupled gates (CIFG; Greff et al. 2017): what is written is what was forgotten; there is no block i in W, U and b.

    c_t = sigmoid(f) * c_{t-1} + (1 - sigmoid(f)) * tanh(g)

projection (Sak, Senior & Beaufays 2014): the outputs and the recurrent state have a size P below H; the memory keeps H.

    h_t = R (sigmoid(o) * tanh(c_t))         R is P x H, U has P columns

Without peepholes and coupled gates, names and layout of the weights are those of torch.nn.LSTM, which also gives the
fused kernel; it calls the projection proj_size.
"""

import torch
from pydantic import Field
from torch import nn

from rnnlm.config import config
from rnnlm.native.products import Panels
from rnnlm.nn.activations import tanh
from rnnlm.nn.cells.base import FusedCell, drawn
from rnnlm.nn.cells.gated import GatedCell, GatedConfig, begin_gates, remember
from rnnlm.nn.cells.lstm_bptt import LSTMSequence, pays_off
from rnnlm.nn.layer import Layer
from rnnlm.nn.packing import Packing
from rnnlm.nn.prepared import PanelWeight, active_weights
from rnnlm.nn.products import linear, product_dtype
from rnnlm.types import (
    LayerInputs,
    LayerOutputs,
    Lengths,
    PackedHidden,
    PackedInputs,
    PackedTokens,
    Projected,
    ProjectedStep,
    ProjectedTable,
    State,
    StepOutputs,
)


@config
class LSTMConfig(GatedConfig):
    """Long short-term memory."""

    peepholes: bool = False
    "Let the gates see the memory c. About half as fast in training: torch has no kernel for it."
    coupled_gates: bool = False
    "Write as much as is forgotten, i = 1 - f: a quarter fewer weights, yet slower in training, as above."
    projection_size: int | None = Field(default=None, ge=1)
    "Size P of outputs and recurrent state, below `hidden_size`; null for no projection."

    def __post_init__(self) -> None:
        if self.projection_size is not None and self.projection_size >= self.hidden_size:
            raise ValueError(
                f"projection_size ({self.projection_size}) must be smaller than hidden_size ({self.hidden_size}); "
                "null leaves the projection out"
            )

    def output_size(self, input_size: int) -> int:
        return self.projection_size or super().output_size(input_size)

    def build(self, input_size: int) -> "LSTM | PeepholeLSTM":
        if self.peepholes or self.coupled_gates:
            return PeepholeLSTM(input_size, self)
        return LSTM(input_size, self)


class LSTM(FusedCell):
    """State: (h, c). R is `fused.weight_hr_l0`."""

    def __init__(self, input_size: int, options: LSTMConfig) -> None:
        hidden_size, projection_size = options.hidden_size, options.projection_size
        fused = nn.LSTM(input_size, hidden_size, batch_first=True, proj_size=projection_size or 0)
        super().__init__(fused, (projection_size or hidden_size, hidden_size), weight_drop=options.weight_drop)
        _, _, input_bias, recurrent_bias = self.weights()
        begin_gates(input_bias, "ifgo", options, beside=recurrent_bias)

    def project(self, inputs: PackedInputs) -> Projected:
        input_weight, _, input_bias, recurrent_bias = self.weights()
        return linear(inputs, input_weight, input_bias + recurrent_bias)

    def _panels(self) -> Panels | None:
        """U for our own kernel of whole sequences, where there is one."""
        active, weight = active_weights(), self.recurrent_weight()
        if active is None or not (active.in_panels and active.gains(weight)) or self.fused.proj_size:
            return None
        return active.keep(self, lambda: active.panels(weight, gates=True))

    def advance_packed(self, projected: Projected, packing: Packing, state: State) -> tuple[PackedHidden, State]:
        panels = self._panels()
        if panels is None:
            return super().advance_packed(projected, packing, state)
        return panels.lstm(packing.alive, projected, None, state)

    def run_packed(self, inputs: PackedInputs, packing: Packing, state: State) -> tuple[PackedHidden, State]:
        active, panels = active_weights(), self._panels()
        if active is None or panels is None:
            return super().run_packed(inputs, packing, state)
        input_weight, _, input_bias, recurrent_bias = self.weights()
        weight = active.of(input_weight)
        assert isinstance(weight, PanelWeight)
        # Nobody else sees what the inputs give, so it need not have memory of its own each time.
        projected = active.room(len(inputs), len(input_weight))
        weight.write(weight.operand(inputs), input_bias + recurrent_bias, projected)
        return panels.lstm(packing.alive, projected, None, state)

    def read(self, inputs: LayerInputs, lengths: Lengths) -> LayerOutputs:
        if self._panels() is None or not lengths.any():
            return super().read(inputs, lengths)
        order = lengths.argsort(descending=True, stable=True)
        packing = Packing.of(lengths[order])
        order = order[: packing.rows]
        packed, _ = self.run_packed(packing.pack(inputs[order]), packing, self.initial_state(packing.rows))
        outputs = inputs.new_zeros(*inputs.shape[:2], self.output_size)
        outputs[order, : len(packing.alive)] = packing.pad(packed)
        return outputs

    def advance_looked_up(
        self, table: ProjectedTable, places: PackedTokens, packing: Packing, state: State
    ) -> tuple[PackedHidden, State]:
        panels = self._panels()
        if panels is None:
            return super().advance_looked_up(table, places, packing, state)
        return panels.lstm(packing.alive, table, places, state)

    def advance(self, projected: ProjectedStep, state: State) -> tuple[StepOutputs, State]:
        panels = self._panels()
        if panels is not None:
            return panels.lstm([len(projected)], projected, None, state)
        hidden, cell = state
        gates = linear(hidden, self.recurrent_weight(), added=projected)
        hidden, cell = remember(gates, cell)
        if self.fused.proj_size:
            hidden = linear(hidden, self.get_parameter("fused.weight_hr_l0"))
        return hidden, (hidden, cell)

    def forward(self, inputs: LayerInputs, state: State) -> tuple[LayerOutputs, State]:
        if self._panels() is not None:
            rows, steps = inputs.shape[:2]
            packed, state = self.run_packed(inputs.transpose(0, 1).flatten(0, 1), Packing([rows] * steps), state)
            return packed.unflatten(0, (steps, rows)).transpose(0, 1), state
        if inputs.device.type == "cpu":
            # torch has no kernel for a projection here: it warns, and takes as long as step after step does.
            if self.fused.proj_size:
                return Layer.forward(self, inputs, state)
            dtype = product_dtype(inputs)
            if self.training and pays_off(len(inputs), self.fused.hidden_size, dtype):
                return self._by_sequence(inputs, state, dtype)
        return super().forward(inputs, state)

    def _by_sequence(self, inputs: LayerInputs, state: State, dtype: torch.dtype) -> tuple[LayerOutputs, State]:
        hidden, cell = state
        with self.thinned():
            input_weight, recurrent_weight, input_bias, recurrent_bias = self.weights()
            given = (inputs.transpose(0, 1), hidden, input_weight, recurrent_weight, input_bias + recurrent_bias)
            reads, before, into, across, bias = (tensor.to(dtype) for tensor in given)
            outputs, last = LSTMSequence.apply(reads, before, cell, into, across, bias)
        return outputs.transpose(0, 1), (outputs[-1], last)


class PeepholeLSTM(GatedCell):
    """The LSTM with peepholes or coupled gates. State: (h, c). p_f, p_o and p_i are the rows of `peepholes`."""

    def __init__(self, input_size: int, options: LSTMConfig) -> None:
        hidden_size, projection_size = options.hidden_size, options.projection_size
        super().__init__(input_size, options, gates="fgo" if options.coupled_gates else "ifgo")
        self.coupled = options.coupled_gates
        self.peepholes = drawn(hidden_size, 2 if self.coupled else 3, hidden_size) if options.peepholes else None
        self.projection = drawn(hidden_size, projection_size, hidden_size) if projection_size else None

    def advance(self, projected: ProjectedStep, state: State) -> tuple[StepOutputs, State]:
        hidden, cell = state
        blocks = linear(hidden, self.matrix("recurrent_weight"), added=projected).split(self.hidden_size, dim=1)
        keep, candidate, read = blocks[-3:]
        if self.peepholes is not None:
            keep = torch.addcmul(keep, self.peepholes[0], cell)
        if self.coupled:
            new_cell = torch.lerp(tanh(candidate), cell, keep.sigmoid())
        else:
            write = blocks[0] if self.peepholes is None else torch.addcmul(blocks[0], self.peepholes[2], cell)
            new_cell = torch.addcmul(keep.sigmoid() * cell, write.sigmoid(), tanh(candidate))
        if self.peepholes is not None:
            read = torch.addcmul(read, self.peepholes[1], new_cell)
        hidden = read.sigmoid() * tanh(new_cell)
        if self.projection is not None:
            hidden = linear(hidden, self.projection)
        return hidden, (hidden, new_cell)
