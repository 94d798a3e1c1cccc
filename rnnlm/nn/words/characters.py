"""What the characters of a word say.

recurrent       [f_n ; b_1]      the ends of a cell from left to right and of one from right to left over the characters
                                 (Ling et al. 2015; Lample et al. 2016, section 4.1)
convolutional   max over t of W [c_{t-r} ; ... ; c_{t+r}] + b      r = floor(width / 2)
                                 (dos Santos & Zadrozny 2014; Ma & Hovy 2016, section 2.1)

What lies outside the word is one more character in the convolution, with a vector that is learnt.
"""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from rnnlm.config import config
from rnnlm.data.labelled_stream import SpelledIds, SpelledLengths
from rnnlm.data.tokenizers.labels import PADDING, LabelTokenizer
from rnnlm.nn.cells.base import CellConfig
from rnnlm.nn.cells.lstm import LSTMConfig
from rnnlm.nn.words.base import WordFeatureConfig
from rnnlm.nn.words.spelling import RecurrentSpelling, SpelledVectors, Spelling, check_has_end


@config
class RecurrentCharactersConfig(WordFeatureConfig):
    """A cell reads the characters from left to right, another from right to left; their last outputs side by side."""

    embedding_size: int = Field(default=32, ge=1)
    "Size of a character's vector."
    cell: CellConfig = Field(default_factory=lambda: LSTMConfig(hidden_size=32))
    "What reads in each direction."

    def __post_init__(self) -> None:
        check_has_end(self.cell)

    @property
    def output_size(self) -> int:
        return 2 * self.cell.output_size(self.embedding_size)

    def build(self, tokenizer: LabelTokenizer) -> RecurrentSpelling:
        return RecurrentSpelling("characters", tokenizer.num_characters, self.embedding_size, self.cell)


@config
class ConvolutionalCharactersConfig(WordFeatureConfig):
    """Filters over a few neighbouring characters, and for each filter the largest it gives in the word."""

    embedding_size: int = Field(default=32, ge=1)
    "Size of a character's vector."
    width: int = Field(default=3, ge=1)
    "Characters that a filter sees."
    num_filters: int = Field(default=64, ge=1)
    "Filters; the size of a word's vector."

    @property
    def output_size(self) -> int:
        return self.num_filters

    def build(self, tokenizer: LabelTokenizer) -> "ConvolutionalCharacters":
        return ConvolutionalCharacters(tokenizer.num_characters, self)


class ConvolutionalCharacters(Spelling):
    """W is `filters.weight`, F x D x width, b is `filters.bias`."""

    def __init__(self, num_characters: int, options: ConvolutionalCharactersConfig) -> None:
        super().__init__("characters", num_characters, options.embedding_size)
        self.filters = nn.Conv1d(options.embedding_size, options.num_filters, options.width)

    def spelled(self, spellings: SpelledIds, lengths: SpelledLengths) -> SpelledVectors:
        # A filter's part for a character at one of its places is looked up, never computed again: there are few
        # characters. The tables of the places stand one behind the other.
        num_characters, width = self.embedding.num_embeddings, self.filters.kernel_size[0]
        tables = torch.einsum("vd,fdk->kvf", self.embedding.weight, self.filters.weight)
        ahead = width // 2
        windows = F.pad(spellings, (width - 1 - ahead, ahead), value=PADDING).unfold(1, width, 1)
        real = torch.arange(spellings.shape[1]) < lengths[:, None]
        places = windows[real.to(windows.device)] + torch.arange(width, device=windows.device) * num_characters
        summed = F.embedding_bag(places, tables.flatten(0, 1), mode="sum")
        largest: Tensor = torch.segment_reduce(summed, "max", lengths=lengths.to(summed.device))
        assert self.filters.bias is not None
        return largest + self.filters.bias
