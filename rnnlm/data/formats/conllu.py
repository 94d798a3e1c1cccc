"""CoNLL-U, the format of Universal Dependencies: ten cells a line, a sentence a paragraph, comments before it.

Words are the syntactic ones: ranges (`2-3  don't`) and empty nodes (`8.1`) are left out. `text` is the sentence's
`# text`, in which words need not stand as they are: offsets into it are not given.
"""

import re
from typing import Any, Literal

import conllu
import pyarrow as pa
from conllu.exceptions import ParseException

from rnnlm.config import config
from rnnlm.data.formats.paragraphs import Paragraph, ParagraphCorpus
from rnnlm.data.formats.text_blocks import with_compressed
from rnnlm.data.labels.entities import STRINGS
from rnnlm.errors import DataError

SUFFIXES = with_compressed((".conllu",))
CELLS = 10
NUMBER = re.compile(r"[0-9]+([-.][0-9]+)?")
# As they stand in the file: a label is a string, and `_` says that there is none.
AS_WRITTEN = dict.fromkeys(
    ("lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc"), lambda cells, place: cells[place]
)


@config
class ConlluCorpus(ParagraphCorpus):
    """Files in CoNLL-U, plain or compressed; columns text, words, labels and sentence_id."""

    field: Literal["upos", "xpos", "lemma", "feats", "deprel", "misc"] = "upos"
    "Which cell is the label of a word."

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "field": self.field}

    def suffixes(self) -> tuple[str, ...]:
        return SUFFIXES

    def row_schema(self) -> pa.Schema:
        return pa.schema([("text", pa.string()), ("words", STRINGS), ("labels", STRINGS), ("sentence_id", pa.string())])

    def is_row(self, paragraph: Paragraph) -> bool:  # noqa: ARG002 - comments without a sentence are a mistake
        return True

    def row_of(self, paragraph: Paragraph) -> dict[str, Any]:
        _check_cells(paragraph)
        try:
            (sentence,) = conllu.parse("\n".join(paragraph.lines), field_parsers=AS_WRITTEN)
        except (ParseException, ValueError) as error:
            problem = " ".join(str(error).split())
            raise DataError(f"the sentence is not valid CoNLL-U: {problem}", where=paragraph.place()) from error
        found = [word for word in sentence if isinstance(word["id"], int)]
        if not found:
            raise DataError("the sentence has no words", where=paragraph.place(), todo="remove it")
        words = [word["form"] for word in found]
        return {
            "text": sentence.metadata.get("text") or " ".join(words),
            "words": words,
            "labels": [word[self.field] for word in found],
            "sentence_id": sentence.metadata.get("sent_id"),
        }


def _check_cells(paragraph: Paragraph) -> None:
    """What the library would not say the line of."""
    for index, line in enumerate(paragraph.lines):
        if line.startswith("#"):
            continue
        cells = line.split("\t")
        if len(cells) != CELLS:
            raise DataError(
                f"the line has {len(cells)} cell{'' if len(cells) == 1 else 's'}, CoNLL-U has {CELLS}",
                where=paragraph.place(index),
                todo="separate cells by one tab each; is it CoNLL-U?",
            )
        if not NUMBER.fullmatch(cells[0]) or "" in cells:
            problem = "a cell is empty" if "" in cells else f"{cells[0]!r} is not the number of a word"
            raise DataError(problem, where=paragraph.place(index))
