"""Rows with several classes beside the right ones, against scikit-learn."""

import json
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rnnlm.errors import DataError
from rnnlm.evaluation.label_metrics import score_multi_label
from rnnlm.evaluation.labelled.class_sets import Decisions, average_precision
from rnnlm.evaluation.labelled.columns import LabelColumns
from rnnlm.evaluation.labelled.evaluate import evaluate_labels
from rnnlm.evaluation.labelled.report import labelled_sentences, usual_title, write_labelled
from rnnlm.evaluation.labelled.systems import Systems
from rnnlm.storage import open_location

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from sklearn import metrics as sklearn

CLASSES = ["joy", "fear", "anger", "love"]
COLUMNS = LabelColumns("labels", labels_of="rows")
STRINGS = pa.list_(pa.string())
PROBABILITIES = pa.list_(pa.struct([("label", pa.string()), ("probability", pa.float32())]))


def write(path, columns, step=None):
    """One part, or several of `step` rows."""
    table, folder = pa.table(columns), path / "data"
    folder.mkdir(parents=True)
    for part, first in enumerate(range(0, table.num_rows, step or table.num_rows)):
        pq.write_table(table.slice(first, step), folder / f"part-{part:06d}.parquet")
    return str(path)


def classified(rows=120, seed=1):
    """Reference sets, probabilities in tenths (so that some are equal), and what is at least 0.5."""
    random = np.random.default_rng(seed)
    right = random.random((rows, 4)) < 0.35
    sure = np.round(np.clip(0.35 * right + random.random((rows, 4)) * 0.65, 0, 1), 1).astype(np.float32)
    names = [[CLASSES[i] for i in np.flatnonzero(row)] for row in right]
    chosen = [np.flatnonzero(row >= 0.5) for row in sure]
    columns = {
        "text": [f"text {row}" for row in range(rows)],
        "labels": pa.array(names, STRINGS),
        "predicted_labels": pa.array([[CLASSES[i] for i in row] for row in chosen], STRINGS),
        "predicted_confidence": [row[some].tolist() for row, some in zip(sure, chosen, strict=True)],
        "predicted_probabilities": pa.array(
            [
                [{"label": name, "probability": p} for name, p in zip(CLASSES, row, strict=True)]
                for row in sure.tolist()
            ],
            PROBABILITIES,
        ),
    }
    return columns, right, sure


@pytest.mark.parametrize("step", [None, 50])
def test_figures_are_those_of_label_metrics_and_scikit_learn(tmp_path, step):
    columns, right, sure = classified()
    sets = evaluate_labels(write(tmp_path, columns, step), COLUMNS).class_sets
    expected = score_multi_label(columns["labels"].to_pylist(), columns["predicted_labels"].to_pylist())
    assert sets.classes == expected.scores
    assert (sets.f1.value, sets.exact.value) == (pytest.approx(expected.scores.micro.f1), expected.exact)
    assert sets.hamming_loss == pytest.approx(expected.hamming_loss)
    assert sets.f1.low < sets.f1.value < sets.f1.high
    for place, name in enumerate(CLASSES):
        (tn, fp), (fn, tp) = sklearn.confusion_matrix(right[:, place], sure[:, place] >= 0.5).tolist()
        assert sets.decisions[name] == Decisions(tp, fn, fp, tn)
        found = sklearn.average_precision_score(right[:, place], sure[:, place])
        assert sets.average_precision[name] == pytest.approx(found)
    assert sets.mean_average_precision == pytest.approx(np.mean(list(sets.average_precision.values())))
    assert sets.reliability.counts.sum() == sum(one.predicted for one in sets.classes.classes.values())


def test_average_precision_of_few():
    assert average_precision(np.array([True, False, True]), np.array([0.9, 0.8, 0.7])) == pytest.approx(5 / 6)
    assert average_precision(np.array([True, False]), np.array([0.5, 0.5])) == 0.5
    assert average_precision(np.array([False]), np.array([0.5])) == 0.0


def test_a_class_that_the_model_does_not_know_is_ranked_last(tmp_path):
    columns, right, _ = classified(rows=20)
    columns["labels"] = pa.array([[*row, *(["new"] if row else [])] for row in columns["labels"].to_pylist()], STRINGS)
    found = evaluate_labels(write(tmp_path, columns), COLUMNS).class_sets.average_precision["new"]
    assert found == pytest.approx(right.any(axis=1).mean())


def test_a_failed_row_has_every_decision_wrong_and_no_class_may_be_right(tmp_path):
    path = write(
        tmp_path,
        {
            "labels": pa.array([["joy"], [], [], None], STRINGS),
            "predicted_labels": pa.array([["joy", "fear"], [], None, ["joy"]], STRINGS),
            "predicted_confidence": [[0.9, 0.8], [], None, [0.9]],
            "text": ["a", "b", "c", "d"],
        },
    )
    found = evaluate_labels(path, COLUMNS)
    assert (found.rows, found.errors, found.without_reference) == (3, 1, 1)
    sets = found.class_sets
    assert sets.exact.value == pytest.approx(1 / 3)
    assert sets.hamming_loss == pytest.approx((1 + 2) / 6)
    assert [(one.text, one.reference, one.predicted) for one in sets.mistakes] == [
        ("a", "joy", "fear, joy"),
        ("c", "", ""),
    ]
    assert sets.mistakes[0].confidence == 0.8
    assert sets.average_precision is None
    assert "Hamming loss 50.00 %" in labelled_sentences(found)[0]


@pytest.mark.parametrize("reference", ["several", "label"])
def test_a_class_a_row_is_a_set_of_one(tmp_path, reference):
    path = write(
        tmp_path,
        {"several": [["joy"], ["fear", "joy"]], "label": ["joy", "fear"], "predicted_label": ["joy", "joy"]},
    )
    if reference == "label":
        assert evaluate_labels(path, LabelColumns("label", labels_of="rows")).tags.accuracy.value == 0.5
    else:
        assert evaluate_labels(path, LabelColumns("several", labels_of="rows")).class_sets.exact.value == 0.5


@pytest.mark.parametrize(
    ("change", "columns", "said"),
    [
        ({}, LabelColumns("labels"), "'predicted_labels' has classes of rows, .* set labels_of=rows"),
        (
            {"predicted_probabilities": None, "labels": [["joy", "fear"]], "predicted_labels": [["joy"]]},
            LabelColumns("labels"),
            "1 values, but 2 in 'labels' .*labels_of=rows",
        ),
        ({"predicted_confidence": [[0.5, 0.5, 0.5]]}, COLUMNS, "3 values, but 1 in 'predicted_labels' .*row 0"),
        (
            {"predicted_probabilities": pa.array([[{"label": None, "probability": 0.5}]], PROBABILITIES)},
            COLUMNS,
            "a probability is null, or not from 0 to 1 .*row 0, column 'predicted_probabilities'",
        ),
        ({"predicted_probabilities": pa.array([None], PROBABILITIES)}, COLUMNS, "a probability is null"),
        (
            {"predicted_probabilities": pa.array([[{"label": "joy", "probability": 1.5}]], PROBABILITIES)},
            COLUMNS,
            "not from 0 to 1",
        ),
    ],
)
def test_what_is_of_no_use_is_named(tmp_path, change, columns, said):
    data = {
        "labels": [["joy"]],
        "predicted_labels": [["joy"]],
        "predicted_confidence": [[0.9]],
        "predicted_probabilities": pa.array([[{"label": "joy", "probability": 0.9}]], PROBABILITIES),
    }
    path = write(tmp_path, {name: value for name, value in {**data, **change}.items() if value is not None})
    with pytest.raises(DataError, match=said):
        evaluate_labels(path, columns)


def test_the_page_and_the_file(tmp_path):
    found = Systems({"one": evaluate_labels(write(tmp_path / "o", classified()[0]), COLUMNS)}, [])
    write_labelled(found, None, {}, open_location(str(tmp_path / "report")))
    page = (tmp_path / "report/report.html").read_text()
    for said in ("Classes of rows", "average precision, %", "Hamming loss", "Accuracy of rows by confidence"):
        assert said in page
    content = json.loads((tmp_path / "report/labels.json").read_text())
    assert content["title"] == usual_title(found) == "Classes of rows"
    assert set(content["class_sets"]["decisions"]) == set(CLASSES)
    assert "systems" not in content
