"""Two tokenizers that belong together: one reads the source of a pair of texts, the other writes the target.

As a `Tokenizer` it is that of the target, since those tokens are what a model predicts. Where one vocabulary serves
both sides, source and target are the same tokenizer.
"""

from collections.abc import Sequence

from rnnlm.data.tokenizers.base import Ids, Tokenizer


class PairTokenizer(Tokenizer):
    """`source` and `target`, each a tokenizer of its own."""

    kind = "pair"

    def __init__(self, source: Tokenizer, target: Tokenizer) -> None:
        self.source, self.target = source, target
        self.vocab_size = target.vocab_size
        self.bos_id, self.eos_id, self.unk_id = target.bos_id, target.eos_id, target.unk_id
        self.blanks_lead = target.blanks_lead

    @property
    def is_joint(self) -> bool:
        """Whether a token means the same on both sides."""
        return self.source.fingerprint == self.target.fingerprint

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        return self.target.encode(texts)

    def starts(self, texts: Sequence[str]) -> list[Ids]:
        return self.target.starts(texts)

    def decode(self, ids: Sequence[int]) -> str:
        return self.target.decode(ids)

    def piece(self, token: int) -> str:
        return self.target.piece(token)

    def model_bytes(self) -> bytes:
        """A line with kind and length of both contents, then the contents."""
        parts = [(one.kind, one.model_bytes()) for one in (self.source, self.target)]
        head = " ".join(f"{kind} {len(content)}" for kind, content in parts)
        return head.encode() + b"\n" + b"".join(content for _, content in parts)

    @staticmethod
    def parts(content: bytes) -> list[tuple[str, bytes]]:
        """Kind and content of source and target, from `model_bytes`. Raises ValueError if it is something else."""
        head, _, rest = content.partition(b"\n")
        kind, length, other_kind, other_length = head.decode().split(" ")
        if len(rest) != int(length) + int(other_length):
            raise ValueError("cut short")
        return [(kind, rest[: int(length)]), (other_kind, rest[int(length) :])]
