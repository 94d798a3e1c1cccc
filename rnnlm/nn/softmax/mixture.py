"""A mixture of softmaxes (Yang, Dai, Salakhutdinov & Cohen 2018, equations 1 and 2).

    P(v | h) = sum_k pi_k(h) softmax_v(V g_k(h) + b)       g_k(h) = tanh(A_k h + a_k)       pi(h) = softmax(B h)

One softmax gives logits of rank H at most, whatever the contexts; the log of a mixture has no such bound. All experts
share V and b, so a position with K experts is K positions of a full softmax, and costs as much.
"""

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn

from rnnlm.config import config
from rnnlm.nn.products import Linear, linear
from rnnlm.nn.softmax.base import Softmax, SoftmaxConfig, SoftmaxLoss, fresh_matrix, log_frequencies
from rnnlm.nn.softmax.fused import Kind, fused_loss, reading_table, target_logprobs
from rnnlm.nn.softmax.log_normaliser import chunks
from rnnlm.types import PackedHidden, PackedLogprobs, PackedTargets, StepLogits, StepOutputs


@config
class MixtureSoftmaxConfig(SoftmaxConfig):
    """A mixture of softmaxes: each of its experts costs as much as a full softmax."""

    num_experts: int = Field(default=4, ge=1, le=256)
    "Softmaxes that are mixed (K)."
    latent_size: int | None = Field(default=None, ge=1)
    "Size of what an expert makes of the hidden state; null takes the embedding's if tied, else the hidden state's."

    def __post_init__(self) -> None:
        self.refuse_smoothing()

    def check_sizes(self, hidden_size: int, embedding_size: int, what: str) -> None:  # noqa: ARG002 - experts map any size
        if self.tied and self.latent_size not in {None, embedding_size}:
            raise ValueError(
                f"a tied mixture needs softmax.latent_size ({self.latent_size}) = task.embedding_size "
                f"({embedding_size}); set softmax.latent_size=null or softmax.tied=false"
            )

    def build(self, hidden_size: int, embedding: nn.Embedding) -> "MixtureSoftmax":
        if self.tied:
            weight: Tensor = embedding.weight
        else:
            weight = fresh_matrix(embedding.num_embeddings, self.latent_size or hidden_size)
        return MixtureSoftmax(hidden_size, weight, bias=self.bias, num_experts=self.num_experts)


class MixtureSoftmax(Softmax):
    """V is `weight`, b is `bias`; A and a are `latent`, the K experts one after another; B is `mixing`."""

    def __init__(self, hidden_size: int, weight: Tensor, *, bias: bool, num_experts: int) -> None:
        super().__init__()
        self.num_experts = num_experts
        self.weight = weight
        self.bias = nn.Parameter(weight.new_zeros(len(weight))) if bias else None
        self.latent = Linear(hidden_size, num_experts * weight.shape[1])
        self.mixing = Linear(hidden_size, num_experts, bias=False)

    def prepare(self, counts: npt.NDArray[np.int64]) -> None:
        if self.bias is not None:
            with torch.no_grad():
                self.bias.copy_(torch.from_numpy(log_frequencies(counts)))

    def _experts(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Latent states (N K x E, a position's experts side by side) and log pi (N x K)."""
        latent = self.latent(hidden).tanh().unflatten(1, (self.num_experts, -1)).flatten(0, 1)
        return latent, self.mixing(hidden).log_softmax(1)

    def logits(self, hidden: StepOutputs) -> StepLogits:
        latent, log_prior = self._experts(hidden)
        logprobs = linear(latent, self.weight, self.bias).log_softmax(1).unflatten(0, (-1, self.num_experts))
        mixed: Tensor = (logprobs + log_prior.unsqueeze(2)).logsumexp(1)
        return mixed

    def logprobs(self, hidden: PackedHidden, targets: PackedTargets) -> PackedLogprobs:
        result = hidden.new_empty(len(targets))
        with torch.no_grad():
            table = reading_table(self.weight, self.bias)
            for part in chunks(len(targets)):
                latent, log_prior = self._experts(hidden[part])
                repeated = targets[part].repeat_interleave(self.num_experts)
                found = target_logprobs(latent, table, repeated).view_as(log_prior)
                result[part] = (found + log_prior).logsumexp(1).clamp_max(0.0)
        return result

    def objective(self, hidden: PackedHidden, targets: PackedTargets) -> SoftmaxLoss:
        latent, log_prior = self._experts(hidden)
        kind = Kind(group=self.num_experts)
        repeated = targets.repeat_interleave(self.num_experts)
        return fused_loss(latent, self.weight, self.bias, repeated, kind, log_prior.flatten())
