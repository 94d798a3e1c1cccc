"""What a tagger's encoder reads of a word: one vector of each kind, side by side."""

from abc import abstractmethod
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from torch import nn

from rnnlm.config import config
from rnnlm.data.labelled_stream import LabelledBatch
from rnnlm.data.tokenizers.labels import LabelTokenizer
from rnnlm.types import LayerInputs


@config
class WordFeatureConfig:
    """Base of what is made of a word."""

    reads_pieces: ClassVar[bool] = False
    "Whether words must be cut into pieces for it."

    @property
    @abstractmethod
    def output_size(self) -> int:
        """Size of a word's vector."""

    @abstractmethod
    def build(self, tokenizer: LabelTokenizer) -> "WordFeature":
        """A module with fresh weights."""


class WordFeature(nn.Module):
    """Makes a vector of each word of a batch, B T D; those behind the end of a row mean nothing."""

    @abstractmethod
    def forward(self, batch: LabelledBatch) -> LayerInputs: ...

    def prepare(self, counts: npt.NDArray[np.int64], tokenizer: LabelTokenizer) -> None:
        """Hear how often each word of the vocabulary stands in the training data, once before the first step."""
