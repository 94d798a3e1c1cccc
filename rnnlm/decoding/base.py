"""What decoding works with: a Stepper that gives logits, and a strategy that chooses tokens from them."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from rnnlm.config import config
from rnnlm.determinism import numpy_generator
from rnnlm.types import State, StepLogits, StepTokens

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
        """Read one token a row; logits of the token that follows, and the new state."""


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

    max_tokens: int = Field(default=256, ge=1)
    "Most tokens generated after a prompt."

    @abstractmethod
    def choose(self, logits: StepLogits, uniforms: Float[Tensor, " B"]) -> StepTokens:
        """A token for each row. `uniforms` in [0, 1) are the row's own randomness for this step."""


def decode(
    stepper: Stepper,
    prompts: Sequence[Ids],
    strategy: DecodingConfig,
    *,
    seed: int,
    row_ids: Sequence[int],
) -> list[Hypothesis]:
    """Continue each prompt until eos or `max_tokens`.

    Row r draws from a generator seeded by (seed, row_ids[r]), so its text depends neither on its neighbours nor on the
    worker it meets. Rows that ended leave the batch.
    """
    if not prompts:
        return []
    tokens, state = stepper.start(prompts)
    device = tokens.device
    generators = [numpy_generator(seed, "decoding", row_id) for row_id in row_ids]
    uniforms = np.stack([generator.random(strategy.max_tokens, dtype=np.float32) for generator in generators])
    generated: list[list[int]] = [[] for _ in prompts]
    logprobs = np.zeros(len(prompts))
    reasons: list[FinishReason] = ["length"] * len(prompts)
    alive = np.arange(len(prompts))
    for time in range(strategy.max_tokens):
        logits, state = stepper.step(tokens, state)
        normaliser = logits.logsumexp(1)
        if stepper.bos_id != stepper.eos_id:
            logits[:, stepper.bos_id] = -torch.inf  # bos starts a sequence and is never an output
        tokens = strategy.choose(logits, torch.from_numpy(uniforms[alive, time]).to(device))
        chosen = logits.gather(1, tokens.unsqueeze(1)).squeeze(1) - normaliser
        logprobs[alive] += chosen.double().cpu().numpy()
        ended = (tokens == stepper.eos_id).cpu().numpy()
        for row, token, end in zip(alive.tolist(), tokens.tolist(), ended.tolist(), strict=True):
            if end:
                reasons[row] = "end"
            else:
                generated[row].append(token)
        if ended.any():
            kept = torch.from_numpy(np.flatnonzero(~ended)).to(device)
            tokens, state = tokens[kept], tuple(tensor[kept] for tensor in state)
            alive = alive[~ended]
            if not len(alive):
                break
    return [Hypothesis(*parts) for parts in zip(generated, logprobs.tolist(), reasons, strict=True)]
