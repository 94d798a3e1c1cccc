"""Intents and slots beside the right ones."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rnnlm.data.labels.entities import ENTITIES
from rnnlm.data.labels.schemes import spans_of
from rnnlm.errors import DataError
from rnnlm.evaluation.label_metrics import score_structures
from rnnlm.evaluation.labelled.columns import LabelColumns
from rnnlm.evaluation.labelled.evaluate import evaluate_labels
from rnnlm.evaluation.labelled.report import labelled_sentences, write_labelled
from rnnlm.evaluation.labelled.systems import Systems
from rnnlm.storage import open_location

COLUMNS = LabelColumns("labels", intent="label")
PLACES = [("start_char", pa.int32()), ("end_char", pa.int32()), ("start_word", pa.int32()), ("end_word", pa.int32())]
SLOTS = pa.list_(pa.struct([("name", pa.string()), ("value", pa.string()), *PLACES, ("score", pa.float32())]))
WORDS = [["fly", "to", "New", "York"], ["what", "is", "AP"], ["hi"], ["from", "Rome"]]
LABELS = [["O", "O", "B-to", "I-to"], ["O", "O", "B-code"], ["O"], ["O", "B-from"]]
PREDICTED = [["O", "O", "B-to", "I-to"], ["O", "O", "O"], ["O"], ["O", "B-to"]]
INTENTS, FOUND = ["flight", "abbreviation", "other", "flight#fare"], ["flight", "abbreviation", "flight", "flight#fare"]


def slots(words, labels):
    return [
        {
            "name": span.type,
            "value": " ".join(words[span.start_word : span.end_word]),
            "start_char": 0,
            "end_char": 1,
            "start_word": span.start_word,
            "end_word": span.end_word,
            "score": 0.75,
        }
        for span in spans_of(labels, "iob2")
    ]


def write(folder, **change):
    columns = {
        "words": WORDS,
        "text": [" ".join(row) for row in WORDS],
        "labels": LABELS,
        "label": INTENTS,
        "entities": pa.array(
            [[{"start_char": 0, "end_char": 1, **span._asdict()} for span in spans_of(row, "iob2")] for row in LABELS],
            ENTITIES,
        ),
        "intent": FOUND,
        "intent_confidence": [0.9, 0.8, 0.7, 0.6],
        "slots": pa.array([slots(*row) for row in zip(WORDS, PREDICTED, strict=True)], SLOTS),
        **change,
    }
    path = folder / "out.parquet"
    pq.write_table(pa.table({name: value for name, value in columns.items() if value is not None}), path)
    return str(path)


@pytest.mark.parametrize("reference", ["labels", "entities"])
def test_figures_are_those_of_label_metrics(tmp_path, reference):
    found = evaluate_labels(write(tmp_path), LabelColumns(reference, intent="label"))
    expected = score_structures(INTENTS, FOUND, LABELS, PREDICTED, "iob2")
    assert found.spans.classes == expected.slots
    assert found.tags.accuracy.value == expected.intent == 0.75
    assert found.frames.accuracy.value == expected.exact == 0.25
    assert found.tags.reliability.counts.sum() == 4
    assert found.spans.reliability.counts.sum() == 2
    assert list(found.figures()) == ["frame accuracy", "F1 of slots", "intent accuracy"]
    assert [(one.row, one.reference, one.predicted) for one in found.frames.mistakes] == [
        (1, "abbreviation; code = AP", "abbreviation"),
        (2, "other", "flight"),
        (3, "flight#fare; from = Rome", "flight#fare; to = Rome"),
    ]


def test_several_intents_are_sets(tmp_path):
    sets = [["flight"], ["abbreviation"], ["flight", "other"], ["fare", "flight"]]
    path = write(tmp_path, intent=None, intents=sets, intent_confidence=[[0.9], [0.8], [0.6, 0.7], [0.9, 0.9]])
    found = evaluate_labels(path, COLUMNS)
    assert found.tags is None
    assert found.class_sets.exact.value == 0.75
    assert found.class_sets.classes.classes["fare"].recall == 1.0
    assert found.class_sets.reliability.counts.sum() == 6
    assert found.frames.accuracy.value == 0.25
    assert "intent micro F1" in labelled_sentences(found)[1]


def test_a_row_that_failed_is_wrong_and_one_without_an_intent_left_out(tmp_path):
    path = write(
        tmp_path, label=["flight", "abbreviation", None, "flight#fare"], error=["non_finite", None, None, None]
    )
    found = evaluate_labels(path, COLUMNS)
    assert (found.rows, found.errors, found.without_reference) == (3, 1, 1)
    assert found.tags.accuracy.value == pytest.approx(2 / 3)
    assert found.frames.accuracy.value == 0.0
    assert (found.frames.mistakes[0].reference, found.frames.mistakes[0].predicted) == ("flight; to = New York", "")


def test_without_intent_column_slots_are_spans(tmp_path):
    found = evaluate_labels(write(tmp_path, labels=None), LabelColumns("entities"))
    assert (found.predicted_column, found.frames, found.tags) == ("slots", None, None)


@pytest.mark.parametrize(
    ("columns", "change", "said"),
    [
        (COLUMNS, {"slots": None}, "no prediction for 'label': no columns slots and intent"),
        (LabelColumns("labels", intent="goal"), {}, "there is no column 'goal' .* set intent_column"),
        (LabelColumns("label", intent="label"), {}, "slots are compared with entities or with a label a word"),
        (LabelColumns("labels", intent="entities"), {}, "'intent' is to be compared with text .*set intent_column"),
    ],
)
def test_what_is_of_no_use_is_named(tmp_path, columns, change, said):
    with pytest.raises(DataError, match=said):
        evaluate_labels(write(tmp_path, **change), columns)


def test_the_page_and_the_file(tmp_path):
    found = Systems({"joint": evaluate_labels(write(tmp_path), COLUMNS)}, [])
    write_labelled(found, None, {}, open_location(str(tmp_path / "report")))
    page = (tmp_path / "report/report.html").read_text()
    for said in ("<h1>Intents and slots</h1>", "Wrong frames", "code = AP", "Accuracy of intents by confidence"):
        assert said in page
    content = json.loads((tmp_path / "report/labels.json").read_text())
    assert content["frames"]["accuracy"]["value"] == 0.25
    assert content["intent_column"] == "label"
