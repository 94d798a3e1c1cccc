"""Greedy decoding: always the most probable token; the first of equals."""

from jaxtyping import Float
from torch import Tensor

from rnnlm.config import config
from rnnlm.decoding.base import DecodingConfig
from rnnlm.decoding.rows import best
from rnnlm.types import StepLogits, StepTokens


@config
class GreedyConfig(DecodingConfig):
    """Always the most probable token."""

    draws = False

    def choose(
        self,
        logits: StepLogits,
        uniforms: Float[Tensor, " B"],  # noqa: ARG002 - draws nothing
        log_normaliser: Float[Tensor, " B"],  # noqa: ARG002 - compares logits alone
    ) -> StepTokens:
        return best(logits)
