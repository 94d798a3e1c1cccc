"""A vector for each word of the vocabulary, and one for all others.

That of all others has to be learnt too, though the training data may hold none of them: words seen once there are taken
for unknown ones with a probability (Lample et al. 2016, section 4.3), as they are most like what is unknown. Words that
are not seen there at all, but have a vector from elsewhere, stay what they are.
"""

import logging

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from rnnlm.config import PlacedError, config
from rnnlm.data.labelled_stream import LabelledBatch
from rnnlm.data.tokenizers.labels import LabelTokenizer
from rnnlm.data.vectors import OF_WORDS, load_vectors
from rnnlm.nn.words.base import WordFeature, WordFeatureConfig
from rnnlm.types import LayerInputs, TokenIds

logger = logging.getLogger(__name__)

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
    pretrained: str | None = None
    "File of word vectors (text, .bin, .safetensors) to begin with; read before the first step and never again."
    trainable: bool = True
    "Whether the vectors of the file are learnt on; if not, words it lacks are all the unknown word, which is learnt."

    def __post_init__(self) -> None:
        if not self.trainable and self.pretrained is None:
            raise PlacedError("trainable", "false would keep random vectors as they are; set pretrained to a file")

    @property
    def output_size(self) -> int:
        return self.size

    def build(self, tokenizer: LabelTokenizer) -> "WordEmbedding":
        return (WordEmbedding if self.trainable else FixedWordEmbedding)(tokenizer.vocab_size, self)


class WordEmbedding(WordFeature):
    """`unknown` holds for each word of the vocabulary the probability that it is taken for an unknown one."""

    unknown: Tensor

    def __init__(self, vocab_size: int, options: WordEmbeddingConfig) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size if options.trainable else 1, options.size)
        nn.init.normal_(self.embedding.weight, std=options.size**-0.5)
        self.singletons, self.pretrained = options.unknown_singletons, options.pretrained
        self.register_buffer("unknown", torch.full((vocab_size,), options.unknown_words))

    def prepare(self, counts: npt.NDArray[np.int64], tokenizer: LabelTokenizer) -> None:
        self.unknown[torch.from_numpy(counts == 1).to(self.unknown.device)] = self.singletons
        by_chance = counts == 0
        by_chance[UNKNOWN_WORD] = False
        if self.pretrained is not None:
            by_chance[self.load(self.pretrained, tokenizer)] = False
        if by_chance.any():
            logger.warning(
                "%d of the vocabulary's %d words are not in the training data and have no vector from a file: "
                "theirs stays random, so make the vocabulary of the training data or set pretrained (task.words)",
                by_chance.sum(),
                len(counts),
            )

    def load(self, path: str, tokenizer: LabelTokenizer) -> list[int]:
        """Begin with the vectors of a file, and with others as large where it has none. The words that need not be
        learnt."""
        weight = self.embedding.weight
        with torch.no_grad():
            found = load_vectors(path, weight, tokenizer, options=OF_WORDS, loosely=True)
            fresh = torch.ones(len(weight), dtype=torch.bool, device=weight.device)
            fresh[found] = False
            weight[fresh] *= scale_of(weight[found]) * weight.shape[1] ** 0.5
        return found

    def forward(self, batch: LabelledBatch) -> LayerInputs:
        words = batch.words.to(self.unknown.device)
        if self.training:
            words = words.masked_fill(torch.rand(words.shape, device=words.device) < self.unknown[words], UNKNOWN_WORD)
        return self.look_up(words)

    def look_up(self, words: TokenIds) -> LayerInputs:
        """B T D."""
        vectors: LayerInputs = self.embedding(words)
        return vectors


class FixedWordEmbedding(WordEmbedding):
    """Vectors that no step changes: `vectors` (V x D) where `known`, for all other words the one of `embedding`."""

    vectors: Tensor
    known: Tensor

    def __init__(self, vocab_size: int, options: WordEmbeddingConfig) -> None:
        super().__init__(vocab_size, options)
        self.register_buffer("vectors", torch.zeros(vocab_size, options.size))
        self.register_buffer("known", torch.zeros(vocab_size, dtype=torch.bool))

    def load(self, path: str, tokenizer: LabelTokenizer) -> list[int]:
        found = load_vectors(path, self.vectors, tokenizer, options=OF_WORDS, loosely=True)
        self.known[found] = True
        self.known[UNKNOWN_WORD] = False
        with torch.no_grad():
            weight = self.embedding.weight
            weight *= scale_of(self.vectors[found]) * weight.shape[1] ** 0.5
        return list(range(len(self.known)))

    def look_up(self, words: TokenIds) -> LayerInputs:
        found = F.embedding(words, self.vectors)
        return torch.where(self.known[words].unsqueeze(2), found, self.embedding.weight[0])


def scale_of(vectors: Tensor) -> float:
    """Root mean square of all numbers of some vectors: how far fresh ones are to lie from 0."""
    return vectors.square().mean().sqrt().item()
