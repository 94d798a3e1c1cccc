"""What every layout of word vectors gives: blocks of words in the order of the file, and numbers for those asked for.

Files of vectors hold far more words than are ever used, so numbers are only read where somebody wants them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from rnnlm.errors import DataError, Place

Matrix = npt.NDArray[np.float32]
Check = Callable[[int, Place], None]
"Told once, before the first block, how many numbers each vector has and where that stands; may raise DataError."


class VectorBlock(ABC):
    """Some words of a file, with their vectors."""

    words: list[str]

    @abstractmethod
    def raw_numbers(self, places: Sequence[int]) -> Matrix:
        """N x D: the vectors of N words, as they stand in the file."""

    @abstractmethod
    def fail(self, problem: str, place: int) -> DataError:
        """An error that says which word of the file it is about."""

    def numbers(self, places: Sequence[int]) -> Matrix:
        """The same. Raises DataError at one that is not finite."""
        found = self.raw_numbers(places)
        for wrong in np.flatnonzero(~np.isfinite(found).all(axis=1)).tolist():
            raise self.fail("a number is not finite", places[wrong])
        return found
