"""Tokenizing as bulk work: texts to a token table (see rnnlm.data.tokens), pairs of texts to one of pairs."""

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
from rnnlm.data.pairs import TARGET_TOKENS
from rnnlm.data.tokenizers import Tokenizer, load_tokenizer
from rnnlm.data.tokenizers.pair import PairTokenizer
from rnnlm.data.tokens import joined_array, token_dtype, token_type, tokens_metadata
from rnnlm.errors import ConfigError
from rnnlm.storage import open_location

SECONDS_PER_BYTE = 1.5e-7  # of one core, for estimates
EMPTY_SOURCE = "empty_source: there is nothing to read"
EMPTY_TARGET = "empty_target: there is nothing to learn"


@config
class TokenizeWork(WorkConfig):
    """Turns every text into token ids."""

    tokenizer: str
    "Folder of the tokenizer."
    text_column: str = "text"
    "Column that is tokenized."
    target_column: str | None = None
    "Column of what belongs to each text (its translation, say); null tokenizes the text alone."
    keep_columns: list[str] = Field(default_factory=list)
    "Input columns that go along; by default none, since a token table is for training."

    @property
    def job(self) -> str:
        return "tokenize_corpus"

    def new_fields(self) -> list[pa.Field]:
        source, target = self.sides()
        pairs = [] if target is None else [pa.field(TARGET_TOKENS, pa.list_(token_type(target.vocab_size)))]
        return [
            pa.field("tokens", pa.list_(token_type(source.vocab_size))),
            *pairs,
            pa.field("num_bytes", pa.int64()),
            pa.field(ERROR, pa.string()),
        ]

    def sides(self) -> tuple[Tokenizer, Tokenizer | None]:
        """What reads the text, and what reads the target if there is one. Raises ConfigError if they do not fit."""
        tokenizer = loaded_tokenizer(self.tokenizer)
        if isinstance(tokenizer, PairTokenizer):
            if self.target_column is None:
                raise ConfigError("target_column: the tokenizer is one for pairs; name the column of the targets")
            return tokenizer.source, tokenizer.target
        if self.target_column is not None:
            raise ConfigError(
                "target_column: the tokenizer reads single texts; train one for pairs with "
                "python -m jobs.train_tokenizer target_column=..."
            )
        return tokenizer, None

    def needed_columns(self) -> list[str]:
        return [] if self.target_column is None else [self.target_column]

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
        names = ["tokens"] if self.target_column is None else ["tokens", TARGET_TOKENS]
        return {f"{name}.list.element": "BYTE_STREAM_SPLIT" for name in names}

    def cost(self) -> CostModel:
        return CostModel(seconds_per_row=1e-6, seconds_per_byte=SECONDS_PER_BYTE)

    def identity(self) -> dict[str, Any]:
        return {
            "tokenizer": loaded_tokenizer(self.tokenizer).fingerprint,
            "text_column": self.text_column,
            "keep_columns": self.keep_columns,
            # Only where there is one: a plain run is the same as before there were pairs.
            **({} if self.target_column is None else {"target_column": self.target_column}),
        }

    def build(self, device: Device) -> "TokenizeProcessor":  # noqa: ARG002 - nothing to compute on a GPU
        return TokenizeProcessor(self, *self.sides())


class TokenizeProcessor(Processor):
    """One loaded tokenizer, or two."""

    def __init__(self, work: TokenizeWork, source: Tokenizer, target: Tokenizer | None) -> None:
        self._work, self._source, self._target = work, source, target

    def process(self, table: pa.Table, rows: npt.NDArray[np.int64]) -> Processed:  # noqa: ARG002 - no randomness
        texts = _texts(table, self._work.text_column)
        if self._target is None or self._work.target_column is None:
            missing = texts.is_null().combine_chunks()
            tokens = _encoded(self._source, texts, missing)
            columns = {"tokens": tokens, "num_bytes": pc.binary_length(texts).combine_chunks()}
            errors = pc.if_else(missing, NULL_TEXT, pa.scalar(None, pa.string()))
            return Processed({**columns, ERROR: errors}, len(tokens.values))
        targets = _texts(table, self._work.target_column)
        errors = _pair_errors(texts, targets)
        missing = errors.is_valid()
        tokens = _encoded(self._source, texts, missing)
        written = _encoded(self._target, targets, missing)
        lengths = pc.binary_length(targets).combine_chunks().cast(pa.int64())
        num_bytes = pc.if_else(missing, pa.scalar(None, pa.int64()), lengths)
        columns = {"tokens": tokens, TARGET_TOKENS: written, "num_bytes": num_bytes, ERROR: errors}
        return Processed(columns, len(tokens.values) + len(written.values))


def _texts(table: pa.Table, column: str) -> pa.ChunkedArray:
    """Through bytes and back, since Parquet may hold bytes that are no text: only this way Arrow looks at them."""
    stored = table.column(column).cast(pa.large_string())  # chunk by chunk as it was read: joining would copy the texts
    return stored.cast(pa.large_binary()).cast(pa.large_string())


def _encoded(tokenizer: Tokenizer, texts: pa.ChunkedArray, missing: pa.BooleanArray) -> pa.ListArray:
    if missing.true_count:  # otherwise a copy of all texts, for nothing
        texts = pc.if_else(missing, "", texts).cast(pa.large_string())
    return joined_array(tokenizer.encode_column(texts, token_dtype(tokenizer.vocab_size)), np.asarray(missing))


def _pair_errors(sources: pa.ChunkedArray, targets: pa.ChunkedArray) -> pa.StringArray:
    """What makes a pair useless, if anything does."""
    blank = [pc.equal(pc.binary_length(pc.utf8_trim_whitespace(side)), 0) for side in (sources, targets)]
    nothing = pa.scalar(None, pa.string())
    empty = pc.if_else(
        blank[0].fill_null(False), EMPTY_SOURCE, pc.if_else(blank[1].fill_null(False), EMPTY_TARGET, nothing)
    )
    return pc.if_else(pc.or_(sources.is_null(), targets.is_null()), NULL_TEXT, empty).combine_chunks()


@functools.lru_cache(maxsize=2)
def loaded_tokenizer(path: str) -> Tokenizer:
    """A tokenizer, read once a process."""
    return load_tokenizer(open_location(path))
