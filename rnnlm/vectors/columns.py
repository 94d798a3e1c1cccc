"""A column of vectors in Parquet: checked, counted, and read block by block.

A vector is a list of D numbers, all of one size. One that is null, zero or not finite has no direction: it is counted,
and left out of blocks.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rnnlm.data.column_types import is_list
from rnnlm.data.formats.base import CorpusConfig
from rnnlm.data.listing import Listing
from rnnlm.errors import DataError, Place

MAKE_THEM = "make them with python -m jobs.embed, or set vector_column"


class Vectors(NamedTuple):
    """M vectors (M x D, float32 or float64), their lengths, and the numbers of their rows, rising."""

    rows: npt.NDArray[np.int64]
    values: npt.NDArray[np.floating]
    lengths: npt.NDArray[np.float64]

    def part(self, start: int, stop: int) -> "Vectors":
        """Some of them."""
        return Vectors(self.rows[start:stop], self.values[start:stop], self.lengths[start:stop])


@dataclass(frozen=True)
class Directions:
    """How many rows have a vector with a direction, and how many of the others are what."""

    rows: int = 0
    null: int = 0
    zero: int = 0
    non_finite: int = 0

    def __add__(self, other: "Directions") -> "Directions":
        return Directions(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))


class Given(NamedTuple):
    """The vectors that have a direction, and how many have none."""

    vectors: Vectors
    directions: Directions


def vector_size(column: pa.ChunkedArray, where: Place) -> int | None:
    """D, if the rows tell it. Raises DataError at a vector of another size than the first one."""
    kind = column.type
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size)
    sizes = pc.list_value_length(column).drop_null()
    if not len(sizes):
        return None
    first = int(sizes[0].as_py())
    check_sizes(column, first, where)
    return first


def check_sizes(column: pa.ChunkedArray, size: int, where: Place) -> None:
    """Raise DataError, with the first row that is to blame, unless all vectors have `size` numbers."""
    wrong = pc.fill_null(pc.not_equal(pc.list_value_length(column), size), False)
    place = pc.index(wrong, True).as_py()
    if place >= 0:
        raise DataError(
            f"the vector has {len(column[place])} numbers, {size} are needed as in the others",
            where=Place(where.file, where.row_group, (where.row or 0) + place, where.column),
            todo="vectors of different models cannot be compared; write them into files of their own",
        )


def read_vectors(column: pa.ChunkedArray, rows: npt.NDArray[np.int64], size: int, where: Place) -> Given:
    """The vectors of a column, whose rows have the numbers `rows`. Raises DataError at one that has not `size`
    numbers; `where` names the first row."""
    check_sizes(column, size, where)
    null = np.asarray(pc.is_null(column), dtype=bool)
    numbers = pc.list_flatten(column.drop_null()).to_numpy()  # null numbers become nan
    values = numbers.astype(np.float64 if numbers.dtype.itemsize > 4 else np.float32).reshape(-1, size)
    found = with_direction(values, rows[~null])
    return Given(found.vectors, replace(found.directions, null=int(null.sum())))


def with_direction(values: npt.NDArray[np.floating], rows: npt.NDArray[np.int64]) -> Given:
    """Of vectors (M x D) with the numbers `rows` those that are finite and not zero."""
    finite = np.isfinite(values).all(axis=1)
    values, rows, num_others = values[finite], rows[finite], int((~finite).sum())
    if values.dtype == np.float64:  # whose squares may be too large or too small; the direction stays
        largest = np.abs(values).max(axis=1, initial=0.0, keepdims=True)
        values = values / np.where(largest > 0.0, largest, 1.0)
    lengths = np.sqrt(np.square(values, dtype=np.float64).sum(axis=1))
    some = lengths > 0.0
    vectors = Vectors(rows[some], np.ascontiguousarray(values[some]), lengths[some])
    return Given(vectors, Directions(len(vectors.rows), zero=int((~some).sum()), non_finite=num_others))


def check_column(schema: pa.Schema, name: str, path: str) -> None:
    """Raise DataError unless there is such a column of vectors."""
    where = Place(path, column=name)
    if name not in schema.names:
        raise DataError(
            f"there is no column '{name}' among {', '.join(schema.names)}", where=where, todo="set vector_column"
        )
    kind = schema.field(name).type
    if not (is_list(kind) and pa.types.is_floating(kind.value_type)):
        raise DataError(
            f"the column has type {kind}, lists of floating point numbers are needed", where=where, todo=MAKE_THEM
        )


def survey(corpus: CorpusConfig, listing: Listing, column: str) -> tuple[int, Directions]:
    """D, and how many rows have a direction. Raises DataError at vectors of different sizes, or if there are none."""
    check_column(listing.schema, column, listing.files[0].path)
    size, total = None, Directions()
    for table, rows, place in corpus.iterate_tables(listing, [column]):
        if not table.num_rows:
            continue
        where = Place(place.file, place.row_group, int(rows[0]), column)
        vectors = table.column(column)
        size = vector_size(vectors, where) if size is None else size
        total += (
            Directions(null=table.num_rows) if size is None else read_vectors(vectors, rows, size, where).directions
        )
    if size is None or not total.rows:
        raise DataError(
            f"none of the {listing.rows:,} rows has a vector with a direction",
            where=Place(listing.files[0].path, column=column),
            todo=MAKE_THEM,
        )
    return size, total


def vector_blocks(corpus: CorpusConfig, listing: Listing, column: str, size: int, most: int) -> Iterator[Vectors]:
    """All vectors with a direction, in the order of their rows, `most` at a time; the last block may be smaller."""
    waiting: list[Vectors] = []
    count = first_row = 0
    for table, rows, place in corpus.iterate_tables(listing, [column]):
        where = Place(place.file, place.row_group, int(rows[0]) if len(rows) else None, column)
        numbers = np.arange(first_row, first_row + table.num_rows)
        first_row += table.num_rows
        waiting.append(read_vectors(table.column(column), numbers, size, where).vectors)
        count += len(waiting[-1].rows)
        if count >= most:
            joined = _joined(waiting)
            whole = count - count % most
            yield from (joined.part(start, start + most) for start in range(0, whole, most))
            waiting, count = [joined.part(whole, count)], count - whole
    if count:
        yield _joined(waiting)


def _joined(parts: list[Vectors]) -> Vectors:
    return Vectors(*(np.concatenate(one) for one in zip(*parts, strict=True)))
