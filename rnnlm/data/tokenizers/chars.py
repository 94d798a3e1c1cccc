"""The characters (code points) of a corpus as the vocabulary, one token each, as character-level benchmarks count them.

Unlike SentencePiece's `char`, nothing is put before a text, and the vocabulary holds what the corpus holds and no more:
65 characters for Tiny Shakespeare read line by line are 64 and the end of line, which is `<eos>`.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from pydantic import Field

from rnnlm.config import config
from rnnlm.data.tokenizers.base import Ids, Tokenizer, TokenizerConfig
from rnnlm.errors import TokenizerError

EOS, UNK = "<eos>", "<unk>"


@config
class CharsConfig(TokenizerConfig):
    """Every character that is frequent enough, most frequent first."""

    min_count: int = Field(default=1, ge=1)
    "Characters seen fewer times become <unk>."

    def train(self, texts: Iterable[str]) -> "CharsTokenizer":
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(text)
        if not counts:
            raise TokenizerError("there is not a single character in the texts")
        # Ties are broken by the character itself, so the vocabulary does not depend on the order of the texts.
        kept = [c for c, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if n >= self.min_count]
        return CharsTokenizer(kept)


class CharsTokenizer(Tokenizer):
    """Ids: 0 <eos>, which also starts a sequence, 1 <unk>, then the characters in their order."""

    kind = "chars"

    def __init__(self, characters: Sequence[str]) -> None:
        if any(len(c) != 1 for c in characters) or len(set(characters)) != len(characters):
            raise TokenizerError("a character list needs distinct single characters")
        self._pieces = [EOS, UNK, *characters]
        self.vocab_size = len(self._pieces)
        self.bos_id = self.eos_id = 0
        self.unk_id = 1
        points = np.array([ord(c) for c in characters], dtype=np.uint32)
        self._order = np.argsort(points).astype(np.int32)
        self._sorted = points[self._order]

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        return [self._encode(text) for text in texts]

    def _encode(self, text: str) -> Ids:
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        place = np.minimum(np.searchsorted(self._sorted, points), len(self._sorted) - 1)
        known = self._sorted[place] == points
        return np.where(known, self._order[place] + 2, self.unk_id).astype(np.int32)

    def starts(self, texts: Sequence[str]) -> list[Ids]:
        return [np.arange(len(text), dtype=np.int32) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self._pieces[token] for token in ids if token != self.eos_id)

    def piece(self, token: int) -> str:
        return self._pieces[token]

    def model_bytes(self) -> bytes:
        return json.dumps(self._pieces[2:]).encode()
