"""A corpus as it was found: its files, the units they consist of, its schema; and how that is kept on disk.

A unit is the smallest piece that can be read on its own: a row group of a Parquet file, a block of lines of a text
file. Units partition the rows; their order is the order of the corpus.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from rnnlm.data.files import FileStamp
from rnnlm.errors import without_secrets


@dataclass(frozen=True, slots=True)
class Unit:
    """`rows` rows of one file; `start` and `stop` are a byte range where the format has no index of its own.

    `num_bytes` is the size of the text, uncompressed. Slots, and a file shared by its units, keep a million of them
    small.
    """

    file: FileStamp
    index: int
    rows: int
    num_bytes: int
    start: int = 0
    stop: int = 0

    @property
    def path(self) -> str:
        return self.file.path


@dataclass(frozen=True)
class Listing:
    """What files, which units, of which schema."""

    files: tuple[FileStamp, ...]
    units: tuple[Unit, ...]
    schema: pa.Schema

    @property
    def rows(self) -> int:
        return sum(unit.rows for unit in self.units)

    @property
    def num_bytes(self) -> int:
        return sum(unit.num_bytes for unit in self.units)

    def to_bytes(self) -> bytes:
        """As an Arrow file: a few bytes a unit, read back a million units a second. Paths lose their credentials."""
        number = {file: index for index, file in enumerate(self.files)}
        columns = {
            "file": np.array([number[unit.file] for unit in self.units], dtype=np.int32),
            **{
                name: np.array([getattr(unit, name) for unit in self.units], dtype=np.int64)
                for name in ("index", "rows", "num_bytes", "start", "stop")
            },
        }
        units = pa.table(columns)
        files = pa.table(
            {
                "path": pa.array([without_secrets(file.path) for file in self.files], pa.string()),
                "size": pa.array([file.size for file in self.files], pa.int64()),
                "mtime_ns": pa.array([file.mtime_ns for file in self.files], pa.int64()),
            }
        )
        metadata = {"rnnlm.files": _ipc(files), "rnnlm.schema": self.schema.serialize().to_pybytes()}
        return _ipc(units.replace_schema_metadata(metadata))

    @staticmethod
    def from_bytes(content: bytes) -> "Listing":
        """The inverse of `to_bytes`. Raises pa.ArrowInvalid or KeyError if that is not what it is."""
        units = pa.ipc.open_stream(content).read_all()
        metadata = units.schema.metadata or {}
        table = pa.ipc.open_stream(metadata[b"rnnlm.files"]).read_all()
        files = tuple(FileStamp(*row) for row in zip(*(column.to_pylist() for column in table.columns), strict=True))
        names = ("index", "rows", "num_bytes", "start", "stop")
        rows = zip(*(units.column(name).to_pylist() for name in names), strict=True)
        listed = tuple(
            Unit(files[number], *row) for number, row in zip(units.column("file").to_pylist(), rows, strict=True)
        )
        return Listing(files, listed, pa.ipc.read_schema(pa.py_buffer(metadata[b"rnnlm.schema"])))

    def __getstate__(self) -> dict[str, Any]:
        # Arrow's own pickling forgets names inside a fixed-size list; its IPC format keeps a schema as it is.
        return {**self.__dict__, "schema": self.schema.serialize().to_pybytes()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, schema=pa.ipc.read_schema(pa.py_buffer(state["schema"])))


def _ipc(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())
