"""Spans within spans, as a reader sees them: a row's words with a box around each span."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from rnnlm.data.labels.schemes import Span

MAX_EXAMPLES = 6  # that are shown
MAX_WORDS = 60  # of a row that is shown


class Piece(NamedTuple):
    """Where a box begins or ends (`text` is its type), or a word."""

    kind: Literal["begin", "word", "end"]
    text: str


@dataclass(frozen=True)
class NestedExample:
    """A row whose predicted spans nest and are all right. `row` counts from 0 over all parts."""

    row: int
    pieces: list[Piece]


def holds_nested(spans: Collection[Span]) -> bool:
    """Whether a span lies in another, and none crosses another."""
    pairs = [(one, other) for one in spans for other in spans if one < other]
    return not any(_cross(*pair) for pair in pairs) and any(_nest(*pair) for pair in pairs)


def boxes(words: Sequence[str], spans: Collection[Span]) -> Iterator[Piece]:
    """The words from left to right with the boxes of spans that do not cross; longer ones are outside."""
    ordered = sorted(spans, key=lambda span: (span.start_word, -span.end_word, span.type))
    open_spans: list[Span] = []
    for place, word in enumerate(words):
        while ordered and ordered[0].start_word == place:
            open_spans.append(ordered.pop(0))
            yield Piece("begin", open_spans[-1].type)
        yield Piece("word", word)
        while open_spans and open_spans[-1].end_word == place + 1:
            yield Piece("end", open_spans.pop().type)


def _nest(one: Span, other: Span) -> bool:
    """Whether the second lies in the first, or the first in the second; `one` < `other`."""
    return one.end_word > other.start_word


def _cross(one: Span, other: Span) -> bool:
    return one.start_word < other.start_word < one.end_word < other.end_word
