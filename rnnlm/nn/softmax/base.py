"""What every output layer gives: from hidden states to a distribution over the vocabulary.

Training asks for `objective`, a sum to be minimised, which an approximation may estimate; everything that measures asks
for `logprobs`, which is exact for every kind. No layer ever holds a matrix of all positions by the whole vocabulary:
work is cut into `CHUNK` positions at a time.
"""

from abc import abstractmethod

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn

from rnnlm.config import config
from rnnlm.types import PackedHidden, PackedLogprobs, PackedTargets, StepLogits, StepOutputs

CHUNK = 256  # positions; larger chunks spill the logits to memory, smaller ones leave the matrix product too thin


@config
class SoftmaxConfig:
    """Base of the configs in conf/softmax."""

    tied: bool = True
    "Use the embedding matrix as the output matrix (Press & Wolf 2017); sizes must be equal."
    bias: bool = Field(default=True)
    "Add a bias b, one number a vocabulary entry."

    @abstractmethod
    def build(self, hidden_size: int, embedding: nn.Embedding) -> "Softmax":
        """`embedding` gives the vocabulary's size, and the output matrix if tied."""


class Softmax(nn.Module):
    """A distribution over the vocabulary for each hidden state."""

    def prepare(self, counts: npt.NDArray[np.int64]) -> None:
        """Learn how often each of the V tokens is a target in the training data; called once on fresh weights."""

    @abstractmethod
    def logits(self, hidden: StepOutputs) -> StepLogits:
        """Log-probabilities up to one constant a row; for a few rows only (a step of generation)."""

    @abstractmethod
    def logprobs(self, hidden: PackedHidden, targets: PackedTargets) -> PackedLogprobs:
        """Natural-log probability of each target, exact; no gradient."""

    @abstractmethod
    def objective(self, hidden: PackedHidden, targets: PackedTargets) -> Tensor:
        """What training minimises: the sum of -log P(target) in nats, or its estimate, as one differentiable float64
        number."""


def product_dtype(tensor: Tensor) -> torch.dtype:
    """The precision that large products are done in: what autocast asks for, else the tensor's own."""
    device = tensor.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else tensor.dtype
