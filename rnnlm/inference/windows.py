"""Long rows of words in pieces that share some words, each read as if it were a row.

Of words that two pieces share, the first piece labels the first half and the second one the second:

    words     0  1  2  3  4  5  6  7         window 5, overlap 2
    piece 1   0  1  2  3  |  -
    piece 2            -  |  4  5  6  7

The last piece begins early enough to be full. Nothing makes labels agree across a joint.
"""

from itertools import pairwise
from typing import NamedTuple


class Piece(NamedTuple):
    """Words `start` to `stop` of a row, read together, of which `first` to `behind` are labelled; ends exclusive."""

    row: int
    start: int
    stop: int
    first: int
    behind: int


def check_windows(window: int | None, overlap: int) -> None:
    """Raise ValueError unless pieces of so many words can share so many."""
    if window is None and overlap:
        raise ValueError("overlap is what two windows share; set window=...")
    if window is not None and overlap >= window:
        raise ValueError(f"overlap ({overlap}) must be smaller than window ({window})")


def cut(row: int, length: int, window: int | None, overlap: int) -> list[Piece]:
    """The pieces of a row of `length` words, which label each word once; a row without words has none."""
    if not length:
        return []
    if window is None or length <= window:
        return [Piece(row, 0, length, 0, length)]
    starts = [*range(0, length - window, window - overlap), length - window]
    joints = [0, *((start + window + following) // 2 for start, following in pairwise(starts)), length]
    return [
        Piece(row, start, start + window, first, behind)
        for start, (first, behind) in zip(starts, pairwise(joints), strict=True)
    ]
