"""What decoding works with: a Stepper that gives logits, and a strategy that chooses tokens from them."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from rnnlm.config import config
from rnnlm.decoding.lanes import Entrants, Lanes
from rnnlm.decoding.rows import log_sum_exp
from rnnlm.types import State, StepLogits, StepTokens

LANES = 192  # prompts continued side by side; 64 take a tenth longer in float32 and a seventh in int8, 256 gain nothing
READ_PROMPTS = 256  # prompts read at a time

Ids = npt.NDArray[np.integer]
FinishReason = Literal["end", "length"]


@runtime_checkable
class Stepper(Protocol):
    """A model as seen by decoding: a state for each row, and logits for what comes next."""

    bos_id: int
    eos_id: int

    def start(self, prompts: Sequence[Ids]) -> tuple[StepTokens, State]:
        """For each prompt the last input (its last token, or bos) and the state before that input."""

    def step(self, tokens: StepTokens, state: State) -> tuple[StepLogits, State]:
        """Read one token a row; logits of the token that follows, and the new state; the caller may change both."""


@dataclass(frozen=True)
class Hypothesis:
    """What was generated after a prompt. `tokens` are without bos and eos; `logprob` (nats) is the model's own,
    whatever the strategy, and counts eos if `finish_reason` is "end"."""

    tokens: list[int]
    logprob: float
    finish_reason: FinishReason


@config
class DecodingConfig:
    """Base of the configs in conf/decoding."""

    draws: ClassVar[bool] = True  # whether choosing needs random numbers

    max_tokens: int = Field(default=256, ge=1)
    "Most tokens generated after a prompt."

    @abstractmethod
    def choose(
        self, logits: StepLogits, uniforms: Float[Tensor, " B"], log_normaliser: Float[Tensor, " B"]
    ) -> StepTokens:
        """A token for each row. `uniforms` in [0, 1) are the row's own randomness for this step (zeros if not `draws`);
        `log_normaliser` is the log-sum-exp of its logits."""


def decode(
    stepper: Stepper,
    prompts: Sequence[Ids],
    strategy: DecodingConfig,
    *,
    seed: int,
    row_ids: Sequence[int],
    lanes: int = LANES,
    report: Callable[[float], None] = lambda _: None,
) -> list[Hypothesis]:
    """Continue each prompt until eos or `max_tokens`; hypotheses in the order of the prompts.

    `lanes` prompts are continued side by side; one that ends makes room for the next at once. Row r draws from a
    generator seeded by (seed, row_ids[r]), its number t for its token t, so its text depends neither on its neighbours
    nor on the worker it meets. `report` is told the share of prompts that is done.
    """
    queue = _Queue(stepper, prompts, max(lanes, READ_PROMPTS))
    first = queue.take(lanes)
    if first is None:
        return []
    running = Lanes(
        first,
        row_ids=row_ids,
        seed=seed,
        max_tokens=strategy.max_tokens,
        draws=strategy.draws,
        eos_id=stepper.eos_id,
    )
    found: dict[int, Hypothesis] = {}
    while len(running.rows):
        logits, state = stepper.step(running.tokens, running.state)
        tokens, logprobs = _choose(stepper, strategy, logits, running.uniforms())
        ended = running.write(tokens, logprobs, state)
        if len(ended):
            for lane in ended.tolist():
                row, text, logprob, by_eos = running.take(lane)
                found[row] = Hypothesis(text, logprob, "end" if by_eos else "length")
            _put_to_use(running, ended, queue)
            report(len(found) / len(prompts))
    return [found[row] for row in range(len(prompts))]


def _put_to_use(running: Lanes, free: npt.NDArray[np.intp], queue: "_Queue") -> None:
    """Give free lanes to the next prompts; close those that none is left for."""
    while len(free) and (entrants := queue.take(len(free))) is not None:
        running.refill(free[: len(entrants.rows)], entrants)
        free = free[len(entrants.rows) :]
    if len(free):
        running.close(free)


def _choose(
    stepper: Stepper, strategy: DecodingConfig, logits: StepLogits, uniforms: Float[Tensor, " B"]
) -> tuple[StepTokens, Float[Tensor, " B"]]:
    """A token for each row and its log-probability (float64). Spoils the logits."""
    bos = logits[:, stepper.bos_id].clone()
    starts_only = stepper.bos_id != stepper.eos_id  # then bos is never an output
    if starts_only:
        logits[:, stepper.bos_id] = -torch.inf
    log_normaliser = log_sum_exp(logits)
    tokens = strategy.choose(logits, uniforms, log_normaliser)
    whole = torch.logaddexp(log_normaliser, bos) if starts_only else log_normaliser
    return tokens, (logits.gather(1, tokens.unsqueeze(1)).squeeze(1) - whole).double()


class _Queue:
    """Prompts on their way to the lanes, in their order. They are read `size` at a time, since reading one alone would
    leave the processor idle; so no more than that are held with their states."""

    def __init__(self, stepper: Stepper, prompts: Sequence[Ids], size: int) -> None:
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
