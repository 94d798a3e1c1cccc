"""What the LSTM and its descendants share: how the gates change the memory, and for those that torch has no kernel
for, the weights.

    i, f, g, o = W x_t + U h_{t-1} + b       (blocks of H rows, in this order)
    c_t = sigmoid(f) * c_{t-1} + sigmoid(i) * tanh(g)
    h_t = sigmoid(o) * tanh(c_t)

torch.nn.LSTM has two biases, of which only the sum matters; here there is one.

Where dependencies of a known length matter, `memory_steps` spreads the cells' time constants up to it ("chrono
initialisation", Tallec & Ollivier 2018, equation 16): b_f = log(U(1, memory_steps - 1)), b_i = -b_f.
"""

import torch
from pydantic import Field
from torch import Tensor

from rnnlm.config import config
from rnnlm.native import kernels
from rnnlm.nn.activations import tanh
from rnnlm.nn.cells.base import DenseCell, DenseCellConfig, drawn
from rnnlm.nn.prepared import native
from rnnlm.nn.products import linear
from rnnlm.types import PackedInputs, Projected, ProjectedStep, StepOutputs


@config
class GatedConfig(DenseCellConfig):
    """Base of the LSTM and its descendants."""

    forget_bias: float = 1.0
    "What the forget gate's bias starts at."
    memory_steps: int | None = Field(default=None, ge=3)
    "Longest dependency, in steps, that the gates' biases are spread over at the start; takes the place of forget_bias."


@torch.no_grad()
def begin_gates(bias: Tensor, gates: str, options: GatedConfig, *, beside: Tensor | None = None) -> None:
    """Set the biases of the gates f and, with `memory_steps`, i, each letter of `gates` being a block of `bias`; the
    same of `beside`, which is added to it, become 0."""
    blocks = bias.unflatten(0, (len(gates), options.hidden_size))
    write, keep = gates.find("i"), gates.index("f")
    blocks[keep] = options.forget_bias
    if options.memory_steps is not None:
        blocks[keep].uniform_(1.0, options.memory_steps - 1.0).log_()
        if write >= 0:
            blocks[write] = -blocks[keep]
    if beside is not None:
        beside.unflatten(0, blocks.shape)[[keep] if options.memory_steps is None else [write, keep]] = 0.0


def remember(gates: ProjectedStep, cell: StepOutputs) -> tuple[StepOutputs, StepOutputs]:
    """h_t and c_t, given i, f, g, o side by side and c_{t-1}."""
    if native(gates):
        return kernels.lstm_gates(gates, cell)
    write, keep, candidate, read = gates.chunk(4, dim=1)
    cell = torch.addcmul(keep.sigmoid() * cell, write.sigmoid(), tanh(candidate))
    return read.sigmoid() * tanh(cell), cell


class GatedCell(DenseCell):
    """State: (h, c). W is `input_weight`, U is `recurrent_weight`, b is `bias`; each letter of `gates` is a block."""

    def __init__(
        self,
        input_size: int,
        options: GatedConfig,
        *,
        gates: str = "ifgo",
        recurrent_names: tuple[str, ...] = ("recurrent_weight",),
    ) -> None:
        hidden_size, output_size = options.hidden_size, options.output_size(input_size)
        super().__init__(
            input_size,
            output_size,
            (output_size, hidden_size),
            recurrent_names=recurrent_names,
            weight_drop=options.weight_drop,
        )
        self.hidden_size = hidden_size
        self.input_weight = drawn(hidden_size, len(gates) * hidden_size, input_size)
        self.recurrent_weight = drawn(hidden_size, len(gates) * hidden_size, output_size)
        self.bias = drawn(hidden_size, len(gates) * hidden_size)
        begin_gates(self.bias, gates, options)

    def project(self, inputs: PackedInputs) -> Projected:
        return linear(inputs, self.input_weight, self.bias)
