"""Columns of words and labels, a word a line and a sentence a paragraph, as in the CoNLL shared tasks before CoNLL-U.

Lines that open a document (`-DOCSTART-`) are left out. Nested annotations are several columns of labels.
"""

import re
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field

from rnnlm.config import config
from rnnlm.data.formats.paragraphs import Paragraph, ParagraphCorpus
from rnnlm.data.formats.text_blocks import with_compressed
from rnnlm.data.labels.entities import ENTITIES, STRINGS, entities_of
from rnnlm.data.labels.schemes import Scheme, Span, check_schemes, labels_of, spans_of
from rnnlm.data.labels.words import join_words
from rnnlm.errors import DataError

SUFFIXES = with_compressed((".conll", ".iob", ".iob2", ".bio", ".data"))
DOCUMENT = "-DOCSTART-"
BLANKS = re.compile("[ \t]+")


@config
class ConllColumnsCorpus(ParagraphCorpus):
    """Files of columns, plain or compressed; columns text, words, labels (labels_2, ...), and entities if there is a
    scheme."""

    word: int = 0
    "Which cell of a line is the word, counted from 0; -1 is the last."
    labels: list[int] = Field(default_factory=lambda: [-1], min_length=1)
    "Which cells are labels, one for each level of nested spans; they become labels, labels_2, and so on."
    scheme: Scheme | None = None
    "How labels stand for spans; null takes them for classes of words, without entities."
    write_scheme: Scheme | None = None
    "Write labels of spans in this scheme (iobes says most to a model); null leaves them as they are."
    separator: Literal["tab", "blank"] = "tab"
    "What separates cells: one tab, or any number of blanks and tabs."
    comment: str | None = None
    "Lines that begin with this are left out; null leaves out none, since a word may begin with anything."

    def __post_init__(self) -> None:
        if len(set(self.labels)) < len(self.labels):
            raise ValueError("labels: a cell stands there twice")
        if self.comment == "":
            raise ValueError("comment: every line begins with nothing; give a sign or null")
        check_schemes(self.scheme, self.write_scheme)

    def identity(self) -> dict[str, Any]:
        names = ("word", "labels", "scheme", "write_scheme", "separator", "comment")
        return {**super().identity(), **{name: getattr(self, name) for name in names}}

    def suffixes(self) -> tuple[str, ...]:
        return SUFFIXES

    def row_schema(self) -> pa.Schema:
        labels = [(name, STRINGS) for name in self._label_names()]
        entities = [("entities", ENTITIES)] if self.scheme is not None else []
        return pa.schema([("text", pa.string()), ("words", STRINGS), *labels, *entities])

    def is_row(self, paragraph: Paragraph) -> bool:
        return any(map(self._counts, paragraph.lines))

    def row_of(self, paragraph: Paragraph) -> dict[str, Any]:
        places = [index for index, line in enumerate(paragraph.lines) if self._counts(line)]
        rows = [self._cells(paragraph, index) for index in places]
        words = join_words([word for word, _ in rows])
        columns = dict(
            zip(self._label_names(), map(list, zip(*(labels for _, labels in rows), strict=True)), strict=True)
        )
        row = {"text": words.text, "words": list(words), **columns}
        if self.scheme is not None:
            spans = {name: self._spans(labels, paragraph, places) for name, labels in columns.items()}
            row["entities"] = entities_of({span for found in spans.values() for span in found}, words)
            if self.write_scheme is not None:
                row |= {name: labels_of(found, len(words), self.write_scheme) for name, found in spans.items()}
        return row

    def _counts(self, line: str) -> bool:
        return not (line.startswith(DOCUMENT) or (self.comment is not None and line.startswith(self.comment)))

    def _label_names(self) -> list[str]:
        return ["labels" if place == 0 else f"labels_{place + 1}" for place in range(len(self.labels))]

    def _cells(self, paragraph: Paragraph, index: int) -> tuple[str, list[str]]:
        """The word and the labels of a line."""
        line = paragraph.lines[index]
        cells = line.split("\t") if self.separator == "tab" else BLANKS.split(line.strip(" \t"))
        for place in (self.word, *self.labels):
            if not -len(cells) <= place < len(cells):
                raise DataError(
                    f"the line has {len(cells)} cell{'' if len(cells) == 1 else 's'}, there is no cell {place}",
                    where=paragraph.place(index),
                    todo="check corpus.word, corpus.labels and corpus.separator",
                )
            if not cells[place]:
                what = "word" if place == self.word else "label"
                raise DataError(f"the {what} is empty", where=paragraph.place(index), todo="check corpus.separator")
        return cells[self.word], [cells[place] for place in self.labels]

    def _spans(self, labels: list[str], paragraph: Paragraph, places: list[int]) -> list[Span]:
        assert self.scheme is not None
        try:
            return spans_of(labels, self.scheme)
        except ValueError as error:
            bad = next(index for index, label in enumerate(labels) if not _is_label(label, self.scheme))
            raise DataError(str(error), where=paragraph.place(places[bad]), todo="check corpus.scheme") from error


def _is_label(label: str, scheme: Scheme) -> bool:
    try:
        spans_of([label], scheme)
    except ValueError:
        return False
    return True
