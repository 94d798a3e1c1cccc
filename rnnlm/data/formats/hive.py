"""Columns that stand in the names of folders, as Hive, Spark and Arrow write them: `lang=en/year=2024/x.parquet`."""

import re
from collections.abc import Mapping, Sequence
from urllib.parse import unquote

import pyarrow as pa

from rnnlm.errors import DataError, Place
from rnnlm.storage import open_location

NULL = "__HIVE_DEFAULT_PARTITION__"
INTEGER = re.compile(r"-?[0-9]{1,18}")  # any of these fits into 64 bits

Values = dict[str, str | None]


def folder_values(path: str, bases: Sequence[str]) -> Values:
    """Column -> value from the folders between the longest of `bases` that `path` lies below and its file."""
    inside = open_location(path).path  # as it is named there, not as a URI quotes it
    base = max((base for base in bases if inside.startswith(base + "/")), key=len, default=inside)
    found: Values = {}
    for part in inside[len(base) :].split("/")[:-1]:
        name, sign, value = part.partition("=")
        if not (name and sign):
            continue
        if unquote(name) in found:
            raise DataError("two folders of one path name the same column", where=Place(path, column=unquote(name)))
        found[unquote(name)] = None if value == NULL else unquote(value)
    return found


def add_folder_columns(schemas: Sequence[tuple[str, pa.Schema]], bases: Sequence[str]) -> list[tuple[str, pa.Schema]]:
    """The schemas of files, each with the columns of its folders behind those it holds itself.

    A column that the file holds is the file's own. A folder's column is int64 if each of its values is an integer,
    else string. Raises DataError if the files lie in folders that give different columns.
    """
    added = [
        {name: value for name, value in folder_values(path, bases).items() if name not in found.names}
        for path, found in schemas
    ]
    first = added[0]
    for (path, _), values in zip(schemas, added, strict=True):
        if values.keys() != first.keys():
            raise DataError(
                f"the folders give {_listed(values)} here and {_listed(first)} in {schemas[0][0]}",
                where=Place(path),
                todo="bring all files into folders of one kind, or set corpus.hive=false",
            )
    fields = [pa.field(name, _type([values[name] for values in added])) for name in first]
    return [(path, pa.schema([*found, *fields], metadata=found.metadata)) for path, found in schemas]


def typed(values: Values, schema: pa.Schema) -> dict[str, str | int | None]:
    """The values as the types of `schema` want them; columns that it lacks are left out."""
    return {
        name: int(value) if value is not None and pa.types.is_integer(schema.field(name).type) else value
        for name, value in values.items()
        if name in schema.names
    }


def _type(values: Sequence[str | None]) -> pa.DataType:
    known = [value for value in values if value is not None]
    return pa.int64() if known and all(map(INTEGER.fullmatch, known)) else pa.string()


def _listed(values: Mapping[str, object]) -> str:
    return f"the columns {', '.join(values)}" if values else "no columns"
