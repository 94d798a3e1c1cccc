"""JSON lines: one object a line. The schema is that of all lines of all files, not of the first."""

import io
import re

import pyarrow as pa
import pyarrow.json

from rnnlm.config import config
from rnnlm.data.files import covers
from rnnlm.data.formats.base import CorpusConfig, Listing, Unit
from rnnlm.data.formats.text_blocks import list_blocks, read_lines
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

    def list_units(self) -> Listing:
        stamps, units = list_blocks(self.path, SUFFIXES)
        schema = pa.schema([])
        for unit in units:
            found = _json_types(_parse(unit, None).schema)
            try:
                schema = pa.unify_schemas([schema, found], promote_options="permissive")
            except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
                raise DataError(
                    f"a field changes its type: {str(error).splitlines()[0]}", where=_place(unit)
                ) from error
        return Listing(tuple(stamps), tuple(units), schema)

    def read_unit(self, unit: Unit, schema: pa.Schema, columns: list[str] | None = None) -> pa.Table:
        table = _parse(unit, schema)
        return table if columns is None else table.select(columns)


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
