"""Tables as text: one row a line, cells separated by tabs, all of them strings.

There is no quoting and no escaping: a cell holds anything but a tab and a line end, quotation marks among it. That is
what corpora of pairs look like; what a spreadsheet writes, with quoted cells, is to be made Parquet first.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rnnlm.config import config
from rnnlm.data.files import FileStamp, covers, list_files
from rnnlm.data.formats.base import CorpusConfig
from rnnlm.data.formats.text_blocks import Lines, read_lines, scan_lines, with_compressed
from rnnlm.data.listing import Unit
from rnnlm.errors import DataError, Place
from rnnlm.storage import Location

SUFFIXES = with_compressed((".tsv", ".tab"))
BYTE_ORDER_MARK = "\ufeff"


@config
class TsvCorpus(CorpusConfig):
    """Files of lines of tab-separated cells in UTF-8, plain or compressed."""

    path: str | list[str]
    "Where the files are."
    names: list[str] | None = None
    "Names of the columns, for files without a header; null takes them from the first line of each file."

    def __post_init__(self) -> None:
        if self.names is not None and (problem := _name_problem(self.names)):
            raise ValueError(f"names: {problem}")

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "names": self.names}

    def would_read(self, file: Location) -> bool:
        return covers(self.path, SUFFIXES, file)

    def list_files(self) -> list[FileStamp]:
        return list_files(self.path, SUFFIXES)

    def scan_file(self, file: FileStamp) -> tuple[list[Unit], pa.Schema]:
        units: list[Unit] = []
        names = self.names
        for lines in scan_lines(file, units):
            if names is None:
                names = _header(lines)
                lines = replace(lines, lines=lines.lines[1:], before=lambda: 1)
            _table(lines, names)
        if names is None:
            raise DataError("the file is empty, its first line should name the columns", where=Place(file.path))
        if self.names is None:  # the first unit keeps the header among its bytes, not among its rows
            units[0] = replace(units[0], rows=units[0].rows - 1)
        return units, pa.schema([(name, pa.string()) for name in names])

    def merge_schemas(self, schemas: Sequence[tuple[str, pa.Schema]]) -> pa.Schema:
        first_path, first = schemas[0]
        for path, found in schemas:
            for name in [*first.names, *found.names]:
                if name not in first.names or name not in found.names:
                    there, lacking = (path, first_path) if name in found.names else (first_path, path)
                    raise DataError(
                        f"there is no column '{name}', but in {there} there is",
                        where=Place(lacking),
                        todo="write all files with the same columns",
                    )
        return first

    def read_batches(self, unit: Unit, schema: pa.Schema, *, start: int, stop: int) -> Iterator[pa.Table]:
        names, header = self.names, 0
        if names is None:
            names = list(_names_of(unit.file))
            if unit.index == 0:
                unit, header = replace(unit, rows=unit.rows + 1), 1
        for lines in read_lines(unit, start + header, stop + header):
            yield _table(lines, names).select(schema.names).cast(schema)


def _table(lines: Lines, names: Sequence[str]) -> pa.Table:
    """The cells of some lines; raises DataError that names the first line with too many or too few of them."""
    # Checked to be UTF-8, so bytes become strings as they are.
    cells = pc.split_pattern(pa.array(lines.lines, pa.large_binary()).cast(pa.large_string()), "\t")
    counts = np.diff(cells.offsets.to_numpy())
    wrong = np.flatnonzero(counts != len(names))
    if len(wrong):
        count = counts[wrong[0]]
        raise DataError(
            f"the line has {count} cell{'' if count == 1 else 's'}, {len(names)} are needed ({', '.join(names)})",
            where=lines.place(int(wrong[0])),
            todo="separate cells by one tab each, and put no tab into a cell",
        )
    flat, columns = cells.flatten(), np.arange(len(lines.lines), dtype=np.int64) * len(names)
    return pa.table([flat.take(pa.array(columns + i)).cast(pa.string()) for i in range(len(names))], list(names))


def _header(lines: Lines) -> list[str]:
    names = lines.lines[0].decode().removeprefix(BYTE_ORDER_MARK).split("\t")
    if problem := _name_problem(names):
        raise DataError(
            f"the first line does not name the columns: {problem}",
            where=lines.place(0),
            todo="write a header, or set corpus.names",
        )
    return names


def _name_problem(names: Sequence[str]) -> str:
    if not names or "" in names:
        return "a name is empty"
    return next((f"'{name}' stands there twice" for name in names if names.count(name) > 1), "")


@functools.lru_cache(maxsize=256)
def _names_of(file: FileStamp) -> tuple[str, ...]:
    """The header of a file that was scanned; once a process, for it lies before most of the units."""
    for lines in scan_lines(file, []):
        return tuple(_header(lines))
    raise DataError("the file changed after it was listed", where=Place(file.path))
