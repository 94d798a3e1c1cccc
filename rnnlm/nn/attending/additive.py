"""Additive attention (Bahdanau, Cho & Bengio 2015, appendix A.1.2): a small network compares query and memory.

score(q, m) = v . tanh(W q + U m + b)
"""

import torch
from pydantic import Field
from torch import nn

from rnnlm.config import config
from rnnlm.nn.attending.additive_scores import AdditiveScores
from rnnlm.nn.attending.base import Attending, AttendingConfig
from rnnlm.nn.products import Linear
from rnnlm.types import AttentionScores, Keys, MemoryStates, Queries


@config
class AdditiveConfig(AttendingConfig):
    """A network with one hidden layer."""

    size: int = Field(default=256, ge=1)
    "Size of the hidden layer."

    def check_sizes(self, query_size: int, memory_size: int) -> None:
        """All sizes fit."""

    def build(self, query_size: int, memory_size: int) -> "Additive":
        return Additive(query_size, memory_size, self.size)


class Additive(Attending):
    """W is `to_query`; U and b are `to_key`; v is `scorer`."""

    def __init__(self, query_size: int, memory_size: int, size: int) -> None:
        super().__init__()
        self.context_size = memory_size
        self.to_query = Linear(query_size, size, bias=False)
        self.to_key = Linear(memory_size, size)
        self.scorer = nn.Parameter(torch.empty(size).uniform_(-(size**-0.5), size**-0.5))

    def keys(self, memory: MemoryStates) -> Keys:
        keys: Keys = self.to_key(memory)
        return keys

    def scores(self, queries: Queries, keys: Keys) -> AttentionScores:
        precision = self.scorer.dtype  # sums are done in that of the weights, whatever autocast gave the products
        scores: AttentionScores = AdditiveScores.apply(
            self.to_query(queries).to(precision), keys.to(precision), self.scorer
        )
        return scores
