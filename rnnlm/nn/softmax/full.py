"""The exact softmax over the whole vocabulary.

    P(v | h) = exp(V_v h + b_v) / sum_u exp(V_u h + b_u)

A matrix of all positions by the whole vocabulary is what makes language models large and slow: 4,480 positions by
33,000 words are 1.2 GB with their gradient. Here logits exist for `CHUNK` positions at a time, small enough to stay in
the processor's cache; in training the gradients are formed in the same pass, since they need those logits too.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rnnlm.config import config
from rnnlm.nn.softmax.base import CHUNK, Softmax, SoftmaxConfig, product_dtype
from rnnlm.types import PackedHidden, PackedLogprobs, PackedTargets, StepLogits, StepOutputs


@config
class FullSoftmaxConfig(SoftmaxConfig):
    """The exact softmax over the whole vocabulary."""

    def build(self, hidden_size: int, embedding: nn.Embedding) -> "FullSoftmax":
        weight = embedding.weight if self.tied else None
        return FullSoftmax(hidden_size, embedding.num_embeddings, tied_weight=weight, bias=self.bias)


class FullSoftmax(Softmax):
    """V is `weight` (V x H, shared with the embedding if tied), b is `bias`."""

    def __init__(self, hidden_size: int, vocab_size: int, *, tied_weight: Tensor | None, bias: bool) -> None:
        super().__init__()
        if tied_weight is None:
            tied_weight = nn.Parameter(torch.empty(vocab_size, hidden_size).normal_(std=hidden_size**-0.5))
        self.weight = tied_weight
        self.bias = nn.Parameter(torch.zeros(vocab_size)) if bias else None

    def prepare(self, counts: npt.NDArray[np.int64]) -> None:
        # Begin with the unigram distribution (add-one smoothed): else the first hundreds of steps learn just that.
        if self.bias is not None:
            smoothed = torch.from_numpy(counts + 1.0)
            self.bias.data.copy_((smoothed / smoothed.sum()).log())

    def logits(self, hidden: StepOutputs) -> StepLogits:
        return F.linear(hidden, self.weight, self.bias)

    def logprobs(self, hidden: PackedHidden, targets: PackedTargets) -> PackedLogprobs:
        result = hidden.new_empty(len(targets))
        precision = product_dtype(hidden)
        with torch.no_grad():
            rows, offset = self.weight.to(precision), None if self.bias is None else self.bias.to(precision)
            for start in range(0, len(targets), CHUNK):
                part = slice(start, start + CHUNK)
                logits = F.linear(hidden[part].to(precision), rows, offset).to(hidden.dtype)
                result[part] = logits.gather(1, targets[part, None]).squeeze(1) - logits.logsumexp(1)
        return result

    def objective(self, hidden: PackedHidden, targets: PackedTargets) -> Tensor:
        loss: Tensor = _FusedNll.apply(hidden, self.weight, self.bias, targets)
        return loss


class _FusedNll(torch.autograd.Function):
    """Projection, softmax, loss and all their gradients in one pass over chunks of positions."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float64, device=hidden.device)
        wanted = any(ctx.needs_input_grad)
        precision = product_dtype(hidden)
        rows, offset = weight.to(precision), None if bias is None else bias.to(precision)
        hidden_grad = torch.empty_like(hidden) if wanted else None
        weight_grad = torch.zeros_like(weight) if wanted else None
        bias_grad = torch.zeros_like(bias) if wanted and bias is not None else None
        for start in range(0, len(targets), CHUNK):
            part = slice(start, start + CHUNK)
            target = targets[part, None]
            states = hidden[part].to(precision)
            logits = F.linear(states, rows, offset).to(hidden.dtype)
            log_normaliser = logits.logsumexp(1, keepdim=True)
            total += (log_normaliser - logits.gather(1, target)).sum(dtype=torch.float64)
            if hidden_grad is None or weight_grad is None:
                continue
            # d nll / d logits = softmax - one_hot(target), made in place of the logits.
            error = logits.sub_(log_normaliser).exp_()
            error.scatter_add_(1, target, error.new_full(target.shape, -1.0))
            if bias_grad is not None:
                bias_grad += error.sum(0)
            if precision == hidden.dtype:
                torch.mm(error, rows, out=hidden_grad[part])
                weight_grad.addmm_(error.t(), states)
            else:
                error = error.to(precision)
                hidden_grad[part] = error @ rows
                weight_grad += error.t() @ states
        ctx.save_for_backward(*(g for g in (hidden_grad, weight_grad, bias_grad) if g is not None))
        ctx.has_bias = bias_grad is not None
        return total

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        scale = grad_outputs[0]
        gradients = [gradient.mul(scale.to(gradient.dtype)) for gradient in ctx.saved_tensors]
        hidden_grad, weight_grad = gradients[:2]
        return hidden_grad, weight_grad, gradients[2] if ctx.has_bias else None, None
