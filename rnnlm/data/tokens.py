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
from rnnlm.data.tokenizers.base import Joined, joined
from rnnlm.errors import DataError, Place
from rnnlm.storage import open_location

FORMAT_VERSION = "1"
VERSION_KEY = b"rnnlm.tokens.version"
TOKENIZER_KEY = b"rnnlm.tokens.tokenizer"
HASH_TOKENS = 1 << 20
READ_BYTES = 4 << 20  # of stored tokens at a time


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

    def __str__(self) -> str:
        return f"{self.num_documents:,} documents, {len(self.tokens):,} tokens"

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over tokens and offsets, whatever type they are stored in."""
        digest = hashlib.sha256(np.ascontiguousarray(self.offsets, dtype="<i8").data)
        for start in range(0, len(self.tokens), HASH_TOKENS):  # not a second copy of them all, in four bytes each
            digest.update(np.ascontiguousarray(self.tokens[start : start + HASH_TOKENS], dtype="<i4").data)
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


def token_dtype(vocab_size: int) -> npt.DTypeLike:
    """The same for NumPy."""
    dtype: npt.DTypeLike = token_type(vocab_size).to_pandas_dtype()
    return dtype


def tokens_array(
    documents: Sequence[npt.NDArray[np.int32]], vocab_size: int, missing: npt.NDArray[np.bool_] | None = None
) -> pa.ListArray:
    """Ragged ids as an Arrow list array; null where `missing`."""
    return joined_array(joined(documents, token_dtype(vocab_size)), missing)


def joined_array(ids: Joined, missing: npt.NDArray[np.bool_] | None = None) -> pa.ListArray:
    """The same of ids that are joined already."""
    flat, lengths = ids
    offsets = np.zeros(len(lengths) + 1, dtype=np.int32)
    np.cumsum(lengths, out=offsets[1:])
    mask = None if missing is None else pa.array(missing)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat), mask=mask)


def tokens_metadata(tokenizer: Tokenizer) -> dict[bytes, bytes]:
    """What the schema of a token table says of its origin."""
    return {VERSION_KEY: FORMAT_VERSION.encode(), TOKENIZER_KEY: tokenizer.fingerprint.encode()}


def read_token_table(path: str, tokenizer: Tokenizer, column: str = "tokens") -> TokenTable:
    """Read the token table at `path` (a folder or a file), in file order, checked against `tokenizer`."""
    parts: list[npt.NDArray[np.integer]] = []
    lengths: list[npt.NDArray[np.int64]] = []
    num_bytes = 0
    for file in expand_paths(path, (".parquet",)):
        tokens, found, size = _read(file, tokenizer, column)
        parts.append(tokens)
        lengths.append(found)
        num_bytes += size
    every = np.concatenate(lengths) if lengths else np.zeros(0, dtype=np.int64)
    if not every.sum():
        raise DataError(f"the token table {path} holds no token", todo="was it made from an empty corpus?")
    offsets = np.concatenate([[0], np.cumsum(every)]).astype(np.int64)
    return TokenTable(_joined(parts), offsets, num_bytes)


def _joined(parts: list[npt.NDArray[np.integer]]) -> npt.NDArray[np.integer]:
    """As np.concatenate, but empties `parts` on the way, so that only one of them is in memory twice."""
    if len(parts) == 1:
        return parts.pop()
    joined = np.empty(sum(map(len, parts)), dtype=np.result_type(*{part.dtype for part in parts}))
    parts.reverse()
    start = 0
    while parts:
        part = parts.pop()
        joined[start : start + len(part)] = part
        start += len(part)
    return joined


Part = tuple[npt.NDArray[np.integer], npt.NDArray[np.int64], int]


def _read(file: str, tokenizer: Tokenizer, column: str) -> Part:
    """Tokens, lengths of the documents and bytes of text of one file."""
    location = open_location(file)

    def read() -> Part:
        with location.filesystem.open_input_file(location.path) as stream:
            parquet = pq.ParquetFile(stream)
            _check(parquet.schema_arrow, file, tokenizer, column)
            return _read_rows(parquet, column)

    try:
        return location.retrying(read)
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"cannot read the token table: {str(error).splitlines()[0]}",
            where=Place(file),
            todo="was its writing or copying cut short?",
        ) from error


def _read_rows(parquet: pq.ParquetFile, column: str) -> Part:
    """Some documents at a time into one array: there is no second copy, and the buffers between stay in the cache."""
    groups = [parquet.metadata.row_group(index) for index in range(parquet.num_row_groups)]
    place = next(i for i, leaf in enumerate(parquet.schema) if leaf.path.partition(".")[0] == column)
    at_most = sum(group.column(place).num_values for group in groups)  # null and empty documents count as one each
    stored_bytes = sum(group.total_byte_size for group in groups)
    rows = max(1, parquet.metadata.num_rows * READ_BYTES // max(1, stored_bytes))
    tokens = np.empty(at_most, dtype=parquet.schema_arrow.field(column).type.value_type.to_pandas_dtype())
    lengths = [np.zeros(0, dtype=np.int64)]
    end = num_bytes = 0
    for batch in parquet.iter_batches(batch_size=rows, columns=[column, "num_bytes"], use_threads=False):
        documents = batch.column(column).drop_null()
        flat = documents.flatten().to_numpy()
        tokens[end : end + len(flat)] = flat
        end += len(flat)
        lengths.append(np.asarray(documents.value_lengths(), dtype=np.int64))
        num_bytes += pc.sum(batch.column("num_bytes")).as_py() or 0
    return tokens[:end], np.concatenate(lengths), num_bytes


def _check(schema: pa.Schema, file: str, tokenizer: Tokenizer, column: str) -> None:
    metadata = schema.metadata or {}
    if metadata.get(VERSION_KEY) != FORMAT_VERSION.encode() or "tokens" not in schema.names:
        raise DataError("not a token table", where=Place(file), todo="make one with python -m jobs.tokenize_corpus")
    if column not in schema.names:
        raise DataError(
            f"there is no column '{column}'",
            where=Place(file),
            todo="make a table of pairs with python -m jobs.tokenize_corpus target_column=...",
        )
    made_by = metadata.get(TOKENIZER_KEY, b"").decode()
    if made_by != tokenizer.fingerprint:
        raise DataError(
            f"the tokens were made by tokenizer {made_by[:12]}, the one given is {tokenizer.fingerprint[:12]}",
            where=Place(file),
            todo="give the tokenizer they were made with, or tokenize again",
        )
