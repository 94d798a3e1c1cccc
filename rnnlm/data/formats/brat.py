"""brat's standoff format: a text, and beside it a file that says which characters of it are what.

`a.txt` is the document, `a.ann` its annotations; of these the entities count (`T1<tab>PER 0 5<tab>James`), other lines
(relations, events, attributes, notes) are left out. Words are found by the rule of `rnnlm.data.labels.words`; an entity
that begins or ends inside one keeps its characters, and its words are those it touches.
"""

import gzip
import lzma
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from rnnlm.config import config
from rnnlm.data.files import FileStamp, check_unchanged, covers, list_files, stamp
from rnnlm.data.formats.base import CorpusConfig
from rnnlm.data.formats.text_blocks import CODECS, CUT_SHORT, check_utf8, with_compressed
from rnnlm.data.labels.entities import ENTITIES, STRINGS, entity
from rnnlm.data.labels.schemes import Span
from rnnlm.data.labels.words import Words, split_words
from rnnlm.data.listing import Unit
from rnnlm.errors import DataError, Place
from rnnlm.storage import Location, open_location

TEXTS, ANNOTATIONS = with_compressed((".txt",)), with_compressed((".ann",))
BATCH_ROWS = 1024
ENTITY = re.compile(r"(\S+) ([0-9]+ [0-9]+(?:;[0-9]+ [0-9]+)*)")


@dataclass(frozen=True, slots=True)
class Annotation:
    """An entity of a document; `place` is its line."""

    start: int
    end: int
    type: str
    place: Place


@config
class BratCorpus(CorpusConfig):
    """Documents with standoff annotations, plain or compressed (both files alike); columns text, words, entities and
    document."""

    path: str | list[str]
    "Where the .txt files are; each has its .ann file beside it."
    rows: Literal["document", "line"] = "document"
    "What a row is: a document, or a line of it that is not empty."
    discontinuous: Literal["refuse", "leave_out"] = "refuse"
    "What to do with an entity in several pieces, or over several rows; the column left_out counts those left out."

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "rows": self.rows, "discontinuous": self.discontinuous}

    def would_read(self, file: Location) -> bool:
        return covers(self.path, (*TEXTS, *ANNOTATIONS), file)

    def list_files(self) -> list[FileStamp]:
        """Each text, and its annotations behind it."""
        files = []
        for text in list_files(self.path, TEXTS):
            beside = _beside(text.path)
            if not open_location(beside).exists():
                raise DataError(f"there are no annotations {beside}", where=Place(text.path), todo="add an empty file")
            files += [text, stamp(beside)]
        return files

    def scan_file(self, file: FileStamp) -> tuple[list[Unit], pa.Schema]:
        if open_location(file.path).path.endswith(ANNOTATIONS):
            return [], self._schema()
        beside = stamp(_beside(file.path))
        rows = self._rows(file.path, beside.path)
        # The stamp of the other file instead of bytes, to notice if it changes.
        return [Unit(file, 0, len(rows), file.size, beside.size, beside.mtime_ns)], self._schema()

    def merge_schemas(self, schemas: Sequence[tuple[str, pa.Schema]]) -> pa.Schema:
        return schemas[0][1]

    def read_batches(self, unit: Unit, schema: pa.Schema, *, start: int, stop: int) -> Iterator[pa.Table]:
        beside = _beside(unit.path)
        check_unchanged(unit.file)
        check_unchanged(FileStamp(beside, unit.start, unit.stop))
        rows = self._rows(unit.path, beside)[start:stop]
        for first in range(0, len(rows), BATCH_ROWS):
            yield pa.Table.from_pylist(rows[first : first + BATCH_ROWS], schema=schema)

    def _schema(self) -> pa.Schema:
        left_out = [("left_out", pa.int32())] if self.discontinuous == "leave_out" else []
        fields = [("text", pa.string()), ("words", STRINGS), ("entities", ENTITIES), ("document", pa.string())]
        return pa.schema([*fields, *left_out])

    def _rows(self, path: str, annotations: str) -> list[dict[str, Any]]:
        text = _content(path)
        found, in_pieces = self._annotations(annotations, text)
        name = open_location(path).path.rsplit("/", 1)[-1].rpartition(".txt")[0]
        extents = self._extents(text)
        for one in found:
            if not any(start <= one.start < end for start, end in extents):
                raise DataError("the entity begins between lines", where=one.place, todo="set corpus.rows=document")
        rows = []
        for start, end in extents:
            words = split_words(text[start:end])
            if not len(words):
                raise DataError("the document has no words", where=Place(path), todo="remove it")
            inside = [one for one in found if start <= one.start < end]
            whole = [one for one in inside if one.end <= end]
            if len(whole) < len(inside) and self.discontinuous == "refuse":
                raise self._refusal(next(one for one in inside if one.end > end).place, "goes over several lines")
            row: dict[str, Any] = {"text": words.text, "words": list(words), "document": name}
            row["entities"] = [_entity(one, words, start) for one in whole]
            row["left_out"] = len(inside) - len(whole) + sum(start <= place < end for place in in_pieces)
            rows.append(row)
        return rows

    def _extents(self, text: str) -> list[tuple[int, int]]:
        """Where rows begin and end in a document."""
        if self.rows == "document":
            return [(0, len(text))]
        return [match.span() for match in re.finditer(r"[^\r\n]*\S[^\r\n]*", text)]

    def _annotations(self, path: str, text: str) -> tuple[list[Annotation], list[int]]:
        """The entities of a document, and where those in pieces, that are left out, begin."""
        found, in_pieces = [], []
        for number, line in enumerate(_content(path).split("\n"), 1):
            if not line.startswith("T"):
                continue
            place = Place(path, line=number)
            _, _, rest = line.rstrip("\r").partition("\t")
            said, _, covered = rest.partition("\t")
            match = ENTITY.fullmatch(said)
            if match is None:
                raise DataError(
                    f"{said!r} is not a type and two offsets", where=place, todo="write T1<tab>PER 0 5<tab>James"
                )
            pieces = [tuple(map(int, piece.split(" "))) for piece in match[2].split(";")]
            for start, end in pieces:
                _check_offsets(start, end, text, place)
            if len(pieces) > 1:
                if self.discontinuous == "refuse":
                    raise self._refusal(place, f"has {len(pieces)} pieces")
                in_pieces.append(pieces[0][0])
                continue
            ((start, end),) = pieces
            there = text[start:end]
            if covered and _one_line(there) != _one_line(covered):
                raise DataError(f"characters {start} to {end} are {there!r}, not {covered!r}", where=place)
            found.append(Annotation(start, end, match[1], place))
        return sorted(found, key=lambda one: (one.start, -one.end, one.type)), in_pieces

    def _refusal(self, place: Place, what: str) -> DataError:
        return DataError(f"the entity {what}", where=place, todo="set corpus.discontinuous=leave_out")


def _beside(path: str) -> str:
    """The annotations of a text."""
    head, _, tail = path.rpartition(".txt")
    if not head:
        raise DataError("the name does not end in .txt", where=Place(path), todo="check corpus.path")
    return f"{head}.ann{tail}"


def _content(path: str) -> str:
    """All of a file, with its line ends as they are, since offsets count them."""
    location = open_location(path)
    codec = next((codec for suffix, codec in CODECS.items() if location.path.endswith(suffix)), None)
    content = location.read_bytes()
    try:
        if codec == "gzip":
            content = gzip.decompress(content)
        elif codec == "xz":
            content = lzma.decompress(content)
        elif codec is not None:
            with pa.input_stream(pa.BufferReader(content), compression=codec) as stream:
                content = stream.read()
    except (OSError, EOFError, lzma.LZMAError) as error:
        raise DataError(f"cannot decompress the file ({codec}): {error}", where=Place(path), todo=CUT_SHORT) from error
    check_utf8(content, path, 0)
    return content.decode()


def _check_offsets(start: int, end: int, text: str, place: Place) -> None:
    if not start < end <= len(text):
        raise DataError(f"the text has {len(text)} characters, none of them {start} to {end}", where=place)
    if not text[start:end].strip():
        raise DataError(f"characters {start} to {end} are white space", where=place)


def _one_line(text: str) -> str:
    """As brat writes what an entity covers: on one line."""
    return " ".join(text.split())


def _entity(one: Annotation, words: Words, offset: int) -> dict[str, Any]:
    start, end = one.start - offset, one.end - offset
    return entity(start, end, Span(*words.covering(start, end), one.type))
