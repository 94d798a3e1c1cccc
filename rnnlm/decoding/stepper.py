"""A model as decoding sees it, and what comes out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt

from rnnlm.types import Context, State, StepLogits, StepTokens

Ids = npt.NDArray[np.integer]
FinishReason = Literal["end", "length"]
P = TypeVar("P")  # what a prompt is: token ids for a language model, a source (and a forced beginning) for translation
Prompt_contra = TypeVar("Prompt_contra", contravariant=True)


class Started(NamedTuple):
    """Prompts that were read: the last input of each (B), the state before that input, and what all steps look at, such
    as the memory of a source (nothing for a language model)."""

    tokens: StepTokens
    state: State
    context: Context


@runtime_checkable
class Stepper(Protocol[Prompt_contra]):
    """A state for each row, and logits for what comes next.

    A row is a hypothesis. `step` is given N = R k rows of R prompts, the k of one prompt side by side: rows r k to
    r k + k - 1 look at row r of the context.
    """

    bos_id: int
    eos_id: int
    vocab_size: int

    def start(self, prompts: Sequence[Prompt_contra]) -> Started:
        """Read prompts. The second dimension of a context's tensor may be another in each call (padded positions of
        sources): where prompts of two calls meet, zeros are put behind the shorter, so the context has to hold its own
        mask or lengths."""

    def step(self, tokens: StepTokens, state: State, context: Context) -> tuple[StepLogits, State]:
        """Read one token a row; logits of the token that follows, and the new state. The caller may change both, and
        the context between two calls, in its rows alone."""


@dataclass(frozen=True)
class Hypothesis:
    """What was generated after a prompt. `tokens` are without bos and eos; `logprob` (nats) is the model's own,
    whatever the strategy and its rules, and counts eos if `finish_reason` is "end"."""

    tokens: list[int]
    logprob: float
    finish_reason: FinishReason
