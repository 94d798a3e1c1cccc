"""Greedy decoding: always the most probable token; the first of equals."""

from jaxtyping import Float
from torch import Tensor

from rnnlm.config import config
from rnnlm.decoding.base import DecodingConfig
from rnnlm.types import StepLogits, StepTokens


@config
class GreedyConfig(DecodingConfig):
    """Always the most probable token."""

    def choose(self, logits: StepLogits, uniforms: Float[Tensor, " B"]) -> StepTokens:  # noqa: ARG002 - draws nothing
        return logits.argmax(1)
