"""What every tokenizer gives. On disk it is `tokenizer.model`, its content, and `tokenizer.json`, its card."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rnnlm.config import config
from rnnlm.storage import Location

MODEL_FILE = "tokenizer.model"
CARD_FILE = "tokenizer.json"
SAMPLE_TEXTS = 1000  # texts a card's figures are measured on

Ids = npt.NDArray[np.int32]
Joined = tuple[npt.NDArray[np.integer], npt.NDArray[np.int64]]  # ids of all texts in one array, and how many each has


@config
class TokenizerConfig:
    """Base of the configs in conf/tokenizer."""

    @abstractmethod
    def train(self, texts: Iterable[str]) -> "Tokenizer":
        """Learn a vocabulary from `texts`, read once. Raises TokenizerError if there is too little of it."""


class Tokenizer(ABC):
    """Token ids are 0 to `vocab_size` - 1. `bos_id` starts a sequence and is never predicted, `eos_id` ends it.

    `unk_id` stands for what the vocabulary lacks, and is -1 where nothing is unknown. `blanks_lead` says to which word
    white space belongs that is a token of its own: to the one behind it, or to the one before, which it ends.
    """

    kind: str
    blanks_lead = False
    vocab_size: int
    bos_id: int
    eos_id: int
    unk_id: int

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """The ids of each text, without bos and eos."""

    def encode_column(self, column: pa.ChunkedArray, dtype: npt.DTypeLike) -> Joined:
        """The same of a column without nulls, joined as `dtype`, which must hold every id. Of its own for tokenizers
        that can take the column's bytes as they lie."""
        return joined(self.encode(column.to_pylist()), dtype)

    @abstractmethod
    def starts(self, texts: Sequence[str]) -> list[Ids]:
        """Where in its text each token of `encode` begins, in characters (code points). Bytes begin where that
        does which they spell."""

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """The text of some ids; bos and eos give nothing."""

    @abstractmethod
    def piece(self, token: int) -> str:
        """How a token is written."""

    @abstractmethod
    def model_bytes(self) -> bytes:
        """The content of `tokenizer.model`, all that is needed to make this tokenizer again."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of kind and content; equal fingerprints give equal ids."""
        return hashlib.sha256(self.kind.encode() + b"\0" + self.model_bytes()).hexdigest()

    def card(self, texts: Sequence[str] = ()) -> dict[str, Any]:
        """What a person wants to know of it; the figures are measured on the first thousand of `texts`."""
        card: dict[str, Any] = {
            "kind": self.kind,
            "vocab_size": self.vocab_size,
            "bos_id": self.bos_id,
            "eos_id": self.eos_id,
            "unk_id": self.unk_id,
            "fingerprint": self.fingerprint,
        }
        sample = list(texts[:SAMPLE_TEXTS])
        if sample:
            encoded = self.encode(sample)
            num_tokens = max(1, sum(map(len, encoded)))
            num_bytes = sum(len(text.encode()) for text in sample)
            restored = sum(self.decode(ids.tolist()) == text for ids, text in zip(encoded, sample, strict=True))
            card["sample"] = {
                "texts": len(sample),
                "bytes_per_token": round(num_bytes / num_tokens, 4),
                "unknown_share": round(sum(int((ids == self.unk_id).sum()) for ids in encoded) / num_tokens, 6),
                "restored_share": round(restored / len(sample), 4),
            }
        return card

    def save(self, folder: Location, *, sample: Sequence[str] = ()) -> None:
        """Write the model, then the card: a folder with a card is complete."""
        folder.join(MODEL_FILE).write_bytes(self.model_bytes())
        folder.join(CARD_FILE).write_json(self.card(sample))


def joined(documents: Sequence[npt.NDArray[np.integer]], dtype: npt.DTypeLike) -> Joined:
    """Ids of each text as one array of `dtype` and lengths, without a Python object per token."""
    lengths = np.fromiter(map(len, documents), dtype=np.int64, count=len(documents))
    # Joined and narrowed in one pass over memory.
    return np.concatenate([np.zeros(0, dtype=dtype), *documents], dtype=dtype, casting="unsafe"), lengths
