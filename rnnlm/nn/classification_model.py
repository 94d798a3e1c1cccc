"""A network that gives a row of words its class, or several: an encoder, pooling, and logistic regression.

    h_1, ..., h_T = encoder of the words              nn/word_encoder
    s = W pool(h_1, ..., h_T) + b                     nn/pooling; the logits, one a class, in nats

one class         P(y | words) = softmax(s)[y]
several           P(y_c = 1 | words) = sigmoid(s_c), each class for itself (`multi_label`)

What is minimised is the nll with two options, w being the weights of the C classes and e the label smoothing
(Szegedy et al. 2016, section 7):

one class         w_y * ((1 - e) * -log P(y) + e / C * sum over c of -log P(c))
several           sum over c of  -w_c y_c log P(y_c = 1) - (1 - y_c) log P(y_c = 0)      y_c = 1 - e/2 or e/2
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from rnnlm.data.labelled_stream import Classes, LabelledBatch
from rnnlm.data.tokenizers.labels import UNKNOWN_LABEL
from rnnlm.nn.dropout import Dropout
from rnnlm.nn.pooling import Pooling
from rnnlm.nn.products import Linear
from rnnlm.nn.stack import Stack
from rnnlm.nn.word_encoder import WordEncoder
from rnnlm.nn.words.base import WordFeature

ClassLogits = Float[Tensor, "B L"]
ClassProbabilities = Float[Tensor, "B L"]


class ClassLoss(NamedTuple):
    """Sums over the rows that are `counted`, float64, nats. `objective` is the nll with weights and smoothing."""

    nll: Float[Tensor, ""]
    objective: Float[Tensor, ""]


class ClassificationModel(WordEncoder):
    """`class_weights` (one a class) are a buffer: they may come from the training data."""

    class_weights: Tensor

    def __init__(
        self,
        *,
        words: Sequence[WordFeature],
        encoder: Stack,
        pooling: Pooling,
        num_classes: int,
        multi_label: bool,
        label_smoothing: float,
        input_dropout: Dropout,
        output_dropout: Dropout,
    ) -> None:
        super().__init__(words=words, encoder=encoder, input_dropout=input_dropout, output_dropout=output_dropout)
        self.pooling = pooling
        self.to_logits = Linear(encoder.output_size, num_classes)
        self.multi_label, self.label_smoothing = multi_label, label_smoothing
        self.register_buffer("class_weights", torch.ones(num_classes))

    @property
    def precision(self) -> torch.dtype:
        """That of the weights."""
        return self.to_logits.weight.dtype

    def logits(self, batch: LabelledBatch) -> ClassLogits:
        """B L, in nats."""
        pooled = self.pooling(self.read(batch).to(self.precision), batch.lengths.to(self.device))
        logits: ClassLogits = self.to_logits(self.output_dropout(pooled)).to(self.precision)
        return logits

    def loss(self, batch: LabelledBatch) -> ClassLoss:
        """Differentiable in all parameters."""
        rows = counted_rows(batch, multi_label=self.multi_label).to(self.device)
        logits, classes = self.logits(batch)[rows], batch.classes.to(self.device)[rows]
        if self.multi_label:
            return self._loss_of_several(logits, several_hot(classes, logits.shape[1]))
        classes = only_class(classes)
        logprobs = logits.log_softmax(1)
        nll = objective = -logprobs.gather(1, classes.unsqueeze(1)).squeeze(1)
        if self.label_smoothing:
            objective = torch.lerp(nll, -logprobs.mean(1), self.label_smoothing)
        return _summed(nll, self.class_weights[classes] * objective)

    def probabilities(self, batch: LabelledBatch, temperature: float = 1.0) -> ClassProbabilities:
        """B L: of each class, the logits divided by `temperature`. A row without words has those of padding."""
        logits = self.logits(batch).float() / temperature
        return logits.sigmoid() if self.multi_label else logits.softmax(1)

    def _loss_of_several(self, logits: ClassLogits, targets: Float[Tensor, "B L"]) -> ClassLoss:
        nll = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        smoothed = targets * (1.0 - self.label_smoothing) + self.label_smoothing / 2.0
        objective = F.binary_cross_entropy_with_logits(
            logits, smoothed, pos_weight=self.class_weights, reduction="none"
        )
        return _summed(nll, objective)


def counted_rows(batch: LabelledBatch, *, multi_label: bool) -> Bool[Tensor, " B"]:
    """Which rows the loss is about: those with words whose class is known, or with any classes if `multi_label`."""
    if multi_label:
        return batch.has_words
    return batch.has_words & (only_class(batch.classes) != UNKNOWN_LABEL)


def only_class(classes: Classes) -> Tensor:
    """B: the first class of each row; UNKNOWN_LABEL where there is none."""
    return F.pad(classes, (0, 1), value=UNKNOWN_LABEL)[:, 0]


def several_hot(classes: Classes, num_classes: int) -> Float[Tensor, "B L"]:
    """1 at the classes of each row, 0 elsewhere; unknown ones leave no mark."""
    marked = torch.zeros(len(classes), num_classes + 1, device=classes.device)
    return marked.scatter_(1, classes.masked_fill(classes == UNKNOWN_LABEL, num_classes), 1.0)[:, :num_classes]


def _summed(nll: Tensor, objective: Tensor) -> ClassLoss:
    return ClassLoss(nll.sum(dtype=torch.float64), objective.sum(dtype=torch.float64))
