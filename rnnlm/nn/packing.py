"""Rows of unequal length without padding: time-major, the longest first.

All rows at step 0 come first, then those still alive at step 1, and so on. As lengths fall, the rows alive at a step
are the first `alive[t]`, so one step is one contiguous slice of the N positions.
"""

from dataclasses import dataclass
from functools import cached_property

import torch

from rnnlm.types import Lengths, PackedInputs, PaddedInputs


@dataclass(frozen=True)
class Packing:
    """`alive[t]` rows have a step t; never more than had the one before."""

    alive: list[int]

    @staticmethod
    def of(lengths: Lengths) -> "Packing":
        """Of rows with these lengths, which fall; those without a step come last and are no part of it."""
        steps = torch.arange(int(lengths[0]), device=lengths.device)
        return Packing(torch.searchsorted(-lengths, -steps).tolist())

    @property
    def rows(self) -> int:
        """Rows alive at the first step, B."""
        return self.alive[0]

    def pad(self, packed: PackedInputs) -> PaddedInputs:
        """B T D, zero behind the end of a row."""
        padded = packed.new_zeros(self.rows, len(self.alive), packed.shape[1])
        padded[self._places] = packed
        return padded

    def pack(self, padded: PaddedInputs) -> PackedInputs:
        """The inverse of `pad`."""
        return padded[self._places]

    @cached_property
    def lengths(self) -> Lengths:
        """Steps of each row; on the processor."""
        return torch.bincount(self._places[0], minlength=self.rows)

    @cached_property
    def _places(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Row and time of each position."""
        alive = torch.tensor(self.alive)
        rows = torch.cat([torch.arange(count) for count in self.alive])
        return rows, torch.repeat_interleave(torch.arange(len(alive)), alive)
