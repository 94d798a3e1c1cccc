"""Plain text, one document a line: a table with one column."""

from collections.abc import Iterator, Sequence

import pyarrow as pa

from rnnlm.config import config
from rnnlm.data.files import FileStamp, covers, list_files
from rnnlm.data.formats.base import CorpusConfig
from rnnlm.data.formats.text_blocks import list_blocks, read_lines, with_compressed
from rnnlm.data.listing import Unit
from rnnlm.storage import Location

SUFFIXES = with_compressed((".txt", ".text", ".tokens", ".lines"))


@config
class LinesCorpus(CorpusConfig):
    """Text files in UTF-8, plain or compressed, one document a line; empty lines are empty documents."""

    path: str | list[str]
    "Where the files are."

    def would_read(self, file: Location) -> bool:
        return covers(self.path, SUFFIXES, file)

    def list_files(self) -> list[FileStamp]:
        return list_files(self.path, SUFFIXES)

    def scan_file(self, file: FileStamp) -> tuple[list[Unit], pa.Schema]:
        return list_blocks(file), pa.schema([(self.text_column, pa.string())])

    def merge_schemas(self, schemas: Sequence[tuple[str, pa.Schema]]) -> pa.Schema:
        return schemas[0][1]

    def read_batches(self, unit: Unit, schema: pa.Schema, *, start: int, stop: int) -> Iterator[pa.Table]:
        for found in read_lines(unit, start, stop):
            # Checked to be UTF-8, so bytes become a string as they are.
            table = pa.table({self.text_column: pa.array(found.lines, pa.binary()).cast(pa.string())})
            yield table.select(schema.names).cast(schema)
