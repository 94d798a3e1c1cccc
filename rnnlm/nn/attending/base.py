"""What every kind of attention gives: from T queries and a memory of S positions to T contexts.

    a_ts = softmax over s of score(q_t, m_s)        positions behind the end of a source have weight 0
    c_t  = sum over s of a_ts m_s

What a kind makes of the memory alone (`keys`) is made once a source, however many steps look at it.
"""

from abc import abstractmethod

import torch
from torch import Tensor, nn

from rnnlm.config import config
from rnnlm.types import AttentionScores, Contexts, Keys, MemoryMask, MemoryStates, Queries


@config
class AttendingConfig:
    """Base of the configs in conf/attention."""

    @abstractmethod
    def check_sizes(self, query_size: int, memory_size: int) -> None:
        """Raise ValueError if queries and memory of these sizes do not fit."""

    @abstractmethod
    def build(self, query_size: int, memory_size: int) -> "Attending | None":
        """A module with fresh weights; None where there is no attention."""


class Attending(nn.Module):
    """Queries B T Q look at a memory B S M. `context_size` is the size of what they get."""

    context_size: int

    @abstractmethod
    def keys(self, memory: MemoryStates) -> Keys:
        """What scores are computed from."""

    def values(self, memory: MemoryStates) -> MemoryStates:
        """What contexts are made of."""
        return memory

    @abstractmethod
    def scores(self, queries: Queries, keys: Keys) -> AttentionScores:
        """score(q_t, m_s) for all t and s."""

    def forward(
        self, queries: Queries, keys: Keys, values: MemoryStates, known: MemoryMask
    ) -> tuple[Contexts, AttentionScores]:
        """Contexts, and the weights a (B T S). `known` is 1 at positions of the source and 0 behind its end."""
        weights = masked_softmax(self.scores(queries, keys), known.unsqueeze(1))
        return torch.bmm(weights.to(values.dtype), values), weights


def masked_softmax(scores: Tensor, known: Tensor) -> Tensor:
    """Softmax over the last dimension, of float32 precision at least, with weight 0 where `known` is 0."""
    return scores.float().masked_fill(known == 0, -torch.inf).softmax(-1)
