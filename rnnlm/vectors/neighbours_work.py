"""Neighbours as bulk work: each row of the corpus is a query, and all vectors pass by it (`rnnlm.vectors.neighbours`).

    id                                the number of the row, unless an `id_column` is kept
    neighbours: list<struct>          id, row, cosine: the nearest first; the id is that of the neighbour's row
    error                             why a row has none

A shard reads all vectors once for every QUERY_ROWS rows of a window. What is held is a window, a product, and the ids
of the neighbours found.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from pydantic import Field

from rnnlm.bulk.plan import CostModel
from rnnlm.bulk.work import ERROR, NULL_TEXT, Device, Processed, Processor, WorkConfig
from rnnlm.config import config
from rnnlm.data.column_types import plain
from rnnlm.data.formats.parquet import ParquetCorpus
from rnnlm.data.listing import Listing
from rnnlm.errors import ConfigError, Place
from rnnlm.vectors.columns import Vectors, read_vectors, vector_blocks
from rnnlm.vectors.neighbours import BLOCK_ROWS, QUERY_ROWS, Nearest, Neighbours

NO_DIRECTION = "no_direction: the vector is zero or not finite"
FLOPS_PER_SECOND = 5e10  # of one core, for estimates


@config
class NeighboursWork(WorkConfig):
    """Finds the nearest vectors of every row."""

    vectors: str
    "Parquet in which neighbours are looked for."
    size: int = Field(ge=1)
    "Numbers of a vector."
    rows: int = Field(ge=1)
    "Vectors with a direction in it."
    vector_column: str = "vector"
    "Column of the vectors."
    id_column: str | None = None
    "Column that names a row; null takes its number."
    leave_out_self: bool = False
    "The corpus is `vectors`: a row is no neighbour of its own."
    k: int = Field(default=10, ge=1)
    "Neighbours of each row at the most."
    min_cosine: float = Field(default=-1.0, ge=-1.0, le=1.0)
    "None that is less alike."
    threads: int = Field(default=1, ge=1)
    "Threads of a worker."

    @property
    def job(self) -> str:
        return "neighbours"

    @property
    def needs_text(self) -> bool:
        return False

    @cached_property
    def corpus(self) -> ParquetCorpus:
        """Where neighbours are looked for."""
        return ParquetCorpus(path=self.vectors)

    @cached_property
    def listing(self) -> Listing:
        """Its files as this process found them."""
        return self.corpus.list_units()

    @property
    def id_type(self) -> pa.DataType:
        """Of the ids of neighbours."""
        return pa.int64() if self.id_column is None else plain(self.listing.schema.field(self.id_column).type)

    def needed_columns(self) -> list[str]:
        return [self.vector_column]

    def kept_columns(self, names: Sequence[str]) -> list[str]:
        if self.id_column is None:
            return []
        for path, found in (("queries", names), ("vectors", self.listing.schema.names)):
            if self.id_column not in found:
                raise ConfigError(f"id_column: {path} has no column '{self.id_column}'; it has {', '.join(found)}")
        return [self.id_column]

    def new_fields(self) -> list[pa.Field]:
        neighbour = pa.struct([("id", self.id_type), ("row", pa.int64()), ("cosine", pa.float32())])
        own = [pa.field("id", pa.int64())] if self.id_column is None else []
        return [*own, pa.field("neighbours", pa.list_(neighbour)), pa.field(ERROR, pa.string())]

    def cost(self) -> CostModel:
        return CostModel(seconds_per_row=2.0 * self.rows * self.size / FLOPS_PER_SECOND, seconds_per_byte=0.0)

    def identity(self) -> dict[str, Any]:
        return {
            "vectors": {file.path: str(file) for file in self.listing.files},
            "vector_column": self.vector_column,
            "id_column": self.id_column,
            "leave_out_self": self.leave_out_self,
            "k": self.k,
            "min_cosine": self.min_cosine,
        }

    def build(self, device: Device) -> "NeighboursProcessor":  # noqa: ARG002 - products of blocks are for CPUs so far
        torch.set_num_threads(self.threads)
        return NeighboursProcessor(self)


class NeighboursProcessor(Processor):
    """Reads all vectors for some queries at a time."""

    def __init__(self, work: NeighboursWork) -> None:
        self._work = work

    def process(self, table: pa.Table, rows: npt.NDArray[np.int64]) -> Processed:
        work, column = self._work, table.column(self._work.vector_column)
        place = Place("the queries", row=int(rows[0]) if len(rows) else None, column=work.vector_column)
        queries = read_vectors(column, rows, work.size, place).vectors
        good = np.isin(rows, queries.rows)
        null = np.asarray(pc.is_null(column), dtype=bool)
        errors = pa.array(np.where(null, NULL_TEXT, NO_DIRECTION), pa.string(), mask=good)
        columns = {"neighbours": self._column(self._search(queries), good), ERROR: errors}
        if work.id_column is None:
            columns["id"] = pa.array(rows)
        return Processed(columns, 0)

    def _search(self, queries: Vectors) -> Neighbours:
        """The neighbours of all queries, some at a time."""
        work, total, found = self._work, len(queries.rows), Neighbours.none(self._work.k)
        for start in range(0, total, QUERY_ROWS):
            some, done = queries.part(start, start + QUERY_ROWS), 0
            nearest = Nearest(some, work.k, min_cosine=work.min_cosine, leave_out_self=work.leave_out_self)
            for block in vector_blocks(work.corpus, work.listing, work.vector_column, work.size, BLOCK_ROWS):
                nearest.add(block)
                done += len(block.rows)
                self.report((start + len(some.rows) * done / work.rows) / total)
            found = found.followed_by(nearest.found)
        return found

    def _column(self, found: Neighbours, good: npt.NDArray[np.bool_]) -> pa.ListArray:
        """The column `neighbours`; null where a row is not good."""
        there = found.rows >= 0
        rows = found.rows[there]
        counts = np.zeros(len(good), dtype=np.int64)
        counts[good] = there.sum(axis=1)
        kind = next(field.type for field in self._work.new_fields() if field.name == "neighbours")
        ids = pa.array(rows) if self._work.id_column is None else self._ids(rows, self._work.id_column)
        flat = pa.StructArray.from_arrays(
            [ids, pa.array(rows), pa.array(found.cosines[there])], fields=list(kind.value_type)
        )
        offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
        return pa.ListArray.from_arrays(offsets, flat, type=kind, mask=pa.array(~good))

    def _ids(self, rows: npt.NDArray[np.int64], column: str) -> pa.Array:
        """The ids of some rows: one pass over that column, of which only those are held."""
        wanted, places = np.unique(rows, return_inverse=True)
        kind = self._work.id_type
        parts, first_row = [pa.array([], kind)], 0
        for table, _, _ in self._work.corpus.iterate_tables(self._work.listing, [column]):
            begin, end = np.searchsorted(wanted, [first_row, first_row + table.num_rows])
            parts += table.column(column).take(pa.array(wanted[begin:end] - first_row)).cast(kind).chunks
            first_row += table.num_rows
        return pa.concat_arrays(parts).take(pa.array(places))
