"""Boxes around spans within spans: every word once, in order, each box closed where its span ends."""

import pytest

from rnnlm.data.labels.schemes import Span
from rnnlm.evaluation.labelled.nested import boxes, holds_nested

WORDS = ["the", "New", "York", "Times", "of", "New", "York"]
PAPER, CITY, OTHER_CITY = Span(0, 4, "ORG"), Span(1, 3, "LOC"), Span(5, 7, "LOC")


def drawn(spans):
    signs = {"begin": "[", "word": "", "end": "]"}
    return " ".join(signs[kind] + (text if kind != "begin" else "") for kind, text in boxes(WORDS, spans))


def test_boxes_lie_in_boxes():
    assert drawn([CITY, OTHER_CITY, PAPER]) == "[ the [ New York ]LOC Times ]ORG of [ New York ]LOC"


def test_the_same_words_may_be_several_things():
    assert drawn([CITY, Span(1, 3, "GPE")]) == "the [ [ New York ]LOC ]GPE Times of New York"


@pytest.mark.parametrize(
    ("spans", "nested"),
    [
        ([PAPER, CITY], True),
        ([CITY, Span(1, 3, "GPE")], True),
        ([CITY, OTHER_CITY], False),
        ([Span(0, 2, "A"), Span(1, 3, "B")], False),
        ([PAPER, CITY, Span(2, 5, "B")], False),
        ([], False),
    ],
)
def test_crossing_spans_are_not_drawn(spans, nested):
    assert holds_nested(spans) is nested
