"""Parquet: a unit is a row group. Every column and type comes back as it was written."""

import functools
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rnnlm.config import config
from rnnlm.data.files import FileStamp, check_unchanged, covers, list_files, search_folders
from rnnlm.data.formats.base import CorpusConfig
from rnnlm.data.formats.hive import add_folder_columns, folder_values, typed
from rnnlm.data.listing import Unit
from rnnlm.errors import DataError, Place
from rnnlm.storage import Location, open_location

SUFFIXES = (".parquet", ".pq")
BATCH_BYTES = 16 << 20  # uncompressed; what is in memory of a row group, however large it is
BATCH_ROWS = 1 << 16
READ_BYTES = 1 << 20  # of a column chunk at a time
READ_BYTES_REMOTE = 8 << 20  # the same over a network, where a request costs more than its bytes
OPEN_FILES = 8
# What pyarrow raises for damaged files; a name that is no UTF-8 is a ValueError, a count that is none an overflow.
UNREADABLE = (pa.ArrowException, OSError, IndexError, ValueError, OverflowError)


@config
class ParquetCorpus(CorpusConfig):
    """Parquet files: a file, a folder, a glob, or a list of them, by path or URI."""

    path: str | list[str]
    "Where the files are."

    hive: bool = True
    "Folders named like lang=en are columns; a column that a file holds itself is the file's own."

    def would_read(self, file: Location) -> bool:
        return covers(self.path, SUFFIXES, file)

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "hive": self.hive}

    def list_files(self) -> list[FileStamp]:
        _ = self._bases  # found here, since a relative path may mean another folder where a worker runs
        return list_files(self.path, SUFFIXES)

    def scan_file(self, file: FileStamp) -> tuple[list[Unit], pa.Schema]:
        return scan_parquet(file, self.text_column)

    def merge_schemas(self, schemas: Sequence[tuple[str, pa.Schema]]) -> pa.Schema:
        if self.hive:
            schemas = add_folder_columns(schemas, self._bases)
        first_path, merged = schemas[0]
        for path, found in schemas[1:]:
            merged = _same_columns(merged, found, path, first_path)
        return merged

    def read_batches(self, unit: Unit, schema: pa.Schema, *, start: int, stop: int) -> Iterator[pa.Table]:
        values = typed(folder_values(unit.path, self._bases), schema) if self.hive else {}
        yield from read_row_group(unit, schema, start=start, stop=stop, values=values)

    @functools.cached_property
    def _bases(self) -> list[str]:
        return search_folders(self.path)


def scan_parquet(file: FileStamp, text_column: str) -> tuple[list[Unit], pa.Schema]:
    """The row groups of a file and its schema, from its footer."""
    found = _open(file)
    try:
        return _row_groups(found, file, text_column), found.schema_arrow
    except UNREADABLE as error:
        raise _unreadable(file, error) from error
    finally:
        found.close()


def read_row_group(
    unit: Unit, schema: pa.Schema, *, start: int, stop: int, values: Mapping[str, Any]
) -> Iterator[pa.Table]:
    """Rows of a row group in batches; a column that the file lacks has its one value in `values`."""
    place = Place(unit.path, row_group=unit.index)
    location = open_location(unit.path)
    attempts, stop = location.attempts(), min(stop, unit.rows)
    try:
        while start < stop:
            try:
                for table in _row_batches(unit, schema, start, stop, values):
                    yield table
                    start += table.num_rows
                    attempts = location.attempts()
            except OSError as error:
                # A remote file: opened again, and read on from the first row that was not given yet.
                attempts.wait_after(error)
                _open_files.forget(unit.file)
    except UNREADABLE as error:
        raise DataError(f"cannot read the row group: {_short(error)}", where=place) from error


def _table(batch: pa.RecordBatch, schema: pa.Schema, columns: Sequence[str], values: Mapping[str, Any]) -> pa.Table:
    table = pa.Table.from_batches([batch])
    if len(columns) == len(schema):
        return table if table.schema.equals(schema) else table.select(schema.names).cast(schema)
    arrays = [
        table.column(field.name).cast(field.type)
        if field.name in columns
        else pa.repeat(pa.scalar(values[field.name], field.type), batch.num_rows)
        for field in schema
    ]
    return pa.table(arrays, schema=schema)


class _OpenFiles:
    """The files read last, open, so that a footer is parsed once and not once a row group; a set for each thread,
    since a reader must not be shared."""

    def __init__(self) -> None:
        self._local = threading.local()

    def get(self, file: FileStamp) -> pq.ParquetFile:
        """Open, unless it is; raises DataError if it is not the file that was listed."""
        check_unchanged(file)
        opened: OrderedDict[FileStamp, pq.ParquetFile] = self._local.__dict__.setdefault("opened", OrderedDict())
        if file not in opened:
            opened[file] = _open(file)
            if len(opened) > OPEN_FILES:
                opened.popitem(last=False)
        opened.move_to_end(file)
        return opened[file]

    def forget(self, file: FileStamp) -> None:
        """Open it anew the next time."""
        self._local.__dict__.get("opened", {}).pop(file, None)


_open_files = _OpenFiles()


def _row_batches(unit: Unit, schema: pa.Schema, start: int, stop: int, values: Mapping[str, Any]) -> Iterator[pa.Table]:
    """Rows `start` to `stop` of a row group; raises whatever Arrow does, or DataError if it has not that many."""
    place = Place(unit.path, row_group=unit.index)
    file = _open_files.get(unit.file)
    group = file.metadata.row_group(unit.index)
    if group.num_rows != unit.rows:
        raise DataError(f"the row group has {group.num_rows} rows, {unit.rows} were listed", where=place)
    rows = max(1, min(BATCH_ROWS, BATCH_BYTES * max(1, unit.rows) // max(1, group.total_byte_size)))
    columns = [name for name in schema.names if name in file.schema_arrow.names]
    begin = 0
    for batch in file.iter_batches(batch_size=rows, row_groups=[unit.index], columns=columns, use_threads=False):
        end = begin + batch.num_rows
        if end > start:
            batch = batch.slice(max(0, start - begin), min(end, stop) - max(begin, start))
            yield _table(batch, schema, columns, values)
        begin = end
        if begin >= stop:
            return
    raise DataError(f"the row group ended after {begin} rows, {unit.rows} were listed", where=place)


def _open(file: FileStamp) -> pq.ParquetFile:
    location = open_location(file.path)
    try:
        return location.retrying(
            lambda: pq.ParquetFile(
                location.filesystem.open_input_file(location.path),
                buffer_size=READ_BYTES if location.is_local else READ_BYTES_REMOTE,
                pre_buffer=False,
            )
        )
    except UNREADABLE as error:
        raise _unreadable(file, error) from error


def _unreadable(file: FileStamp, error: BaseException) -> DataError:
    return DataError(
        f"not a readable Parquet file: {_short(error)}",
        where=Place(file.path),
        todo="was its writing or copying cut short?",
    )


def _row_groups(found: pq.ParquetFile, file: FileStamp, text_column: str) -> list[Unit]:
    metadata = found.metadata
    names = [metadata.schema.column(i).path for i in range(metadata.num_columns)]
    text = names.index(text_column) if text_column in names else None
    units = []
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        if group.num_rows < 0:
            raise ValueError(f"row group {index} claims {group.num_rows} rows")
        size = group.total_byte_size if text is None else group.column(text).total_uncompressed_size
        units.append(Unit(file, index, group.num_rows, size))
    return units


def _same_columns(merged: pa.Schema, found: pa.Schema, path: str, first_path: str) -> pa.Schema:
    """Refuse other names, types or order; only nullability and metadata may differ."""
    if merged.equals(found):
        return merged
    for name in dict.fromkeys([*merged.names, *found.names]):
        ours = merged.field(name).type if name in merged.names else "absent"
        theirs = found.field(name).type if name in found.names else "absent"
        if ours != theirs:
            raise DataError(
                f"the column is {theirs} here and {ours} in {first_path}",
                where=Place(path, column=name),
                todo="write all files with one schema",
            )
    if merged.names != found.names:
        raise DataError(f"the columns stand in another order than in {first_path}", where=Place(path))
    # A column that may be null in one file may be null in the corpus.
    fields = [
        merged.field(name).with_nullable(merged.field(name).nullable or found.field(name).nullable)
        for name in merged.names
    ]
    return pa.schema(fields, metadata=merged.metadata)


def _short(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
