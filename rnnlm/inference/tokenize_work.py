"""Tokenizing as bulk work: texts to a token table (see rnnlm.data.tokens)."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from rnnlm.bulk.plan import CostModel
from rnnlm.bulk.work import ERROR, NULL_TEXT, Device, Processed, Processor, WorkConfig
from rnnlm.config import config
from rnnlm.data.tokenizers import Tokenizer, load_tokenizer
from rnnlm.data.tokens import token_type, tokens_array, tokens_metadata
from rnnlm.errors import ConfigError
from rnnlm.storage import open_location

SECONDS_PER_BYTE = 1.5e-7  # of one core, for estimates


@config
class TokenizeWork(WorkConfig):
    """Turns every text into token ids."""

    tokenizer: str
    "Folder of the tokenizer."
    text_column: str = "text"
    "Column that is tokenized."
    keep_columns: list[str] = Field(default_factory=list)
    "Input columns that go along; by default none, since a token table is for training."

    @property
    def job(self) -> str:
        return "tokenize_corpus"

    def new_fields(self) -> list[pa.Field]:
        return [
            pa.field("tokens", pa.list_(token_type(loaded_tokenizer(self.tokenizer).vocab_size))),
            pa.field("num_bytes", pa.int64()),
            pa.field(ERROR, pa.string()),
        ]

    def kept_columns(self, names: Sequence[str]) -> list[str]:
        missing = [name for name in self.keep_columns if name not in names]
        if missing:
            raise ConfigError(f"keep_columns: the corpus has no column '{missing[0]}'; it has {', '.join(names)}")
        return self.keep_columns

    def output_schema(self, schema: pa.Schema, kept: Sequence[str]) -> pa.Schema:
        found = super().output_schema(schema, kept)
        metadata = tokens_metadata(loaded_tokenizer(self.tokenizer))
        return found.with_metadata({**(schema.metadata or {}), **metadata})

    def encodings(self) -> dict[str, str]:
        # The low bytes of all ids, then the high ones: smaller than with a dictionary and faster to write.
        return {"tokens.list.element": "BYTE_STREAM_SPLIT"}

    def cost(self) -> CostModel:
        return CostModel(seconds_per_row=1e-6, seconds_per_byte=SECONDS_PER_BYTE)

    def identity(self) -> dict[str, Any]:
        return {
            "tokenizer": loaded_tokenizer(self.tokenizer).fingerprint,
            "text_column": self.text_column,
            "keep_columns": self.keep_columns,
        }

    def build(self, device: Device) -> "TokenizeProcessor":  # noqa: ARG002 - nothing to compute on a GPU
        return TokenizeProcessor(self, loaded_tokenizer(self.tokenizer))


class TokenizeProcessor(Processor):
    """A loaded tokenizer."""

    def __init__(self, work: TokenizeWork, tokenizer: Tokenizer) -> None:
        self._work = work
        self._tokenizer = tokenizer

    def process(self, table: pa.Table, rows: npt.NDArray[np.int64]) -> Processed:  # noqa: ARG002 - no randomness
        # Through bytes and back, since Parquet may hold bytes that are no text: only this way Arrow looks at them.
        stored = table.column(self._work.text_column).cast(pa.large_string()).combine_chunks()
        texts = stored.cast(pa.large_binary()).cast(pa.large_string())
        missing = texts.is_null()
        encoded = self._tokenizer.encode_column(texts.fill_null(""))
        columns = {
            "tokens": tokens_array(encoded, self._tokenizer.vocab_size, np.asarray(missing)),
            "num_bytes": pc.binary_length(texts),
            ERROR: pc.if_else(missing, NULL_TEXT, pa.scalar(None, pa.string())),
        }
        return Processed(columns, len(columns["tokens"].values))


@functools.lru_cache(maxsize=2)
def loaded_tokenizer(path: str) -> Tokenizer:
    """A tokenizer, read once a process."""
    return load_tokenizer(open_location(path))
