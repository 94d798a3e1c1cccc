"""Text files as blocks of whole lines, found in one scan; lines end at a line feed and nothing else.

`str.splitlines` would also break at U+2028 and U+0085, which do occur inside texts and JSON strings.

A plain file consists of units of about 8 MB. A compressed one (.gz, .xz, .zst) can only be read from its beginning: it
is one unit, and goes through memory block by block.
"""

import lzma
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from rnnlm.data.files import FileStamp, check_unchanged
from rnnlm.data.listing import Unit
from rnnlm.errors import DataError, Place
from rnnlm.storage import Location, open_location

BLOCK_BYTES = 8 << 20
MAX_LINE_BYTES = 1 << 30  # Arrow's text columns and its JSON reader end at 2 GB
CUT_SHORT = "was its writing or copying cut short?"
CODECS = {".gz": "gzip", ".xz": "xz", ".zst": "zstd"}


@dataclass(frozen=True, slots=True)
class Lines:
    """Some lines of a file, without their ends (a carriage return before the line feed belongs to the end)."""

    path: str
    lines: list[bytes]
    before: Callable[[], int]
    "How many lines stand before them in the file; counted when a message needs it."

    def place(self, index: int | None = None, column: str | None = None) -> Place:
        """Where line `index` of these is."""
        return Place(self.path, line=None if index is None else self.before() + index + 1, column=column)


def with_compressed(suffixes: tuple[str, ...]) -> tuple[str, ...]:
    """The endings of plain files and of compressed ones."""
    return tuple(suffix + codec for codec in ("", *CODECS) for suffix in suffixes)


def scan_lines(file: FileStamp, units: list[Unit]) -> Iterator[Lines]:
    """Every line of a file, a block at a time; adds the file's units to `units` on the way.

    Raises DataError with file and line at invalid UTF-8 and where compressed data are damaged or end too early.
    """
    for block, before in _scan(file, units):
        yield Lines(file.path, _split(block), partial(int, before))


def list_blocks(file: FileStamp) -> list[Unit]:
    """The units of a file; raises as `scan_lines`."""
    units: list[Unit] = []
    for _ in _scan(file, units):
        pass
    return units


def _scan(file: FileStamp, units: list[Unit]) -> Iterator[tuple[bytes, int]]:
    """The blocks of a file, each with the number of lines before it."""
    line = start = 0
    compressed = codec_of(file.path) is not None
    for block in _blocks(file.path):
        check_utf8(block, file.path, line)
        yield block, line
        rows, stop = _count_lines(block), start + len(block)
        if compressed:
            units[:] = [Unit(file, 0, line + rows, stop)]
        else:
            units.append(Unit(file, len(units), rows, len(block), start, stop))
        line, start = line + rows, stop


def read_lines(unit: Unit, start: int, stop: int, *, whole: bool = False) -> Iterator[Lines]:
    """Lines `start` to `stop` of a unit, some megabytes at a time; `whole` says that a plain file is one unit too."""
    check_unchanged(unit.file)
    whole = whole or codec_of(unit.path) is not None
    blocks = _blocks(unit.path) if whole else _unit_block(unit)
    end = 0
    for block in blocks:
        begin, end = end, end + _count_lines(block)
        if end > start and stop > start:
            check_utf8(block, unit.path, partial(_lines_before, unit, begin))
            skipped = max(0, start - begin)
            yield Lines(unit.path, _split(block)[skipped : stop - begin], partial(_lines_before, unit, begin + skipped))
        if end >= stop:
            break
    if end < min(stop, unit.rows) or (not whole and end != unit.rows):
        raise DataError("the file changed after it was listed", where=Place(unit.path))


def check_utf8(block: bytes, path: str, lines_before: int | Callable[[], int]) -> None:
    """Raise DataError that names the line of the first byte that is not UTF-8."""
    try:
        block.decode()
    except UnicodeDecodeError as error:
        before = lines_before if isinstance(lines_before, int) else lines_before()
        raise DataError(
            f"not valid UTF-8 (byte 0x{block[error.start]:02x})",
            where=Place(path, line=before + block.count(b"\n", 0, error.start) + 1),
            todo="convert the file to UTF-8",
        ) from error


def codec_of(path: str) -> str | None:
    """How a file is compressed, by the ending of its name; None if it is not."""
    path = open_location(path).path  # a URI may go on behind the name
    return next((codec for suffix, codec in CODECS.items() if path.endswith(suffix)), None)


def _count_lines(block: bytes) -> int:
    return block.count(b"\n") + (not block.endswith(b"\n"))


def _split(block: bytes) -> list[bytes]:
    lines = block.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    return [line.removesuffix(b"\r") for line in lines]


def _lines_before(unit: Unit, line: int) -> int:
    """How many lines of the file stand before line `line` of a unit."""
    location = open_location(unit.path)
    left = unit.start
    if left:
        with location.filesystem.open_input_stream(location.path, compression=None) as stream:
            while left and (content := stream.read(min(left, BLOCK_BYTES))):
                left -= len(content)
                line += bytes(content).count(b"\n")
    return line


def _unit_block(unit: Unit) -> Iterator[bytes]:
    block = open_location(unit.path).read_range(unit.start, unit.stop - unit.start)
    if block:
        yield block


def byte_chunks(location: Location, codec: str | None) -> Iterator[bytes]:
    """A file from its beginning to its end, decompressed; each at most BLOCK_BYTES."""
    if codec is None:
        start = 0
        while content := location.read_range(start, BLOCK_BYTES):
            yield content
            start += len(content)
        return
    opened = location.retrying(lambda: _opened(location, codec))
    with opened as stream:
        while content := bytes(stream.read(BLOCK_BYTES)):
            yield content


def _opened(location: Location, codec: str) -> Any:
    """A stream of what was compressed."""
    if codec == "xz":  # which Arrow does not know
        return lzma.LZMAFile(location.filesystem.open_input_stream(location.path, compression=None))
    return location.filesystem.open_input_stream(location.path, compression=codec)


def _blocks(path: str) -> Iterator[bytes]:
    """Blocks of about BLOCK_BYTES that end at a line end; a longer line is a block of its own."""
    codec = codec_of(path)
    location = open_location(path)
    rest: list[bytes] = []
    line = 0
    try:
        if codec is not None and location.info().size == 0:
            raise DataError(f"the file has 0 bytes, not even {codec} of nothing has", where=Place(path), todo=CUT_SHORT)
        for content in byte_chunks(location, codec):
            end = content.rfind(b"\n") + 1
            if end:
                block = b"".join([*rest, content[:end]])
                yield block
                line += block.count(b"\n")
                rest = []
            if content[end:]:
                rest.append(content[end:])
            if sum(map(len, rest)) > MAX_LINE_BYTES:
                raise DataError(f"the line is longer than {MAX_LINE_BYTES >> 20} MB", where=Place(path, line=line + 1))
    except (OSError, EOFError, lzma.LZMAError) as error:
        line += sum(content.count(b"\n") for content in rest)
        problem = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"cannot decompress the file ({codec}) behind this line: {problem}",
            where=Place(path, line=line or None),
            todo=CUT_SHORT,
        ) from error
    if rest:
        yield b"".join(rest)
