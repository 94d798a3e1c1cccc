"""JSON lines: one object a line. The schema is that of all lines of all files, not of the first."""

import dataclasses
import io
import re
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.json

from rnnlm.config import config
from rnnlm.data.files import FileStamp, covers, list_files
from rnnlm.data.formats.base import CorpusConfig
from rnnlm.data.formats.text_blocks import Lines, read_lines, scan_lines, with_compressed
from rnnlm.data.listing import Unit
from rnnlm.errors import DataError, Place
from rnnlm.storage import Location

SUFFIXES = with_compressed((".jsonl", ".ndjson"))


@config
class JsonlCorpus(CorpusConfig):
    """Files with a JSON object a line, plain or compressed; a field that a line lacks is null there."""

    path: str | list[str]
    "Where the files are."

    def would_read(self, file: Location) -> bool:
        return covers(self.path, SUFFIXES, file)

    def list_files(self) -> list[FileStamp]:
        return list_files(self.path, SUFFIXES)

    def scan_file(self, file: FileStamp) -> tuple[list[Unit], pa.Schema]:
        units: list[Unit] = []
        merged = pa.schema([])
        for lines in scan_lines(file, units):
            merged = _unified(merged, _json_types(_parse(lines, None).schema), lines)
        return units, merged

    def merge_schemas(self, schemas: Sequence[tuple[str, pa.Schema]]) -> pa.Schema:
        merged = pa.schema([])
        for path, found in schemas:
            merged = _unified(merged, found, path)
        return merged

    def read_batches(self, unit: Unit, schema: pa.Schema, *, start: int, stop: int) -> Iterator[pa.Table]:
        for lines in read_lines(unit, start, stop):
            yield _parse(lines, schema)


def _unified(merged: pa.Schema, found: pa.Schema, where: str | Lines) -> pa.Schema:
    """One schema with every field; int and double become double, null and anything becomes that. `where` is a file or
    the lines that `found` is the schema of."""
    try:
        return pa.unify_schemas([merged, found], promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
        message = str(error).splitlines()[0]
        if not isinstance(where, str) and _problem(where.lines, merged):
            raise _bad_line(where, merged) from error
        field = re.search(r"Field (.+?) has incompatible types", message)
        place = Place(where) if isinstance(where, str) else where.place(0)
        place = dataclasses.replace(place, column=field[1] if field else None)
        raise DataError(f"a field changes its type: {message}", where=place) from error


def _json_types(schema: pa.Schema) -> pa.Schema:
    """JSON has no time: a string that looks like one is a string, or a single date would change a column's type."""
    return pa.schema([field.with_type(_json_type(field.type)) for field in schema])


def _json_type(found: pa.DataType) -> pa.DataType:
    if pa.types.is_temporal(found):
        return pa.string()
    if pa.types.is_list(found):
        return pa.list_(_json_type(found.value_type))
    if pa.types.is_struct(found):
        return pa.struct([field.with_type(_json_type(field.type)) for field in found.fields])
    return found


def _parse(lines: Lines, schema: pa.Schema | None) -> pa.Table:
    for index, line in enumerate(lines.lines):
        _check_object(line.strip(), lines, index)
    try:
        table = _read_json(lines.lines, schema)
    except pa.ArrowInvalid as error:
        raise _bad_line(lines, schema) from error
    if table.num_rows != len(lines.lines):
        raise _bad_line(lines, schema)
    return table


def _check_object(line: bytes, lines: Lines, index: int) -> None:
    """Each line begins and ends as an object does; so none can be part of an object that goes over several lines."""
    if not line:
        raise DataError("an empty line is not a JSON object", where=lines.place(index), todo="remove it")
    if not line.startswith(b"{"):
        raise DataError(
            f"the line is not a JSON object, it begins with {line[:20].decode(errors='replace')!r}",
            where=lines.place(index),
            todo='write one object a line, as in {"text": "..."}',
        )
    if not line.endswith(b"}"):
        raise DataError(
            f"the JSON object does not end with the line, which ends in {line[-20:].decode(errors='replace')!r}",
            where=lines.place(index),
            todo="was its writing or copying cut short?",
        )


def _read_json(lines: Sequence[bytes], schema: pa.Schema | None) -> pa.Table:
    content = b"\n".join(lines)
    options = pyarrow.json.ParseOptions(
        explicit_schema=schema, unexpected_field_behavior="infer" if schema is None else "ignore"
    )
    # One block: the reader cannot promote a type from one block to the next.
    read_options = pyarrow.json.ReadOptions(use_threads=False, block_size=max(1024, len(content) + 1))
    return pyarrow.json.read_json(io.BytesIO(content), read_options=read_options, parse_options=options)


def _bad_line(lines: Lines, schema: pa.Schema | None) -> DataError:
    """What is wrong, and in which line: the last one of the shortest beginning that cannot be parsed.

    Arrow names a row for some errors only.
    """
    good, bad = 0, len(lines.lines)
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (good, middle) if _problem(lines.lines[:middle], schema) else (middle, bad)
    problem = _problem(lines.lines[:bad], schema)
    message = re.sub(r" in row \d+$", "", problem)
    field = re.search(r"Column\(/([^)]*)\)", message)
    return DataError(f"not valid JSON lines: {message}", where=lines.place(bad - 1, field[1] if field else None))


def _problem(lines: Sequence[bytes], schema: pa.Schema | None) -> str:
    """Why some lines cannot be parsed; empty if they can."""
    try:
        found = _read_json(lines, schema).num_rows
    except pa.ArrowInvalid as error:
        return str(error).splitlines()[0]
    return "" if found == len(lines) else "the line holds more than one object"
