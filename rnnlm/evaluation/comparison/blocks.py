"""What each row adds to some sums, kept in bounded memory for tests that draw rows or change their signs."""

import numpy as np
import numpy.typing as npt

MAX_BLOCKS = 1 << 16

Floats = npt.NDArray[np.float64]


class Blocks:
    """k sums over each block of 2^n neighbouring rows, in 8 k `limit` bytes; `limit` is even.

    A block is one row until there are more than `limit`; then two neighbours become one. So all rows are in, sums
    stay exact, and a test draws blocks as it would draw rows. Neighbours of one document that resemble one another
    then count as one, which makes intervals honest rather than narrow.
    """

    def __init__(self, columns: int, limit: int = MAX_BLOCKS) -> None:
        self._sums = np.zeros((columns, limit))
        self._limit, self._rows, self.size = limit, 0, 1

    def add(self, values: Floats) -> None:
        """(k, rows)."""
        while values.shape[1]:
            room = self._limit * self.size - self._rows
            if not room:
                self._halve()
                continue
            now, values = values[:, :room], values[:, room:]
            places = (self._rows + np.arange(now.shape[1])) // self.size
            for column, added in zip(self._sums, now, strict=True):
                np.add.at(column, places, added)
            self._rows += now.shape[1]

    def sums(self) -> Floats:
        """(k, blocks)."""
        return self._sums[:, : -(-self._rows // self.size)]

    def _halve(self) -> None:
        half = self._limit // 2
        self._sums[:, :half] = self._sums[:, 0::2] + self._sums[:, 1::2]
        self._sums[:, half:] = 0.0
        self.size *= 2
