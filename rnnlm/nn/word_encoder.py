"""What taggers and classifiers of rows of words have in common: vectors of words, and an encoder that reads them.

x_t = [one vector of each kind for word t]        nn/words
h_1, ..., h_T = encoder(x_1, ..., x_T)            any stack of layers, bidirectional as a rule
"""

import copy
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import nn

from rnnlm.data.labelled_stream import LabelledBatch
from rnnlm.nn.dropout import Dropout
from rnnlm.nn.stack import Stack
from rnnlm.nn.words.base import WordFeature
from rnnlm.types import LayerOutputs


class WordEncoder(nn.Module):
    """`output_dropout` is for what a subclass makes its predictions from."""

    def __init__(
        self, *, words: Sequence[WordFeature], encoder: Stack, input_dropout: Dropout, output_dropout: Dropout
    ) -> None:
        super().__init__()
        self.words, self.encoder = nn.ModuleList(words), encoder
        self.input_dropout, self.output_dropout = input_dropout, output_dropout

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def read(self, batch: LabelledBatch) -> LayerOutputs:
        """B T H; outputs behind the end of a row mean nothing."""
        inputs = torch.cat([feature(batch) for feature in self.words], dim=2)
        return self.encoder.read(self.input_dropout(inputs), batch.lengths)


Model = TypeVar("Model", bound=WordEncoder)


def with_words(model: Model, words: Sequence[WordFeature]) -> Model:
    """A model of the same modules that reads other features of words."""
    found = copy.copy(model)
    found._modules = {**model._modules, "words": nn.ModuleList(words)}  # the copy shares the old dictionary
    return found
