"""Label sequences and spans: there and back in every scheme, and malformed sequences as conlleval reads them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities

from rnnlm.data.labels.schemes import (
    SCHEMES,
    Span,
    columns_of,
    convert,
    count_violations,
    detect_scheme,
    labels_of,
    layers,
    spans_of,
    spans_of_columns,
)

LABELS = ["O", *(f"{prefix}-{kind}" for prefix in "BIES" for kind in ("PER", "LOC", "a-b"))]
SEQUENCES = st.lists(st.sampled_from(LABELS), max_size=12)
PAIR = [Span(0, 2, "PER"), Span(2, 3, "PER"), Span(4, 5, "LOC")]


@st.composite
def flat_spans(draw):
    """Spans without overlaps, and how many words there are."""
    spans, place = [], 0
    for _ in range(draw(st.integers(0, 5))):
        start = place + draw(st.integers(0, 2))
        place = start + draw(st.integers(1, 4))
        spans.append(Span(start, place, draw(st.sampled_from(["PER", "LOC", "a-b", ""]))))
    return spans, place + draw(st.integers(0, 2))


@st.composite
def nested_spans(draw):
    n = draw(st.integers(1, 9))
    ends = st.tuples(st.integers(0, n), st.integers(0, n)).filter(lambda pair: pair[0] != pair[1])
    spans = st.builds(lambda pair, kind: Span(min(pair), max(pair), kind), ends, st.sampled_from(["A", "B"]))
    return draw(st.sets(spans, max_size=8)), n


@pytest.mark.parametrize(
    ("scheme", "labels"),
    [
        ("iob1", ["I-PER", "I-PER", "B-PER", "O", "I-LOC"]),
        ("iob2", ["B-PER", "I-PER", "B-PER", "O", "B-LOC"]),
        ("iobes", ["B-PER", "E-PER", "S-PER", "O", "S-LOC"]),
        ("bilou", ["B-PER", "L-PER", "U-PER", "O", "U-LOC"]),
    ],
)
def test_each_scheme_writes_the_same_spans_its_own_way(scheme, labels):
    assert labels_of(PAIR, 5, scheme) == labels
    assert spans_of(labels, scheme) == PAIR
    assert count_violations(labels, scheme) == 0
    assert convert(labels, scheme, "iob2") == labels_of(PAIR, 5, "iob2")


def test_io_melts_neighbours_of_one_type():
    labels = labels_of(PAIR, 5, "io")
    assert labels == ["I-PER", "I-PER", "I-PER", "O", "I-LOC"]
    assert spans_of(labels, "io") == [Span(0, 3, "PER"), Span(4, 5, "LOC")]
    assert spans_of(["PER", "PER", "O", "LOC"], "io") == [Span(0, 2, "PER"), Span(3, 4, "LOC")]


@pytest.mark.parametrize("scheme", ["iob1", "iob2", "iobes", "bilou"])
@given(flat_spans())
def test_spans_come_back_from_their_labels(scheme, drawn):
    spans, n = drawn
    labels = labels_of(spans, n, scheme)
    assert spans_of(labels, scheme) == spans
    assert count_violations(labels, scheme) == 0


@given(SEQUENCES)
def test_any_sequence_is_read_as_seqeval_reads_it_which_is_as_conlleval_does(labels):
    found = [(kind, start, end - 1) for start, end, kind in spans_of(labels, "iobes")]
    assert found == get_entities(labels)


@given(SEQUENCES)
def test_a_repaired_sequence_keeps_its_spans_and_breaks_nothing(labels):
    repaired = convert(labels, "iobes", "iob2")
    assert spans_of(repaired, "iob2") == spans_of(labels, "iobes")
    assert count_violations(repaired, "iob2") == 0


@pytest.mark.parametrize(
    ("scheme", "labels", "spans", "violations"),
    [
        ("iob2", ["O", "I-PER", "I-PER"], [(1, 3, "PER")], 1),
        ("iob2", ["B-PER", "I-LOC"], [(0, 1, "PER"), (1, 2, "LOC")], 1),
        ("iob2", ["B-PER", "I-PER", "O", "I-PER"], [(0, 2, "PER"), (3, 4, "PER")], 1),
        ("iob1", ["O", "B-PER"], [(1, 2, "PER")], 1),
        ("iob1", ["I-PER", "B-PER", "B-LOC"], [(0, 1, "PER"), (1, 2, "PER"), (2, 3, "LOC")], 1),
        ("iobes", ["B-PER", "O"], [(0, 1, "PER")], 1),
        ("iobes", ["B-PER"], [(0, 1, "PER")], 1),
        ("iobes", ["I-PER", "E-PER", "E-PER"], [(0, 2, "PER"), (2, 3, "PER")], 2),
        ("iobes", ["B-PER", "S-PER"], [(0, 1, "PER"), (1, 2, "PER")], 1),
        ("bilou", ["B-PER", "L-LOC", "U-LOC"], [(0, 1, "PER"), (1, 2, "LOC"), (2, 3, "LOC")], 1),
        ("io", ["I-PER", "I-LOC"], [(0, 1, "PER"), (1, 2, "LOC")], 0),
        ("iob2", ["B", "I", "O", "I"], [(0, 2, ""), (3, 4, "")], 1),
        ("iob2", [], [], 0),
    ],
)
def test_malformed_sequences_are_repaired_and_counted(scheme, labels, spans, violations):
    assert spans_of(labels, scheme) == [Span(*span) for span in spans]
    assert count_violations(labels, scheme) == violations


@pytest.mark.parametrize(
    ("scheme", "label"), [("iob2", "PER"), ("iob2", "E-PER"), ("iob1", "b-PER"), ("iobes", "U-PER"), ("iob2", "B-")]
)
def test_a_label_of_no_scheme_is_named(scheme, label):
    with pytest.raises(ValueError, match=f"label 2 is '{label}', but {scheme} has O, B-, I-"):
        spans_of(["O", label], scheme)


@pytest.mark.parametrize(
    ("spans", "said"),
    [
        ([Span(0, 2, "A"), Span(1, 3, "B")], r"the span 1-3 \(B\) overlaps another"),
        ([Span(0, 4, "A")], "the span 0-4 does not lie within 3 words"),
        ([Span(1, 1, "A")], "the span 1-1 does not lie within 3 words"),
        ([Span(0, 1, ""), Span(0, 2, "")], "overlaps another"),
    ],
)
def test_spans_that_labels_cannot_hold_are_refused(spans, said):
    with pytest.raises(ValueError, match=said):
        labels_of(spans, 3, "iob2")


@pytest.mark.parametrize(
    ("sequences", "found"),
    [
        ([["O", "B-PER", "I-PER"], ["B-LOC"]], ("iob2", 0)),
        ([["O", "I-PER", "B-PER"], ["I-LOC"]], ("iob1", 0)),
        ([["O", "I-PER", "B-PER"], ["I-LOC"], ["B-LOC"]], ("iob1", 1)),
        ([["B-PER", "E-PER", "S-LOC"]], ("iobes", 0)),
        ([["B-PER", "L-PER"], ["U-LOC"]], ("bilou", 0)),
        ([["I-PER", "O"], ["I-LOC"]], ("io", 0)),
        ([["PER", "O"]], ("io", 0)),
    ],
)
def test_the_scheme_is_the_one_that_is_broken_least_often(sequences, found):
    assert detect_scheme(sequences) == found


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_scheme_recognises_what_it_wrote(scheme):
    assert detect_scheme([labels_of([*PAIR, Span(6, 9, "PER")], 9, scheme)]) == (scheme, 0)


@pytest.mark.parametrize("sequences", [[["B-PER"], ["PER"]], [["E-PER"], ["U-PER"]]])
def test_labels_of_no_scheme_at_all_are_refused(sequences):
    with pytest.raises(ValueError, match="label"):
        detect_scheme(sequences)


# ----- nested


def test_levels_begin_with_the_outermost_or_the_innermost_span():
    outer, inner, alone = Span(0, 4, "PER"), Span(0, 2, "PER"), Span(5, 6, "LOC")
    assert layers([inner, alone, outer]) == [[outer, alone], [inner]]
    assert layers([inner, alone, outer], "inner") == [[inner, alone], [outer]]
    columns = columns_of({outer, inner, alone}, 6, "iob2", order="inner", depth=3)
    assert columns == [
        ["B-PER", "I-PER", "O", "O", "O", "B-LOC"],
        ["B-PER", "I-PER", "I-PER", "I-PER", "O", "O"],
        ["O"] * 6,
    ]


def test_two_types_of_the_same_words_are_two_levels():
    spans = {Span(0, 2, "ORG"), Span(0, 2, "LOC")}
    assert columns_of(spans, 2, "iob2") == [["B-LOC", "I-LOC"], ["B-ORG", "I-ORG"]]


def test_more_levels_than_there_are_columns_are_refused():
    spans = [Span(0, n, "A") for n in (1, 2, 3)]
    assert len(columns_of(spans, 3, "iob2")) == 3
    with pytest.raises(ValueError, match="the spans need 3 levels, there are 2"):
        columns_of(spans, 3, "iob2", depth=2)


@pytest.mark.parametrize("order", ["outer", "inner"])
@given(nested_spans())
def test_nested_and_crossing_spans_come_back_from_their_columns(order, drawn):
    spans, n = drawn
    assert spans_of_columns(columns_of(spans, n, "iob2", order=order), "iob2") == spans


@given(nested_spans())
def test_the_first_level_holds_every_outermost_span_and_each_other_one_overlaps_it(drawn):
    spans, _ = drawn
    first, *others = layers(spans) or [[]]
    longer = {a for a in spans for b in spans if a != b and a.start_word <= b.start_word and b.end_word <= a.end_word}
    assert all(
        span in first or any(a.start_word < span.end_word and span.start_word < a.end_word for a in first)
        for span in longer
    )
    for span in (one for level in others for one in level):
        assert any(a.start_word < span.end_word and span.start_word < a.end_word for a in first)
