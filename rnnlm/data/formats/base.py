"""What a corpus format gives: the units a corpus consists of, and the rows of one unit.

A unit is the smallest piece that can be read on its own: a row group of a Parquet file, a block of lines of a text
file. Units partition the rows; their order is the order of the corpus. Listing reads only footers (Parquet) or scans
the files once (text); reading needs nothing but the unit, so any worker can do it.
"""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from rnnlm.config import config
from rnnlm.data.files import FileStamp
from rnnlm.errors import DataError, Place
from rnnlm.storage import Location


@dataclass(frozen=True)
class Unit:
    """`rows` rows of one file; `start` and `stop` are a byte range where the format has no index of its own."""

    path: str
    index: int
    rows: int
    num_bytes: int
    start: int = 0
    stop: int = 0


@dataclass(frozen=True)
class Listing:
    """A corpus as it was found: what files, which units, of which schema."""

    files: tuple[FileStamp, ...]
    units: tuple[Unit, ...]
    schema: pa.Schema

    def __getstate__(self) -> dict[str, Any]:
        # Arrow's own pickling forgets names inside a fixed-size list; its IPC format keeps a schema as it is.
        return {**self.__dict__, "schema": self.schema.serialize().to_pybytes()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, schema=pa.ipc.read_schema(pa.py_buffer(state["schema"])))

    @property
    def rows(self) -> int:
        return sum(unit.rows for unit in self.units)

    @property
    def num_bytes(self) -> int:
        return sum(unit.num_bytes for unit in self.units)


@config
class CorpusConfig:
    """Base of the configs in conf/corpus."""

    text_column: str = "text"
    "Name of the column that holds the text."

    @abstractmethod
    def list_units(self) -> Listing:
        """Find and check the corpus; raises DataError with the place if it cannot be used."""

    @abstractmethod
    def read_unit(self, unit: Unit, schema: pa.Schema, columns: list[str] | None = None) -> pa.Table:
        """The rows of `unit` with the columns of `schema` (or some of them), in order."""

    def identity(self) -> dict[str, Any]:
        """What decides the rows, the content of the files apart."""
        return {"text_column": self.text_column}

    def would_read(self, file: Location) -> bool:  # noqa: ARG002 - a corpus without a path reads no file of others
        """Whether `file`, once written, would be part of this corpus when it is listed again."""
        return False

    def card(self) -> dict[str, Any]:
        """How the corpus came to be, for reports; empty if nothing is known."""
        return {}

    def iterate_texts(self, listing: Listing) -> Iterator[str]:
        """Every text that is neither null nor empty, in order, unit by unit."""
        check_text_column(listing, self.text_column)
        for unit in listing.units:
            table = self.read_unit(unit, listing.schema, [self.text_column])
            for text in table.column(self.text_column).to_pylist():
                if text:
                    yield text


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
    inner = found.value_type if pa.types.is_dictionary(found) else found
    if not (pa.types.is_string(inner) or pa.types.is_large_string(inner) or pa.types.is_string_view(inner)):
        raise DataError(f"the column has type {found}, text is needed", where=where, todo="set corpus.text_column")
    if listing.rows == 0:
        raise DataError("the corpus has no rows", where=where, todo="check corpus.path")
