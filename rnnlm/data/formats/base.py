"""What a corpus format gives: the files of a corpus, the units they consist of, and the rows of one unit.

A format lists files (one listing, nothing opened), scans a file for its units (a Parquet footer; one pass over a text
file) and reads rows of a unit in batches. Reading needs nothing but the unit, so any worker can do it. What a corpus
leaves out (`where`, `sample`, `limit`) is decided here, once, by the number of a row in the whole corpus.
"""

import dataclasses
import functools
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from rnnlm.config import config
from rnnlm.data.column_types import is_text, plain
from rnnlm.data.files import FileStamp
from rnnlm.data.listing import Listing, Unit
from rnnlm.data.row_filter import RowFilter
from rnnlm.determinism import derive_seed
from rnnlm.errors import ConfigError, DataError, Place
from rnnlm.storage import Location

SCAN_THREADS = 16  # footers wait for storage, not for the processor

Rows = npt.NDArray[np.int64]


@config
class CorpusConfig:
    """Base of the configs in conf/corpus."""

    text_column: str = "text"
    "Name of the column that holds the text."
    columns: list[str] | None = None
    "Input columns that go to the output; null takes all. Others are not read unless they are needed."
    where: str | None = None
    "Only rows that pass this, such as \"language == 'en' and length(text) > 200\"."
    limit: int | None = Field(default=None, ge=1)
    "Only the first so many rows (before `where` and `sample`)."
    sample: float | None = Field(default=None, gt=0.0, le=1.0)
    "Only this share of rows, chosen by their numbers: the same ones every time."
    sample_seed: int = Field(default=1, ge=0)
    "Another seed, another sample."

    @abstractmethod
    def list_files(self) -> list[FileStamp]:
        """Find the files; opens none. Raises DataError if there are none."""

    @abstractmethod
    def scan_file(self, file: FileStamp) -> tuple[list[Unit], pa.Schema]:
        """The units of one file, in order, and its schema; raises DataError with the place if it cannot be used."""

    @abstractmethod
    def merge_schemas(self, schemas: Sequence[tuple[str, pa.Schema]]) -> pa.Schema:
        """The one schema of all files (given as path and schema); raises DataError that names file and column."""

    @abstractmethod
    def read_batches(self, unit: Unit, schema: pa.Schema, *, start: int, stop: int) -> Iterator[pa.Table]:
        """Rows `start` to `stop` of a unit, in order, with the columns of `schema`, a few megabytes at a time."""

    def list_units(self, known: Listing | None = None) -> Listing:
        """Find and check the corpus. `known`, an earlier listing, saves opening files if they are all unchanged."""
        files = self.list_files()
        if known is not None and known.files == tuple(files):
            listing = known
        else:
            with ThreadPoolExecutor(SCAN_THREADS) as pool:
                scanned = list(pool.map(self.scan_file, files))
            schema = self.merge_schemas([(file.path, found) for file, (_, found) in zip(files, scanned, strict=True)])
            # As it will be once it was kept or has travelled: Arrow rewrites some types (map) the first time.
            schema = pa.ipc.read_schema(pa.BufferReader(schema.serialize()))
            listing = Listing(tuple(files), tuple(unit for units, _ in scanned for unit in units), schema)
        self._check_selection(listing.schema)
        return listing

    def read_unit(self, unit: Unit, schema: pa.Schema, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows of a unit as one table."""
        wanted = schema if columns is None else pa.schema([schema.field(name) for name in columns])
        return pa.concat_tables([wanted.empty_table(), *self.read_batches(unit, wanted, start=0, stop=unit.rows)])

    def select_rows(self, table: pa.Table, first_row: int) -> tuple[pa.Table, Rows]:
        """The rows of `table` that belong to the corpus, and their numbers; its first row has number `first_row`."""
        rows = np.arange(first_row, first_row + table.num_rows, dtype=np.int64)
        keep = np.ones(table.num_rows, dtype=bool)
        if self.sample is not None:
            keep &= _uniform(rows, derive_seed(self.sample_seed, "sample")) < self.sample
        if self.where is not None:
            keep &= np.asarray(_row_filter(self.where).mask(table))
        return (table, rows) if keep.all() else (table.filter(pa.array(keep)), rows[keep])

    def needed_columns(self, schema: pa.Schema, others: Sequence[str]) -> list[str]:
        """Which columns have to be read so that the rows can be selected and `others` are there; in corpus order."""
        wanted = {*others, *(_row_filter(self.where).columns if self.where is not None else ())}
        return [name for name in schema.names if name in wanted]

    def identity(self) -> dict[str, Any]:
        """What decides the rows, the content of the files apart."""
        names = ("text_column", "columns", "where", "limit", "sample")
        found = {name: getattr(self, name) for name in names}
        return found | ({"sample_seed": self.sample_seed} if self.sample is not None else {})

    def would_read(self, file: Location) -> bool:  # noqa: ARG002 - a corpus without a path reads no file of others
        """Whether `file`, once written, would be part of this corpus when it is listed again."""
        return False

    def card(self) -> dict[str, Any]:
        """How the corpus came to be, for reports; empty if nothing is known."""
        return {}

    def iterate_texts(self, listing: Listing) -> Iterator[str]:
        """Every text that is neither null nor empty, in order, unit by unit."""
        check_text_column(listing, self.text_column)
        for table, rows, place in self.iterate_tables(listing, [self.text_column]):
            yield from _texts(table.column(self.text_column), rows, dataclasses.replace(place, column=self.text_column))

    def iterate_tables(self, listing: Listing, columns: Sequence[str]) -> Iterator[tuple[pa.Table, Rows, Place]]:
        """The rows of the corpus with some columns, in order, a few megabytes at a time; their numbers in their unit,
        and where that is."""
        needed = self.needed_columns(listing.schema, columns)
        schema = pa.schema([listing.schema.field(name) for name in needed])
        first_row = unit_row = 0
        left = listing.rows if self.limit is None else self.limit
        for unit in listing.units:
            stop = min(unit.rows, left)
            for table in self.read_batches(unit, schema, start=0, stop=stop):
                selected, rows = self.select_rows(table, first_row)
                first_row += table.num_rows
                yield selected, rows - unit_row, Place(unit.path, row_group=unit.index)
            unit_row += unit.rows
            left -= stop
            if left == 0:
                return

    def _check_selection(self, schema: pa.Schema) -> None:
        missing = [name for name in self.columns or () if name not in schema.names]
        if missing:
            raise ConfigError(f"corpus.columns: there is no column '{missing[0]}' among {', '.join(schema.names)}")
        if self.where is not None:
            _row_filter(self.where).check(schema)


def check_text_column(listing: Listing, column: str) -> None:
    """Refuse a corpus without rows, without the text column, or with one that is not text."""
    where = Place(listing.files[0].path, column=column) if listing.files else None
    if column not in listing.schema.names:
        raise DataError(
            f"there is no column '{column}' among {', '.join(listing.schema.names)}",
            where=where,
            todo="set corpus.text_column",
        )
    found = listing.schema.field(column).type
    if not is_text(plain(found)):
        raise DataError(f"the column has type {found}, text is needed", where=where, todo="set corpus.text_column")
    if listing.rows == 0:
        raise DataError("the corpus has no rows", where=where, todo="check corpus.path")


def _texts(column: pa.ChunkedArray, rows: Rows, place: Place) -> Iterator[str]:
    """The texts that are neither null nor empty; raises DataError at bytes that are no text, which Parquet may hold."""
    try:
        texts = column.to_pylist()
    except UnicodeDecodeError:
        for index, value in enumerate(column):
            try:
                value.as_py()
            except UnicodeDecodeError as error:
                place = dataclasses.replace(place, row=int(rows[index]))
                raise DataError(
                    f"the text is not valid UTF-8 (byte 0x{error.object[error.start]:02x} at byte {error.start})",
                    where=place,
                    todo="write the column again, from text that was decoded",
                ) from error
        raise
    yield from (text for text in texts if text)


@functools.lru_cache(maxsize=16)
def _row_filter(text: str) -> RowFilter:
    return RowFilter(text)


def _uniform(rows: Rows, seed: int) -> npt.NDArray[np.float64]:
    """A number in [0, 1) for each row number, from the mixer of SplitMix64 (Steele et al. 2014)."""
    mixed = (rows.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed & ((1 << 64) - 1))
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return (mixed ^ (mixed >> np.uint64(31))).astype(np.float64) / 2.0**64
