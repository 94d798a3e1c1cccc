"""An n-gram model as an ARPA file, for KenLM, SRILM and all that read it; the layout is in `read_arpa.py`.

KenLM keeps numbers as float32, which nine digits hold. What is impossible is written 1e-99, as SRILM does.
"""

import math
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from rnnlm.data.tokenizers import Tokenizer
from rnnlm.errors import DataError, EnvironmentFailure
from rnnlm.ngram.arpa_words import arpa_words
from rnnlm.ngram.backoff import BackoffModel, Logprobs
from rnnlm.ngram.counts import Numbers
from rnnlm.storage import TEMPORARY, Location

LINES = 1 << 16  # made at a time
IMPOSSIBLE = -99.0  # log10


def write_arpa(model: BackoffModel, tokenizer: Tokenizer, target: Location) -> None:
    """Write all n-grams, in the order of their ids; the file is there only when it is whole."""
    if model.bos_id != model.eos_id and np.isfinite(model.levels[0].logprobs[model.bos_id]):
        raise DataError(
            "the model has met the tokenizer's bos inside of texts, which ARPA cannot tell from their beginning",
            todo="train it on texts without control tokens",
        )
    folder = Path(target.ancestor(1).path if target.is_local else tempfile.gettempdir())
    unfinished = folder / f".{uuid.uuid4().hex}{TEMPORARY}"
    try:
        with unfinished.open("wb") as sink:
            sink.writelines(_lines(model, arpa_words(tokenizer)))
        target.upload(unfinished)
    except OSError as error:
        raise EnvironmentFailure(f"cannot write {target.uri}: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def _lines(model: BackoffModel, words: list[str]) -> Iterator[bytes]:
    has_line = np.isfinite(model.levels[0].logprobs)
    has_line[model.vocab_size] = True  # the beginning of a document, which is never predicted
    listed = [np.flatnonzero(has_line), *(np.arange(len(level.keys)) for level in model.levels[1:])]
    yield b"\\data\\\n"
    for order, ids in enumerate(listed, start=1):
        yield b"ngram %d=%d\n" % (order, len(ids))
    for order, ids in enumerate(listed, start=1):
        yield b"\n\\%d-grams:\n" % order
        for start in range(0, len(ids), LINES):
            yield from _ngrams(model, np.array(words, dtype=object), order, ids[start : start + LINES])
    yield b"\n\\end\\\n"


def _ngrams(model: BackoffModel, words: npt.NDArray[np.object_], order: int, ids: Numbers) -> Iterator[bytes]:
    level = model.levels[order - 1]
    columns = [words[tokens] for tokens in _tokens(model, order, ids)]
    backoffs = [""] * len(ids) if order == model.order else [f"\t{one}" for one in _log10(level.backoffs[ids])]
    for logprob, ngram, backoff in zip(_log10(level.logprobs[ids]), zip(*columns, strict=True), backoffs, strict=True):
        yield f"{logprob}\t{' '.join(ngram)}{backoff}\n".encode()


def _tokens(model: BackoffModel, order: int, ids: Numbers) -> list[Numbers]:
    """The first token of each n-gram, the second, and so on."""
    columns: list[Numbers] = []
    for level in reversed(model.levels[:order]):
        ids, tokens = np.divmod(level.keys[ids], len(model.levels[0].keys))
        columns.insert(0, tokens)
    return columns


def _log10(values: Logprobs) -> list[str]:
    return [f"{value:.9g}" for value in np.maximum(values / math.log(10), IMPOSSIBLE).tolist()]
