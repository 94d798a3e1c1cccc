"""Sequence classification: the class of a whole row of words, or several classes; sentiment, topic, intent.

    -log P(class | words), a row at a time            several: the sum over all classes, each there or not

The targets are rows. A row whose class the vocabulary lacks has no probability and is left out of training and of
validation (`left_out`); of several classes only the unknown ones are. The nll is the plain one, so that runs with other
weights of classes or smoothing can be compared by it; these are part of what is minimised alone.

    balanced, one class       w_c = rows / (classes * rows of class c), on average 1 a row  (King & Zeng 2001)
    balanced, several         w_c = rows without class c / rows with it
"""

from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import nn

from rnnlm.config import config
from rnnlm.data.labelled import LabelledTable, read_labelled_table
from rnnlm.data.tokenizers import Tokenizer
from rnnlm.data.tokenizers.labels import UNKNOWN_LABEL
from rnnlm.errors import ConfigError, DataError, Place
from rnnlm.nn.classification_model import ClassificationModel, counted_rows
from rnnlm.nn.pooling import PoolingKind, build_pooling
from rnnlm.tasks.base import LossSum, Table
from rnnlm.tasks.word_encoder import WordEncoderConfig, batch_of
from rnnlm.types import State


@config
class ClassificationConfig(WordEncoderConfig):
    """A recurrent classifier of rows of words."""

    pooling: PoolingKind = "max"
    "What of the encoder's outputs is the row's vector: final states, mean, max, or a mean with learnt attention."
    multi_label: bool = False
    "A row has any number of classes, each predicted for itself."
    class_weights: Literal["none", "balanced"] | list[Annotated[float, Field(gt=0.0)]] = "none"
    "How much the rows of a class count in training: balanced by their number, or one number a class in order."
    label_smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)
    "Share of the probability that is spread over all classes in what is learnt."
    max_words: int | None = Field(default=None, ge=1)
    "Words that are read of a row in training, from its beginning; null reads whole documents, as prediction does."

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_pooling(self.pooling)

    def build(self, tokenizer: Tokenizer) -> ClassificationModel:
        vocabulary = self.vocabulary(tokenizer)
        parts = self.encoder_parts(vocabulary)
        model = ClassificationModel(
            **parts,
            pooling=build_pooling(self.pooling, parts["encoder"].output_size, self.forward_size()),
            num_classes=len(vocabulary.labels),
            multi_label=self.multi_label,
            label_smoothing=self.label_smoothing,
        )
        if isinstance(self.class_weights, list):
            if len(self.class_weights) != len(vocabulary.labels):
                raise ConfigError(
                    f"task.class_weights: {len(self.class_weights)} numbers for the {len(vocabulary.labels)} classes "
                    f"{', '.join(vocabulary.labels[:5])}"
                )
            model.class_weights.copy_(torch.tensor(self.class_weights))
        return model

    def read_table(self, path: str, tokenizer: Tokenizer, *, for_training: bool) -> LabelledTable:
        table = read_labelled_table(path, self.vocabulary(tokenizer))
        problem, todo = None, "make the table again with python -m jobs.tokenize_corpus labels_of=rows"
        if not table.of_rows:
            problem = "the table has labels of words, and classification needs those of rows"
        elif not self.multi_label and (np.diff(table.label_offsets) != 1).any():
            problem, todo = "there is a row with more than one class, or none", "set task.multi_label=true"
        elif not len(self.learnable(table)):
            problem, todo = "there is no row with a class that the vocabulary has", "was it made for other data?"
        if problem is not None:
            raise DataError(problem, where=Place(file=path), todo=todo)
        return table if self.max_words is None or not for_training else table.first_words(self.max_words)

    def learnable(self, table: LabelledTable) -> npt.NDArray[np.int64]:
        has_words = np.diff(table.offsets) > 0
        return np.flatnonzero(has_words if self.multi_label else has_words & (_only_class(table) != UNKNOWN_LABEL))

    def prepare(self, model: nn.Module, table: Table, tokenizer: Tokenizer) -> None:
        """Words and classes are counted in the training data."""
        super().prepare(model, table, tokenizer)
        assert isinstance(model, ClassificationModel)
        assert isinstance(table, LabelledTable)
        if self.class_weights == "balanced":
            weights = self._balanced(table, len(model.class_weights))
            model.class_weights.copy_(torch.from_numpy(weights))

    def num_targets(self, batch: Any) -> int:
        return int(counted_rows(batch_of(batch), multi_label=self.multi_label).sum())

    def loss(self, model: nn.Module, batch: Any, state: State) -> tuple[LossSum, State]:
        assert isinstance(model, ClassificationModel)
        nll, objective = model.loss(batch)
        return LossSum(nll, self.num_targets(batch), objective), state

    def _balanced(self, table: LabelledTable, num_classes: int) -> npt.NDArray[np.float64]:
        rows = len(self.learnable(table))
        counts = np.bincount(table.labels[table.labels != UNKNOWN_LABEL], minlength=num_classes)
        seen = np.maximum(counts, 1)  # of a class without rows the weight never matters, it only has to be a number
        return np.maximum(rows - counts, 1) / seen if self.multi_label else rows / (num_classes * seen)


def _only_class(table: LabelledTable) -> npt.NDArray[np.int32]:
    """The first class of each row; UNKNOWN_LABEL where there is none."""
    found = np.full(table.num_rows, UNKNOWN_LABEL, dtype=np.int32)
    some = np.diff(table.label_offsets) > 0
    found[some] = table.labels[table.label_offsets[:-1][some]]
    return found
