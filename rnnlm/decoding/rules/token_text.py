"""The bytes that each token adds to a text, for rules about text.

They are found through the tokenizer's own `decode`, so no rule has to know kinds of tokenizers; but for the bytes of a
byte fallback, of which one alone decodes to nothing that could be used.
"""

import re
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rnnlm.data.tokenizers.base import Tokenizer
from rnnlm.data.tokenizers.bytes import BytesTokenizer
from rnnlm.data.tokenizers.pair import PairTokenizer
from rnnlm.data.tokenizers.sentencepiece import SentencePieceTokenizer

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class TokenTexts(NamedTuple):
    """UTF-8 of each token at the beginning of a text, where a blank in front is lost, and anywhere else. Bos and eos
    have none."""

    first: list[bytes]
    later: list[bytes]


def token_texts(tokenizer: Tokenizer) -> TokenTexts:
    """The texts of all tokens."""
    if isinstance(tokenizer, PairTokenizer):
        return token_texts(tokenizer.target)
    single = [_single_byte(tokenizer, token) for token in range(tokenizer.vocab_size)]
    alone = [tokenizer.decode([token]) for token in range(tokenizer.vocab_size)]
    plain = (token for token, text in enumerate(alone) if single[token] is None and text.strip() and text.isascii())
    before = next(plain, None)
    head = "" if before is None else alone[before]
    first, later = [], []
    for token, (text, byte) in enumerate(zip(alone, single, strict=True)):
        first.append(text.encode() if byte is None else byte)
        if byte is not None or before is None:
            later.append(first[-1])
        else:
            later.append(tokenizer.decode([before, token])[len(head) :].encode())
    return TokenTexts(first, later)


def _single_byte(tokenizer: Tokenizer, token: int) -> bytes | None:
    """The byte that a token stands for, if it stands for one."""
    if isinstance(tokenizer, BytesTokenizer):
        return None if token == tokenizer.eos_id else bytes([token])
    found = _BYTE.fullmatch(tokenizer.piece(token)) if isinstance(tokenizer, SentencePieceTokenizer) else None
    return None if found is None else bytes([int(found[1], 16)])


class TextMatrix:
    """Texts as rows of bytes, the longest first, so that those with a byte at some place are the first rows."""

    def __init__(self, texts: list[bytes]) -> None:
        lengths = np.array([len(text) for text in texts])
        self._order = np.argsort(-lengths, kind="stable")
        self._num_longer = [int((lengths > place).sum()) for place in range(int(lengths.max(initial=0)))]
        self._bytes = np.zeros((len(texts), len(self._num_longer)), dtype=np.uint8)
        for row, place in enumerate(self._order.tolist()):
            self._bytes[row, : lengths[place]] = np.frombuffer(texts[place], dtype=np.uint8)

    def walk(self, transitions: npt.NDArray[np.int32], state: int) -> npt.NDArray[np.int32]:
        """Where each text leads from `state`; `transitions` is states x 256."""
        current = np.full(len(self._order), state, dtype=np.int32)
        for place, count in enumerate(self._num_longer):
            current[:count] = transitions[current[:count], self._bytes[:count, place]]
        result = np.empty_like(current)
        result[self._order] = current
        return result
