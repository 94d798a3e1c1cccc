"""Greedy decoding: always the most probable token; the first of equals."""

from jaxtyping import Float
from torch import Tensor

from rnnlm.config import config
from rnnlm.decoding.rows import best
from rnnlm.decoding.stepwise import StepwiseConfig
from rnnlm.types import StepLogits, StepTokens


@config
class GreedyConfig(StepwiseConfig):
    """Always the most probable token."""

    name = "greedy decoding"
    draws = False

    def most_hypotheses(self) -> int | None:
        return 1

    def choose(
        self,
        logits: StepLogits,
        uniforms: Float[Tensor, " B"],  # noqa: ARG002 - draws nothing
        log_normaliser: Float[Tensor, " B"],  # noqa: ARG002 - compares logits alone
    ) -> StepTokens:
        return best(logits)
