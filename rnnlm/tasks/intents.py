"""Structure prediction: an utterance to its intent, or several, and its slots.

    -log P(slots | words) - w log P(intents | words), a row at a time

The targets are words, as in tagging. What is unknown to the vocabulary is left out by itself: a row with an unknown
slot label still teaches its intent, and the other way round.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field
from torch import nn

from rnnlm.config import config
from rnnlm.data.intent_table import IntentTable, read_intent_table
from rnnlm.data.labelled import LabelledTable
from rnnlm.data.tokenizers import Tokenizer
from rnnlm.data.tokenizers.labels import UNKNOWN_LABEL, LabelTokenizer
from rnnlm.errors import ConfigError, DataError, Place
from rnnlm.nn.intent_model import IntentModel
from rnnlm.nn.pooling import PoolingKind, build_pooling
from rnnlm.tasks.base import LossSum
from rnnlm.tasks.tagging import TaggingConfig
from rnnlm.tasks.word_encoder import batch_of
from rnnlm.types import State


@config
class IntentsConfig(TaggingConfig):
    """A recurrent tagger of slots that says the intent too."""

    pooling: PoolingKind = "max"
    "What of the encoder's outputs is the row's vector: final states, mean, max, or a mean with learnt attention."
    multi_intent: bool = False
    "A row has any number of intents, each predicted for itself."
    intent_weight: float = Field(default=1.0, gt=0.0)
    "w: how much the intents count in what is minimised; the nll of validation is always the plain sum."

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_pooling(self.pooling)

    def build(self, tokenizer: Tokenizer) -> IntentModel:
        vocabulary = self.vocabulary(tokenizer)
        parts = self.encoder_parts(vocabulary)
        return IntentModel(
            **parts,
            num_labels=len(vocabulary.labels),
            crf=self.build_crf(vocabulary.labels),
            pooling=build_pooling(self.pooling, parts["encoder"].output_size, self.forward_size()),
            num_intents=len(vocabulary.intents),
            multi_intent=self.multi_intent,
        )

    def vocabulary(self, tokenizer: Tokenizer) -> LabelTokenizer:
        """The tokenizer as a vocabulary with intents. Raises ConfigError if it has none."""
        found = super().vocabulary(tokenizer)
        if not found.intents:
            raise ConfigError(
                "tokenizer_path: the vocabulary has no intents; make it with python -m jobs.train_tokenizer "
                "tokenizer=labels labels_column=labels intents_column=..."
            )
        return found

    def read_table(self, path: str, tokenizer: Tokenizer, *, for_training: bool) -> LabelledTable:  # noqa: ARG002 - nothing is too much
        table = read_intent_table(path, self.vocabulary(tokenizer))
        problem = None
        if not self.multi_intent and (np.diff(table.intent_offsets) != 1).any():
            problem = "there is a row with more than one intent, or none"
        elif not len(self.learnable(table)):
            problem = "there is no row with labels or an intent that the vocabulary has"
        if problem is not None:
            raise DataError(
                problem, where=Place(file=path), todo="set task.multi_intent=true for several intents a row"
            )
        return table

    def learnable(self, table: LabelledTable) -> npt.NDArray[np.int64]:
        """The rows of which slots or intents are learnt, in order."""
        assert isinstance(table, IntentTable)
        slots = super().learnable(table)
        has_words = np.diff(table.offsets) > 0
        rows = np.repeat(np.arange(table.num_rows), np.diff(table.intent_offsets))
        known = np.bincount(rows, weights=table.intents != UNKNOWN_LABEL, minlength=table.num_rows) > 0
        return np.union1d(slots, np.flatnonzero(has_words & (known | self.multi_intent)))

    def num_targets(self, batch: Any) -> int:
        found = batch_of(batch)
        return int((found.lengths * found.has_words).sum())

    def loss(self, model: nn.Module, batch: Any, state: State) -> tuple[LossSum, State]:
        assert isinstance(model, IntentModel)
        slots, intents = model.losses(batch)
        return LossSum(slots + intents, self.num_targets(batch), slots + self.intent_weight * intents), state
