"""Several dot products side by side (Vaswani et al. 2017, section 3.2.2), each on its share of the features.

score_h(q, m) = (W_h q) . (K_h m) / sqrt(size / heads)        c = O [sum over s of a_hs V_h m_s, head beside head]
"""

import torch
from pydantic import Field

from rnnlm.config import config
from rnnlm.nn.attending.base import Attending, AttendingConfig, masked_softmax
from rnnlm.nn.products import Linear
from rnnlm.types import AttentionScores, Contexts, Keys, MemoryMask, MemoryStates, Queries


@config
class MultiHeadConfig(AttendingConfig):
    """Heads that look at different places."""

    num_heads: int = Field(default=4, ge=1)
    "Heads, each with its share of `size`."
    size: int = Field(default=256, ge=1)
    "Size of queries, keys and values, all heads together."

    def __post_init__(self) -> None:
        if self.size % self.num_heads:
            raise ValueError(
                f"num_heads={self.num_heads} cannot share out size={self.size} evenly; set another num_heads or size"
            )

    def check_sizes(self, query_size: int, memory_size: int) -> None:
        """All sizes fit."""

    def build(self, query_size: int, memory_size: int) -> "MultiHead":
        return MultiHead(query_size, memory_size, self.size, self.num_heads)


class MultiHead(Attending):
    """W, K, V and O are `to_query`, `to_key`, `to_value`, `to_context`; weights are shown as the mean over heads."""

    def __init__(self, query_size: int, memory_size: int, size: int, num_heads: int) -> None:
        super().__init__()
        self.context_size, self.num_heads = memory_size, num_heads
        self.to_query = Linear(query_size, size)
        self.to_key = Linear(memory_size, size)
        self.to_value = Linear(memory_size, size)
        self.to_context = Linear(size, memory_size)

    def keys(self, memory: MemoryStates) -> Keys:
        keys: Keys = self.to_key(memory)
        return keys

    def values(self, memory: MemoryStates) -> MemoryStates:
        values: MemoryStates = self.to_value(memory)
        return values

    def scores(self, queries: Queries, keys: Keys) -> AttentionScores:
        """The mean over heads; `forward` needs each by itself."""
        return self._by_head(queries, keys).mean(1)

    def forward(
        self, queries: Queries, keys: Keys, values: MemoryStates, known: MemoryMask
    ) -> tuple[Contexts, AttentionScores]:
        weights = masked_softmax(self._by_head(queries, keys), known[:, None, None])
        mixed = torch.matmul(weights.to(values.dtype), self._heads(values))
        return self.to_context(mixed.transpose(1, 2).flatten(2)), weights.mean(1)

    def _by_head(self, queries: Queries, keys: Keys) -> torch.Tensor:
        """B heads T S."""
        query = self._heads(self.to_query(queries))
        scores: torch.Tensor = torch.matmul(query, self._heads(keys).transpose(2, 3)) * query.shape[3] ** -0.5
        return scores

    def _heads(self, features: torch.Tensor) -> torch.Tensor:
        """B T size to B heads T size/heads."""
        heads: torch.Tensor = features.unflatten(2, (self.num_heads, -1)).transpose(1, 2)
        return heads
