"""What the parts of a word say, its characters or its pieces, computed once for each distinct spelling of a batch."""

from abc import abstractmethod

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from rnnlm.config import PlacedError, join_path
from rnnlm.data.labelled import Unit
from rnnlm.data.labelled_stream import LabelledBatch, SpelledIds, SpelledLengths
from rnnlm.nn.cells.base import CellConfig
from rnnlm.nn.layers.reading_order import positions_in_order
from rnnlm.nn.words.base import WordFeature
from rnnlm.types import LayerInputs

SpelledVectors = Float[Tensor, "U D"]


class Spelling(WordFeature):
    """A vector of each distinct spelling, given to all words that are spelled so; `unit` is what it is made from, of
    `num_units` kinds."""

    def __init__(self, unit: Unit, num_units: int, embedding_size: int) -> None:
        super().__init__()
        self.unit = unit
        self.embedding = nn.Embedding(num_units, embedding_size)

    @abstractmethod
    def spelled(self, spellings: SpelledIds, lengths: SpelledLengths) -> SpelledVectors:
        """The vectors of spellings; padding changes nothing."""

    def forward(self, batch: LabelledBatch) -> LayerInputs:
        device = self.embedding.weight.device
        spellings, lengths = batch.parts(self.unit)
        vectors = self.spelled(spellings.to(device), lengths)
        return F.embedding(batch.spelling.to(device), vectors)


class RecurrentSpelling(Spelling):
    """A cell reads from left to right, another from right to left; their last outputs side by side.

    [f_n ; b_1]     the ends of both directions (Ling et al. 2015; Lample et al. 2016, section 4.1)

    `ahead` and `back` are the cells of the two directions.
    """

    def __init__(self, unit: Unit, num_units: int, embedding_size: int, cell: CellConfig) -> None:
        super().__init__(unit, num_units, embedding_size)
        self.ahead = cell.build(embedding_size)
        self.back = cell.build(embedding_size)

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


def check_has_end(cell: CellConfig) -> None:
    """Raise ValueError unless the last output of a cell has read all before it and nothing else."""
    found = cell.sees_future()
    if found is not None:
        raise PlacedError(join_path("cell", found.path), f"{found.reason}; its last output would not be an end")
