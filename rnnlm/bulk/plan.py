"""Cutting a corpus into shards: the units of retry, of resume and of progress. A shard becomes one part file.

The plan is a pure function of the listing and the cost model: whole units are packed in corpus order up to a target
cost, a unit larger than the target is split by row range. It knows nothing of workers, so their number never matters.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import numpy as np

from rnnlm.data.listing import Unit

ShardKind = Literal["auto", "row_group", "file"]


@dataclass(frozen=True)
class CostModel:
    """Rough seconds of work on one core; only ratios matter for the plan, the size for the choice of pool."""

    seconds_per_row: float
    seconds_per_byte: float

    def seconds(self, rows: int, num_bytes: float) -> float:
        """Estimated seconds for so much of a corpus."""
        return rows * self.seconds_per_row + num_bytes * self.seconds_per_byte


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows `start` to `stop` of one unit."""

    unit: Unit
    start: int
    stop: int

    @property
    def rows(self) -> int:
        return self.stop - self.start

    @property
    def num_bytes(self) -> float:
        """The share of the unit's text that these rows have if all rows are alike."""
        return self.unit.num_bytes * self.rows / self.unit.rows


@dataclass(frozen=True, slots=True)
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


def plan_shards(
    units: Sequence[Unit],
    cost: CostModel,
    *,
    target_seconds: float,
    kind: ShardKind = "auto",
    limit: int | None = None,
) -> list[Shard]:
    """Shards in corpus order over the first `limit` rows.

    kind `auto`: each of about `target_seconds` of estimated work; `row_group`: one a unit; `file`: one a file.
    """
    pieces = _first_rows(units, limit)
    groups: Iterable[list[Piece]]
    if kind == "row_group":
        groups = ([piece] for piece in pieces)
    elif kind == "file":
        groups = (list(group) for _, group in groupby(pieces, key=lambda piece: piece.unit.file))
    else:
        groups = _packed(pieces, cost, target_seconds)
    shards: list[Shard] = []
    first_row = 0
    for group in groups:
        rows = sum(piece.rows for piece in group)
        seconds = sum(cost.seconds(piece.rows, piece.num_bytes) for piece in group)
        shards.append(Shard(len(shards), first_row, rows, round(seconds, 6), tuple(group)))
        first_row += rows
    return shards


def plan_digest(shards: Sequence[Shard]) -> str:
    """What a plan is, in a line: two plans with the same digest cut a corpus at the same rows."""
    borders = np.array([shard.first_row for shard in shards], dtype="<i8")
    return f"{len(shards)} shards, {hashlib.sha256(borders.tobytes()).hexdigest()[:16]}"


def _first_rows(units: Sequence[Unit], limit: int | None) -> Iterator[Piece]:
    left = sum(unit.rows for unit in units) if limit is None else limit
    for unit in units:
        rows = min(unit.rows, left)
        if rows > 0:
            yield Piece(unit, 0, rows)
        left -= rows


def _packed(pieces: Iterable[Piece], cost: CostModel, target_seconds: float) -> Iterator[list[Piece]]:
    group: list[Piece] = []
    seconds = 0.0
    for piece in pieces:
        whole = cost.seconds(piece.rows, piece.num_bytes)
        count = max(1, min(piece.rows, math.ceil(whole / target_seconds)))
        for index in range(count):
            start, stop = piece.rows * index // count, piece.rows * (index + 1) // count
            share = whole * (stop - start) / piece.rows
            if group and seconds + share > target_seconds:
                yield group
                group, seconds = [], 0.0
            group.append(Piece(piece.unit, start, stop))
            seconds += share
    if group:
        yield group
