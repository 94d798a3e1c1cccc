"""Tables of Parquet files with a log (Delta, Iceberg): one snapshot says which files there are, and their columns."""

import functools
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

import pyarrow as pa

from rnnlm.config import config
from rnnlm.data.files import FileStamp, stamp
from rnnlm.data.formats.base import SCAN_THREADS, CorpusConfig
from rnnlm.data.formats.parquet import read_row_group, scan_parquet
from rnnlm.data.listing import Unit
from rnnlm.errors import DataError, Place

SCHEMES = {"s3a": "s3", "s3n": "s3", "gcs": "gs"}  # what Hadoop writes for what Arrow knows


@dataclass(frozen=True)
class Snapshot:
    """What a table was at one version. Plain data, so that it travels to the workers with the config."""

    version: int
    schema: bytes
    "Serialized by Arrow, whose pickling forgets names inside a fixed-size list."
    files: Mapping[str, Mapping[str, Any]]
    "Path or URI of each file, with the values of the columns that stand in the log and maybe not in the file."


@config
class SnapshotCorpus(CorpusConfig):
    """Base of the corpora that are tables with a log."""

    path: str
    "Where the table is."

    @abstractmethod
    def load_snapshot(self) -> Snapshot:
        """Read the log; raises DataError if the table holds what a list of files cannot say."""

    def check_file(self, path: str, found: pa.Schema) -> None:
        """Raise DataError if the columns of a file cannot be told by their names."""

    @functools.cached_property
    def contents(self) -> Snapshot:
        """Read once, so that listing, identity and every worker mean the same version, whoever writes meanwhile."""
        return self.load_snapshot()

    def list_files(self) -> list[FileStamp]:
        if not self.contents.files:
            raise DataError("the table has no files", where=Place(self.path), todo="check corpus.path and the version")
        with ThreadPoolExecutor(SCAN_THREADS) as pool:
            return list(pool.map(stamp, sorted(self.contents.files)))

    def scan_file(self, file: FileStamp) -> tuple[list[Unit], pa.Schema]:
        units, schema = scan_parquet(file, self.text_column)
        self.check_file(file.path, schema)
        return units, schema

    def merge_schemas(self, schemas: Sequence[tuple[str, pa.Schema]]) -> pa.Schema:
        """The columns of the table. A type is that of the files, if they agree: the table's own is wider or plainer."""
        table = pa.ipc.read_schema(pa.py_buffer(self.contents.schema))
        distinct: dict[pa.Schema, str] = {}
        for path, found in schemas:
            distinct.setdefault(found, path)
        return pa.schema([pa.field(field.name, _type(field, distinct)) for field in table])

    def read_batches(self, unit: Unit, schema: pa.Schema, *, start: int, stop: int) -> Iterator[pa.Table]:
        # A column younger than the file is null in it.
        values = {**dict.fromkeys(schema.names), **self.contents.files[unit.path]}
        yield from read_row_group(unit, schema, start=start, stop=stop, values=values)

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "path": self.path, "version": self.contents.version}


def log_path(written: str, *, quoted: bool) -> str:
    """A path or URI from a log as `open_location` takes it: a local path as it is, a URI percent-encoded."""
    scheme, sign, rest = written.partition("://")
    if not sign and written.startswith("file:"):  # file:/a/b, as Hadoop writes it
        scheme, sign, rest = "file", "://", written.removeprefix("file:")
    if not sign or scheme == "file":
        path = rest if sign else written
        return unquote(path) if quoted else path
    return f"{SCHEMES.get(scheme, scheme)}://{rest if quoted else quote(rest)}"


def _type(field: pa.Field, schemas: Mapping[pa.Schema, str]) -> pa.DataType:
    """The type of a column: that of the files that have it, if they agree. `schemas` have the path of a file each."""
    types = []
    for found, path in schemas.items():
        if field.name in found.names:
            kind = found.field(field.name).type
            if not _fits(kind, field.type):
                raise DataError(
                    f"the column is {kind} here and {field.type} in the table", where=Place(path, column=field.name)
                )
            types.append(kind)
    return types[0] if types and all(kind == types[0] for kind in types) else field.type


def _fits(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether values of a file can be those of the table: the same, or of the same kind in another width."""
    if found == wanted or pa.types.is_nested(found) or pa.types.is_null(found):
        return True  # nested ones are cast when they are read
    if isinstance(wanted, pa.BaseExtensionType):  # such as uuid, which some writers leave as plain bytes
        return bool(found == wanted.storage_type)
    kinds = (
        (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal),
        (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_dictionary),
        (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary),
        (pa.types.is_temporal,),
        (pa.types.is_boolean,),
    )
    return any(any(is_a(found) for is_a in kind) and any(is_a(wanted) for is_a in kind) for kind in kinds)
