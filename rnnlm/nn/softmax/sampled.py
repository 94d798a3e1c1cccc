"""Sampled softmax: training against a few drawn words instead of the whole vocabulary; measured exactly.

A set of `num_samples` words is drawn once for all positions of a window, from the proposal Q(v) proportional to
count(v)^distortion. The objective of a position is the cross-entropy among its target and the drawn words, each logit
corrected by the logarithm of how often Q expects to draw it (Bengio & Senecal 2008, equation 5; Jean et al. 2015,
equation 9), so that its gradient tends to that of the exact softmax as the number of samples grows:

    z(v) = V_v h + b_v - log(num_samples Q(v))        loss = log(exp z(y) + sum over drawn v != y of exp z(v)) - z(y)

A word drawn m times stands in the sum once, with log m added. Drawing a row's own target again would push it down, so
such hits are left out of that row's sum. At 33,000 words and 2,048 samples a step does a twentieth of the exact
softmax's work. Evaluation (`logprobs`, `logits`, and `objective` outside training) is exact.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn

from rnnlm.config import config
from rnnlm.nn.softmax.base import CHUNK, SoftmaxConfig, product_dtype
from rnnlm.nn.softmax.full import FullSoftmax
from rnnlm.types import PackedHidden, PackedTargets


@config
class SampledSoftmaxConfig(SoftmaxConfig):
    """Trained against a sample of the vocabulary, measured against all of it."""

    num_samples: int = Field(default=2048, ge=1)
    "Words drawn for a window, shared by all its positions."
    distortion: float = Field(default=0.75, ge=0.0, le=1.0)
    "Words are drawn in proportion to their count to this power; 1 is the unigram distribution, 0 uniform."

    def build(self, hidden_size: int, embedding: nn.Embedding) -> "SampledSoftmax":
        weight = embedding.weight if self.tied else None
        return SampledSoftmax(self, hidden_size, embedding.num_embeddings, tied_weight=weight)


class SampledSoftmax(FullSoftmax):
    """`log_proposal` (V) is the logarithm of Q; uniform until `prepare` has seen the counts."""

    def __init__(
        self, settings: SampledSoftmaxConfig, hidden_size: int, vocab_size: int, *, tied_weight: Tensor | None
    ) -> None:
        super().__init__(hidden_size, vocab_size, tied_weight=tied_weight, bias=settings.bias)
        self.num_samples, self.distortion = settings.num_samples, settings.distortion
        self.log_proposal: Tensor
        self.register_buffer("log_proposal", torch.full((vocab_size,), -math.log(vocab_size)))

    def prepare(self, counts: npt.NDArray[np.int64]) -> None:
        super().prepare(counts)
        proposal = torch.from_numpy(counts + 1.0).pow(self.distortion)
        self.log_proposal.copy_((proposal / proposal.sum()).log())

    def objective(self, hidden: PackedHidden, targets: PackedTargets) -> Tensor:
        if not self.training:
            return super().objective(hidden, targets)
        drawn = torch.multinomial(self.log_proposal.exp(), self.num_samples, replacement=True)
        words, times = drawn.unique(return_counts=True)
        # What is taken off a logit: log of the expected draws; a word drawn m times counts m times.
        expected = self.log_proposal + math.log(self.num_samples)
        loss: Tensor = _SampledNll.apply(hidden, self.weight, self.bias, targets, words, times.log(), expected)
        return loss


class _SampledNll(torch.autograd.Function):
    """Loss and all its gradients in one pass over chunks of positions."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        words: Tensor,
        log_times: Tensor,
        expected: Tensor,
    ) -> Tensor:
        precision = product_dtype(hidden)
        own_offset, offset = -expected[targets], log_times.to(hidden.dtype) - expected[words]
        if bias is not None:
            own_offset, offset = own_offset + bias[targets], offset + bias[words]
        own_rows, drawn_rows = weight[targets], weight[words].to(precision)
        column = torch.full((len(weight),), -1, dtype=torch.int64, device=hidden.device)
        column[words] = torch.arange(len(words), device=hidden.device)
        hits = column[targets]
        own = (hidden * own_rows).sum(1) + own_offset
        own_error, hidden_grad = torch.empty_like(own), torch.empty_like(hidden)
        drawn_grad = torch.zeros(len(words), hidden.shape[1], dtype=hidden.dtype, device=hidden.device)
        offset_grad = torch.zeros_like(offset)
        total = torch.zeros((), dtype=torch.float64, device=hidden.device)
        for start in range(0, len(targets), CHUNK):
            part = slice(start, start + CHUNK)
            states = hidden[part].to(precision)
            logits = (states @ drawn_rows.t()).to(hidden.dtype).add_(offset)
            hit = hits[part]
            rows = (hit >= 0).nonzero().squeeze(1)
            logits[rows, hit[rows]] = -math.inf
            log_normaliser = torch.logaddexp(own[part], logits.logsumexp(1))
            total += (log_normaliser - own[part]).sum(dtype=torch.float64)
            error = logits.sub_(log_normaliser.unsqueeze(1)).exp_()
            own_error[part] = (own[part] - log_normaliser).exp_().sub_(1.0)
            offset_grad += error.sum(0)
            error = error.to(precision)
            torch.addcmul(
                (error @ drawn_rows).to(hidden.dtype), own_error[part, None], own_rows[part], out=hidden_grad[part]
            )
            drawn_grad += (error.t() @ states).to(hidden.dtype)
        weight_grad = torch.zeros_like(weight)
        weight_grad.index_add_(0, words, drawn_grad)
        weight_grad.index_add_(0, targets, hidden * own_error.unsqueeze(1))
        gradients = [hidden_grad, weight_grad]
        if bias is not None:
            bias_grad = torch.zeros_like(bias).index_add_(0, words, offset_grad)
            gradients.append(bias_grad.index_add_(0, targets, own_error))
        ctx.save_for_backward(*gradients)
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        # The gradients are of no use to anyone else: scaled in place, tens of megabytes are not copied.
        gradients = [gradient.mul_(grad_outputs[0].to(gradient.dtype)) for gradient in ctx.saved_tensors]
        return gradients[0], gradients[1], gradients[2] if len(gradients) == 3 else None, None, None, None, None
