"""General (bilinear) attention (Luong, Pham & Manning 2015, section 3.1).

score(q, m) = q . (W m)
"""

import torch

from rnnlm.config import config
from rnnlm.nn.attending.base import Attending, AttendingConfig
from rnnlm.nn.products import Linear
from rnnlm.types import AttentionScores, Keys, MemoryStates, Queries


@config
class GeneralConfig(AttendingConfig):
    """A matrix between query and memory."""

    def check_sizes(self, query_size: int, memory_size: int) -> None:
        """All sizes fit."""

    def build(self, query_size: int, memory_size: int) -> "General":
        return General(query_size, memory_size)


class General(Attending):
    """W is `to_key`."""

    def __init__(self, query_size: int, memory_size: int) -> None:
        super().__init__()
        self.context_size = memory_size
        self.to_key = Linear(memory_size, query_size, bias=False)

    def keys(self, memory: MemoryStates) -> Keys:
        keys: Keys = self.to_key(memory)
        return keys

    def scores(self, queries: Queries, keys: Keys) -> AttentionScores:
        return torch.bmm(queries, keys.transpose(1, 2))
