"""The exact softmax over the whole vocabulary.

    P(v | h) = exp(V_v h + b_v) / sum_u exp(V_u h + b_u)

A matrix of all positions by the whole vocabulary is what makes language models large and slow: 4,480 positions by
33,000 words are 1.2 GB with their gradient. Here logits exist a tile at a time, and in training the gradients are
formed in the same pass, since they need those logits too (`fused`, `log_normaliser`).
"""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rnnlm.config import config
from rnnlm.nn.products import linear
from rnnlm.nn.softmax.base import Softmax, SoftmaxConfig, SoftmaxLoss, fresh_matrix, log_frequencies
from rnnlm.nn.softmax.fused import Kind, fused_loss, reading_table, target_logprobs
from rnnlm.types import PackedHidden, PackedLogprobs, PackedTargets, StepLogits, StepOutputs


@config
class FullSoftmaxConfig(SoftmaxConfig):
    """The exact softmax over the whole vocabulary."""

    def build(self, hidden_size: int, embedding: nn.Embedding) -> "FullSoftmax":
        weight = embedding.weight if self.tied else fresh_matrix(embedding.num_embeddings, hidden_size)
        return FullSoftmax(weight, bias=self.bias, label_smoothing=self.label_smoothing)


class FullSoftmax(Softmax):
    """V is `weight` (V x H, the embedding's own if tied), b is `bias`."""

    def __init__(self, weight: Tensor, *, bias: bool, label_smoothing: float) -> None:
        super().__init__()
        self.weight = weight
        self.bias = nn.Parameter(weight.new_zeros(len(weight))) if bias else None
        self.label_smoothing = label_smoothing

    def prepare(self, counts: npt.NDArray[np.int64]) -> None:
        if self.bias is not None:
            with torch.no_grad():
                self.bias.copy_(torch.from_numpy(log_frequencies(counts)))

    def logits(self, hidden: StepOutputs) -> StepLogits:
        return linear(hidden, self.weight, self.bias)

    def logprobs(self, hidden: PackedHidden, targets: PackedTargets) -> PackedLogprobs:
        return target_logprobs(hidden, reading_table(self.weight, self.bias), targets)

    def objective(self, hidden: PackedHidden, targets: PackedTargets) -> SoftmaxLoss:
        kind = Kind(smoothing=self.label_smoothing)
        return fused_loss(hidden, self.weight, self.bias, targets, kind)
