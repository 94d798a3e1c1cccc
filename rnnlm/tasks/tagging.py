"""Tagging: a label for each word of a row; parts of speech, named entities, chunks, boundaries.

    -log P(labels | words), a row at a time

The targets are words with a label that the vocabulary has. With the CRF, a row in which some label is unknown has no
probability and is left out of training and of validation as a whole (`left_out`); with the softmax only its words with
unknown labels are.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from torch import nn

from rnnlm.config import config
from rnnlm.data.labelled import LabelledTable, read_labelled_table
from rnnlm.data.labelled_stream import has_label_per_word
from rnnlm.data.labels.schemes import Scheme
from rnnlm.data.tokenizers import Tokenizer
from rnnlm.data.tokenizers.labels import UNKNOWN_LABEL
from rnnlm.errors import ConfigError, DataError, Place
from rnnlm.nn.crf import ChainCRF
from rnnlm.nn.tagging_model import TaggingModel, allowed_by, counted, guess_scheme
from rnnlm.structure.chain import Allowed
from rnnlm.tasks.base import LossSum
from rnnlm.tasks.word_encoder import WordEncoderConfig, batch_of
from rnnlm.types import State


@config
class TaggingConfig(WordEncoderConfig):
    """A recurrent tagger."""

    head: Literal["softmax", "crf"] = "crf"
    "How labels are predicted: each for itself, or the sequence of them by a conditional random field."
    scheme: Scheme | Literal["auto", "none"] = "auto"
    "Whose sequences of labels the CRF decodes; auto goes by their names and takes B- and I- for iob2, none allows all."

    def build(self, tokenizer: Tokenizer) -> TaggingModel:
        labels = self.vocabulary(tokenizer).labels
        parts = self.encoder_parts(self.vocabulary(tokenizer))
        return TaggingModel(**parts, num_labels=len(labels), crf=self.build_crf(labels))

    def build_crf(self, labels: Sequence[str]) -> ChainCRF | None:
        """With fresh weights; None for the softmax."""
        return ChainCRF(len(labels), self._allowed(labels)) if self.head == "crf" else None

    def read_table(self, path: str, tokenizer: Tokenizer, *, for_training: bool) -> LabelledTable:  # noqa: ARG002 - nothing is too much
        table = read_labelled_table(path, self.vocabulary(tokenizer))
        if table.of_rows:
            raise DataError(
                "the table has labels of rows, and tagging needs one a word",
                where=Place(file=path),
                todo="take task=classification for them",
            )
        if not has_label_per_word(table):
            raise DataError(
                "there is a row with more labels than words, or fewer",
                where=Place(file=path),
                todo="make it again with python -m jobs.tokenize_corpus; labels_of=rows if they are classes of rows",
            )
        if not len(self.learnable(table)):
            raise DataError("there is no row with labels that the vocabulary has", where=Place(file=path))
        return table

    def learnable(self, table: LabelledTable) -> npt.NDArray[np.int64]:
        """The rows that the loss is about, in order."""
        lengths = np.diff(table.offsets)
        rows = np.repeat(np.arange(table.num_rows), lengths)
        known = np.bincount(rows, weights=table.labels != UNKNOWN_LABEL, minlength=table.num_rows)
        enough = known == lengths if self.head == "crf" else known > 0
        return np.flatnonzero(enough & (lengths > 0))

    def num_targets(self, batch: Any) -> int:
        return int(counted(batch_of(batch), whole_rows=self.head == "crf").sum())

    def loss(self, model: nn.Module, batch: Any, state: State) -> tuple[LossSum, State]:
        assert isinstance(model, TaggingModel)
        return LossSum(model.loss(batch), self.num_targets(batch)), state

    def _allowed(self, labels: Sequence[str]) -> Allowed | None:
        if self.scheme == "none":
            return None
        scheme = guess_scheme(labels) if self.scheme == "auto" else self.scheme
        try:
            return None if scheme is None else allowed_by(labels, scheme)
        except ValueError as error:
            raise ConfigError(f"task.scheme: {error}") from None
