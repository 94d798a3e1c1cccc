"""Parquet: a unit is a row group. Every column and type comes back as it was written."""

import functools

import pyarrow as pa
import pyarrow.parquet as pq

from rnnlm.config import config
from rnnlm.data.files import FileStamp, covers, expand_paths, stamp
from rnnlm.data.formats.base import CorpusConfig, Listing, Unit
from rnnlm.errors import DataError, Place
from rnnlm.storage import Location, open_location

SUFFIXES = (".parquet", ".pq")


@config
class ParquetCorpus(CorpusConfig):
    """Parquet files: a file, a folder, a glob, or a list of them, by path or URI."""

    path: str | list[str]
    "Where the files are."

    def would_read(self, file: Location) -> bool:
        return covers(self.path, SUFFIXES, file)

    def list_units(self) -> Listing:
        files = expand_paths(self.path, SUFFIXES)
        stamps, units = [], []
        schema: pa.Schema | None = None
        for path in files:
            stamps.append(stamp(path))
            file = _open(stamps[-1])
            schema = _check_schema(schema, file.schema_arrow, path, files[0])
            units.extend(_row_groups(file, path, self.text_column))
        assert schema is not None
        return Listing(tuple(stamps), tuple(units), schema)

    def read_unit(self, unit: Unit, schema: pa.Schema, columns: list[str] | None = None) -> pa.Table:
        try:
            file = _open(stamp(unit.path))
            table = file.read_row_group(unit.index, columns=columns)
        except (pa.ArrowException, OSError, IndexError) as error:
            place = Place(unit.path, row_group=unit.index)
            raise DataError(f"cannot read the row group: {_short(error)}", where=place) from error
        if table.num_rows != unit.rows:
            raise DataError(
                f"the row group has {table.num_rows} rows, {unit.rows} were listed",
                where=Place(unit.path, row_group=unit.index),
                todo="do not change a corpus while it is read",
            )
        wanted = schema if columns is None else pa.schema([schema.field(name) for name in columns])
        return table if table.schema.equals(wanted) else table.cast(wanted)


# A footer is parsed once, not once a row group; the stamp in the key drops it when the file changes.
@functools.lru_cache(maxsize=16)
def _open(stamped: FileStamp) -> pq.ParquetFile:
    location = open_location(stamped.path)
    try:
        return pq.ParquetFile(location.filesystem.open_input_file(location.path))
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"not a readable Parquet file: {_short(error)}",
            where=Place(stamped.path),
            todo="was its writing or copying cut short?",
        ) from error


def _row_groups(file: pq.ParquetFile, path: str, text_column: str) -> list[Unit]:
    metadata = file.metadata
    names = [metadata.schema.column(i).path for i in range(metadata.num_columns)]
    text = names.index(text_column) if text_column in names else None
    units = []
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        size = group.total_byte_size if text is None else group.column(text).total_uncompressed_size
        units.append(Unit(path, index, group.num_rows, size))
    return units


def _check_schema(first: pa.Schema | None, found: pa.Schema, path: str, first_path: str) -> pa.Schema:
    if first is None or first.equals(found):
        return first or found
    for name in dict.fromkeys([*first.names, *found.names]):
        ours = first.field(name).type if name in first.names else "absent"
        theirs = found.field(name).type if name in found.names else "absent"
        if ours != theirs:
            raise DataError(
                f"the column is {theirs} here and {ours} in {first_path}",
                where=Place(path, column=name),
                todo="write all files with one schema",
            )
    if first.names != found.names:
        raise DataError(f"the columns stand in another order than in {first_path}", where=Place(path))
    # Only nullability or metadata differ: a column that may be null in one file may be null in the corpus.
    fields = [
        first.field(name).with_nullable(first.field(name).nullable or found.field(name).nullable)
        for name in first.names
    ]
    return pa.schema(fields, metadata=first.metadata)


def _short(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
