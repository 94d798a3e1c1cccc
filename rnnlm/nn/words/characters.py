"""What the characters of a word say, computed once for each distinct spelling of a batch.

recurrent       [f_n ; b_1]      the ends of a cell from left to right and of one from right to left over the characters
                                 (Ling et al. 2015; Lample et al. 2016, section 4.1)
convolutional   max over t of W [c_{t-r} ; ... ; c_{t+r}] + b      r = floor(width / 2)
                                 (dos Santos & Zadrozny 2014; Ma & Hovy 2016, section 2.1)

What lies outside the word is one more character in the convolution, with a vector that is learnt.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from rnnlm.config import PlacedError, config, join_path
from rnnlm.data.labelled_stream import LabelledBatch, SpelledIds, SpelledLengths
from rnnlm.data.tokenizers.labels import PADDING, LabelTokenizer
from rnnlm.nn.cells.base import CellConfig
from rnnlm.nn.cells.lstm import LSTMConfig
from rnnlm.nn.layers.reading_order import positions_in_order
from rnnlm.nn.words.base import WordFeature, WordFeatureConfig
from rnnlm.types import LayerInputs

SpelledVectors = Float[Tensor, "U D"]


@config
class RecurrentCharactersConfig(WordFeatureConfig):
    """A cell reads the characters from left to right, another from right to left; their last outputs side by side."""

    embedding_size: int = Field(default=32, ge=1)
    "Size of a character's vector."
    cell: CellConfig = Field(default_factory=lambda: LSTMConfig(hidden_size=32))
    "What reads in each direction."

    def __post_init__(self) -> None:
        found = self.cell.sees_future()
        if found is not None:
            raise PlacedError(join_path("cell", found.path), f"{found.reason}; its last output would not be an end")

    @property
    def output_size(self) -> int:
        return 2 * self.cell.output_size(self.embedding_size)

    def build(self, tokenizer: LabelTokenizer) -> "RecurrentCharacters":
        return RecurrentCharacters(tokenizer.num_characters, self)


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


class Characters(WordFeature):
    """A vector of each distinct spelling, given to all words that are spelled so."""

    def __init__(self, num_characters: int, embedding_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_characters, embedding_size)

    def spelled(self, spellings: SpelledIds, lengths: SpelledLengths) -> SpelledVectors:
        """The vectors of spellings; padding changes nothing."""
        raise NotImplementedError

    def forward(self, batch: LabelledBatch) -> LayerInputs:
        device = self.embedding.weight.device
        vectors = self.spelled(batch.spellings.to(device), batch.spelling_lengths)
        return F.embedding(batch.spelling.to(device), vectors)


class RecurrentCharacters(Characters):
    """`ahead` and `back` are the cells of the two directions."""

    def __init__(self, num_characters: int, options: RecurrentCharactersConfig) -> None:
        super().__init__(num_characters, options.embedding_size)
        self.ahead = options.cell.build(options.embedding_size)
        self.back = options.cell.build(options.embedding_size)

    def spelled(self, spellings: SpelledIds, lengths: SpelledLengths) -> SpelledVectors:
        # One address of a hundred characters must not make hundreds of short words as long: those of less than half the
        # longest's length are read apart. The longest come first; were they not, only padding would be more.
        parts, start = [], 0
        while start < len(spellings):
            longer = lengths[start:] > int(lengths[start]) // 2
            some = slice(start, start + max(1, int(longer.sum())))
            parts.append(self._ends(spellings[some, : int(lengths[some].max())], lengths[some]))
            start = some.stop
        return torch.cat(parts)

    def _ends(self, spellings: SpelledIds, lengths: SpelledLengths) -> SpelledVectors:
        rows, length = torch.arange(len(spellings), device=spellings.device), lengths.to(spellings.device)
        backward = spellings.gather(1, positions_in_order("backward", length, spellings.shape[1]))
        read = [self.ahead.read(self.embedding(spellings), lengths), self.back.read(self.embedding(backward), lengths)]
        return torch.cat([outputs[rows, length - 1] for outputs in read], dim=1)


class ConvolutionalCharacters(Characters):
    """W is `filters.weight`, F x D x width, b is `filters.bias`."""

    def __init__(self, num_characters: int, options: ConvolutionalCharactersConfig) -> None:
        super().__init__(num_characters, options.embedding_size)
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
