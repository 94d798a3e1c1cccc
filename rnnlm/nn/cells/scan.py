"""Cells whose state moves by an elementwise linear recurrence, so that all steps can be computed at once.

    c_t = a_t * c_{t-1} + b_t        a_t, b_t from x_t alone; h_t from x_t and c_t

A subclass says how a and b follow from the products of an input (`coefficients`) and what is put out (`outputs`); both
work on single steps B x size and on whole sequences B x T x size alike.
"""

from abc import abstractmethod

import torch
from torch import Tensor

from rnnlm.nn.cells.base import Cell
from rnnlm.nn.linear_scan import linear_scan
from rnnlm.types import LayerInputs, LayerOutputs, Parts, ProjectedSequence, ProjectedStep, State, StepOutputs


class ScanCell(Cell):
    """State: (c,), and what a subclass adds. `part_sizes` are the sizes of what `project` lays side by side."""

    def __init__(
        self, input_size: int, hidden_size: int, part_sizes: tuple[int, ...], state_sizes: tuple[int, ...] = ()
    ) -> None:
        super().__init__(input_size, hidden_size, (hidden_size, *state_sizes))
        self.part_sizes = part_sizes

    @abstractmethod
    def coefficients(self, parts: Parts) -> tuple[Tensor, Tensor]:
        """The decay a, between 0 and 1, and the addend b."""

    def outputs(self, parts: Parts, memory: Tensor) -> Tensor:  # noqa: ARG002 - for subclasses
        """h, given c = `memory`."""
        return memory

    def parts(self, inputs: LayerInputs) -> Parts:
        """`project` for whole sequences, in its parts B x T x size."""
        projected = self.project(inputs.flatten(0, 1)).unflatten(0, inputs.shape[:2])
        return torch.split(projected, list(self.part_sizes), dim=-1)

    def run(self, parts: Parts, state: State) -> tuple[LayerOutputs, State]:
        """All T steps, given what `parts` made of the inputs."""
        decay, addend = self.coefficients(parts)
        memory = linear_scan(decay, addend, state[0])
        return self.outputs(parts, memory), (memory[:, -1].clone(),)  # a view would keep all of it in memory

    def forward(self, inputs: LayerInputs, state: State) -> tuple[LayerOutputs, State]:
        return self.run(self.parts(inputs), state)

    def advance_sequence(self, projected: ProjectedSequence, state: State) -> tuple[LayerOutputs, State]:
        return self.run(torch.split(projected, list(self.part_sizes), dim=-1), state)

    def advance(self, projected: ProjectedStep, state: State) -> tuple[StepOutputs, State]:
        return self.run_one(torch.split(projected, list(self.part_sizes), dim=-1), state)

    def run_one(self, parts: Parts, state: State) -> tuple[StepOutputs, State]:
        """One step; the same as `run` for T = 1."""
        decay, addend = self.coefficients(parts)
        memory = torch.addcmul(addend, decay, state[0])
        return self.outputs(parts, memory), (memory,)


def mixing(keep: Tensor, candidate: Tensor) -> tuple[Tensor, Tensor]:
    """The coefficients of c_t = keep * c_{t-1} + (1 - keep) * candidate."""
    return keep, torch.addcmul(candidate, keep, candidate, value=-1)
