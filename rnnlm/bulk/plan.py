"""Cutting a corpus into shards: the units of retry, of resume and of progress. A shard becomes one part file.

The plan is a pure function of the listing and the cost model: whole units are packed in corpus order up to a target
cost, a unit larger than the target is split by row range. It knows nothing of workers, so their number never matters.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rnnlm.data.listing import Unit


@dataclass(frozen=True)
class CostModel:
    """Rough seconds of work on one core; only ratios matter for the plan, the size for the choice of pool."""

    seconds_per_row: float
    seconds_per_byte: float

    def seconds(self, rows: int, num_bytes: float) -> float:
        """Estimated seconds for so much of a corpus."""
        return rows * self.seconds_per_row + num_bytes * self.seconds_per_byte


@dataclass(frozen=True)
class Piece:
    """Rows `start` to `stop` of one unit."""

    unit: Unit
    start: int
    stop: int


@dataclass(frozen=True)
class Shard:
    """Rows `first_row` to `first_row + rows` of the corpus, counted over all units in order."""

    index: int
    first_row: int
    rows: int
    seconds: float
    pieces: tuple[Piece, ...]

    @property
    def part(self) -> str:
        """Name of the part file."""
        return f"part-{self.index:06d}.parquet"


def plan_shards(units: Sequence[Unit], cost: CostModel, *, target_seconds: float) -> list[Shard]:
    """Shards in corpus order, each of about `target_seconds` of estimated work."""
    shards: list[Shard] = []
    pieces: list[Piece] = []
    seconds, first_row = 0.0, 0

    def close() -> None:
        nonlocal pieces, seconds, first_row
        if pieces:
            rows = sum(piece.stop - piece.start for piece in pieces)
            shards.append(Shard(len(shards), first_row, rows, round(seconds, 6), tuple(pieces)))
            pieces, seconds, first_row = [], 0.0, first_row + rows

    for unit in units:
        whole = cost.seconds(unit.rows, unit.num_bytes)
        num_pieces = max(1, min(unit.rows, math.ceil(whole / target_seconds)))
        for index in range(num_pieces):
            start, stop = unit.rows * index // num_pieces, unit.rows * (index + 1) // num_pieces
            if start == stop:
                continue
            share = whole * (stop - start) / unit.rows
            if pieces and seconds + share > target_seconds:
                close()
            pieces.append(Piece(unit, start, stop))
            seconds += share
    close()
    return shards
