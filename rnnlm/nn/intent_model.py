"""A network that says of an utterance what is wanted, its intent, and with which slots: a tagger and a classifier on
one encoder (Zhang & Wang 2016; Liu & Lane 2016).

    h_1, ..., h_T = encoder of the words              nn/word_encoder
    P(slots | words)                                  of a tagger on h_1, ..., h_T: nn/tagging_model
    s = W pool(h_1, ..., h_T) + b                     the logits of intents, in nats
    P(intent | words) = softmax(s), or for each of several intents sigmoid(s_i)

The loss is -log P(slots | words) - w log P(intents | words): given the words they are independent, what they share is
the encoder.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rnnlm.data.labelled_stream import LabelledBatch
from rnnlm.nn.classification_model import (
    ClassLogits,
    ClassProbabilities,
    counted_rows,
    only_class,
    several_hot,
)
from rnnlm.nn.crf import ChainCRF
from rnnlm.nn.dropout import Dropout
from rnnlm.nn.pooling import Pooling
from rnnlm.nn.products import Linear
from rnnlm.nn.stack import Stack
from rnnlm.nn.tagging_model import Tagged, TaggingModel
from rnnlm.nn.words.base import WordFeature
from rnnlm.types import LayerOutputs


class IntentLoss(NamedTuple):
    """Sums in nats, float64: over the words of rows whose labels are all known, and over rows whose intent is."""

    slots: Float[Tensor, ""]
    intents: Float[Tensor, ""]


class Understood(NamedTuple):
    """The labels of words, which stand for slots, and the probability of every intent."""

    slots: Tagged
    intents: ClassProbabilities


class IntentModel(TaggingModel):
    """`multi_intent`: a row has any number of intents, each predicted for itself."""

    def __init__(
        self,
        *,
        words: Sequence[WordFeature],
        encoder: Stack,
        num_labels: int,
        crf: ChainCRF | None,
        pooling: Pooling,
        num_intents: int,
        multi_intent: bool,
        input_dropout: Dropout,
        output_dropout: Dropout,
    ) -> None:
        super().__init__(
            words=words,
            encoder=encoder,
            num_labels=num_labels,
            crf=crf,
            input_dropout=input_dropout,
            output_dropout=output_dropout,
        )
        self.pooling, self.multi_intent = pooling, multi_intent
        self.to_intents = Linear(encoder.output_size, num_intents)

    def losses(self, batch: LabelledBatch) -> IntentLoss:
        """Differentiable in all parameters."""
        read = self.read(batch)
        rows = counted_rows(batch, multi_label=self.multi_intent).to(self.device)
        logits, classes = self.intent_logits(read, batch)[rows], batch.classes.to(self.device)[rows]
        if self.multi_intent:
            nll = F.binary_cross_entropy_with_logits(logits, several_hot(classes, logits.shape[1]), reduction="none")
        else:
            nll = F.cross_entropy(logits, only_class(classes), reduction="none")
        return IntentLoss(self.label_loss(self.emissions_of(read), batch), nll.sum(dtype=torch.float64))

    def intent_logits(self, read: LayerOutputs, batch: LabelledBatch) -> ClassLogits:
        """B L, in nats, of what the encoder gave."""
        pooled = self.pooling(read.to(self.precision), batch.lengths.to(self.device))
        logits: ClassLogits = self.to_intents(self.output_dropout(pooled)).to(self.precision)
        return logits

    @torch.no_grad()
    def understand(self, batch: LabelledBatch) -> Understood:
        """Labels as `decode` gives them, and the probabilities of intents (B L)."""
        read = self.read(batch)
        logits = self.intent_logits(read, batch).float()
        probabilities = logits.sigmoid() if self.multi_intent else logits.softmax(1)
        return Understood(self.decode_labels(self.emissions_of(read), batch), probabilities)
