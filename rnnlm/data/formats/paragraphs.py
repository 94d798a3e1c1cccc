"""Text files whose rows are paragraphs: lines up to an empty one, as sentences with a word a line come.

A row goes over lines, so a file is one unit, compressed or not: each shard reads it from its beginning up to its last
row. A corpus of many gigabytes is better written as several files, or as Parquet.
"""

import sys
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import pyarrow as pa

from rnnlm.config import config
from rnnlm.data.files import FileStamp, covers, list_files
from rnnlm.data.formats.base import CorpusConfig
from rnnlm.data.formats.text_blocks import Lines, read_lines, scan_lines
from rnnlm.data.listing import Unit
from rnnlm.errors import DataError, Place
from rnnlm.storage import Location

BATCH_ROWS = 4096
BYTE_ORDER_MARK = "\ufeff"


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Lines that belong together; `first` is the number of the first one in its file, from 1."""

    path: str
    lines: list[str]
    first: int

    def place(self, index: int = 0) -> Place:
        """Where line `index` of these is."""
        return Place(self.path, line=self.first + index)


@config
class ParagraphCorpus(CorpusConfig):
    """Base of formats with a row a paragraph."""

    path: str | list[str]
    "Where the files are."

    @abstractmethod
    def suffixes(self) -> tuple[str, ...]:
        """How the names of files end, where a folder is searched."""

    @abstractmethod
    def row_schema(self) -> pa.Schema:
        """The columns of a row."""

    @abstractmethod
    def is_row(self, paragraph: Paragraph) -> bool:
        """Whether it is one, and not the mark of a document or a comment alone; cheap."""

    @abstractmethod
    def row_of(self, paragraph: Paragraph) -> dict[str, Any]:
        """The row; raises DataError with file and line if it cannot be read."""

    def would_read(self, file: Location) -> bool:
        return covers(self.path, self.suffixes(), file)

    def list_files(self) -> list[FileStamp]:
        return list_files(self.path, self.suffixes())

    def scan_file(self, file: FileStamp) -> tuple[list[Unit], pa.Schema]:
        blocks: list[Unit] = []
        rows = 0
        for paragraph in paragraphs(scan_lines(file, blocks), file.path):
            if self.is_row(paragraph):
                self.row_of(paragraph)
                rows += 1
        return [Unit(file, 0, rows, sum(block.num_bytes for block in blocks))], self.row_schema()

    def merge_schemas(self, schemas: Sequence[tuple[str, pa.Schema]]) -> pa.Schema:
        return schemas[0][1]

    def read_batches(self, unit: Unit, schema: pa.Schema, *, start: int, stop: int) -> Iterator[pa.Table]:
        # Without rows, the reader of lines does not take their number for one of lines.
        lines = read_lines(replace(unit, rows=0, start=0), 0, sys.maxsize, whole=True)
        kept = filter(self.is_row, paragraphs(lines, unit.path))
        count = 0
        for some in _batched(islice(kept, start, stop)):
            yield pa.Table.from_pylist([self.row_of(one) for one in some], schema=schema)
            count += len(some)
        if count < min(stop, unit.rows) - start:
            raise DataError("the file changed after it was listed", where=Place(unit.path))


def paragraphs(blocks: Iterable[Lines], path: str) -> Iterator[Paragraph]:
    """What empty lines, or such of white space alone, separate; `blocks` are all lines of a file."""
    waiting: list[str] = []
    number = 0
    for block in blocks:
        for line in block.lines:
            number += 1
            if line.strip():
                text = line.decode()
                waiting.append(text.removeprefix(BYTE_ORDER_MARK) if number == 1 else text)
            elif waiting:
                yield Paragraph(path, waiting, number - len(waiting))
                waiting = []
    if waiting:
        yield Paragraph(path, waiting, number - len(waiting) + 1)


def _batched(rows: Iterator[Paragraph]) -> Iterator[list[Paragraph]]:
    while some := list(islice(rows, BATCH_ROWS)):
        yield some
