"""Plain text, one document a line: a table with one column."""

import pyarrow as pa

from rnnlm.config import config
from rnnlm.data.files import covers
from rnnlm.data.formats.base import CorpusConfig, Listing, Unit
from rnnlm.data.formats.text_blocks import list_blocks, read_lines
from rnnlm.storage import Location

SUFFIXES = (".txt", ".text", ".tokens", ".lines")


@config
class LinesCorpus(CorpusConfig):
    """Text files in UTF-8, one document a line; empty lines are empty documents."""

    path: str | list[str]
    "Where the files are."

    def would_read(self, file: Location) -> bool:
        return covers(self.path, SUFFIXES, file)

    def list_units(self) -> Listing:
        stamps, units = list_blocks(self.path, SUFFIXES)
        return Listing(tuple(stamps), tuple(units), pa.schema([(self.text_column, pa.string())]))

    def read_unit(self, unit: Unit, schema: pa.Schema, columns: list[str] | None = None) -> pa.Table:
        table = pa.table([pa.array(read_lines(unit), type=pa.string())], schema=schema)
        return table if columns is None else table.select(columns)
