"""Sampling: draw from the model's distribution, sharpened, cut to the k best, cut to a nucleus, or as it is.

The order is the usual one: temperature, then top-k, then top-p (Holtzman et al. 2020) on what is left. A draw inverts
the cumulative distribution over tokens from the most to the least probable at one uniform number, so that a row's
outcome is a function of its own random numbers alone.
"""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from rnnlm.config import config
from rnnlm.decoding.base import DecodingConfig
from rnnlm.types import StepLogits, StepTokens

# Sorting a whole vocabulary costs more than the network. Nearly always the best few hold the nucleus or the draw; the
# exact normaliser tells when they do not, and only then is everything sorted.
CANDIDATES = 256


@config
class SamplingConfig(DecodingConfig):
    """Random sampling with temperature, top-k and top-p."""

    temperature: float = Field(default=1.0, gt=0.0)
    "Logits are divided by it; below 1 sharpens."
    top_k: int | None = Field(default=None, ge=1)
    "Keep the k most probable tokens; null keeps all."
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    "Keep the fewest tokens whose probabilities reach this sum."

    def choose(self, logits: StepLogits, uniforms: Float[Tensor, " B"]) -> StepTokens:
        scaled = logits / self.temperature
        vocab_size = scaled.shape[1]
        keep = vocab_size if self.top_k is None else min(self.top_k, vocab_size)
        width = min(keep, CANDIDATES)
        values, tokens = scaled.topk(width, dim=1)
        if self.top_k is None:
            probabilities = (values - scaled.logsumexp(1, keepdim=True)).exp()
        elif width == keep:
            probabilities = values.softmax(1)
        else:
            probabilities = (values - scaled.topk(keep, dim=1).values.logsumexp(1, keepdim=True)).exp()
        choice, settled = _draw(probabilities, uniforms, self.top_p, complete=width == keep)
        result = tokens.gather(1, choice.unsqueeze(1)).squeeze(1)
        if not settled.all():
            result[~settled] = self._choose_from_all(scaled[~settled], uniforms[~settled], keep)
        return result

    def _choose_from_all(self, scaled: StepLogits, uniforms: Float[Tensor, " B"], keep: int) -> StepTokens:
        values, tokens = scaled.topk(keep, dim=1)
        choice, _ = _draw(values.softmax(1), uniforms, self.top_p, complete=True)
        return tokens.gather(1, choice.unsqueeze(1)).squeeze(1)


def _draw(
    probabilities: Float[Tensor, "B K"], uniforms: Float[Tensor, " B"], top_p: float, *, complete: bool
) -> tuple[Tensor, Tensor]:
    """Places drawn in rows of falling probabilities, and whether the K candidates were enough to know them."""
    cumulative = probabilities.double().cumsum(1)
    if complete:
        cumulative = cumulative / cumulative[:, -1:]
    # The nucleus ends at the first place where the sum reaches top_p; without a cut its mass is 1.
    last = (cumulative < top_p).sum(1).clamp_max(probabilities.shape[1] - 1)
    mass = cumulative.gather(1, last.unsqueeze(1)).squeeze(1) if top_p < 1.0 else torch.ones_like(cumulative[:, 0])
    level = uniforms.double() * mass
    choice = (cumulative <= level.unsqueeze(1)).sum(1)
    known = cumulative[:, -1] > level if top_p >= 1.0 else cumulative[:, -1] >= top_p
    settled = torch.ones_like(known) if complete else known
    return choice.clamp_max(probabilities.shape[1] - 1), settled
