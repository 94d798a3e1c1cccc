"""Dot-product attention (Luong, Pham & Manning 2015, section 3.1).

score(q, m) = q . m
"""

import torch

from rnnlm.config import config
from rnnlm.nn.attending.base import Attending, AttendingConfig
from rnnlm.types import AttentionScores, Keys, MemoryStates, Queries


@config
class DotConfig(AttendingConfig):
    """No weights of its own; query and memory have one size."""

    def check_sizes(self, query_size: int, memory_size: int) -> None:
        if query_size != memory_size:
            raise ValueError(
                f"dot attention needs a decoder and an encoder of one size, not {query_size} and {memory_size}; make "
                f"them equal or set attention=general"
            )

    def build(self, query_size: int, memory_size: int) -> "Dot":
        self.check_sizes(query_size, memory_size)
        return Dot(memory_size)


class Dot(Attending):
    """Nothing to learn."""

    def __init__(self, memory_size: int) -> None:
        super().__init__()
        self.context_size = memory_size

    def keys(self, memory: MemoryStates) -> Keys:
        return memory

    def scores(self, queries: Queries, keys: Keys) -> AttentionScores:
        return torch.bmm(queries, keys.transpose(1, 2))
