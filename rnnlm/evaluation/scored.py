"""Reading scored data batch by batch: the output of jobs.score, or any Parquet with `logprob` and `num_tokens`."""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from rnnlm.data.files import expand_paths
from rnnlm.errors import DataError, Place
from rnnlm.storage import open_location

BATCH_ROWS = 8192


@dataclass(frozen=True)
class ScoredColumns:
    """Names of the columns that are looked at; null for what is not there."""

    text: str | None = "text"
    group: str | None = None
    id: str | None = None


def open_scored(path: str, columns: ScoredColumns) -> tuple[list[str], list[str]]:
    """The files of a scored data set and the columns to read. Raises DataError if a column is missing or of no use."""
    files = expand_paths(path, (".parquet",))
    location = open_location(files[0])
    try:
        with location.filesystem.open_input_file(location.path) as stream:
            schema = pq.read_schema(stream)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"not a readable Parquet file: {str(error).splitlines()[0]}", where=Place(files[0])) from error
    _need(schema, files[0], "logprob", pa.types.is_floating, "floating point", "score the data with jobs.score")
    _need(schema, files[0], "num_tokens", pa.types.is_integer, "an integer", "score the data with jobs.score")
    wanted = ["logprob", "num_tokens"]
    for field, name in (("text_column", columns.text), ("group_by", columns.group), ("id_column", columns.id)):
        if name is not None:
            if name not in schema.names:
                raise DataError(
                    f"there is no column '{name}' among {', '.join(schema.names)}",
                    where=Place(files[0], column=name),
                    todo=f"set {field}, or null to do without",
                )
            wanted.append(name)
    return files, list(dict.fromkeys([*wanted, *(["error"] if "error" in schema.names else [])]))


def read_batches(files: list[str], columns: list[str]) -> Iterator[pa.RecordBatch]:
    """All rows in order, a few thousand at a time."""
    for file in files:
        location = open_location(file)
        with location.filesystem.open_input_file(location.path) as stream:
            yield from pq.ParquetFile(stream).iter_batches(batch_size=BATCH_ROWS, columns=columns)


def _need(schema: pa.Schema, file: str, name: str, fits: object, what: str, todo: str) -> None:
    if name not in schema.names:
        raise DataError(f"there is no column '{name}'", where=Place(file, column=name), todo=todo)
    found = schema.field(name).type
    if not callable(fits) or not fits(found):
        raise DataError(f"the column has type {found}, {what} is needed", where=Place(file, column=name), todo=todo)
