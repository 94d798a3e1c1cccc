"""Nested named entities: spans of words and their types, of any depth, several types for one span.

    -log P(which spans are there | words), a row at a time

The targets are words, so that the loss is in nats a word; spans without a name are as much a part of it as others.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field
from torch import nn

from rnnlm.config import config
from rnnlm.data.labelled import LabelledTable
from rnnlm.data.span_stream import SpanBatch, SpanReader
from rnnlm.data.span_table import SpanTable, read_span_table
from rnnlm.data.tokenizers import Tokenizer
from rnnlm.errors import DataError, Place
from rnnlm.nn.span_model import SpanModel
from rnnlm.tasks.base import LossSum
from rnnlm.tasks.word_encoder import WordEncoderConfig, batch_of
from rnnlm.types import State


@config
class EntitiesConfig(WordEncoderConfig):
    """A recurrent network with biaffine scores of spans."""

    projection_size: int = Field(default=150, ge=1)
    "Size of what a word is as the first of a span, and as the last."
    projection_dropout: float = Field(default=0.2, ge=0.0, lt=1.0)
    "Probability that a feature of these is zeroed in training."
    max_width: int | None = Field(default=None, ge=1)
    "Words of the widest span that is learnt and found; null for no limit."

    def build(self, tokenizer: Tokenizer) -> SpanModel:
        vocabulary = self.vocabulary(tokenizer)
        return SpanModel(
            **self.encoder_parts(vocabulary),
            num_types=len(vocabulary.labels),
            projection_size=self.projection_size,
            max_width=self.max_width,
            projection_dropout=self._dropout(self.projection_dropout),
        )

    def read_table(self, path: str, tokenizer: Tokenizer, *, for_training: bool) -> SpanTable:  # noqa: ARG002 - nothing is too much
        table = read_span_table(path, self.vocabulary(tokenizer))
        if not len(self.learnable(table)):
            raise DataError("there is no row with words", where=Place(file=path))
        return table

    def learnable(self, table: LabelledTable) -> npt.NDArray[np.int64]:
        return np.flatnonzero(np.diff(table.offsets) > 0)

    def reader(self, table: LabelledTable) -> SpanReader:
        assert isinstance(table, SpanTable)
        return SpanReader(table, pieces=self.reads_pieces)

    def num_targets(self, batch: Any) -> int:
        found = batch_of(batch)
        return int((found.lengths * found.has_words).sum())

    def loss(self, model: nn.Module, batch: Any, state: State) -> tuple[LossSum, State]:
        assert isinstance(model, SpanModel)
        assert isinstance(batch, SpanBatch)
        return LossSum(model.loss(batch), self.num_targets(batch)), state
