"""Texts with their class, one a line: label and text, or text and label, with a separator between.

With a tab between, a line has exactly two cells. With another separator the text may hold it too: the label is what
stands before the first one, or behind the last one. Tables of more columns are `tsv`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field

from rnnlm.config import config
from rnnlm.data.files import FileStamp, covers, list_files
from rnnlm.data.formats.base import CorpusConfig
from rnnlm.data.formats.paragraphs import BYTE_ORDER_MARK
from rnnlm.data.formats.text_blocks import Lines, read_lines, scan_lines, with_compressed
from rnnlm.data.labels.entities import STRINGS
from rnnlm.data.listing import Unit
from rnnlm.errors import DataError, Place
from rnnlm.storage import Location

SUFFIXES = with_compressed((".tsv", ".tab", ".txt"))


@config
class LabelledTsvCorpus(CorpusConfig):
    """Files with a label and a text a line, plain or compressed; columns text and label (or labels)."""

    path: str | list[str]
    "Where the files are."
    label: Literal["first", "last"] = "first"
    "Where the label stands in a line."
    separator: str = Field(default="\t", min_length=1)
    "What stands between label and text."
    header: bool = False
    "Whether the first line of each file names the columns; it is left out."
    label_separator: str | None = Field(default=None, min_length=1)
    "What separates the labels of a text that may have several, or none; null for one label each."

    def identity(self) -> dict[str, Any]:
        names = ("label", "separator", "header", "label_separator")
        return {**super().identity(), **{name: getattr(self, name) for name in names}}

    def would_read(self, file: Location) -> bool:
        return covers(self.path, SUFFIXES, file)

    def list_files(self) -> list[FileStamp]:
        return list_files(self.path, SUFFIXES)

    def scan_file(self, file: FileStamp) -> tuple[list[Unit], pa.Schema]:
        units: list[Unit] = []
        for lines in scan_lines(file, units):
            # Now, while there are only as many units as were read.
            first = not lines.before()
            if first and self.header:
                lines = replace(lines, lines=lines.lines[1:], before=lambda: 1)
            self._table(lines, first=first)
        if self.header:
            if not units:
                raise DataError("the file is empty, its first line should name the columns", where=Place(file.path))
            units[0] = replace(units[0], rows=units[0].rows - 1)  # the header stays among its bytes
        return units, self._schema()

    def merge_schemas(self, schemas: Sequence[tuple[str, pa.Schema]]) -> pa.Schema:
        return schemas[0][1]

    def read_batches(self, unit: Unit, schema: pa.Schema, *, start: int, stop: int) -> Iterator[pa.Table]:
        skipped = 1 if self.header and unit.index == 0 else 0
        first = unit.index == 0 and start + skipped == 0
        unit = replace(unit, rows=unit.rows + skipped)
        for lines in read_lines(unit, start + skipped, stop + skipped):
            yield self._table(lines, first=first).select(schema.names).cast(schema)
            first = False

    def _schema(self) -> pa.Schema:
        label = ("label", pa.string()) if self.label_separator is None else ("labels", STRINGS)
        return pa.schema([("text", pa.string()), label])

    def _table(self, lines: Lines, *, first: bool) -> pa.Table:
        """`first` says that the first of the lines is that of its file."""
        texts = [line.decode() for line in lines.lines]
        if first and texts:
            texts[0] = texts[0].removeprefix(BYTE_ORDER_MARK)
        rows = [self._row(line, lines, index) for index, line in enumerate(texts)]
        columns = [[text for text, _ in rows], [label for _, label in rows]]
        schema = self._schema()
        return pa.table([pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)], schema)

    def _row(self, line: str, lines: Lines, index: int) -> tuple[str, str | list[str]]:
        cells = line.split(self.separator)
        if len(cells) < 2 or (self.separator == "\t" and len(cells) > 2):
            count = f"{len(cells)} cell{'' if len(cells) == 1 else 's'}"
            raise DataError(
                f"the line has {count}, a label and a text are needed with {self.separator!r} between",
                where=lines.place(index),
                todo="check corpus.separator; for tables of more columns take corpus=tsv",
            )
        label, text = cells[0], self.separator.join(cells[1:])
        if self.label == "last":
            text, label = self.separator.join(cells[:-1]), cells[-1]
        if not text.strip():
            raise DataError(
                "the text is empty", where=lines.place(index), todo="remove the line, or check corpus.label"
            )
        if self.label_separator is not None:
            return text, [one for one in label.split(self.label_separator) if one]
        if not label:
            raise DataError("the label is empty", where=lines.place(index), todo="check corpus.label")
        return text, label
