"""Parquet: a unit is a row group. Every column and type comes back as it was written."""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from rnnlm.config import config
from rnnlm.data.files import FileStamp, check_unchanged, covers, list_files
from rnnlm.data.formats.base import CorpusConfig
from rnnlm.data.listing import Unit
from rnnlm.errors import DataError, Place
from rnnlm.storage import Location, open_location

SUFFIXES = (".parquet", ".pq")
BATCH_BYTES = 16 << 20  # uncompressed; what is in memory of a row group, however large it is
BATCH_ROWS = 1 << 16
READ_BYTES = 1 << 20  # of a column chunk at a time
READ_BYTES_REMOTE = 8 << 20  # the same over a network, where a request costs more than its bytes
OPEN_FILES = 8


@config
class ParquetCorpus(CorpusConfig):
    """Parquet files: a file, a folder, a glob, or a list of them, by path or URI."""

    path: str | list[str]
    "Where the files are."

    def would_read(self, file: Location) -> bool:
        return covers(self.path, SUFFIXES, file)

    def list_files(self) -> list[FileStamp]:
        return list_files(self.path, SUFFIXES)

    def scan_file(self, file: FileStamp) -> tuple[list[Unit], pa.Schema]:
        found = _open(file)
        units = _row_groups(found, file, self.text_column)
        schema = found.schema_arrow
        found.close()
        return units, schema

    def merge_schemas(self, schemas: Sequence[tuple[str, pa.Schema]]) -> pa.Schema:
        first_path, merged = schemas[0]
        for path, found in schemas[1:]:
            merged = _same_columns(merged, found, path, first_path)
        return merged

    def read_batches(self, unit: Unit, schema: pa.Schema, *, start: int, stop: int) -> Iterator[pa.Table]:
        place = Place(unit.path, row_group=unit.index)
        try:
            file = _open_files.get(unit.file)
            group = file.metadata.row_group(unit.index)
            if group.num_rows != unit.rows:
                raise DataError(f"the row group has {group.num_rows} rows, {unit.rows} were listed", where=place)
            rows = max(1, min(BATCH_ROWS, BATCH_BYTES * max(1, unit.rows) // max(1, group.total_byte_size)))
            batches = file.iter_batches(
                batch_size=rows, row_groups=[unit.index], columns=schema.names, use_threads=False
            )
            begin = 0
            for batch in batches:
                end = begin + batch.num_rows
                if end > start:
                    table = pa.Table.from_batches([batch])
                    table = table.slice(max(0, start - begin), min(end, stop) - max(begin, start))
                    yield table if table.schema.equals(schema) else table.select(schema.names).cast(schema)
                begin = end
                if begin >= stop:
                    break
        except (pa.ArrowException, OSError, IndexError, ValueError) as error:
            raise DataError(f"cannot read the row group: {_short(error)}", where=place) from error
        if begin < min(stop, unit.rows):
            raise DataError(f"the row group ended after {begin} rows, {unit.rows} were listed", where=place)


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


_open_files = _OpenFiles()


def _open(file: FileStamp) -> pq.ParquetFile:
    location = open_location(file.path)
    try:
        return pq.ParquetFile(
            location.filesystem.open_input_file(location.path),
            buffer_size=READ_BYTES if location.is_local else READ_BYTES_REMOTE,
            pre_buffer=False,
        )
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"not a readable Parquet file: {_short(error)}",
            where=Place(file.path),
            todo="was its writing or copying cut short?",
        ) from error


def _row_groups(found: pq.ParquetFile, file: FileStamp, text_column: str) -> list[Unit]:
    metadata = found.metadata
    names = [metadata.schema.column(i).path for i in range(metadata.num_columns)]
    text = names.index(text_column) if text_column in names else None
    units = []
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
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
