"""Line-aligned text files, as corpora of translations come: line n of each file is row n, each file a column.

The files of a row are read side by side from their beginning, compressed or not, since the same lines lie at other
bytes in each: the files together are one unit. Each shard reads them up to its last row; a corpus of many gigabytes is
better written as Parquet, or as several files a column.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pyarrow as pa
from pydantic import Field

from rnnlm.config import config
from rnnlm.data.files import FileStamp, covers, list_files
from rnnlm.data.formats.base import CorpusConfig
from rnnlm.data.formats.lines import SUFFIXES
from rnnlm.data.formats.text_blocks import Lines, list_blocks, read_lines
from rnnlm.data.listing import Listing, Unit
from rnnlm.errors import DataError, Place, without_secrets
from rnnlm.storage import Location


@config
class ParallelCorpus(CorpusConfig):
    """Two or more text files in UTF-8, plain or compressed, whose lines belong together."""

    files: dict[str, str | list[str]] = Field(min_length=2)
    "A path for each column, such as {de: train.de.gz, en: train.en.gz}; lists, folders and globs pair in their order."

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "names": list(self.files)}

    def would_read(self, file: Location) -> bool:
        return any(covers(path, SUFFIXES, file) for path in self.files.values())

    def list_files(self) -> list[FileStamp]:
        """All files of the first column, then all of the second, and so on."""
        found = {name: list_files(path, SUFFIXES) for name, path in self.files.items()}
        counts = {name: len(files) for name, files in found.items()}
        if len(set(counts.values())) != 1:
            said = ", ".join(f"{count} for {name}" for name, count in counts.items())
            raise DataError(f"the columns have different numbers of files: {said}", todo="check corpus.files")
        files = [file for column in found.values() for file in column]
        path, times = Counter(file.path for file in files).most_common(1)[0]
        if times > 1:
            raise DataError("the same file is given for two columns", where=Place(path), todo="check corpus.files")
        return files

    def scan_file(self, file: FileStamp) -> tuple[list[Unit], pa.Schema]:
        """One file alone, as one unit; `list_units` puts those of a row together."""
        blocks = list_blocks(file)
        whole = Unit(file, 0, sum(unit.rows for unit in blocks), sum(unit.num_bytes for unit in blocks))
        return [whole], pa.schema([(name, pa.string()) for name in self.files])

    def merge_schemas(self, schemas: Sequence[tuple[str, pa.Schema]]) -> pa.Schema:
        return schemas[0][1]

    def list_units(self, known: Listing | None = None) -> Listing:
        listing = super().list_units(known)
        if listing is known:
            return listing
        size = len(listing.files) // len(self.files)
        groups = [listing.units[first::size] for first in range(size)]
        return replace(listing, units=tuple(map(_together, groups)))

    def read_batches(self, unit: Unit, schema: pa.Schema, *, start: int, stop: int) -> Iterator[pa.Table]:
        files = dict(zip(self.files, self._files_beside(unit), strict=True))
        wanted = schema.names or list(self.files)[:1]  # without columns there are still rows
        columns = {
            name: read_lines(replace(unit, file=files[name], start=0), start, stop, whole=True) for name in wanted
        }
        for found in _side_by_side(columns):
            # Checked to be UTF-8, so bytes become strings as they are.
            table = pa.table({name: pa.array(lines, pa.binary()).cast(pa.string()) for name, lines in found.items()})
            yield table.select(schema.names).cast(schema)

    def _files_beside(self, unit: Unit) -> list[FileStamp]:
        """The files of a unit, in the order of the columns, as they were when it was listed."""
        files = self.list_files()
        size = len(files) // len(self.files)
        for first in range(size):
            group = files[first::size]
            if without_secrets(group[0].path) == without_secrets(unit.path) and _digest(group[1:]) == unit.start:
                return group
        raise DataError(
            "the files beside this one changed after they were listed",
            where=Place(unit.path),
            todo="do not change a corpus while it is read; start again with another output folder",
        )


def _together(units: Sequence[Unit]) -> Unit:
    """The unit of files whose lines belong together; its `start` tells the other files from changed ones."""
    first = units[0]
    for other in units[1:]:
        if other.rows != first.rows:
            raise DataError(
                f"the files do not pair: {first.rows:,} lines in {first.path}, {other.rows:,} in {other.path}",
                todo="give files whose lines belong together",
            )
    return replace(
        first,
        num_bytes=sum(unit.num_bytes for unit in units),
        start=_digest([unit.file for unit in units[1:]]),
    )


def _digest(files: Sequence[FileStamp]) -> int:
    """62 bits of what the files looked like."""
    said = "\n".join(f"{without_secrets(file.path)} {file}" for file in files)
    return int.from_bytes(sha256(said.encode()).digest()[:8], "big") >> 2


def _side_by_side(columns: dict[str, Iterator[Lines]]) -> Iterator[dict[str, list[bytes]]]:
    """Equally many lines of each column at a time: as many as the column has that is least far ahead."""
    waiting: dict[str, list[bytes]] = {name: [] for name in columns}
    while True:
        for name, blocks in columns.items():
            if not waiting[name]:
                waiting[name] = next((block.lines for block in blocks if block.lines), [])
        count = min(map(len, waiting.values()))
        if not count:
            return
        yield {name: lines[:count] for name, lines in waiting.items()}
        waiting = {name: lines[count:] for name, lines in waiting.items()}
