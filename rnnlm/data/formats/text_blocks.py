"""Text files as blocks of whole lines, found in one scan; lines end at a line feed and nothing else.

`str.splitlines` would also break at U+2028 and U+0085, which do occur inside texts and JSON strings.
"""

from collections.abc import Iterator

from rnnlm.data.files import FileStamp, check_unchanged
from rnnlm.data.listing import Unit
from rnnlm.errors import DataError, Place
from rnnlm.storage import open_location

BLOCK_BYTES = 8 << 20


def list_blocks(file: FileStamp) -> list[Unit]:
    """Blocks of about 8 MB that end at a line end. Raises DataError with file and line at invalid UTF-8."""
    units: list[Unit] = []
    line = start = 0
    for index, block in enumerate(_blocks(file.path)):
        check_utf8(block, file.path, line)
        rows = block.count(b"\n") + (not block.endswith(b"\n"))
        units.append(Unit(file, index, rows, len(block), start, start + len(block)))
        line, start = line + rows, start + len(block)
    return units


def read_lines(unit: Unit) -> list[str]:
    """The lines of a block, without their ends (a carriage return before the line feed belongs to the end)."""
    check_unchanged(unit.file)
    location = open_location(unit.path)
    try:
        with location.filesystem.open_input_file(location.path) as stream:
            block = bytes(stream.read_at(unit.stop - unit.start, unit.start))
    except OSError as error:
        raise DataError(f"cannot read the file: {error}", where=Place(unit.path)) from error
    check_utf8(block, unit.path, 0)
    lines = block.decode().split("\n")
    if lines[-1] == "":
        lines.pop()
    if len(lines) != unit.rows:
        raise DataError("the file changed after it was listed", where=Place(unit.path))
    return [line.removesuffix("\r") for line in lines]


def check_utf8(block: bytes, path: str, first_line: int) -> None:
    """Raise DataError that names the line (counted from 1) of the first byte that is not UTF-8."""
    try:
        block.decode()
    except UnicodeDecodeError as error:
        line = first_line + block.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"line {line} is not valid UTF-8 (byte 0x{block[error.start]:02x})",
            where=Place(path, row=line - 1),
            todo="convert the file to UTF-8",
        ) from error


def _blocks(file: str) -> Iterator[bytes]:
    location = open_location(file)
    rest = b""
    with location.filesystem.open_input_stream(location.path, compression=None) as stream:
        while content := stream.read(BLOCK_BYTES):
            content = rest + bytes(content)
            end = content.rfind(b"\n") + 1
            if end:
                yield content[:end]
            rest = content[end:]
    if rest:
        yield rest
