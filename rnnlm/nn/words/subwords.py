"""What the pieces of a word say: p_1, ..., p_n are the vectors of those its vocabulary's `subwords` cut it into.

first, last     p_1 or p_n
mean, max       over the pieces, each feature by itself
recurrent       [f_n ; b_1], the ends of a cell from left to right and of one from right to left

Pieces are those of Sennrich, Haddow & Birch (2016) or Kudo (2018); the ways to make one vector of them are those that
Ács, Kádár & Kornai (2021, "Subword pooling makes a difference") compare.
"""

from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field

from rnnlm.config import config
from rnnlm.data.labelled_stream import SpelledIds, SpelledLengths
from rnnlm.data.tokenizers.labels import LabelTokenizer
from rnnlm.errors import ConfigError
from rnnlm.nn.cells.base import CellConfig
from rnnlm.nn.cells.lstm import LSTMConfig
from rnnlm.nn.words.base import WordFeatureConfig
from rnnlm.nn.words.spelling import RecurrentSpelling, SpelledVectors, Spelling, check_has_end

Pooled = Literal["first", "last", "mean", "max"]


@config
class SubwordsConfig(WordFeatureConfig):
    """A vector of a word from those of its pieces; needs a vocabulary with `subwords`."""

    reads_pieces: ClassVar[bool] = True

    embedding_size: int = Field(default=100, ge=1)
    "Size of a piece's vector."
    combine: Literal["first", "last", "mean", "max", "recurrent"] = "recurrent"
    "How one vector is made of them."
    cell: CellConfig = Field(default_factory=lambda: LSTMConfig(hidden_size=50))
    "With combine=recurrent: what reads in each direction."

    def __post_init__(self) -> None:
        check_has_end(self.cell)

    @property
    def output_size(self) -> int:
        return 2 * self.cell.output_size(self.embedding_size) if self.combine == "recurrent" else self.embedding_size

    def build(self, tokenizer: LabelTokenizer) -> Spelling:
        if tokenizer.subwords is None:
            raise ConfigError(
                "task.words: SubwordsConfig reads pieces of words, and the vocabulary has none; make one with "
                "python -m jobs.train_tokenizer tokenizer=labels 'tokenizer.subwords={vocab_size: 4000}', or leave "
                "SubwordsConfig out"
            )
        num_pieces = tokenizer.subwords.vocab_size
        if self.combine == "recurrent":
            return RecurrentSpelling("pieces", num_pieces, self.embedding_size, self.cell)
        return PooledPieces(num_pieces, self.embedding_size, self.combine)


class PooledPieces(Spelling):
    """The vectors of a word's pieces as one, without weights of its own."""

    def __init__(self, num_pieces: int, embedding_size: int, combine: Pooled) -> None:
        super().__init__("pieces", num_pieces, embedding_size)
        self._combine = combine

    def spelled(self, spellings: SpelledIds, lengths: SpelledLengths) -> SpelledVectors:
        lengths, weight = lengths.to(spellings.device), self.embedding.weight
        if self._combine == "first":
            return F.embedding(spellings[:, 0], weight)
        if self._combine == "last":
            return F.embedding(spellings.gather(1, lengths[:, None] - 1)[:, 0], weight)
        real = spellings[torch.arange(spellings.shape[1], device=spellings.device) < lengths[:, None]]
        return F.embedding_bag(real, weight, lengths.cumsum(0) - lengths, mode=self._combine)
