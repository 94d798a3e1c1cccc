"""JSON lines: one object a line. The schema is that of all lines of all files, not of the first."""

import io
import re
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.json

from rnnlm.config import config
from rnnlm.data.files import FileStamp, covers, list_files
from rnnlm.data.formats.base import CorpusConfig
from rnnlm.data.formats.text_blocks import list_blocks, read_lines
from rnnlm.data.listing import Unit
from rnnlm.errors import DataError, Place
from rnnlm.storage import Location

SUFFIXES = (".jsonl", ".ndjson")


@config
class JsonlCorpus(CorpusConfig):
    """Files with a JSON object a line; a field that a line lacks is null there."""

    path: str | list[str]
    "Where the files are."

    def would_read(self, file: Location) -> bool:
        return covers(self.path, SUFFIXES, file)

    def list_files(self) -> list[FileStamp]:
        return list_files(self.path, SUFFIXES)

    def scan_file(self, file: FileStamp) -> tuple[list[Unit], pa.Schema]:
        units = list_blocks(file)
        found = [_json_types(_parse(unit, None).schema) for unit in units]
        return units, _unified([(_place(unit), schema) for unit, schema in zip(units, found, strict=True)])

    def merge_schemas(self, schemas: Sequence[tuple[str, pa.Schema]]) -> pa.Schema:
        return _unified([(Place(path), schema) for path, schema in schemas])

    def read_batches(self, unit: Unit, schema: pa.Schema, *, start: int, stop: int) -> Iterator[pa.Table]:
        yield _parse(unit, schema).slice(start, stop - start)


def _unified(schemas: Sequence[tuple[Place, pa.Schema]]) -> pa.Schema:
    """One schema with every field; int and double become double, null and anything becomes that."""
    merged = pa.schema([])
    for place, found in schemas:
        try:
            merged = pa.unify_schemas([merged, found], promote_options="permissive")
        except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
            raise DataError(f"a field changes its type: {str(error).splitlines()[0]}", where=place) from error
    return merged


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


def _parse(unit: Unit, schema: pa.Schema | None) -> pa.Table:
    lines = read_lines(unit)
    if any(not line.strip() for line in lines):
        row = next(i for i, line in enumerate(lines) if not line.strip())
        raise DataError("an empty line is not a JSON object", where=_place(unit, row), todo="remove it")
    content = "\n".join(lines).encode()
    options = pyarrow.json.ParseOptions(
        explicit_schema=schema, unexpected_field_behavior="infer" if schema is None else "ignore"
    )
    try:
        # One block, so that the numbering of rows in messages is that of the unit.
        read_options = pyarrow.json.ReadOptions(use_threads=False, block_size=max(1024, len(content) + 1))
        table = pyarrow.json.read_json(io.BytesIO(content), read_options=read_options, parse_options=options)
    except pa.ArrowInvalid as error:
        message = str(error).splitlines()[0]
        found = re.search(r"in row (\d+)", message)
        raise DataError(
            f"not valid JSON lines: {message}", where=_place(unit, int(found[1]) if found else None)
        ) from error
    if table.num_rows != len(lines):
        raise DataError(f"{len(lines)} lines gave {table.num_rows} objects", where=_place(unit))
    return table


def _place(unit: Unit, row: int | None = None) -> Place:
    return Place(unit.path, row_group=unit.index, row=row)
