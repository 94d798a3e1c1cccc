"""Sampling: draw from the model's distribution, sharpened, cut to the k best, cut to a nucleus, or as it is.

The order is temperature, typical-p, min-p, top-k, top-p (Holtzman et al. 2020), each on what the one before has left. A
draw inverts the cumulative distribution over tokens from the most to the least probable at one uniform number, so that
a row's outcome is a function of its own random numbers alone.
"""

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from rnnlm.config import config
from rnnlm.decoding.rows import best_few, log_sum_exp
from rnnlm.decoding.rules.min_p import cut_min_p
from rnnlm.decoding.rules.typical_p import cut_typical_p
from rnnlm.decoding.stepwise import StepwiseConfig
from rnnlm.types import StepLogits, StepTokens

# Sorting a whole vocabulary costs more than the network. Nearly always the best few hold the nucleus or the draw; the
# exact normaliser tells when they do not, and only then are more looked at.
CANDIDATES = 256
WIDENING = 4


@config
class SamplingConfig(StepwiseConfig):
    """Random sampling with temperature, top-k and top-p."""

    name = "sampling"

    temperature: float = Field(default=1.0, gt=0.0)
    "Logits are divided by it; below 1 sharpens."
    top_k: int | None = Field(default=None, ge=1)
    "Keep the k most probable tokens; null keeps all."
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    "Keep the fewest tokens whose probabilities reach this sum."
    min_p: float = Field(default=0.0, ge=0.0, le=1.0)
    "Keep tokens of at least this share of the best one's probability (Nguyen et al. 2025)."
    typical_p: float = Field(default=1.0, gt=0.0, le=1.0)
    "Keep tokens of about the expected information until they reach this sum (Meister et al. 2023)."

    def choose(
        self, logits: StepLogits, uniforms: Float[Tensor, " B"], log_normaliser: Float[Tensor, " B"]
    ) -> StepTokens:
        if self.min_p > 0.0 or self.typical_p < 1.0:
            logits = self._cut(logits)
            log_normaliser = log_sum_exp(logits)
        vocab_size = logits.shape[1]
        keep = vocab_size if self.top_k is None else min(self.top_k, vocab_size)
        if keep <= CANDIDATES:
            log_sum = log_normaliser  # of no use, as all that is kept is looked at
        elif keep < vocab_size:
            log_sum = log_sum_exp(best_few(logits, keep)[0] / self.temperature)
        else:
            log_sum = log_normaliser if self.temperature == 1.0 else log_sum_exp(logits / self.temperature)
        return self._choose_among(min(keep, CANDIDATES), keep, logits, uniforms, log_sum)

    def _cut(self, logits: StepLogits) -> StepLogits:
        if self.typical_p < 1.0:
            logits = cut_typical_p(logits, self.typical_p, self.temperature)
        return logits if self.min_p == 0.0 else cut_min_p(logits, self.min_p, self.temperature)

    def _choose_among(
        self, width: int, keep: int, logits: StepLogits, uniforms: Float[Tensor, " B"], log_sum: Float[Tensor, " B"]
    ) -> StepTokens:
        """Draw among the `keep` best, whose scaled logits have the log-sum-exp `log_sum`, by a look at the `width` best
        if they are enough."""
        values, tokens = best_few(logits, width)
        scaled = values / self.temperature
        complete = width == keep
        probabilities = scaled.softmax(1) if complete else (scaled - log_sum.unsqueeze(1)).exp()
        choice, settled = _draw(probabilities, uniforms, self.top_p, complete=complete)
        result = tokens.gather(1, choice.unsqueeze(1)).squeeze(1)
        if not settled.all():
            rest = ~settled
            wider = min(keep, WIDENING * width)
            result[rest] = self._choose_among(wider, keep, logits[rest], uniforms[rest], log_sum[rest])
        return result


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
