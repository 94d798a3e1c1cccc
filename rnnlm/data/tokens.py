"""Token tables: tokenized documents, one row a document, as Parquet on disk and as two flat arrays in memory.

On disk: `tokens: list<uint16 or int32>` without bos and eos, `num_bytes: int64` of the text, and in the schema's
metadata the format version and the fingerprint of the tokenizer. A null text has null tokens; it stays on disk (a row
is never lost) and is left out in memory. An empty text is a document like others, of which the end is predicted.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rnnlm.data.files import expand_paths
from rnnlm.data.tokenizers import Tokenizer
from rnnlm.errors import DataError, Place
from rnnlm.storage import open_location

FORMAT_VERSION = "1"
VERSION_KEY = b"rnnlm.tokens.version"
TOKENIZER_KEY = b"rnnlm.tokens.tokenizer"


@dataclass(frozen=True)
class TokenTable:
    """Document d is `tokens[offsets[d]:offsets[d + 1]]`."""

    tokens: npt.NDArray[np.integer]
    offsets: npt.NDArray[np.int64]
    num_bytes: int

    @property
    def num_documents(self) -> int:
        return len(self.offsets) - 1

    @property
    def num_targets(self) -> int:
        """Predictions to be made: every token and the end of every document."""
        return len(self.tokens) + self.num_documents

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over tokens and offsets, whatever type they are stored in."""
        digest = hashlib.sha256(np.ascontiguousarray(self.offsets, dtype="<i8").data)
        digest.update(np.ascontiguousarray(self.tokens, dtype="<i4").data)
        return digest.hexdigest()

    @staticmethod
    def from_documents(documents: Sequence[npt.NDArray[np.integer]], num_bytes: int = 0) -> "TokenTable":
        """From the ids of each document."""
        lengths = np.array([len(document) for document in documents], dtype=np.int64)
        tokens = np.concatenate(documents) if len(documents) else np.zeros(0, dtype=np.int32)
        return TokenTable(tokens, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), num_bytes)


def token_type(vocab_size: int) -> pa.DataType:
    """The smallest type that holds every id."""
    return pa.uint16() if vocab_size <= 1 << 16 else pa.int32()


def tokens_array(
    documents: Sequence[npt.NDArray[np.int32]], vocab_size: int, missing: npt.NDArray[np.bool_] | None = None
) -> pa.ListArray:
    """Ragged ids as an Arrow list array, without a Python object per token; null where `missing`."""
    offsets = np.zeros(len(documents) + 1, dtype=np.int32)
    np.cumsum([len(document) for document in documents], out=offsets[1:])
    flat = np.concatenate(documents) if len(documents) else np.zeros(0, dtype=np.int32)
    values = pa.array(flat.astype(np.uint16) if vocab_size <= 1 << 16 else flat)
    mask = None if missing is None else pa.array(missing)
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=mask)


def tokens_metadata(tokenizer: Tokenizer) -> dict[bytes, bytes]:
    """What the schema of a token table says of its origin."""
    return {VERSION_KEY: FORMAT_VERSION.encode(), TOKENIZER_KEY: tokenizer.fingerprint.encode()}


def read_token_table(path: str, tokenizer: Tokenizer) -> TokenTable:
    """Read the token table at `path` (a folder or a file), in file order, checked against `tokenizer`."""
    parts: list[npt.NDArray[np.integer]] = []
    lengths: list[npt.NDArray[np.int64]] = []
    num_bytes = 0
    for file in expand_paths(path, (".parquet",)):
        table = _read(file, tokenizer)
        for chunk in table.column("tokens").chunks:
            parts.append(chunk.flatten().to_numpy())
            lengths.append(np.asarray(chunk.drop_null().value_lengths(), dtype=np.int64))
        num_bytes += pc.sum(table.column("num_bytes")).as_py() or 0
    every = np.concatenate(lengths) if lengths else np.zeros(0, dtype=np.int64)
    if not every.sum():
        raise DataError(f"the token table {path} holds no token", todo="was it made from an empty corpus?")
    offsets = np.concatenate([[0], np.cumsum(every)]).astype(np.int64)
    return TokenTable(np.concatenate(parts), offsets, num_bytes)


def _read(file: str, tokenizer: Tokenizer) -> pa.Table:
    location = open_location(file)

    def read() -> pa.Table:
        with location.filesystem.open_input_file(location.path) as stream:
            parquet = pq.ParquetFile(stream)
            _check(parquet.schema_arrow, file, tokenizer)
            return parquet.read(columns=["tokens", "num_bytes"])

    try:
        return location.retrying(read)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"cannot read the token table: {str(error).splitlines()[0]}",
            where=Place(file),
            todo="was its writing or copying cut short?",
        ) from error


def _check(schema: pa.Schema, file: str, tokenizer: Tokenizer) -> None:
    metadata = schema.metadata or {}
    if metadata.get(VERSION_KEY) != FORMAT_VERSION.encode() or "tokens" not in schema.names:
        raise DataError("not a token table", where=Place(file), todo="make one with python -m jobs.tokenize_corpus")
    made_by = metadata.get(TOKENIZER_KEY, b"").decode()
    if made_by != tokenizer.fingerprint:
        raise DataError(
            f"the tokens were made by tokenizer {made_by[:12]}, the one given is {tokenizer.fingerprint[:12]}",
            where=Place(file),
            todo="give the tokenizer they were made with, or tokenize again",
        )
