"""Line-aligned files of words and of their labels, as corpora of intents and slots come (ATIS, SNIPS).

Line n of one file holds the words of row n, with blanks between, line n of another equally many labels, and line n of a
third, if there is one, the class of the whole.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
from pydantic import Field

from rnnlm.config import config
from rnnlm.data.files import FileStamp
from rnnlm.data.formats.base import CorpusConfig
from rnnlm.data.formats.parallel import ParallelCorpus
from rnnlm.data.labels.entities import ENTITIES, STRINGS, entities_of
from rnnlm.data.labels.schemes import Scheme, check_schemes, labels_of, spans_of
from rnnlm.data.labels.words import join_words
from rnnlm.data.listing import Listing, Unit
from rnnlm.errors import DataError, Place
from rnnlm.storage import Location


@config
class WordLabelLinesCorpus(CorpusConfig):
    """Two or three text files whose lines belong together, plain or compressed; columns text, words, labels, label (or
    classes, of which a row may have several) if there are some, and entities if there is a scheme."""

    words: str | list[str]
    "Where the files of words are."
    labels: str | list[str]
    "Where the files of labels are, as many as there are of words, in the same order."
    label: str | list[str] | None = None
    "Where the files of classes are; null if there are none."
    label_separator: str | None = Field(default=None, min_length=1)
    "What stands between several classes of one row (# in ATIS), whose column is then classes; null: each has one."
    scheme: Scheme | None = None
    "How labels stand for spans; null takes them for classes of words, without entities."
    write_scheme: Scheme | None = None
    "Write labels of spans in this scheme (iobes says most to a model); null leaves them as they are."

    def __post_init__(self) -> None:
        check_schemes(self.scheme, self.write_scheme)
        if self.label_separator is not None and self.label is None:
            raise ValueError("label_separator is about the classes; give label=... too")

    def identity(self) -> dict[str, Any]:
        return {
            **super().identity(),
            "has_label": self.label is not None,
            **({} if self.label_separator is None else {"label_separator": self.label_separator}),
            "scheme": self.scheme,
            "write_scheme": self.write_scheme,
        }

    def would_read(self, file: Location) -> bool:
        return self._parallel().would_read(file)

    def list_files(self) -> list[FileStamp]:
        return self._parallel().list_files()

    def scan_file(self, file: FileStamp) -> tuple[list[Unit], pa.Schema]:
        return self._parallel().scan_file(file)

    def merge_schemas(self, schemas: Sequence[tuple[str, pa.Schema]]) -> pa.Schema:
        return self._parallel().merge_schemas(schemas)

    def list_units(self, known: Listing | None = None) -> Listing:
        listing = self._parallel().list_units(known)
        if listing is not known:
            listing = replace(listing, schema=self._schema())
            for unit in listing.units:
                for _ in self.read_batches(unit, listing.schema, start=0, stop=unit.rows):
                    pass  # to refuse now what cannot be read
        self._check_selection(listing.schema)
        return listing

    def read_batches(self, unit: Unit, schema: pa.Schema, *, start: int, stop: int) -> Iterator[pa.Table]:
        parallel = self._parallel()
        lines = pa.schema([(name, pa.string()) for name in parallel.files])
        row = start
        for table in parallel.read_batches(unit, lines, start=start, stop=stop):
            rows = [self._row(found, Place(unit.path, line=row + n + 1)) for n, found in enumerate(table.to_pylist())]
            yield pa.Table.from_pylist(rows, schema=schema)
            row += len(rows)

    def _parallel(self) -> ParallelCorpus:
        files = {"words": self.words, "labels": self.labels}
        return ParallelCorpus(files=files if self.label is None else {**files, "label": self.label})

    def _schema(self) -> pa.Schema:
        label: list[tuple[str, pa.DataType]] = []
        if self.label is not None:
            label = [("label", pa.string())] if self.label_separator is None else [("classes", STRINGS)]
        entities = [("entities", ENTITIES)] if self.scheme is not None else []
        return pa.schema([("text", pa.string()), ("words", STRINGS), ("labels", STRINGS), *label, *entities])

    def _row(self, lines: dict[str, str], where: Place) -> dict[str, Any]:
        """The row of one line of each file; `where` is the line of words."""
        words, labels = ([one for one in lines[name].split(" ") if one] for name in ("words", "labels"))
        if not words:
            raise DataError("the line has no words", where=where, todo="remove it from all files")
        if len(words) != len(labels):
            raise DataError(
                f"the line has {len(words)} words, but {len(labels)} labels",
                where=where,
                todo="give a label a word, with blanks between, in the same line of the other file",
            )
        joined = join_words(words)
        row: dict[str, Any] = {"text": joined.text, "words": words, "labels": labels}
        if self.label is not None:
            label = lines["label"].strip()
            if not label:
                raise DataError("the line has words, but its class is empty", where=where)
            if self.label_separator is None:
                row["label"] = label
            else:
                row["classes"] = [one.strip() for one in label.split(self.label_separator) if one.strip()]
        if self.scheme is not None:
            try:
                spans = spans_of(labels, self.scheme)
            except ValueError as error:
                raise DataError(f"{error}", where=where, todo="check corpus.scheme") from error
            row["entities"] = entities_of(spans, joined)
            if self.write_scheme is not None:
                row["labels"] = labels_of(spans, len(words), self.write_scheme)
        return row
