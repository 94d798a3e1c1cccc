"""What every output layer gives: from hidden states to a distribution over the vocabulary.

Training asks for `objective`, a sum to be minimised, which an approximation may estimate; everything that measures asks
for `logprobs`, which is exact for every kind. No layer ever holds a matrix of all positions by the whole vocabulary:
work is cut into chunks of positions. Large products are done in the precision that autocast asks for, sums in that of
the weights.
"""

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn

from rnnlm.config import config
from rnnlm.types import PackedHidden, PackedLogprobs, PackedTargets, StepLogits, StepOutputs


@config
class SoftmaxConfig:
    """Base of the configs in conf/softmax."""

    tied: bool = True
    "Use the embedding matrix as the output matrix (Press & Wolf 2017); sizes must be equal."
    bias: bool = Field(default=True)
    "Add a bias b, one number a vocabulary entry; it begins as the log of the entry's frequency in the training data."
    label_smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)
    "Share of the training target that is spread evenly over the vocabulary (Szegedy et al. 2016, section 7)."

    @abstractmethod
    def build(self, hidden_size: int, embedding: nn.Embedding) -> "Softmax":
        """`embedding` gives the vocabulary's size, and the output matrix if tied. Raises ConfigError for what does not
        fit the vocabulary."""

    def check_sizes(self, hidden_size: int, embedding_size: int, what: str) -> None:
        """Raise ValueError if the layer cannot stand between hidden states, whose size is that of `what`, and an
        embedding."""
        if self.tied and hidden_size != embedding_size:
            raise ValueError(
                f"a tied softmax needs {what} ({hidden_size}) = task.embedding_size ({embedding_size}); "
                "make them equal or set softmax.tied=false"
            )

    def refuse_smoothing(self) -> None:
        """Raise ValueError if smoothing is asked for; called by kinds that cannot give it."""
        if self.label_smoothing:
            raise ValueError(
                f"label_smoothing ({self.label_smoothing}) is for softmax=full and softmax=sampled; here it would "
                "need every token's probability at every position: set label_smoothing=0.0"
            )


@dataclass(frozen=True)
class SoftmaxLoss:
    """Sums over targets, in nats, as float64 numbers: what is to be minimised, and without gradient the negative
    log-likelihood (which an approximation estimates, and label smoothing leaves alone)."""

    objective: Tensor
    nll: Tensor


class Softmax(nn.Module):
    """A distribution over the vocabulary for each hidden state."""

    @abstractmethod
    def prepare(self, counts: npt.NDArray[np.int64]) -> None:
        """Learn how often each of the V tokens is a target in the training data; called once on fresh weights."""

    @abstractmethod
    def logits(self, hidden: StepOutputs) -> StepLogits:
        """Log-probabilities up to one constant a row; for a few rows only (a step of generation)."""

    @abstractmethod
    def logprobs(self, hidden: PackedHidden, targets: PackedTargets) -> PackedLogprobs:
        """Natural-log probability of each target, exact; no gradient."""

    @abstractmethod
    def objective(self, hidden: PackedHidden, targets: PackedTargets) -> SoftmaxLoss:
        """The sum of -log P(target), or its estimate; its gradient can be asked for once."""


def log_frequencies(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """log (count + 1) / (sum of counts + V): a token that was never seen is half as frequent as one seen once."""
    smoothed = counts.astype(np.float64) + 1.0
    result: npt.NDArray[np.float64] = np.log(smoothed / smoothed.sum())
    return result


def fresh_matrix(rows: int, columns: int) -> nn.Parameter:
    """An output matrix whose logits are near 1 for hidden states near 1."""
    return nn.Parameter(torch.empty(rows, columns).normal_(std=columns**-0.5))
