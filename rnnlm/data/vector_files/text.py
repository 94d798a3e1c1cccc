"""Text, as word2vec (Mikolov et al. 2013) and GloVe (Pennington et al. 2014) write it; plain, .gz, .xz or .zst.

4 3                     word2vec only: how many, of which size
the 0.1 -0.2 0.3        a word and its numbers, by blanks
. . 0.5 0.1 0.2         a word may have blanks in it
"""

from collections.abc import Iterator, Sequence

import numpy as np

from rnnlm.data.files import stamp
from rnnlm.data.formats.text_blocks import Lines, scan_lines
from rnnlm.data.vector_files.base import Check, Matrix, VectorBlock
from rnnlm.errors import DataError


class TextBlock(VectorBlock):
    """Lines of a file; the first `skipped` of them hold no vector."""

    def __init__(self, lines: Lines, size: int, skipped: int) -> None:
        self._lines, self._size, self._skipped = lines, size, skipped
        self._tails: list[bytes] = []
        self.words = []
        for line in lines.lines[skipped:]:
            self._add(line.rstrip())

    def _add(self, line: bytes) -> None:
        blanks = line.count(b" ")
        if blanks < self._size:
            raise self.fail(
                f"a word and {self._size} numbers are needed, the line has {blanks} numbers",
                len(self.words),
                todo="was the file's writing or copying cut short?",
            )
        if blanks == self._size:  # nearly always; the rest is left as it is
            word, _, tail = line.partition(b" ")
        else:
            parts = line.rsplit(b" ", self._size)
            word, tail = parts[0], b" ".join(parts[1:])
        self.words.append(word.decode())
        self._tails.append(tail)

    def raw_numbers(self, places: Sequence[int]) -> Matrix:
        # One call for many lines: no Python object a number.
        found = _parsed(b" ".join([self._tails[place] for place in places]))
        if found is None or len(found) != len(places) * self._size:
            raise self._not_a_number(places)
        return found.reshape(len(places), self._size)

    def _not_a_number(self, places: Sequence[int]) -> DataError:
        for place in places:
            for part in self._tails[place].split(b" "):
                found = _parsed(part)
                if found is None or len(found) != 1:
                    return self.fail(f"not a number: {part.decode()!r}", place)
        raise AssertionError("every part is a number, but all together are not")

    def fail(self, problem: str, place: int, todo: str = "") -> DataError:
        return DataError(problem, where=self._lines.place(place + self._skipped), todo=todo)


def read_text(path: str, check: Check) -> Iterator[TextBlock]:
    """The blocks of a text file. Raises DataError with its line."""
    size = 0
    for block in scan_lines(stamp(path), []):
        skipped = 0
        if not size:
            parts = block.lines[0].rstrip().split(b" ")
            if len(parts) == 2 and all(part.isdigit() for part in parts):
                skipped = 1
            size = int(parts[1]) if skipped else len(parts) - 1
            if size < 1:
                raise DataError(
                    "the vectors have 0 numbers, at least 1 is needed",
                    where=block.place(0),
                    todo="is it word2vec's or GloVe's text format?",
                )
            check(size, block.place(0))
        yield TextBlock(block, size, skipped)


def _parsed(text: bytes) -> Matrix | None:
    try:
        return np.fromstring(text, dtype=np.float32, sep=" ")
    except ValueError:
        return None
