"""Saturation of gates: the share of activations below 0.1 and above 0.9, a gate (Karpathy, Johnson & Fei-Fei 2015,
"Visualizing and understanding recurrent networks", section 4.2).

A forget gate that is often above 0.9 keeps; one that is often below 0.1 resets; in between the gate mixes.

A gate is a sigmoid that a cell takes in its step. They are watched while the cell works, in the order in which it takes
them, so that no equation is written a second time; this file only knows what each of them is called.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from rnnlm.diagnosis.passages import Passages
from rnnlm.nn.cells.base import Cell
from rnnlm.nn.cells.gru import GRU
from rnnlm.nn.cells.layer_norm_lstm import LayerNormLSTM
from rnnlm.nn.cells.lstm import LSTM, PeepholeLSTM
from rnnlm.nn.cells.min_gru import MinGRU
from rnnlm.nn.cells.min_lstm import MinLSTM
from rnnlm.nn.cells.mogrifier import Mogrifier
from rnnlm.nn.cells.multiplicative_lstm import MultiplicativeLSTM
from rnnlm.nn.cells.qrnn import QRNN
from rnnlm.nn.cells.rg_lru import RGLRU
from rnnlm.nn.cells.sru import SRU
from rnnlm.nn.language_model import LanguageModel
from rnnlm.types import ProjectedStep, State, StepOutputs

LOW, HIGH = 0.1, 0.9

# What each cell's sigmoids are, in the order in which its step takes them; further ones are no gates.
LSTM_GATES = ("forget", "input", "output")
GATES: Mapping[type[Cell], Sequence[str]] = {
    LSTM: LSTM_GATES,
    PeepholeLSTM: LSTM_GATES,
    LayerNormLSTM: LSTM_GATES,
    MultiplicativeLSTM: LSTM_GATES,
    Mogrifier: LSTM_GATES,
    GRU: ("update", "reset"),
    MinGRU: ("update",),
    MinLSTM: ("forget",),
    QRNN: ("forget", "output"),
    SRU: ("forget", "reset"),
    RGLRU: ("recurrence", "input"),
}


@dataclass(frozen=True)
class GateUse:
    """How a gate was used: shares of its activations over units, passages and steps, and their mean."""

    place: str  # of the cell in the stack, as in task.layers
    gate: str
    below: float
    above: float
    mean: float


@dataclass
class GateCounts:
    """Sums of any number of batches: activations below LOW, above HIGH, all of them, and their sum."""

    sums: dict[tuple[str, str], Tensor] = field(default_factory=dict)

    def add(self, place: str, gate: str, values: Tensor) -> None:
        """The activations of a step."""
        counted = torch.stack([(values < LOW).sum(), (values > HIGH).sum(), values.new_tensor(values.numel())])
        found = torch.cat([counted.double(), values.double().sum().unsqueeze(0)])
        self.sums[place, gate] = self.sums.get((place, gate), torch.zeros_like(found)) + found

    def use(self) -> list[GateUse]:
        """The shares."""
        found = []
        for (place, gate), sums in self.sums.items():
            below, above, total, summed = sums.tolist()
            found.append(GateUse(place, gate, below / total, above / total, summed / total))
        return found


def gates_of(cell: Cell) -> Sequence[str]:
    """The names of a cell's gates in the order of its sigmoids; none if it has none, or is not known here."""
    names = GATES.get(type(cell), ())
    if isinstance(cell, PeepholeLSTM) and cell.coupled:
        return [name for name in names if name != "input"]
    # Before an LSTM's own gates those that scale input and state.
    return ["scaling"] * len(cell.scaling) + list(names) if isinstance(cell, Mogrifier) else names


@torch.no_grad()
def count_gates(model: LanguageModel, passages: Passages, steps: int, counts: GateCounts) -> None:
    """Add the gates' activations in the last `steps` of each passage to `counts`."""
    first = passages.inputs.shape[1] - steps
    _, state = model.run(passages.inputs[:, :first], model.initial_state(len(passages.inputs)))
    read = passages.inputs[:, first:]
    projected = model.project_tokens(read.flatten()).unflatten(0, read.shape)
    with ExitStack() as watches:
        for place, cell in model.stack.layers.named_modules():
            if isinstance(cell, Cell) and gates_of(cell):
                watches.enter_context(_watched(cell, place, counts))
        for step in projected.unbind(1):
            _, state = model.stack.advance(step, state)


@contextmanager
def _watched(cell: Cell, place: str, counts: GateCounts) -> Iterator[None]:
    """Within, each step of the cell counts its gates."""
    advance, names = cell.advance, gates_of(cell)

    def watched(projected: ProjectedStep, state: State) -> tuple[StepOutputs, State]:
        with _Sigmoids() as seen:
            found = advance(projected, state)
        for name, values in zip(names, seen.values, strict=False):
            counts.add(place, name, values)
        return found

    vars(cell)["advance"] = watched  # of this one cell, until the end of the block
    try:
        yield
    finally:
        del vars(cell)["advance"]


class _Sigmoids(TorchFunctionMode):
    """Keeps what each sigmoid gives."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[Tensor] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in {torch.sigmoid, Tensor.sigmoid}:
            self.values.append(result)
        return result
