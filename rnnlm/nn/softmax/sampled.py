"""The softmax trained on a sample of the vocabulary, and exact wherever something is measured.

The normaliser is a sum over V tokens. In training it is estimated from K tokens S that all positions of a call share
(Bengio & Senecal 2008; Jean, Cho, Memisevic & Bengio 2015, section 3): the target counts as it is, every other token of
S for all those that could have been drawn in its place (Horvitz & Thompson 1952):

    Z = exp(z_target) + sum over v in S, v not the target, of exp(z_v) / P(v in S)        nll = log Z - z_target

E[Z] is the true normaliser, so for large K the loss and its gradient are the exact ones. (Subtracting log K q from the
target's logit too, as is often done, loses this: for a frequent target K q exceeds 1 and its own share vanishes.)

S is drawn without replacement by a race: token v arrives after an exponential time of rate q_v, the first K are taken.
Given when the next one arrives, at t, each of them was in with probability 1 - exp(-q_v t), which keeps the estimate
unbiased (Cohen & Kaplan 2007, rank conditioning). Frequent tokens are so nearly always in, with weight 1, and never
twice; and S has K members at every call, so that products keep their shape.
"""

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn

from rnnlm.config import config
from rnnlm.nn.softmax.base import SoftmaxConfig, SoftmaxLoss, fresh_matrix
from rnnlm.nn.softmax.full import FullSoftmax
from rnnlm.nn.softmax.fused import Kind, Sample, fused_loss
from rnnlm.types import PackedHidden, PackedTargets


@config
class SampledSoftmaxConfig(SoftmaxConfig):
    """The exact softmax, but trained on a sample of the vocabulary."""

    num_samples: int = Field(default=2048, ge=1, le=1 << 20)
    "Tokens (K) that stand for the vocabulary in one training step; as many as there are, or more, give the exact loss."
    distortion: float = Field(default=0.75, ge=0.0, le=1.0)
    "Tokens are drawn in proportion to (count + 1) to this power; 0 draws all alike (Mikolov et al. 2013)."

    def build(self, hidden_size: int, embedding: nn.Embedding) -> "SampledSoftmax":
        weight = embedding.weight if self.tied else fresh_matrix(embedding.num_embeddings, hidden_size)
        return SampledSoftmax(
            weight,
            bias=self.bias,
            label_smoothing=self.label_smoothing,
            num_samples=self.num_samples,
            distortion=self.distortion,
        )


class SampledSoftmax(FullSoftmax):
    """Draws from torch's global generator, as dropout does."""

    rate: Tensor

    def __init__(
        self, weight: Tensor, *, bias: bool, label_smoothing: float, num_samples: int, distortion: float
    ) -> None:
        super().__init__(weight, bias=bias, label_smoothing=label_smoothing)
        self.num_samples, self.distortion = num_samples, distortion
        # A buffer, so that a run that goes on draws from the same distribution. Until counts are known all tokens are
        # alike: our vocabularies are not sorted by frequency, so a law of ranks would be a guess about nothing.
        self.register_buffer("rate", weight.new_full((len(weight),), 1.0 / len(weight)))

    def prepare(self, counts: npt.NDArray[np.int64]) -> None:
        super().prepare(counts)
        rate = (counts.astype(np.float64) + 1.0) ** self.distortion
        self.rate.copy_(torch.from_numpy(rate / rate.sum()))

    def draw(self) -> Sample:
        """K distinct tokens, or all of them."""
        if self.num_samples >= len(self.rate):
            return Sample(torch.arange(len(self.rate), device=self.rate.device), torch.zeros_like(self.rate))
        arrival = torch.empty_like(self.rate).exponential_() / self.rate
        times, tokens = arrival.topk(self.num_samples + 1, largest=False)
        tokens = tokens[:-1]
        return Sample(tokens, torch.log(-torch.expm1(-self.rate[tokens] * times[-1])))

    def objective(self, hidden: PackedHidden, targets: PackedTargets) -> SoftmaxLoss:
        if not self.training:
            return super().objective(hidden, targets)
        kind = Kind(sample=self.draw(), smoothing=self.label_smoothing)
        return fused_loss(hidden, self.weight, self.bias, targets, kind)
