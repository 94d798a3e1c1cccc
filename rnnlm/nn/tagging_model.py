"""A network that gives each word of a row a label (Huang, Xu & Yu 2015; Lample et al. 2016; Ma & Hovy 2016).

    h_1, ..., h_T = encoder of the words              nn/word_encoder
    e_t = W h_t + b                                   the emissions: a score for each label, in nats

softmax     P(y | x) = product over t of softmax(e_t)[y_t]
crf         P(y | x) of a linear chain with the emissions e and learnt scores of transitions (nn/crf.py)

Of a word whose label is not known nothing can be learnt. With the softmax it is left out alone; a chain needs all
labels of a row, so with the CRF the whole row is left out (`counted`).
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from rnnlm.data.labelled_stream import LabelledBatch
from rnnlm.data.labels.schemes import OUTSIDE, Scheme, may_follow
from rnnlm.nn.crf import ChainCRF
from rnnlm.nn.dropout import Dropout
from rnnlm.nn.products import Linear
from rnnlm.nn.stack import Stack
from rnnlm.nn.word_encoder import WordEncoder
from rnnlm.nn.words.base import WordFeature
from rnnlm.structure.chain import Allowed, Emissions, Labels, log_likelihood
from rnnlm.types import LayerOutputs, Mask

GUESSED: tuple[Scheme, ...] = ("iob2", "iobes", "bilou")  # schemes that label names can tell, and their own prefixes
OWN_PREFIXES = ("BI", "ES", "LU")


class Tagged(NamedTuple):
    """The labels of words, and the probability of each: that of the model given the whole row. 0 in padding."""

    labels: Labels
    confidences: Float[Tensor, "B T"]


class TaggingModel(WordEncoder):
    """`crf` is null for the softmax."""

    def __init__(
        self,
        *,
        words: Sequence[WordFeature],
        encoder: Stack,
        num_labels: int,
        crf: ChainCRF | None,
        input_dropout: Dropout,
        output_dropout: Dropout,
    ) -> None:
        super().__init__(words=words, encoder=encoder, input_dropout=input_dropout, output_dropout=output_dropout)
        self.to_emissions = Linear(encoder.output_size, num_labels)
        self.crf = crf

    @property
    def precision(self) -> torch.dtype:
        """That of the weights."""
        return self.to_emissions.weight.dtype

    def emissions(self, batch: LabelledBatch) -> Emissions:
        """B T L, in nats; behind the end of a row they mean nothing."""
        return self.emissions_of(self.read(batch))

    def emissions_of(self, read: LayerOutputs) -> Emissions:
        """Those of what the encoder gave."""
        emissions: Emissions = self.to_emissions(self.output_dropout(read)).to(self.precision)
        return emissions

    def loss(self, batch: LabelledBatch) -> Float[Tensor, ""]:
        """-log P(labels | words) in nats, float64, summed over what is `counted`; differentiable in all parameters."""
        return self.label_loss(self.emissions(batch), batch)

    def label_loss(self, emissions: Emissions, batch: LabelledBatch) -> Float[Tensor, ""]:
        """`loss` with the emissions of the batch."""
        mask = counted(batch, whole_rows=self.crf is not None).to(self.device)
        labels = batch.labels.to(self.device)
        if self.crf is None:
            return F.cross_entropy(emissions[mask], labels[mask], reduction="none").sum(dtype=torch.float64)
        chain = self.crf.chain(emissions, batch.lengths.to(self.device), constrained=self.crf.constrain_training)
        found = log_likelihood(chain, labels.clamp_min(0))
        return -torch.where(mask[:, 0], found, 0.0).sum()

    @torch.no_grad()
    def decode(self, batch: LabelledBatch) -> Tagged:
        """The best labels: each for itself with the softmax, the best sequence with the CRF, whose confidences are the
        marginals. A row without words gets one for the word of padding it has."""
        return self.decode_labels(self.emissions(batch), batch)

    def decode_labels(self, emissions: Emissions, batch: LabelledBatch) -> Tagged:
        """`decode` with the emissions of the batch."""
        lengths = batch.lengths.to(self.device)
        if self.crf is None:
            confidences, labels = emissions.float().softmax(2).max(2)
            real = torch.arange(emissions.shape[1], device=self.device) < lengths.unsqueeze(1)
            return Tagged(labels * real, confidences * real)
        labels = self.crf.decode(emissions, lengths).labels
        marginals = self.crf.marginals(emissions, lengths)
        return Tagged(labels, marginals.gather(2, labels.unsqueeze(2)).squeeze(2))


def counted(batch: LabelledBatch, *, whole_rows: bool) -> Mask:
    """Which words the loss is about: those with a known label, of rows without any other if `whole_rows`."""
    if not whole_rows:
        return batch.mask
    return batch.mask & (batch.mask.sum(1) == batch.lengths).unsqueeze(1)


def guess_scheme(labels: Collection[str]) -> Scheme | None:
    """The scheme whose names these labels are, if they are those of one in which not all sequences are sound.

    `B-` and `I-` are taken for iob2 if each type that has an I- has a B- too. That iob1 looks alike cannot be told by
    names; then say so, or no sequence of it with an I- at its beginning is ever decoded.
    """
    if OUTSIDE not in labels:
        return None
    prefixes = {label[:1] for label in labels if label != OUTSIDE}
    for scheme, own in zip(GUESSED, OWN_PREFIXES, strict=True):
        try:
            unsound = [label for label in labels if not may_follow(OUTSIDE, label, scheme)]
        except ValueError:
            continue
        begun = {label[1:] for label in labels if label[:1] == "B"}
        if prefixes & set(own) and all(label[1:] in begun for label in unsound if label[:1] == "I"):
            return scheme
    return None


def allowed_by(labels: Sequence[str], scheme: Scheme) -> Allowed:
    """What may begin, follow and end by a scheme. Raises ValueError at a label that it has not."""
    transitions = [[may_follow(before, label, scheme) for label in labels] for before in labels]
    start = [may_follow(OUTSIDE, label, scheme) for label in labels]
    end = [may_follow(label, OUTSIDE, scheme) for label in labels]
    return Allowed(torch.tensor(transitions), torch.tensor(start), torch.tensor(end))
