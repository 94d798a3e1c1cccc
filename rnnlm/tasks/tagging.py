"""Tagging: a label for each word of a row; parts of speech, named entities, chunks, boundaries.

    -log P(labels | words), a row at a time

The targets are words with a label that the vocabulary has. With the CRF, a row in which some label is unknown has no
probability and is left out of training and of validation as a whole (`left_out`); with the softmax only its words with
unknown labels are.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import nn

from rnnlm.config import PlacedError, config
from rnnlm.data.labelled import LabelledTable, read_labelled_table
from rnnlm.data.labelled_stream import LabelledBatch, LabelledReader, LabelledStream, has_label_per_word
from rnnlm.data.labels.schemes import Scheme
from rnnlm.data.tokenizers import Tokenizer
from rnnlm.data.tokenizers.labels import UNKNOWN_LABEL, LabelTokenizer
from rnnlm.errors import ConfigError, DataError, Place
from rnnlm.nn.cells.base import CellConfig
from rnnlm.nn.cells.lstm import LSTMConfig
from rnnlm.nn.crf import ChainCRF
from rnnlm.nn.dropout import Dropout
from rnnlm.nn.layer import LayerConfig, chained_size
from rnnlm.nn.layers.bidirectional import BidirectionalConfig
from rnnlm.nn.stack import build_stack
from rnnlm.nn.tagging_model import TaggingModel, allowed_by, counted, guess_scheme
from rnnlm.nn.words.base import WordFeature, WordFeatureConfig
from rnnlm.nn.words.characters import RecurrentCharactersConfig
from rnnlm.nn.words.embedding import WordEmbeddingConfig
from rnnlm.structure.chain import Allowed
from rnnlm.tasks.base import BatchingConfig, LossSum, Stream, Table, TaskConfig
from rnnlm.tasks.batching import SentencesConfig
from rnnlm.types import State

VALIDATION_WORDS = 8192  # words of a batch; the result does not depend on it


@config
class TaggingConfig(TaskConfig):
    """A recurrent tagger."""

    batching_type: ClassVar[type[BatchingConfig]] = SentencesConfig

    cell: CellConfig = Field(default_factory=LSTMConfig)
    "The encoder's recurrence, half as wide each way; its hidden size is that of both directions together."
    num_layers: int = Field(default=1, ge=1)
    "Layers of the encoder, where `encoder` is null."
    encoder: list[LayerConfig] | None = Field(default=None, min_length=1)
    "The encoder's layers from the bottom up; null takes bidirectional pairs of `cell`."
    words: list[WordFeatureConfig] | None = Field(default=None, min_length=1)
    "What is read of a word, side by side; null takes its embedding and what an LSTM reads of its characters."
    head: Literal["softmax", "crf"] = "crf"
    "How labels are predicted: each for itself, or the sequence of them by a conditional random field."
    scheme: Scheme | Literal["auto", "none"] = "auto"
    "Whose sequences of labels the CRF decodes; auto goes by their names and takes B- and I- for iob2, none allows all."
    dropout: float = Field(default=0.5, ge=0.0, lt=1.0)
    "Probability that a feature of the encoder's outputs is zeroed in training."
    input_dropout: float | None = Field(default=None, ge=0.0, lt=1.0)
    "The same for what is read of words; null takes `dropout`."
    layer_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    "The same between layers."
    variational_dropout: bool = False
    "Keep one mask over all steps of a row instead of drawing one a step."

    def __post_init__(self) -> None:
        if self.encoder is None and self.cell.hidden_size % 2:
            raise PlacedError("cell.hidden_size", f"{self.cell.hidden_size} cannot be halved for two directions")
        chained_size("encoder", self.encoder_layers(), self.word_size)

    def encoder_layers(self) -> Sequence[LayerConfig]:
        """The encoder from the bottom up."""
        if self.encoder is not None:
            return self.encoder
        half = dataclasses.replace(self.cell, hidden_size=self.cell.hidden_size // 2)
        return [BidirectionalConfig(forward=half)] * self.num_layers

    def word_features(self) -> Sequence[WordFeatureConfig]:
        """What is read of a word."""
        return self.words or [WordEmbeddingConfig(), RecurrentCharactersConfig()]

    @property
    def word_size(self) -> int:
        """Size of all that is read of a word."""
        return sum(feature.output_size for feature in self.word_features())

    def build(self, tokenizer: Tokenizer) -> TaggingModel:
        vocabulary = _vocabulary(tokenizer)
        num_labels = len(vocabulary.labels)
        return TaggingModel(
            words=[feature.build(vocabulary) for feature in self.word_features()],
            encoder=build_stack(self.encoder_layers(), self.word_size, self._dropout(self.layer_dropout)),
            num_labels=num_labels,
            crf=ChainCRF(num_labels, self._allowed(vocabulary.labels)) if self.head == "crf" else None,
            input_dropout=self._dropout(self.dropout if self.input_dropout is None else self.input_dropout),
            output_dropout=self._dropout(self.dropout),
        )

    def read_table(self, path: str, tokenizer: Tokenizer, *, for_training: bool) -> LabelledTable:  # noqa: ARG002 - nothing is too much
        table = read_labelled_table(path, _vocabulary(tokenizer))
        if not has_label_per_word(table):
            raise DataError(
                "there is a row with more labels than words, or fewer",
                where=Place(file=path),
                todo="tagging needs one label a word; labels of whole rows are another task",
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

    def left_out(self, table: LabelledTable) -> int:
        """Rows with words that are no part of any loss, since labels of theirs are unknown."""
        return int((np.diff(table.offsets) > 0).sum()) - len(self.learnable(table))

    def prepare(self, model: nn.Module, table: Table, tokenizer: Tokenizer) -> None:
        """Let what is read of words know how often each stands in the training data."""
        assert isinstance(model, TaggingModel)
        assert isinstance(table, LabelledTable)
        counts = np.bincount(table.words, minlength=tokenizer.vocab_size)
        for feature in model.words:
            assert isinstance(feature, WordFeature)
            feature.prepare(counts)

    def open_stream(
        self,
        table: Table,
        tokenizer: Tokenizer,  # noqa: ARG002 - nothing is framed
        batching: BatchingConfig,
        *,
        seed: int,
        rank: int,
        world_size: int,
    ) -> Stream:
        assert isinstance(table, LabelledTable)
        assert isinstance(batching, SentencesConfig)
        return LabelledStream(
            table,
            words=batching.words,
            max_rows=batching.max_rows,
            seed=seed,
            rows=self.learnable(table),
            rank=rank,
            world_size=world_size,
        )

    def initial_state(self, model: nn.Module, batching: BatchingConfig, world_size: int) -> State:  # noqa: ARG002 - rows have no past
        return ()

    def num_targets(self, batch: Any) -> int:
        assert isinstance(batch, LabelledBatch)
        return int(counted(batch, whole_rows=self.head == "crf").sum())

    def loss(self, model: nn.Module, batch: Any, state: State) -> tuple[LossSum, State]:
        assert isinstance(model, TaggingModel)
        return LossSum(model.loss(batch), self.num_targets(batch)), state

    def validate(
        self,
        model: nn.Module,
        table: Table,
        tokenizer: Tokenizer,  # noqa: ARG002 - nothing is framed
        *,
        num_lanes: int,  # noqa: ARG002 - rows have no lanes
        rank: int = 0,
        world_size: int = 1,
    ) -> LossSum:
        """Exact over every target."""
        assert isinstance(model, TaggingModel)
        assert isinstance(table, LabelledTable)
        nll, num_targets = torch.zeros((), dtype=torch.float64), 0
        training = model.training
        model.eval()
        with torch.inference_mode():
            for batch in _in_batches(LabelledReader(table), self.learnable(table)[rank::world_size]):
                nll += model.loss(batch).cpu()
                num_targets += self.num_targets(batch)
        model.train(training)
        return LossSum(nll, num_targets)

    def _allowed(self, labels: Sequence[str]) -> Allowed | None:
        if self.scheme == "none":
            return None
        scheme = guess_scheme(labels) if self.scheme == "auto" else self.scheme
        try:
            return None if scheme is None else allowed_by(labels, scheme)
        except ValueError as error:
            raise ConfigError(f"task.scheme: {error}") from None

    def _dropout(self, probability: float) -> Dropout:
        return Dropout(probability, variational=self.variational_dropout)


def _in_batches(reader: LabelledReader, rows: npt.NDArray[np.int64]) -> Iterator[LabelledBatch]:
    for some in reader.plan(reader.by_length(rows), VALIDATION_WORDS):
        yield reader.read(some)


def _vocabulary(tokenizer: Tokenizer) -> LabelTokenizer:
    """The tokenizer as a vocabulary of labels. Raises ConfigError if it is none."""
    if not isinstance(tokenizer, LabelTokenizer):
        raise ConfigError(
            f"tokenizer_path: TaggingConfig needs a vocabulary of words and labels, this tokenizer is of kind "
            f"{tokenizer.kind}; make one with python -m jobs.train_tokenizer tokenizer=labels labels_column=labels"
        )
    return tokenizer
