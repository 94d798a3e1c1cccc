"""Predicted labels beside the right ones: numbers, what is refused, and what the page says of them."""

import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rnnlm.data.labels.entities import ENTITIES
from rnnlm.data.labels.schemes import Span, scheme_of_names, spans_of
from rnnlm.errors import DataError
from rnnlm.evaluation.label_metrics import (
    confusion,
    level_recall,
    reliability,
    score_labels,
    score_spans,
    tagging_accuracy,
)
from rnnlm.evaluation.label_plots import OTHER, largest_confusions, map_confusions
from rnnlm.evaluation.labelled.bootstrap import bootstrap
from rnnlm.evaluation.labelled.columns import LabelColumns
from rnnlm.evaluation.labelled.evaluate import evaluate_labels
from rnnlm.evaluation.labelled.report import labelled_sentences, write_labelled
from rnnlm.evaluation.labelled.systems import Systems
from rnnlm.storage import open_location

EVIL = "<script>alert('x')</script>"
STRINGS = pa.list_(pa.string())
COLUMNS = LabelColumns("labels")


def write(folder, parts=1, **columns):
    """Parquet parts as jobs.predict writes them."""
    (folder / "data").mkdir(parents=True)
    table = pa.table(columns)
    step = -(-table.num_rows // parts)
    for part in range(parts):
        pq.write_table(table.slice(part * step, step), folder / f"data/part-{part:06d}.parquet")
    return str(folder)


def tagged(labels, rows=90, seed=3):
    """Random words, labels, predictions of which some are wrong, and confidences."""
    random = np.random.default_rng(seed)
    right, found, sure, words = [], [], [], []
    for row in range(rows):
        length = 1 + row % 7
        right.append([labels[i] for i in random.integers(0, len(labels), length)])
        found.append([one if random.random() < 0.8 else labels[random.integers(len(labels))] for one in right[-1]])
        sure.append(random.uniform(0.2, 1.0, length).astype(np.float32).tolist())
        words.append([f"word{i}" for i in range(length)])
    return {"words": words, "labels": right, "predicted_labels": found, "predicted_confidence": sure}


def entities(*spans, scores=None):
    found = [{"start_char": 0, "end_char": 1, **Span(*span)._asdict()} for span in spans]
    return [{**one, "score": score} for one, score in zip(found, scores, strict=True)] if scores else found


# ----- words


@pytest.mark.parametrize("parts", [1, 4])
def test_figures_of_words_are_those_of_label_metrics(tmp_path, parts):
    data = tagged(["NOUN", "VERB", "DET", "X-1"])
    found = evaluate_labels(write(tmp_path / "o", parts, **data), COLUMNS)
    assert (found.rows, found.errors, found.without_reference, found.spans, found.scheme) == (90, 0, 0, None, None)
    tags, right, predicted = found.tags, data["labels"], data["predicted_labels"]
    expected = tagging_accuracy(right, predicted)
    assert (tags.accuracy.value, tags.sentences, tags.words) == (expected.all, expected.sentences, expected.words)
    flat_right, flat = ([one for row in rows for one in row] for rows in (right, predicted))
    assert tags.pairs == Counter(zip(flat_right, flat, strict=True))
    counts = confusion(flat_right, flat)
    assert tags.classes == counts.scores()
    assert sorted(tags.most_confused(5)) == sorted(counts.most_confused(5))
    sure = [one for row in data["predicted_confidence"] for one in row]
    bins = reliability(sure, np.array(flat_right) == np.array(flat))
    assert tags.reliability.counts.tolist() == bins.counts.tolist()
    assert tags.reliability.expected_calibration_error == pytest.approx(bins.expected_calibration_error)
    assert tags.accuracy.low < tags.accuracy.value < tags.accuracy.high


def test_mistakes_come_with_their_words_the_most_confident_first(tmp_path):
    data = {
        "words": [["a", "dog", "runs"], ["it", "ran"]],
        "labels": [["D", "N", "V"], ["P", "V"]],
        "predicted_labels": [["D", "V", "V"], ["P", "N"]],
        "predicted_confidence": [[0.9, 0.6, 0.9], [0.9, 0.8]],
    }
    first, second = evaluate_labels(write(tmp_path / "o", 2, **data), COLUMNS).tags.mistakes
    assert (first.row, first.before, first.text, first.after) == (1, "it", "ran", "")
    assert (first.reference, first.predicted, first.confidence) == ("V", "N", 0.8)
    assert (second.row, second.before, second.text, second.after) == (0, "a", "dog", "runs")


def test_a_row_without_a_prediction_is_wrong_and_one_without_a_reference_left_out(tmp_path):
    path = write(
        tmp_path / "o",
        labels=pa.array([["A", "B"], ["A"], None, [], ["B"]], STRINGS),
        predicted_labels=pa.array([["A", "B"], None, ["A"], None, ["B"]], STRINGS),
        error=pa.array([None, "long_row: so long", None, "no_words", "non_finite"], pa.string()),
    )
    found = evaluate_labels(path, COLUMNS)
    assert (found.rows, found.errors, found.without_reference) == (3, 2, 2)
    tags = found.tags
    assert (tags.accuracy.value, tags.sentences, tags.words, tags.unpredicted) == (0.5, pytest.approx(1 / 3), 4, 2)
    assert tags.classes.classes["A"].recall == 0.5
    assert tags.classes.classes["A"].precision == 1.0
    assert tags.reliability is None
    assert labelled_sentences(found)[0].startswith("3 rows (2 without a prediction, 2 more without a reference)")


def test_classes_of_rows_and_other_layouts_of_arrow(tmp_path):
    path = write(
        tmp_path / "o",
        label=pa.array(["good", "bad", "good", None]).dictionary_encode(),
        text=["fine", "poor", "great", "x"],
        predicted_label=pa.array(["good", "good", "good", "bad"], pa.large_string()),
        predicted_confidence=pa.array([0.9, 0.8, 1.0, 0.5], pa.float32()),
    )
    found = evaluate_labels(path, LabelColumns("label"))
    assert (found.kind, found.rows, found.without_reference, found.spans) == ("label", 3, 1, None)
    assert found.tags.accuracy.value == pytest.approx(2 / 3)
    assert [(one.text, one.reference, one.predicted) for one in found.tags.mistakes] == [("poor", "bad", "good")]
    assert "words" not in labelled_sentences(found)[0]


def test_the_prefix_may_be_another_or_none(tmp_path):
    data = tagged(["A", "B"], 5)
    plain = write(tmp_path / "plain", gold=data["labels"], labels=data["predicted_labels"])
    assert evaluate_labels(plain, LabelColumns("gold")).predicted_column == "labels"
    named = write(tmp_path / "named", labels=data["labels"], my_labels=data["predicted_labels"])
    assert evaluate_labels(named, LabelColumns("labels", "my_")).predicted_column == "my_labels"
    with pytest.raises(DataError, match=r"no prediction for 'labels': none of predicted_labels, .* jobs.predict"):
        evaluate_labels(named, COLUMNS)


# ----- spans


@pytest.mark.parametrize("parts", [1, 5])
@pytest.mark.parametrize("scheme", [None, "iob2"])
def test_spans_of_labels_are_those_of_conlleval(tmp_path, parts, scheme):
    data = tagged(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"])
    found = evaluate_labels(write(tmp_path / "o", parts, **data), COLUMNS, scheme=scheme)
    assert found.scheme == "iob2"
    assert found.tags is not None
    expected = score_labels(data["labels"], data["predicted_labels"], "iob2")
    assert found.spans.classes == expected
    assert found.spans.f1.value == pytest.approx(expected.micro.f1)
    assert found.spans.f1.low < expected.micro.f1 < found.spans.f1.high


def test_a_guess_may_need_later_parts(tmp_path):
    right = [["B-A", "I-A"], ["S-A", "O"]]
    path = write(tmp_path / "o", 2, labels=right, predicted_labels=[["B-A", "I-A"], ["O", "O"]])
    found = evaluate_labels(path, COLUMNS)
    assert (found.scheme, found.spans.classes.micro.recall) == ("iobes", 0.5)
    path = write(tmp_path / "p", 2, labels=[["O", "B-A"], ["NOUN"]], predicted_labels=[["O", "B-A"], ["NOUN"]])
    assert evaluate_labels(path, COLUMNS).spans is None
    assert scheme_of_names({"B-A", "I-A"}) is None
    assert scheme_of_names({"O", "U-A", "L-A"}) == "bilou"


def test_nested_entities_are_sets_of_spans(tmp_path):
    right = [[(0, 3, "ORG"), (2, 3, "LOC")], [(1, 2, "PER")], [], [(0, 2, "LOC")]]
    predicted = [[(0, 3, "ORG"), (2, 3, "PER")], [(1, 2, "PER")], [(0, 1, "ORG")], [(1, 2, "LOC")]]
    scores = [[0.9, 0.6], [0.8], [0.7], [0.5]]
    kind = pa.list_(pa.struct([*ENTITIES.value_type, pa.field("score", pa.float32())]))
    path = write(
        tmp_path / "o",
        2,
        words=[["University", "of", "Rome"], ["I", "Ann"], ["x"], ["Bad", "Ems"]],
        entities=pa.array([entities(*row) for row in right], ENTITIES),
        predicted_entities=pa.array(
            [entities(*row, scores=score) for row, score in zip(predicted, scores, strict=True)], kind
        ),
    )
    found = evaluate_labels(path, LabelColumns("entities"))
    spans = [[Span(*one) for one in row] for row in right], [[Span(*one) for one in row] for row in predicted]
    assert (found.tags, found.scheme, found.spans.classes) == (None, None, score_spans(*spans))
    assert found.spans.levels == level_recall(*spans)
    bins = reliability(np.float32([0.9, 0.6, 0.8, 0.7, 0.5]), [True, False, True, False, False])
    assert found.spans.reliability.counts.tolist() == bins.counts.tolist()
    assert found.spans.reliability.accuracy.tolist() == bins.accuracy.tolist()
    assert [(one.text, one.reference, one.predicted) for one in found.spans.missed] == [
        ("Rome", "LOC", "PER"),
        ("Bad Ems", "LOC", "LOC (words 2\N{EN DASH}2)"),
    ]
    assert [(one.text, one.reference, one.predicted) for one in found.spans.spurious] == [
        ("x", "", "ORG"),
        ("Rome", "LOC", "PER"),
        ("Ems", "LOC (words 1\N{EN DASH}2)", "LOC"),
    ]
    write_labelled(Systems({"o": found}, []), "Names", {}, open_location(str(tmp_path / "report")))
    page = (tmp_path / "report/report.html").read_text()
    assert "Nested spans" in page
    assert "F1 of spans by class" in page
    assert "Accuracy of spans by confidence" in page
    assert "Confusion matrix" not in page


def test_labels_beside_predicted_entities_are_compared_by_spans(tmp_path):
    labels = [["B-PER", "I-PER", "O"], ["O", "B-LOC"]]
    predicted = [entities(*spans_of(labels[0], "iob2")), entities((0, 1, "LOC"))]
    path = write(tmp_path / "o", labels=labels, predicted_entities=pa.array(predicted, ENTITIES))
    found = evaluate_labels(path, COLUMNS)
    assert (found.tags, found.scheme, found.spans.classes.micro.f1) == (None, "iob2", 0.5)
    path = write(tmp_path / "p", labels=[["NOUN"]] * 2, predicted_entities=pa.array(predicted, ENTITIES))
    with pytest.raises(DataError, match=r"the labels \(NOUN\) are not O and others .* set scheme"):
        evaluate_labels(path, COLUMNS)


# ----- what is of no use


@pytest.mark.parametrize(
    ("columns", "change", "said"),
    [
        (LabelColumns("upos"), {}, r"there is no column 'upos' among words, labels, .*set reference_column"),
        (LabelColumns("id"), {"id": [1, 2]}, r"type int64; labels .* are needed .*column 'id'"),
        (COLUMNS, {"predicted_labels": [["A"], ["A"]]}, r"1 values, but 2 in 'labels' at .*row 1, .*the same words"),
        (LabelColumns("id", labels_of="words"), {"id": ["A", "B"]}, r"one label a row, and labels_of=words .*rows"),
        (LabelColumns("id", labels_of="rows", intent="id"), {"id": ["A", "B"]}, r"labels_of=rows is about classes"),
        (COLUMNS, {"words": [["a"], ["a"]]}, r"1 values, but 2 in 'labels' at .*column 'words'.*set labels_of=rows"),
        (COLUMNS, {"predicted_labels": [["A"], ["A", None]]}, r"a value is null at .*row 1, .*'predicted_labels'"),
        (COLUMNS, {"predicted_confidence": [[0.5], [0.5]]}, r"1 values, but 2 .*'predicted_confidence'"),
        (COLUMNS, {"predicted_confidence": [[0.5], [0.5, 1.5]]}, r"a confidence is not a number from 0 to 1"),
        (COLUMNS, {"predicted_confidence": [[0.5], [0.5, None]]}, r"a value is null at .*row 1, .*_confidence'"),
        (COLUMNS, {"error": ["e", "e"]}, r"no row has a reference and a prediction: 2 rows have a reference"),
        (COLUMNS, {"labels": pa.array([None, None], STRINGS)}, r"no row has .*2 rows have no reference"),
    ],
)
def test_what_is_of_no_use_is_named(tmp_path, columns, change, said):
    data = {
        "words": [["a"], ["a", "b"]],
        "labels": [["A"], ["A", "B"]],
        "predicted_labels": [["A"], ["A", "A"]],
        "predicted_confidence": [[0.5], [0.5, 0.9]],
    }
    with pytest.raises(DataError, match=said):
        evaluate_labels(write(tmp_path / "o", **{**data, **change}), columns)


def test_a_label_that_the_scheme_has_not_is_named(tmp_path):
    path = write(tmp_path / "o", labels=[["O"], ["S-A"]], predicted_labels=[["O"], ["O"]])
    with pytest.raises(DataError, match=r"label 1 is 'S-A', but iob2 has .*row 1, column 'labels'; set scheme"):
        evaluate_labels(path, COLUMNS, scheme="iob2")


# ----- intervals, plots, page


def test_the_bootstrap_draws_rows():
    counts = Counter({(3, 4): 50, (0, 2): 30, (5, 5): 20})
    found = bootstrap(counts, 2000)
    rows = np.array([pair for pair, number in counts.items() for _ in range(number)])
    random = np.random.default_rng(0)
    drawn = np.stack([rows[random.integers(0, len(rows), len(rows))].sum(0) for _ in range(2000)])
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [0.025, 0.975])
    assert found.value == pytest.approx(250 / 360)
    assert (found.low, found.high) == (pytest.approx(low, abs=0.01), pytest.approx(high, abs=0.01))
    assert bootstrap(counts, 2000) == found
    assert bootstrap(Counter({(0, 0): 3}), 100).value == 0.0


def test_many_classes_are_drawn_as_the_most_frequent_and_the_others():
    pairs = {(f"c{i}", f"c{i}"): 100 - i for i in range(50)} | {("c0", "c49"): 7}
    found = largest_confusions(pairs)
    assert len({name for pair in found for name in pair}) == 20
    assert found["c0", OTHER] == 7
    assert sum(found.values()) == sum(pairs.values())
    assert map_confusions(pairs, "Map").count("<rect") == 21


def test_the_page_has_the_plots_and_the_file_the_figures(tmp_path):
    data = tagged(["O", "B-" + EVIL, "$a_b$", "B-LOC"], rows=40)
    data["words"][0][0] = EVIL
    found = evaluate_labels(write(tmp_path / "o", **data), COLUMNS)
    write_labelled(Systems({"o": found}, []), EVIL, {"rnnlm": "1"}, open_location(str(tmp_path / "report")))
    assert {file.name for file in (tmp_path / "report").iterdir()} == {"labels.json", "report.html"}
    page = (tmp_path / "report/report.html").read_text()
    assert EVIL not in page
    for plot in ("Confusion matrix", "F1 of words by class", "Accuracy of words by confidence"):
        assert f'aria-label="{plot}"' in page
    content = json.loads((tmp_path / "report/labels.json").read_text())
    assert content["tags"]["accuracy"]["value"] == found.tags.accuracy.value
    assert sum(sum(row.values()) for row in content["tags"]["confusion"].values()) == content["tags"]["words"]
    assert len(content["tags"]["calibration"]["bins"]) == 15
    assert content["spans"] is None
