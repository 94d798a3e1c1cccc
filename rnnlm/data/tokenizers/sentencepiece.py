"""Subwords by SentencePiece (Kudo & Richardson 2018): unigram, bpe, char or word, lossless through byte fallback.

Text is taken as it is: no normalisation, no folding of blanks, line feeds are characters like others. So a text can be
had back from its ids (save U+2581, SentencePiece's own sign for a blank), and bits per byte are about the real bytes.
"""

import gc
import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import sentencepiece as spm
from pydantic import Field

from rnnlm.config import config
from rnnlm.data.tokenizers.base import Ids, Joined, Tokenizer, TokenizerConfig
from rnnlm.errors import TokenizerError

JOINED_TEXTS = 512
ID_BYTES = 4
PROBE = "Not a word, caf\u00e9 nor \u2603"


@config
class SentencePieceConfig(TokenizerConfig):
    """A SentencePiece model; special ids are 0 unknown, 1 bos, 2 eos, no padding."""

    model_type: Literal["unigram", "bpe", "char", "word"] = "unigram"
    "How pieces are found."
    vocab_size: int = Field(default=8192, ge=8)
    "Number of pieces, special ones and the 256 bytes included; for char an upper bound."
    character_coverage: float = Field(default=0.9995, gt=0.0, le=1.0)
    "Share of all characters that get a piece of their own; the others are written as bytes."
    byte_fallback: bool = True
    "Write unknown characters as UTF-8 bytes instead of losing them."
    max_piece_length: int = Field(default=16, ge=1)
    "Longest piece, in characters."
    num_threads: int = Field(default=2, ge=1)
    "Threads used in training."

    def train(self, texts: Iterable[str]) -> "SentencePieceTokenizer":
        model = io.BytesIO()
        source = _Source(texts)
        try:
            spm.SentencePieceTrainer.train(
                sentence_iterator=iter(source),
                model_writer=model,
                model_type=self.model_type,
                vocab_size=self.vocab_size,
                character_coverage=self.character_coverage,
                byte_fallback=self.byte_fallback,
                max_sentencepiece_length=self.max_piece_length,
                num_threads=self.num_threads,
                hard_vocab_limit=self.model_type != "char",
                normalization_rule_name="identity",
                remove_extra_whitespaces=False,
                allow_whitespace_only_pieces=True,
                max_sentence_length=1 << 26,
                unk_id=0,
                bos_id=1,
                eos_id=2,
                pad_id=-1,
                minloglevel=2,
            )
        except (RuntimeError, OSError) as error:
            if source.error is not None:
                raise source.error from None  # what the corpus says is the cause; SentencePiece only wraps it
            reason = _reason(error)
            too_small = "smaller than required_chars" in str(error)
            raise TokenizerError(
                f"SentencePiece cannot train {self.vocab_size} {self.model_type} pieces on this text: {reason}",
                todo="raise tokenizer.vocab_size or lower tokenizer.character_coverage"
                if too_small
                else "lower tokenizer.vocab_size or give more text",
            ) from error
        return SentencePieceTokenizer(model.getvalue())


class SentencePieceTokenizer(Tokenizer):
    """A trained SentencePiece model."""

    kind = "sentencepiece"
    blanks_lead = True  # as in its pieces, which write a blank before a word

    def __init__(self, model: bytes) -> None:
        self._model = model
        try:
            self._processor = spm.SentencePieceProcessor(model_proto=model)
        except (RuntimeError, OSError) as error:
            raise TokenizerError(f"not a SentencePiece model ({len(model)} bytes): {_reason(error)}") from error
        self.vocab_size = self._processor.vocab_size()
        self.bos_id = self._processor.bos_id()
        self.eos_id = self._processor.eos_id()
        self.unk_id = self._processor.unk_id()
        if min(self.bos_id, self.eos_id) < 0:
            raise TokenizerError("the SentencePiece model has no bos or no eos piece", todo="train it with both")
        self._direct = _has_binding(self._processor)

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        # All in one call, and one thread: parallel work is spread over processes, each with one core.
        with _no_collection():
            found: list[Ids] = self._processor.encode(list(texts), num_threads=1, out_type="numpy")
        return found

    def encode_column(self, column: pa.ChunkedArray, dtype: npt.DTypeLike) -> Joined:
        # Bytes need no detour through Python's strings, which keep a second copy of what is not ASCII.
        texts = column.cast(pa.large_binary()).to_pylist()
        flat, lengths = [np.zeros(0, dtype=dtype)], []
        with _no_collection():
            # Some at a time: SentencePiece writes into memory that is still in the cache, and it is joined from there.
            for start in range(0, len(texts), JOINED_TEXTS):
                found = self._buffers(texts[start : start + JOINED_TEXTS])
                lengths.extend([memoryview(ids).nbytes for ids in found])
                flat.append(np.frombuffer(b"".join(found), dtype=np.int32).astype(dtype))
        return np.concatenate(flat), np.array(lengths, dtype=np.int64) // ID_BYTES

    def _buffers(self, texts: list[bytes]) -> Sequence[Any]:
        """The int32 ids of each text in a buffer.

        The package makes an array of each, which adds 4 % to encoding lines of a few hundred bytes. So its binding is
        asked, which is no part of what the package promises and may change: only if it answered as `encode` did.
        """
        if self._direct:
            return _ask_binding(self._processor, texts)
        found: Sequence[Any] = self._processor.encode(texts, num_threads=1, out_type="numpy")
        return found

    def starts(self, texts: Sequence[str]) -> list[Ids]:
        # SentencePiece knows which characters of the text as it was given became a piece, whatever normalisation made
        # of them. One text at a time: it answers in Python objects, some 300 bytes a token.
        with _no_collection():
            return [self._starts(text) for text in texts]

    def _starts(self, text: str) -> Ids:
        places = self._processor.encode(text, out_type="offset_mapping")["offsets"]
        return np.fromiter((start for start, _ in places), dtype=np.int32, count=len(places))

    def sample(self, texts: Sequence[str], strength: float, seed: int) -> list[Ids]:
        """Ids of texts that are cut another way than `encode` cuts them, at random: with BPE-dropout of probability
        `strength` (Provilkov, Emelianenko & Voita 2020), or drawn with alpha = `strength` from all ways of a unigram
        model (Kudo 2018). The same seed gives the same ids."""
        spm.set_random_generator_seed(seed % (1 << 32))
        found: list[Ids] = self._processor.encode(
            list(texts), num_threads=1, out_type="numpy", enable_sampling=True, nbest_size=-1, alpha=strength
        )
        return found

    def decode(self, ids: Sequence[int]) -> str:
        text: str = self._processor.decode([int(token) for token in ids])
        # A word written as bytes takes the sign of its blank along (model type word).
        if "\u2581" in text:
            first = next((token for token in ids if token not in {self.bos_id, self.eos_id}), None)
            text = text.replace("\u2581", " ")
            if first is not None and self._processor.is_byte(int(first)):
                text = text.removeprefix(" ")
        return text

    def piece(self, token: int) -> str:
        text: str = self._processor.id_to_piece(token)
        return text

    def model_bytes(self) -> bytes:
        return self._model


def _ask_binding(processor: Any, texts: list[bytes]) -> Sequence[Any]:
    """Without sampling (which has a size and an alpha), bos, eos and turning round; one thread, of no pool."""
    threads, sampling, special = (1, None), (False, 0, 0.0), (False, False, False)
    found: Sequence[Any] = processor._processor._EncodeAsBufferBatch(texts, *threads, *sampling, *special)
    return found


def _has_binding(processor: spm.SentencePieceProcessor) -> bool:
    """Whether the installed package has the binding as it is known here."""
    texts = [PROBE.encode(), b"", PROBE[:5].encode()]
    try:
        found = [memoryview(ids).tobytes() for ids in _ask_binding(processor, texts)]
    except (AttributeError, TypeError):
        return False
    return found == [ids.tobytes() for ids in processor.encode(texts, num_threads=1, out_type="numpy")]


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep Python's garbage collector away: it counts new objects, of which there are here some a text and none is
    garbage, and looks through everything that was ever imported for them, a tenth of a second each time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Source:
    """Passes texts on and remembers what went wrong in them."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = texts
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[str]:
        try:
            yield from self._texts
        except Exception as error:
            self.error = error
            raise


def _reason(error: Exception) -> str:
    """The last sentence of SentencePiece's message, which starts with a place in its own source."""
    return str(error).strip().splitlines()[-1].rpartition("] ")[2]
