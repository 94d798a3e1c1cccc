"""The columns that labelled corpora have, whatever format they come from.

Names and what they hold:

    text       the text; of words that are given, the words joined by a blank
    words      the words
    labels     a label a word (`labels_2`, ... for further columns), or the classes of the text
    label      the class of the text
    entities   spans of the text, in order: characters `start_char` to `end_char` and words `start_word` to `end_word`,
               ends exclusive
"""

from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from rnnlm.data.labels.schemes import Span
from rnnlm.data.labels.words import Words

STRINGS = pa.list_(pa.string())
ENTITIES = pa.list_(
    pa.struct(
        [
            ("start_char", pa.int32()),
            ("end_char", pa.int32()),
            ("start_word", pa.int32()),
            ("end_word", pa.int32()),
            ("type", pa.string()),
        ]
    )
)
SCORED_ENTITIES = pa.list_(pa.struct([*ENTITIES.value_type, pa.field("score", pa.float32())]))  # predicted ones


def entities_of(spans: Iterable[Span], words: Words) -> list[dict[str, Any]]:
    """Spans as rows of the column `entities`: in order, of those that begin together longer ones first."""
    ordered = sorted(spans, key=lambda span: (span.start_word, -span.end_word, span.type))
    return [entity(*words.characters(span.start_word, span.end_word), span) for span in ordered]


def entity(start_char: int, end_char: int, span: Span) -> dict[str, Any]:
    """One row of the column `entities`."""
    return {"start_char": start_char, "end_char": end_char, **span._asdict()}


def spans_in(entities: Iterable[dict[str, Any]]) -> set[Span]:
    """The spans of one value of the column `entities`."""
    return {Span(one["start_word"], one["end_word"], one["type"]) for one in entities}
