"""Prompts on their way to the lanes: read some at a time, held until a lane is free."""

from collections.abc import Sequence
from typing import Generic, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch.nn.functional as F
from torch import Tensor

from rnnlm.decoding.stepper import P, Prompt_contra, Started
from rnnlm.types import Context, State, StepTokens

READ_PROMPTS = 256  # prompts read at a time


class Entrants(NamedTuple):
    """Prompts that were read and take lanes: which, the last input of each, the state before it, and what they are
    about."""

    rows: npt.NDArray[np.int64]
    tokens: StepTokens
    state: State
    context: Context

    def part(self, which: slice) -> "Entrants":
        """Some of them."""
        return Entrants(
            self.rows[which],
            self.tokens[which],
            tuple(tensor[which] for tensor in self.state),
            tuple(tensor[which] for tensor in self.context),
        )


@runtime_checkable
class Reader(Protocol[Prompt_contra]):
    """What can read prompts: a stepper, with rules beside it or without."""

    def start(self, prompts: Sequence[Prompt_contra]) -> Started:
        """See Stepper."""


class Waiting(Generic[P]):
    """The queue, in the order of the prompts. They are read `size` at a time, since reading one alone would leave the
    processor idle; so no more than that are held with their states."""

    def __init__(self, stepper: Reader[P], prompts: Sequence[P], size: int) -> None:
        self._stepper, self._prompts, self._size = stepper, prompts, size
        self._num_read = 0
        self._waiting: Entrants | None = None

    def take(self, count: int) -> Entrants | None:
        """The next prompts, `count` at the most; None when all are taken."""
        if self._waiting is None:
            begin, end = self._num_read, min(len(self._prompts), self._num_read + self._size)
            if begin == end:
                return None
            self._num_read = end
            self._waiting = Entrants(np.arange(begin, end), *self._stepper.start(self._prompts[begin:end]))
        waiting = self._waiting
        self._waiting = waiting.part(slice(count, None)) if count < len(waiting.rows) else None
        return waiting.part(slice(count))


@runtime_checkable
class Refillable(Protocol):
    """Lanes or beams."""

    def refill(self, places: npt.NDArray[np.intp], entrants: Entrants, /) -> None:
        """Let prompts take places, one each."""

    def close(self, places: npt.NDArray[np.intp], /) -> None:
        """Go on without these places."""


def put_to_use(running: Refillable, free: npt.NDArray[np.intp], queue: Waiting[P]) -> None:
    """Give free places to the next prompts; close those that none is left for."""
    while len(free) and (entrants := queue.take(len(free))) is not None:
        running.refill(free[: len(entrants.rows)], entrants)
        free = free[len(entrants.rows) :]
    if len(free):
        running.close(free)


def put_context(context: Context, places: Tensor, fresh: Context) -> Context:
    """`context` with `fresh` at `places` of the first dimension. Where the second dimensions differ, as those of two
    padded sources do, the shorter gets zeros behind it."""
    result = []
    for old, new in zip(context, fresh, strict=True):
        if old.dim() > 1:
            width = max(old.shape[1], new.shape[1])
            old, new = _widened(old, width), _widened(new, width)
        old[places] = new
        result.append(old)
    return tuple(result)


def _widened(tensor: Tensor, width: int) -> Tensor:
    missing = width - tensor.shape[1]
    return F.pad(tensor, (*[0, 0] * (tensor.dim() - 2), 0, missing)) if missing else tensor
