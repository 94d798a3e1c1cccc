"""Writing one part file: row group after row group, never the whole part in memory, visible only when it is whole."""

import hashlib
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from rnnlm.errors import EnvironmentFailure
from rnnlm.storage import TEMPORARY, Location

ROW_GROUP_ROWS = 1 << 16


@dataclass(frozen=True)
class Part:
    """A written part file; `name` is its path below `data/`."""

    name: str
    rows: int
    num_bytes: int
    sha256: str


class PartWriter:
    """A part that is being written to a local file; `commit` puts it in place, `close` removes what was not.

    Local outputs are written in the folder `unfinished` of the same disk, so that putting in place is a rename; for
    others the file lies in the machine's temporary folder and is uploaded.
    """

    def __init__(
        self,
        name: str,
        target: Location,
        unfinished: Location,
        schema: pa.Schema,
        encodings: Mapping[str, str] | None = None,
    ) -> None:
        self._name, self._target = name, target
        self._rows = 0
        with _writing(target):
            folder = Path(unfinished.path if target.is_local else tempfile.gettempdir())
            folder.mkdir(parents=True, exist_ok=True)
            self._path = folder / f".{Path(name).name}.{uuid.uuid4().hex}{TEMPORARY}"
            self._sink = _HashingFile(self._path.open("wb"))
        self._file = pa.PythonFile(self._sink, mode="w")
        encodings = {path: name for path, name in (encodings or {}).items() if path.partition(".")[0] in schema.names}
        encoded = {path.partition(".")[0] for path in encodings}
        self._writer = pq.ParquetWriter(
            self._file,
            schema,
            compression="zstd",
            use_dictionary=[column for column in schema.names if column not in encoded] if encoded else True,
            column_encoding=encodings or None,
        )

    def write(self, table: pa.Table) -> None:
        """Append rows."""
        self._rows += table.num_rows
        with _writing(self._target):
            self._writer.write_table(table, row_group_size=ROW_GROUP_ROWS)

    def commit(self) -> Part:
        """Finish the file and put it in place."""
        with _writing(self._target):
            self._writer.close()
            self._file.close()
        part = Part(self._name, self._rows, self._path.stat().st_size, self._sink.digest.hexdigest())
        self._target.upload(self._path)
        return part

    def close(self) -> None:
        """Remove what was not put in place."""
        with suppress(OSError, pa.ArrowException):  # a full disk; Arrow would try again when it is collected
            self._writer.close()
            self._file.close()
        self._sink.close()
        self._path.unlink(missing_ok=True)


def part_schema(schema: pa.Schema, provenance: dict[str, str]) -> pa.Schema:
    """The schema with what the footer says of the part's origin: no time, no host, nothing else that would differ from
    attempt to attempt."""
    metadata = dict(schema.metadata or {})
    metadata.update({f"rnnlm.{key}".encode(): value.encode() for key, value in sorted(provenance.items())})
    return schema.with_metadata(metadata)


class _HashingFile:
    """A file to write to that knows the SHA-256 of what went through it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.closed = False

    def write(self, content: Any) -> int:
        """`content` is anything that is a buffer."""
        self.digest.update(content)
        return self._file.write(content)

    def flush(self) -> None:
        self._file.flush()

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self.closed = True
        self._file.close()


@contextmanager
def _writing(target: Location) -> Iterator[None]:
    """Turns what the system says of a write, a full disk for instance, into the project's error."""
    try:
        yield
    except OSError as error:
        raise EnvironmentFailure(f"cannot write {target.uri}: {error}") from error
