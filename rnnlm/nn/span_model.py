"""A network that finds spans of words, which may nest, by scoring each of them for each type.

After the biaffine parser (Dozat & Manning 2017) for named entities (Yu, Bohnet & Poesio 2020, equations 2 and 3):

    x_1, ..., x_T = encoder of the words              nn/word_encoder
    h_i = ReLU(W_s x_i + b_s)                         word i as the first of a span
    e_j = ReLU(W_e x_j + b_e)                         word j as the last of a span
    s_ijc = h_i^T U_c e_j + w_c . [h_i ; e_j] + b_c   a logit for words i to j (i <= j) and type c, in nats
    P(y_ijc = 1 | words) = sigmoid(s_ijc)

There the type comes from one softmax with a class for no span; with a sigmoid a type, the same words may be several
things. The loss is the cross-entropy of all y_ijc. Of these hardly any is 1, so all b_c begin at a probability of
PRIOR, or else the first steps would only unlearn one half (Lin et al. 2017, section 4.1).

The scores of a batch of B rows of T words and C types are B * T * T * C numbers. What a row needs grows with the square
of its length, also with a `max_width`, which only says which spans count.

Decoding takes spans above a threshold from the most probable down, and leaves out those that cross one taken before:
share words with it when neither holds the other. `flat` leaves out all that share words.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from rnnlm.data.labelled_stream import LabelledBatch
from rnnlm.data.span_stream import SpanBatch
from rnnlm.data.tokenizers.labels import UNKNOWN_LABEL
from rnnlm.nn.dropout import Dropout
from rnnlm.nn.products import Linear
from rnnlm.nn.stack import Stack
from rnnlm.nn.word_encoder import WordEncoder
from rnnlm.nn.words.base import WordFeature

PRIOR = 0.01  # probability of every span and type before training

SpanScores = Float[Tensor, "B T T C"]
SpanMask = Bool[Tensor, "B T T"]


class FoundSpan(NamedTuple):
    """Words `start` to `end` (exclusive), the id of their type, and its probability."""

    start: int
    end: int
    type: int
    probability: float


class Projection(nn.Module):
    """ReLU(W x + b) with dropout behind it."""

    def __init__(self, input_size: int, size: int, dropout: Dropout) -> None:
        super().__init__()
        self.linear, self.dropout = Linear(input_size, size), dropout

    def forward(self, inputs: Tensor) -> Tensor:
        found: Tensor = self.dropout(self.linear(inputs).relu())
        return found


class SpanModel(WordEncoder):
    """`max_width` (words) is that of the widest span, null for no limit; `projection_dropout` is behind h and e."""

    def __init__(
        self,
        *,
        words: Sequence[WordFeature],
        encoder: Stack,
        num_types: int,
        projection_size: int,
        max_width: int | None,
        input_dropout: Dropout,
        output_dropout: Dropout,
        projection_dropout: Dropout,
    ) -> None:
        super().__init__(words=words, encoder=encoder, input_dropout=input_dropout, output_dropout=output_dropout)
        self.num_types, self.projection_size, self.max_width = num_types, projection_size, max_width
        self.to_starts = Projection(encoder.output_size, projection_size, projection_dropout)
        self.to_ends = Projection(encoder.output_size, projection_size, projection_dropout)
        self.bilinear = Linear(projection_size, num_types * projection_size, bias=False)  # U_1, ..., U_C transposed
        self.of_starts = Linear(projection_size, num_types)  # w_c for h, and b_c
        self.of_ends = Linear(projection_size, num_types, bias=False)  # w_c for e
        nn.init.constant_(self.of_starts.bias, math.log(PRIOR / (1.0 - PRIOR)))

    @property
    def precision(self) -> torch.dtype:
        """That of the weights."""
        return self.bilinear.weight.dtype

    def scores(self, batch: LabelledBatch) -> SpanScores:
        """Logits, indexed by row, first word, last word and type; those outside of `mask` mean nothing."""
        read = self.output_dropout(self.read(batch))
        starts, ends = self.to_starts(read), self.to_ends(read)
        turned = self.bilinear(starts).unflatten(2, (self.num_types, self.projection_size)).transpose(1, 2)
        both = turned @ ends.transpose(1, 2).unsqueeze(1).to(turned.dtype)  # B C T T
        linear = self.of_starts(starts).unsqueeze(2) + self.of_ends(ends).unsqueeze(1)
        scores: SpanScores = (both.permute(0, 2, 3, 1) + linear).to(self.precision)
        return scores

    def mask(self, batch: LabelledBatch) -> SpanMask:
        """The spans of a batch: from a word to one that is not before it, both real, and not too wide."""
        lengths = (batch.lengths * batch.has_words).to(self.device)
        words = torch.arange(batch.words.shape[1], device=self.device)
        width = words - words.unsqueeze(1) + 1  # T T
        allowed = (width > 0) & (width <= (self.max_width or len(words)))
        return allowed & (words < lengths.unsqueeze(1)).unsqueeze(1)

    def loss(self, batch: SpanBatch) -> Float[Tensor, ""]:
        """-log P(which spans are there | words) in nats, float64, summed over all spans and types; differentiable in
        all parameters. Spans of unknown types, and wider ones than there may be, leave no mark."""
        scores, spans = self.scores(batch), batch.spans.to(self.device)
        targets = torch.zeros_like(scores)
        row, start, last, kind = spans[spans[:, 3] != UNKNOWN_LABEL].unbind(1)
        targets[row, start, last, kind] = 1.0
        found = F.binary_cross_entropy_with_logits(scores, targets, reduction="none")
        return found.masked_fill(~self.mask(batch).unsqueeze(3), 0.0).sum(dtype=torch.float64)

    @torch.no_grad()
    def decode(self, batch: LabelledBatch, *, threshold: float = 0.5, flat: bool = False) -> list[list[FoundSpan]]:
        """The spans of each row in the order of (start, end, type): at least as probable as the threshold, and none
        that crosses (`flat`: overlaps) a better one. One that is not finite is not found."""
        return self.select(self.probabilities(batch), batch, threshold=threshold, flat=flat)

    def probabilities(self, batch: LabelledBatch) -> SpanScores:
        """Of all spans and types, 0 outside of `mask`."""
        return self.scores(batch).float().sigmoid().masked_fill(~self.mask(batch).unsqueeze(3), 0.0)

    def select(
        self, probabilities: SpanScores, batch: LabelledBatch, *, threshold: float, flat: bool
    ) -> list[list[FoundSpan]]:
        """`decode` with what `probabilities` gave."""
        places = ((probabilities >= threshold) & self.mask(batch).unsqueeze(3)).nonzero()
        values = probabilities[tuple(places.unbind(1))].tolist()
        candidates: list[list[FoundSpan]] = [[] for _ in range(len(batch.words))]
        for (row, start, last, kind), value in zip(places.tolist(), values, strict=True):
            candidates[row].append(FoundSpan(start, last + 1, kind, value))
        return [without_conflicts(found, flat=flat) for found in candidates]


def without_conflicts(spans: Iterable[FoundSpan], *, flat: bool = False) -> list[FoundSpan]:
    """Spans from the most probable down, but for those that cross (`flat`: overlap) one that was taken; in order.

    Of equal probabilities the first by (start, end, type) comes first.
    """
    ranked = sorted(spans, key=lambda span: (-span.probability, span))
    length = max((span.end for span in ranked), default=0)
    taken = np.zeros(length, dtype=bool)  # by word
    latest_end = np.full(length + 1, -1)  # of the spans taken, by where they begin
    earliest_start = np.full(length + 1, length + 1)  # by where they end
    found = []
    for span in ranked:
        start, end = span.start, span.end
        inside = slice(start + 1, end)
        crosses = end - start > 1 and (latest_end[inside].max() > end or earliest_start[inside].min() < start)
        if taken[start:end].any() if flat else crosses:
            continue
        found.append(span)
        taken[start:end] = True
        latest_end[start] = max(latest_end[start], end)
        earliest_start[end] = min(earliest_start[end], start)
    return sorted(found)
