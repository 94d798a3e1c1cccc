"""What tasks over rows of labelled words have in common: an encoder of words, and batches of rows of like length."""

import dataclasses
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, TypedDict

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import nn

from rnnlm.config import PlacedError, config
from rnnlm.data.labelled import LabelledTable
from rnnlm.data.labelled_stream import LabelledBatch, LabelledReader, LabelledStream
from rnnlm.data.tokenizers import Tokenizer
from rnnlm.data.tokenizers.labels import LabelTokenizer
from rnnlm.errors import ConfigError
from rnnlm.nn.cells.base import CellConfig
from rnnlm.nn.cells.lstm import LSTMConfig
from rnnlm.nn.dropout import Dropout
from rnnlm.nn.layer import LayerConfig, chained_size
from rnnlm.nn.layers.bidirectional import BidirectionalConfig
from rnnlm.nn.layers.reading_order import ReadingOrderConfig
from rnnlm.nn.pooling import PoolingKind
from rnnlm.nn.stack import Stack, build_stack
from rnnlm.nn.word_encoder import WordEncoder
from rnnlm.nn.words.base import WordFeature, WordFeatureConfig
from rnnlm.nn.words.characters import RecurrentCharactersConfig
from rnnlm.nn.words.embedding import WordEmbeddingConfig
from rnnlm.tasks.base import BatchingConfig, LossSum, Stream, Table, TaskConfig
from rnnlm.tasks.batching import SentencesConfig
from rnnlm.types import State

VALIDATION_WORDS = 8192  # words of a batch; the result does not depend on it


class EncoderParts(TypedDict):
    """What a WordEncoder is made of."""

    words: Sequence[WordFeature]
    encoder: Stack
    input_dropout: Dropout
    output_dropout: Dropout


@config
class WordEncoderConfig(TaskConfig):
    """Base of tasks whose network reads rows of words."""

    batching_type: ClassVar[type[BatchingConfig]] = SentencesConfig

    cell: CellConfig = Field(default_factory=LSTMConfig)
    "The encoder's recurrence, half as wide each way; its hidden size is that of both directions together."
    num_layers: int = Field(default=1, ge=1, le=1000)
    "Layers of the encoder, where `encoder` is null."
    encoder: list[LayerConfig] | None = Field(default=None, min_length=1)
    "The encoder's layers from the bottom up; null takes bidirectional pairs of `cell`."
    words: list[WordFeatureConfig] | None = Field(default=None, min_length=1)
    "What is read of a word, side by side; null takes its embedding and what an LSTM reads of its characters."
    dropout: float = Field(default=0.5, ge=0.0, lt=1.0)
    "Probability that a feature of what the encoder gives is zeroed in training."
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

    @abstractmethod
    def learnable(self, table: LabelledTable) -> npt.NDArray[np.int64]:
        """The rows that the loss is about, in order."""

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

    @property
    def reads_pieces(self) -> bool:
        """Whether batches must have the pieces of words."""
        return any(feature.reads_pieces for feature in self.word_features())

    def forward_size(self) -> int | None:
        """How many of the encoder's outputs, the first ones, are of a forward direction, all others being of a backward
        one; None if they are mixed."""
        *below, top = self.encoder_layers()
        size = chained_size("encoder", below, self.word_size)
        if isinstance(top, BidirectionalConfig) and top.combine == "concat":
            directions = [top.forward, top.backward or top.forward]
            return None if any(one.sees_future() for one in directions) else top.forward.output_size(size)
        if isinstance(top, ReadingOrderConfig) and top.order == "backward" and not top.inner.sees_future():
            return 0
        return None if top.sees_future() else top.output_size(size)

    def check_pooling(self, pooling: PoolingKind) -> None:
        """Raise PlacedError if the final states are asked for where they do not stand apart."""
        if pooling == "last" and self.forward_size() is None:
            raise PlacedError(
                "pooling",
                "the final states of the encoder's last layer do not stand apart in its outputs; take mean, max or "
                "attention, or end the encoder with a bidirectional layer of combine=concat",
            )

    def encoder_parts(self, vocabulary: LabelTokenizer) -> EncoderParts:
        """With fresh weights."""
        return {
            "words": [feature.build(vocabulary) for feature in self.word_features()],
            "encoder": build_stack(self.encoder_layers(), self.word_size, self._dropout(self.layer_dropout)),
            "input_dropout": self._dropout(self.dropout if self.input_dropout is None else self.input_dropout),
            "output_dropout": self._dropout(self.dropout),
        }

    def vocabulary(self, tokenizer: Tokenizer) -> LabelTokenizer:
        """The tokenizer as a vocabulary of labels. Raises ConfigError if it is none."""
        if not isinstance(tokenizer, LabelTokenizer):
            raise ConfigError(
                f"tokenizer_path: {type(self).__name__} needs a vocabulary of words and labels, this tokenizer is of "
                f"kind {tokenizer.kind}; make one with "
                "python -m jobs.train_tokenizer tokenizer=labels labels_column=labels"
            )
        return tokenizer

    def reader(self, table: LabelledTable) -> LabelledReader:
        """What makes batches of a table's rows."""
        return LabelledReader(table, pieces=self.reads_pieces)

    def left_out(self, table: LabelledTable) -> int:
        """Rows with words that are no part of any loss, since labels of theirs are unknown."""
        return int((np.diff(table.offsets) > 0).sum()) - len(self.learnable(table))

    def prepare(self, model: nn.Module, table: Table, tokenizer: Tokenizer) -> None:
        """Let what is read of words know how often each stands in the training data."""
        assert isinstance(model, WordEncoder)
        assert isinstance(table, LabelledTable)
        counts = np.bincount(table.words, minlength=tokenizer.vocab_size)
        for feature in model.words:
            assert isinstance(feature, WordFeature)
            feature.prepare(counts, self.vocabulary(tokenizer))

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
            self.reader(table),
            words=batching.words,
            max_rows=batching.max_rows,
            seed=seed,
            rows=self.learnable(table),
            rank=rank,
            world_size=world_size,
        )

    def initial_state(self, model: nn.Module, batching: BatchingConfig, world_size: int) -> State:  # noqa: ARG002 - rows have no past
        return ()

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
        assert isinstance(table, LabelledTable)
        nll, num_targets = torch.zeros((), dtype=torch.float64), 0
        training = model.training
        model.eval()
        with torch.inference_mode():
            for batch in in_batches(self.reader(table), self.learnable(table)[rank::world_size]):
                found, _ = self.loss(model, batch, ())
                nll += found.nll.cpu()
                num_targets += found.num_targets
        model.train(training)
        return LossSum(nll, num_targets)

    def _dropout(self, probability: float) -> Dropout:
        return Dropout(probability, variational=self.variational_dropout)


def in_batches(reader: LabelledReader, rows: npt.NDArray[np.int64]) -> Iterator[LabelledBatch]:
    """Rows of like length together."""
    for some in reader.plan(reader.by_length(rows), VALIDATION_WORDS):
        yield reader.read(some)


def batch_of(batch: Any) -> LabelledBatch:
    """What the loop passes on, as what the stream gave it."""
    assert isinstance(batch, LabelledBatch)
    return batch
