"""Figures of labels: against seqeval and scikit-learn, and against counts made by hand."""

import warnings

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rnnlm.data.labels.schemes import Span
from rnnlm.evaluation.label_metrics import (
    confusion,
    level_recall,
    reliability,
    score_columns,
    score_labels,
    score_multi_label,
    score_spans,
    score_structures,
    tagging_accuracy,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from seqeval.metrics import sequence_labeling as seqeval
    from sklearn import metrics as sklearn

LABELS = ["O", *(f"{prefix}-{kind}" for prefix in "BI" for kind in ("PER", "LOC"))]
CLASSES = ["a", "b", "c", "d"]


@st.composite
def sequences(draw, signs=LABELS):
    lengths = draw(st.lists(st.integers(1, 8), min_size=1, max_size=5))
    return [[draw(st.lists(st.sampled_from(signs), min_size=n, max_size=n)) for n in lengths] for _ in range(2)]


def averages(scores):
    return [(one.precision, one.recall, one.f1, one.support) for one in (scores.micro, scores.macro, scores.weighted)]


def table(scores):
    rows = [(one.precision, one.recall, one.f1, one.support) for one in scores.classes.values()]
    return np.array(rows, dtype=float).reshape(-1, 4)


@pytest.mark.parametrize("scheme", ["iob2", "iob1"])
@given(sequences())
def test_spans_score_as_in_seqeval_malformed_or_not(scheme, drawn):
    """seqeval's default, which is conlleval's rule, and not its strict mode, which counts no malformed span."""
    references, predictions = drawn
    scores = score_labels(references, predictions, scheme)
    assume(scores.classes)  # seqeval warns of none
    for average, found in zip(("micro", "macro", "weighted"), averages(scores), strict=True):
        expected = seqeval.precision_recall_fscore_support(references, predictions, average=average, zero_division=0)
        assert found == pytest.approx(expected)
    expected = seqeval.precision_recall_fscore_support(references, predictions, average=None, zero_division=0)
    assert table(scores) == pytest.approx(np.array(expected).T)


@given(sequences([*LABELS, "E-PER", "S-PER", "E-LOC", "S-LOC"]))
def test_iobes_scores_as_in_seqeval(drawn):
    micro = score_labels(*drawn, "iobes").micro
    assert micro.f1 == pytest.approx(seqeval.f1_score(*drawn, zero_division=0))


def test_a_span_is_right_if_words_and_type_are():
    references = [["B-PER", "I-PER", "O", "B-LOC"], ["B-PER"]]
    predictions = [["B-PER", "O", "O", "B-LOC"], ["B-LOC"]]
    scores = score_labels(references, predictions, "iob2")
    assert (scores.micro.precision, scores.micro.recall) == pytest.approx((1 / 3, 1 / 3))
    assert scores.classes["LOC"].precision == 0.5
    assert (scores.classes["PER"].support, scores.classes["PER"].predicted, scores.classes["PER"].f1) == (2, 1, 0.0)


@given(st.lists(st.tuples(st.sampled_from(CLASSES), st.sampled_from(CLASSES)), min_size=1, max_size=30))
def test_classes_score_as_in_scikit_learn(pairs):
    references, predictions = zip(*pairs, strict=True)
    found = confusion(references, predictions)
    names = sorted({*references, *predictions})
    whole = confusion(references, predictions, CLASSES)
    assert whole.counts.tolist() == sklearn.confusion_matrix(references, predictions, labels=CLASSES).tolist()
    assert found.accuracy == pytest.approx(sklearn.accuracy_score(references, predictions))
    scores = found.scores()
    for average, ours in zip(("micro", "macro", "weighted"), averages(scores), strict=True):
        expected = sklearn.precision_recall_fscore_support(references, predictions, average=average, zero_division=0)
        assert ours[:3] == pytest.approx(expected[:3])
    expected = sklearn.precision_recall_fscore_support(references, predictions, labels=names, zero_division=0)
    assert table(scores) == pytest.approx(np.array(expected).T)


@given(st.lists(st.tuples(*[st.sets(st.sampled_from(CLASSES))] * 2), min_size=1, max_size=20))
def test_sets_of_classes_score_as_in_scikit_learn(pairs):
    references, predictions = map(list, zip(*pairs, strict=True))
    found = score_multi_label(references, predictions, CLASSES)
    truth, output = ([[name in row for name in CLASSES] for row in rows] for rows in (references, predictions))
    truth, output = np.array(truth), np.array(output)
    for average, ours in zip(("micro", "macro", "weighted"), averages(found.scores), strict=True):
        expected = sklearn.precision_recall_fscore_support(truth, output, average=average, zero_division=0)
        assert ours[:3] == pytest.approx(expected[:3])
    assert found.exact == pytest.approx(sklearn.accuracy_score(truth, output))
    assert found.hamming_loss == pytest.approx(sklearn.hamming_loss(truth, output))


def test_the_commonest_mistakes_come_first():
    found = confusion("aaabbc", "abbbac")
    assert found.most_confused(5) == [("a", "b", 2), ("b", "a", 1)]
    assert confusion("ab", "aa", classes=CLASSES).counts.shape == (4, 4)


def test_words_that_training_did_not_hold_have_an_accuracy_of_their_own():
    found = tagging_accuracy(
        [["N", "V"], ["N"]], [["N", "N"], ["N"]], words=[["dogs", "blorp"], ["zug"]], known={"dogs"}
    )
    assert (found.all, found.unknown, found.sentences) == pytest.approx((2 / 3, 1 / 2, 1 / 2))
    assert (found.words, found.unknown_words) == (3, 2)


# ----- nested


def test_a_nested_span_is_one_item_whatever_its_level():
    outer, inner, wrong = Span(0, 4, "ORG"), Span(1, 2, "LOC"), Span(0, 1, "LOC")
    scores = score_spans([[outer, inner], []], [[inner, wrong], [outer]])
    assert (scores.micro.precision, scores.micro.recall) == pytest.approx((1 / 3, 1 / 2))
    assert scores.classes["ORG"].f1 == 0.0


def test_columns_are_held_against_their_own_level_as_in_germeval():
    reference = [[["B-ORG", "I-ORG"], ["B-LOC", "O"]]]
    prediction = [[["B-LOC", "O"], ["B-LOC", "O"]]]
    found = score_columns(reference, prediction, "iob2")
    assert [level.micro.f1 for level in found.levels] == [0.0, 1.0]
    assert (found.combined.micro.precision, found.combined.micro.recall) == (0.5, 0.5)
    with pytest.raises(ValueError, match="the texts have 1 or 2 columns of labels"):
        score_columns(reference, [[["O", "O"]]], "iob2")


def test_recall_tells_outermost_innermost_and_inner_spans_apart():
    a, b, c, alone = Span(0, 6, "A"), Span(0, 4, "B"), Span(1, 2, "C"), Span(7, 8, "D")
    found = level_recall([[a, b, c, alone], [Span(0, 1, "A"), Span(0, 1, "B")]], [[a, c], [Span(0, 1, "A")]])
    assert (found.num_outermost, found.num_innermost, found.num_inner) == (4, 4, 2)
    assert (found.outermost, found.innermost, found.inner) == (0.5, 0.5, 0.5)


# ----- structures


def test_a_structure_is_right_if_intent_and_slots_are():
    slots = [["B-city", "I-city"], ["O"], ["B-city"]]
    predicted = [["I-city", "I-city"], ["O"], ["O"]]
    found = score_structures(["fly", "fare", "fly"], ["fly", "fly", "fly"], slots, predicted, "iob2")
    assert found.intent == pytest.approx(2 / 3)
    assert found.exact == pytest.approx(1 / 3)
    assert found.slots.micro.recall == 0.5


# ----- calibration


def test_calibration_by_hand():
    found = reliability([0.1, 0.5, 0.6, 0.9, 1.0], [0, 1, 0, 1, 1], num_bins=2)
    assert found.counts.tolist() == [2, 3]
    assert found.confidence == pytest.approx([0.3, 2.5 / 3])
    assert found.accuracy == pytest.approx([0.5, 2 / 3])
    assert found.expected_calibration_error == pytest.approx(0.4 * 0.2 + 0.6 * (0.5 / 3))
    assert found.maximum_calibration_error == pytest.approx(0.2)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=40), st.integers(1, 20))
def test_each_prediction_is_in_the_bin_between_whose_edges_it_lies(pairs, num_bins):
    sure, right = np.array([a for a, _ in pairs]), np.array([b for _, b in pairs])
    found = reliability(sure, right, num_bins)
    for low, high, count in zip(found.edges, found.edges[1:], found.counts, strict=False):
        assert count == np.sum((sure > low) & (sure <= high)) + (np.sum(sure == 0.0) if low == 0.0 else 0)
    assert 0.0 <= found.expected_calibration_error <= 1.0


@pytest.mark.parametrize("confidences", [[1.1], [-0.1], [float("nan")]])
def test_what_is_no_probability_is_refused(confidences):
    with pytest.raises(ValueError, match="a confidence is not a number from 0 to 1"):
        reliability(confidences, [1])


# ----- what does not fit


def test_nothing_out_of_nothing_is_nothing():
    assert score_labels([], [], "iob2").micro.f1 == 0.0
    assert confusion([], []).accuracy == 0.0
    assert reliability([], []).expected_calibration_error == 0.0
    assert score_columns([], [], "iob2").levels == []
    assert tagging_accuracy([], []).all == 0.0


def test_predictions_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match="text 1 has 2 labels, 1 are predicted"):
        score_labels([["O", "O"]], [["O"]], "iob2")
    with pytest.raises(ValueError, match="zip"):
        score_spans([[], []], [[]])
    with pytest.raises(ValueError, match="confidences, but"):
        reliability([0.1], [])
