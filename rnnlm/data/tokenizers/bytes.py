"""The bytes of UTF-8 as the vocabulary: 256 values and the end of sequence, for any text in any language.

Nothing is learned and nothing is unknown, so models of different corpora share one vocabulary, and the perplexity of a
token says bits per byte without a detour (up to the end of each text, which is a token and no byte). Graves (2013),
"Generating Sequences With Recurrent Neural Networks", section 3.2, models Wikipedia this way.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from rnnlm.config import config
from rnnlm.data.tokenizers.base import SAMPLE_TEXTS, Ids, Tokenizer, TokenizerConfig
from rnnlm.errors import TokenizerError

EOS = "<eos>"
NUM_BYTES = 256
CONTENT = b"bytes 0 to 255, then <eos>\n"  # of tokenizer.model; there is nothing to store but which kind it is


@config
class BytesConfig(TokenizerConfig):
    """The 256 values of a byte; has nothing to set."""

    def train(self, texts: Iterable[str]) -> "BytesTokenizer":
        """The same tokenizer for any text; reads as many texts as a card is measured on."""
        found = False
        for number, text in enumerate(texts, start=1):
            found = found or bool(text)
            if found and number >= SAMPLE_TEXTS:
                break
        if not found:
            raise TokenizerError("there is not a single byte in the texts")
        return BytesTokenizer()


class BytesTokenizer(Tokenizer):
    """Ids: a byte's own value, then 256 <eos>, which also starts a sequence. No text is unknown: `unk_id` is -1."""

    kind = "bytes"

    def __init__(self, content: bytes = CONTENT) -> None:
        if content != CONTENT:
            raise TokenizerError("not the content of a byte tokenizer: it was changed or cut short")
        self.vocab_size = NUM_BYTES + 1
        self.bos_id = self.eos_id = NUM_BYTES
        self.unk_id = -1

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        return [np.frombuffer(_utf8(text), dtype=np.uint8).astype(np.int32) for text in texts]

    def starts(self, texts: Sequence[str]) -> list[Ids]:
        # A character begins at each byte that does not continue one (0b10xxxxxx).
        return [np.cumsum(ids & 0xC0 != 0x80, dtype=np.int32) - 1 for ids in self.encode(texts)]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some ids; bytes that are no UTF-8, as a model may generate, become U+FFFD."""
        return bytes(token for token in ids if token != self.eos_id).decode(errors="replace")

    def piece(self, token: int) -> str:
        """A printable ASCII character as it is, another byte as SentencePiece writes it: `<0x0A>`."""
        if token == self.eos_id:
            return EOS
        return chr(token) if 0x21 <= token <= 0x7E else f"<0x{token:02X}>"

    def model_bytes(self) -> bytes:
        return CONTENT


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise TokenizerError(
            f"character {error.start + 1} of a text is U+{ord(text[error.start]):04X}, half of a surrogate pair, "
            f"which has no bytes in UTF-8",
            todo="repair the text where it is made: it was cut inside a character or decoded wrongly",
        ) from error
