"""Vectors as bulk work: a corpus plus `vector` (`rnnlm.inference.embed`), float32, and `error`.

A language model reads the text column, an encoder-decoder takes it for the source. An encoder of words has a column of
words, or of text that is split into words.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from pydantic import Field

from rnnlm.bulk.plan import CostModel
from rnnlm.bulk.work import ERROR, NULL_TEXT, Device, Processed, Processor, WorkConfig
from rnnlm.checkpoint import Checkpoint, loaded
from rnnlm.config import config
from rnnlm.errors import ConfigError
from rnnlm.inference.devices import put_on_device, release_cached_memory
from rnnlm.inference.embed import Embedder, Row, RowPooling, cut_stack, pooling_of
from rnnlm.inference.precision import Products
from rnnlm.inference.predict.base import read_words
from rnnlm.inference.score_work import BYTES_PER_TOKEN, seconds_per_token
from rnnlm.inference.tokenize_work import EMPTY_SOURCE
from rnnlm.nn.stack import Stack
from rnnlm.nn.translation_model import TranslationModel
from rnnlm.nn.word_encoder import WordEncoder

NO_VECTOR = "non_finite: the vector is not finite, or it is zero and has no direction"


@config
class EmbedWork(WorkConfig):
    """Gives every row a vector."""

    checkpoint: str
    "Run folder (its best checkpoint is taken) or checkpoint folder."
    text_column: str = "text"
    "Column that is read, if no `words_column` is."
    words_column: str | None = None
    "Column of words, or of text that is split into words; null for a model of texts."
    pooling: RowPooling = "last"
    "How the states at all positions become one vector."
    layer: int = -1
    "Layer of the stack: from 1 at the bottom, or from -1 at the top downwards."
    normalise: bool = False
    "Make all vectors of length 1."
    vector_column: str = "vector"
    "Name of the new column."
    threads: int = Field(default=1, ge=1)
    "Threads of a worker; the rounding of a product can depend on it, so it belongs to the run's identity."
    products: Products = Field(default_factory=Products)
    "How the model computes."

    @property
    def job(self) -> str:
        return "embed"

    @property
    def needs_text(self) -> bool:
        return self.words_column is None

    def needed_columns(self) -> list[str]:
        return [] if self.words_column is None else [self.words_column]

    def new_fields(self) -> list[pa.Field]:
        kind = pa.list_(pa.float32(), self._stack().output_size)
        return [pa.field(self.vector_column, kind), pa.field(ERROR, pa.string())]

    def output_schema(self, schema: pa.Schema, kept: Sequence[str]) -> pa.Schema:
        if self.vector_column in kept:
            raise ConfigError(
                f"the corpus already has a column '{self.vector_column}'; name the new one otherwise with "
                "vector_column=..., or leave the old one out with corpus.columns=[...]"
            )
        return super().output_schema(schema, kept)

    def encodings(self) -> dict[str, str]:
        # The first bytes of all numbers, then the second ones: smaller than with a dictionary, which gains nothing.
        return {f"{self.vector_column}.list.element": "BYTE_STREAM_SPLIT"}

    def check_model(self) -> None:
        """Raise ConfigError unless the model has the layer, and reads what the columns hold."""
        pooling_of(self._stack(), self.pooling)
        if reads_words(loaded(self.checkpoint)) and self.words_column is None:
            raise ConfigError("words_column: the checkpoint reads words; name their column")
        if not reads_words(loaded(self.checkpoint)) and self.words_column is not None:
            raise ConfigError("words_column: the checkpoint reads texts; leave it out and set corpus.text_column")

    def cost(self) -> CostModel:
        per_token = seconds_per_token(replace(loaded(self.checkpoint), model=self._stack()))
        return CostModel(seconds_per_row=per_token, seconds_per_byte=per_token / BYTES_PER_TOKEN)

    def identity(self) -> dict[str, Any]:
        return {
            "model": loaded(self.checkpoint).fingerprint,
            "column": self.text_column if self.words_column is None else self.words_column,
            "pooling": self.pooling,
            "layer": self.layer,
            "normalise": self.normalise,
            "vector_column": self.vector_column,
            "threads": self.threads,
            "products": self.products.card(),
            "torch": torch.__version__,
        }

    def provenance(self) -> dict[str, str]:
        return {"model": loaded(self.checkpoint).fingerprint, "products": json.dumps(self.products.card())}

    def card(self) -> dict[str, Any]:
        return {"products": self.products.card()}

    def build(self, device: Device) -> "EmbedProcessor":
        torch.set_num_threads(self.threads)
        return EmbedProcessor(self, loaded(self.checkpoint), device)

    def _stack(self) -> Stack:
        """The layers that are computed."""
        return cut_stack(loaded(self.checkpoint), self.layer)


class EmbedProcessor(Processor):
    """A loaded model that makes vectors of rows."""

    def __init__(self, work: EmbedWork, checkpoint: Checkpoint, device: Device) -> None:
        self._work = work
        self.hardware = put_on_device(checkpoint, device)
        self._embedder = Embedder(
            checkpoint, pooling=work.pooling, layer=work.layer, normalise=work.normalise, products=work.products
        )
        self._needs_source = isinstance(checkpoint.model, TranslationModel)

    def release_memory(self) -> None:
        release_cached_memory()

    def process(self, table: pa.Table, rows: npt.NDArray[np.int64]) -> Processed:  # noqa: ARG002 - no randomness
        given, errors = self._given(table)
        present = np.array([error is None for error in errors], dtype=bool)
        vectors = np.zeros((len(errors), self._embedder.size), dtype=np.float32)
        vectors[present] = self._embedder.embed(given, report=self.report)
        good = present & np.isfinite(vectors).all(axis=1)
        column = pa.FixedSizeListArray.from_arrays(
            pa.array(vectors.ravel()), type=self._work.new_fields()[0].type, mask=pa.array(~good)
        )
        said = [None if is_good else error or NO_VECTOR for is_good, error in zip(good, errors, strict=True)]
        columns = {self._work.vector_column: column, ERROR: pa.array(said, pa.string())}
        return Processed(columns, int(self._embedder.num_tokens[good[present]].sum()), self._embedder.num_padding)

    def _given(self, table: pa.Table) -> tuple[list[Row], list[str | None]]:
        """What is to be read, and for each row of the table what is wrong with it."""
        if self._work.words_column is None:
            texts = table.column(self._work.text_column).to_pylist()
            errors = [self._text_error(text) for text in texts]
            return [text for text, error in zip(texts, errors, strict=True) if error is None], errors
        values = table.column(self._work.words_column).to_pylist()
        rows = [read_words(value) for value in values]
        return [row.words for row in rows if row.error is None], [row.error for row in rows]

    def _text_error(self, text: str | None) -> str | None:
        if text is None:
            return NULL_TEXT
        is_empty = self._needs_source and not text.strip()
        return EMPTY_SOURCE if is_empty else None


def reads_words(checkpoint: Checkpoint) -> bool:
    """Whether the model reads rows of words, not texts."""
    return isinstance(checkpoint.model, WordEncoder)
