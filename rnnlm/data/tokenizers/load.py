"""Read a tokenizer folder of any kind; checked against its card, so half a file or a mixed-up one is noticed."""

import json

from rnnlm.data.tokenizers.base import CARD_FILE, MODEL_FILE, Tokenizer
from rnnlm.data.tokenizers.bytes import BytesTokenizer
from rnnlm.data.tokenizers.chars import CharsTokenizer
from rnnlm.data.tokenizers.labels import LabelTokenizer
from rnnlm.data.tokenizers.pair import PairTokenizer
from rnnlm.data.tokenizers.sentencepiece import SentencePieceTokenizer
from rnnlm.data.tokenizers.words import WordsTokenizer
from rnnlm.errors import TokenizerError
from rnnlm.storage import Location


def load_tokenizer(folder: Location) -> Tokenizer:
    """The tokenizer in `folder` (a tokenizer's own folder or a checkpoint)."""
    if not folder.join(CARD_FILE).exists():
        raise TokenizerError(
            f"there is no tokenizer in {folder.uri} (no {CARD_FILE})",
            todo="make one with python -m jobs.train_tokenizer",
        )
    card = folder.join(CARD_FILE).read_json()
    content = folder.join(MODEL_FILE).read_bytes()
    tokenizer = _make(card.get("kind"), content, folder)
    if tokenizer.fingerprint != card.get("fingerprint"):
        raise TokenizerError(
            f"{folder.join(MODEL_FILE).uri} does not match its card ({CARD_FILE}): it was changed or cut short",
            todo="restore both files from the same run",
        )
    return tokenizer


def _make(kind: str, content: bytes, folder: Location) -> Tokenizer:
    if kind == SentencePieceTokenizer.kind:
        return SentencePieceTokenizer(content)
    if kind == BytesTokenizer.kind:
        return BytesTokenizer(content)
    try:
        if kind == WordsTokenizer.kind:
            return WordsTokenizer(content.decode().split("\n")[:-1])
        if kind == CharsTokenizer.kind:
            return CharsTokenizer(json.loads(content))
        if kind == LabelTokenizer.kind:
            return LabelTokenizer.from_bytes(content)
        if kind == PairTokenizer.kind:
            source, target = (_make(inner, part, folder) for inner, part in PairTokenizer.parts(content))
            return PairTokenizer(source, target)
    except ValueError as error:  # neither UTF-8 nor JSON
        raise TokenizerError(f"{folder.join(MODEL_FILE).uri} cannot be read: it was changed or cut short") from error
    raise TokenizerError(f"{folder.join(CARD_FILE).uri} names an unknown kind of tokenizer: {kind!r}")
