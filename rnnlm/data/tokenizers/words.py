"""The corpus's own words as the vocabulary: text is split at blanks, nothing else is touched.

This is how word-level benchmarks such as WikiText-2 are defined: the files are tokenized already, rare words are
already `<unk>`, each line ends with `<eos>`. The sign `<eos>` also starts a sequence, so that the vocabulary is exactly
the published one (33,278 types for WikiText-2) and the count of targets is the published count.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from pydantic import Field

from rnnlm.config import config
from rnnlm.data.tokenizers.base import Ids, Tokenizer, TokenizerConfig
from rnnlm.errors import TokenizerError

EOS, UNK = "<eos>", "<unk>"


@config
class WordsConfig(TokenizerConfig):
    """Every white-space separated word that is frequent enough, most frequent first."""

    min_count: int = Field(default=1, ge=1)
    "Words seen fewer times become <unk>."
    max_words: int | None = Field(default=None, ge=2)
    "Keep only this many words, <eos> and <unk> included; null keeps all."

    def train(self, texts: Iterable[str]) -> "WordsTokenizer":
        counts: Counter[str] = Counter()
        num_texts = 0
        for text in texts:
            counts.update(text.split())
            num_texts += 1
        if not counts:
            raise TokenizerError("there is not a single word in the texts")
        counts[EOS] += num_texts
        counts.setdefault(UNK, 0)
        # Ties are broken by the word itself, so the vocabulary does not depend on the order of the texts.
        kept = [w for w, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if n >= self.min_count]
        kept = [w for w in kept if w not in {EOS, UNK}]
        if self.max_words is not None:
            kept = kept[: self.max_words - 2]
        return WordsTokenizer(sorted([*kept, EOS, UNK], key=lambda word: (-counts[word], word)))


class WordsTokenizer(Tokenizer):
    """A list of words; the id of a word is its place in the list."""

    kind = "words"

    def __init__(self, words: Sequence[str]) -> None:
        self._words = list(words)
        self._ids = {word: index for index, word in enumerate(self._words)}
        if len(self._ids) != len(self._words) or EOS not in self._ids or UNK not in self._ids:
            raise TokenizerError(f"a word list needs distinct words, {EOS} and {UNK} among them")
        self.vocab_size = len(self._words)
        self.bos_id = self.eos_id = self._ids[EOS]
        self.unk_id = self._ids[UNK]

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        lookup, unknown = self._ids.get, self.unk_id
        return [np.array([lookup(word, unknown) for word in text.split()], dtype=np.int32) for text in texts]

    def starts(self, texts: Sequence[str]) -> list[Ids]:
        return [np.array([word.start() for word in re.finditer(r"\S+", text)], dtype=np.int32) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(self._words[token] for token in ids if token != self.eos_id)

    def piece(self, token: int) -> str:
        return self._words[token]

    def model_bytes(self) -> bytes:
        return "".join(f"{word}\n" for word in self._words).encode()
