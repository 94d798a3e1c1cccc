"""No attention: all that a decoder knows of the source is its first state (Sutskever, Vinyals & Le 2014)."""

from rnnlm.config import config
from rnnlm.nn.attending.base import AttendingConfig


@config
class NoAttentionConfig(AttendingConfig):
    """The decoder does not look back at the source."""

    def check_sizes(self, query_size: int, memory_size: int) -> None:
        """All sizes fit."""

    def build(self, query_size: int, memory_size: int) -> None:  # noqa: ARG002 - nothing is built
        return None
