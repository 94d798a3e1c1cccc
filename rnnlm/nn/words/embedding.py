"""A vector for each word of the vocabulary, and one for all others.

That of all others has to be learnt too, though the training data may hold none of them: words seen once there are taken
for unknown ones with a probability (Lample et al. 2016, section 4.3), as they are most like what is unknown.
"""

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor, nn

from rnnlm.config import config
from rnnlm.data.labelled_stream import LabelledBatch
from rnnlm.data.tokenizers.labels import LabelTokenizer
from rnnlm.nn.words.base import WordFeature, WordFeatureConfig
from rnnlm.types import LayerInputs

UNKNOWN_WORD = 0


@config
class WordEmbeddingConfig(WordFeatureConfig):
    """A vector for each word of the vocabulary."""

    size: int = Field(default=100, ge=1)
    "Size of a word's vector."
    unknown_singletons: float = Field(default=0.5, ge=0.0, le=1.0)
    "Probability that a word seen once in the training data is taken for an unknown one in training."
    unknown_words: float = Field(default=0.0, ge=0.0, le=1.0)
    "The same for every other word."

    @property
    def output_size(self) -> int:
        return self.size

    def build(self, tokenizer: LabelTokenizer) -> "WordEmbedding":
        return WordEmbedding(tokenizer.vocab_size, self)


class WordEmbedding(WordFeature):
    """`unknown` holds for each word of the vocabulary the probability that it is taken for an unknown one."""

    unknown: Tensor

    def __init__(self, vocab_size: int, options: WordEmbeddingConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, options.size)
        nn.init.normal_(self.embedding.weight, std=options.size**-0.5)
        self.singletons = options.unknown_singletons
        self.register_buffer("unknown", torch.full((vocab_size,), options.unknown_words))

    def prepare(self, counts: npt.NDArray[np.int64]) -> None:
        self.unknown[torch.from_numpy(counts <= 1).to(self.unknown.device)] = self.singletons

    def forward(self, batch: LabelledBatch) -> LayerInputs:
        words = batch.words.to(self.embedding.weight.device)
        if self.training:
            words = words.masked_fill(torch.rand(words.shape, device=words.device) < self.unknown[words], UNKNOWN_WORD)
        vectors: LayerInputs = self.embedding(words)
        return vectors
