"""word2vec's binary layout (Mikolov et al. 2013), `.bin`; plain, .gz, .xz or .zst.

V D\\n                                how many words, numbers of each
word, blank, D x float32, V times    little-endian; the original program ends each with a line feed, others do not
"""

import lzma
import re
from collections.abc import Iterator, Sequence

import numpy as np

from rnnlm.data.formats.text_blocks import byte_chunks, codec_of
from rnnlm.data.vector_files.base import Check, Matrix, VectorBlock
from rnnlm.errors import DataError, Place
from rnnlm.storage import open_location

NUMBER = np.dtype("<f4")
MAX_HEADER_BYTES = 64
MAX_WORD_BYTES = 1 << 16  # a longer one is no word: the file is something else
CUT_SHORT = "was its writing or copying cut short?"


class BinaryBlock(VectorBlock):
    """Words that begin in `content`, which stands at byte `start` of the (decompressed) file."""

    def __init__(self, path: str, content: bytes, start: int, size: int) -> None:
        self._path, self._content, self._start, self._size = path, content, start, size
        self._begins: list[int] = []
        self.words = []
        self.end = 0
        "Where what follows begins."

    def take(self, most: int) -> None:
        """Find up to so many words that lie in the content as a whole, with their numbers."""
        content, width = self._content, self._size * NUMBER.itemsize
        while len(self.words) < most:
            begin = self.end + content.startswith(b"\n", self.end)
            blank = content.find(b" ", begin)
            if blank < 0 or blank + 1 + width > len(content):
                break
            try:
                self.words.append(content[begin:blank].decode())
            except UnicodeDecodeError:
                raise self._error("the word is not valid UTF-8", begin, "is it word2vec's binary format?") from None
            self._begins.append(blank + 1)
            self.end = blank + 1 + width

    def raw_numbers(self, places: Sequence[int]) -> Matrix:
        found = [np.frombuffer(self._content, NUMBER, self._size, self._begins[place]) for place in places]
        return np.stack(found).astype(np.float32)

    def fail(self, problem: str, place: int) -> DataError:
        return self._error(f"word {self.words[place]!r}: {problem}", self._begins[place])

    def _error(self, problem: str, place: int, todo: str = "") -> DataError:
        return DataError(f"{problem} (byte {self._start + place:,})", where=Place(self._path), todo=todo)


def read_word2vec_binary(path: str, check: Check) -> Iterator[BinaryBlock]:
    """The blocks of a binary file. Raises DataError with the byte, counted from 0 in what was decompressed."""
    content, start, read = b"", 0, 0
    left = size = -1
    for chunk in _chunks(path):
        content, read = content + chunk, read + len(chunk)
        if left < 0:
            end = content.find(b"\n", 0, MAX_HEADER_BYTES) + 1
            if not end and len(content) < MAX_HEADER_BYTES:
                continue
            left, size = _header(path, content[:end])
            check(size, Place(path))
            content, start = content[end:], end
        block = BinaryBlock(path, content, start, size)
        block.take(left)
        if not block.words and len(content) > MAX_WORD_BYTES + size * NUMBER.itemsize:
            raise DataError(
                f"no word ends within {MAX_WORD_BYTES:,} bytes (byte {start:,})",
                where=Place(path),
                todo="is it word2vec's binary format?",
            )
        content, start, left = content[block.end :], start + block.end, left - len(block.words)
        if block.words:
            yield block
    if left:
        raise DataError(
            f"the file ends at byte {read:,}; still to come: {f'words, {left:,} of them' if left > 0 else 'a header'}",
            where=Place(path),
            todo=CUT_SHORT,
        )
    if content.strip(b"\n"):
        raise DataError(
            f"something follows the last word (byte {start:,})", where=Place(path), todo="is the number of words right?"
        )


def _header(path: str, line: bytes) -> tuple[int, int]:
    """V and D."""
    found = re.fullmatch(rb"(\d+) (\d+)\r?\n", line)
    if found is None or not int(found[2]):
        raise DataError(
            "the first line (byte 0) does not say how many words there are and of which size",
            where=Place(path),
            todo="is it word2vec's binary format? a text file must not end in .bin",
        )
    return int(found[1]), int(found[2])


def _chunks(path: str) -> Iterator[bytes]:
    """The file in order, decompressed."""
    location, codec, read = open_location(path), codec_of(path), 0
    try:
        for chunk in byte_chunks(location, codec):
            yield chunk
            read += len(chunk)
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise DataError(
            f"cannot decompress the file ({codec}) behind byte {read:,}: {str(error) or type(error).__name__}",
            where=Place(path),
            todo=CUT_SHORT,
        ) from error
