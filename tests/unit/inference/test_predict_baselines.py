"""Baselines in bulk: the columns of networks, filled by counts and linear models."""

import numpy as np
import pyarrow as pa
import pytest

from rnnlm.baselines import BagOfWordsConfig, HMMConfig, MostFrequentConfig
from rnnlm.baselines.base import text_of
from rnnlm.data.labelled import LabelledRows
from rnnlm.errors import ConfigError
from rnnlm.inference.precision import Products
from rnnlm.inference.predict_work import PredictWork
from rnnlm.storage import open_location

NAMED = LabelledRows(
    [["Mary", "saw", "New", "York"], ["Peter", "saw", "Mary"]],
    [["B-PER", "O", "B-LOC", "I-LOC"], ["B-PER", "O", "B-PER"]],
    of_rows=False,
)
TAGGED = NAMED._replace(labels=[["N", "V", "A", "N"], ["N", "V", "N"]])
JUDGED = LabelledRows(
    [["good", "film"], ["bad", "film"], ["good"], ["bad"]], [["p"], ["n"], ["p"], ["n"]], of_rows=True
)
SORTED = JUDGED._replace(labels=[["p", "f"], ["n", "f"], ["p"], []])
ROWS = [["Mary", "saw", "New", "York"], [], None, ["Zoë", "saw", "Mary"], ["good", "film"]]


def save(folder, settings, rows, **options):
    model = settings.fit(rows, **options)
    model.save(open_location(str(folder)))
    return model, str(folder)


def processed(work, **columns):
    table = pa.table(columns)
    found = work.build("cpu").process(table, np.arange(table.num_rows))
    assert set(found.columns) == {field.name for field in work.new_fields()}
    for field in work.new_fields():
        assert found.columns[field.name].type == field.type
    return {name: column.to_pylist() for name, column in found.columns.items()}


@pytest.mark.parametrize("settings", [HMMConfig(), MostFrequentConfig()], ids=["hmm", "most_frequent"])
def test_words_get_labels_with_confidences_and_spans_where_labels_are_those_of_a_scheme(settings, tmp_path):
    model, path = save(tmp_path / "tags", settings, TAGGED)
    columns = processed(PredictWork(checkpoint=path), words=ROWS)
    assert list(columns) == ["error", "labels", "confidence"]
    assert [error and error.split(":")[0] for error in columns["error"]] == [None, "no_words", "null_text", None, None]
    for row, labels, sure in zip(ROWS, columns["labels"], columns["confidence"], strict=True):
        if not row:
            assert labels is sure is None
            continue
        assert [labels] == model.tag([row])
        np.testing.assert_allclose(sure, model.confidences([row], [labels])[0], rtol=1e-6)
    model, path = save(tmp_path / "names", settings, NAMED)
    (spans, *_) = processed(PredictWork(checkpoint=path), words=ROWS)["entities"]
    assert [(one["start_word"], one["end_word"], one["type"]) for one in spans] == [(0, 1, "PER"), (2, 4, "LOC")]
    assert spans[1]["score"] == pytest.approx(min(model.confidences(ROWS[:1], model.tag(ROWS[:1]))[0][2:]))
    plain = processed(PredictWork(checkpoint=path, entities=False, words_column="text", splits=True), text=["Mary saw"])
    assert plain["labels"] == [["B-PER", "O"]]
    assert plain["words"] == [["Mary", "saw"]]


@pytest.mark.parametrize("settings", [BagOfWordsConfig(min_documents=1), MostFrequentConfig()], ids=["bag", "most"])
def test_rows_get_classes_with_probabilities(settings, tmp_path):
    model, path = save(tmp_path / "one", settings, JUDGED)
    columns = processed(PredictWork(checkpoint=path, probabilities=True), words=ROWS)
    expected = model.probabilities([text_of(ROWS[-1])])[0]
    assert columns["label"][-1] == model.labels[expected.argmax()]
    assert columns["confidence"][-1] == pytest.approx(expected.max())
    assert sum(one["probability"] for one in columns["probabilities"][-1]) == pytest.approx(1.0)
    assert columns["label"][1] is columns["probabilities"][2] is None
    model, path = save(tmp_path / "several", settings, SORTED, multi_label=True)
    columns = processed(PredictWork(checkpoint=path, threshold=0.3), words=ROWS)
    expected = model.probabilities([text_of(ROWS[-1])])[0]
    assert columns["labels"][-1] == [model.labels[place] for place in np.flatnonzero(expected >= 0.3)]
    assert columns["labels"][1] is None


def test_a_baseline_has_an_identity_and_a_cost(tmp_path):
    (_, first), (_, second) = save(tmp_path / "a", HMMConfig(), TAGGED), save(tmp_path / "b", HMMConfig(), NAMED)
    works = [PredictWork(checkpoint=path, entities=False) for path in (first, second)]
    assert works[0].identity()["model"] == works[0].provenance()["model"] != works[1].identity()["model"]
    assert works[0].cost().seconds_per_row > 0


@pytest.mark.parametrize(
    ("settings", "rows", "fields", "problem"),
    [
        (HMMConfig(), TAGGED, {"window": 5}, "window: it is about networks"),
        (HMMConfig(), TAGGED, {"k_best": 2}, "k_best: it is about networks"),
        (HMMConfig(), TAGGED, {"probabilities": True}, "probabilities: it is about classes of rows"),
        (HMMConfig(), TAGGED, {"calibration": "there"}, "calibration: it is about classes of rows"),
        (HMMConfig(), TAGGED, {"entities": True}, "entities: the labels of the checkpoint"),
        (HMMConfig(), TAGGED, {"products": Products(precision="int8")}, "precision: it is about networks"),
        (BagOfWordsConfig(), JUDGED, {"entities": True}, "entities: it is about labels of words"),
        (BagOfWordsConfig(), JUDGED, {"threshold": 0.7}, "threshold: it is about rows of several"),
        (BagOfWordsConfig(), JUDGED, {"temperature": 2.0}, "temperature: it is about logits of a network"),
        (BagOfWordsConfig(), JUDGED, {"calibration": "there"}, "calibration: it is about logits of a network"),
    ],
)
def test_what_a_baseline_has_no_use_for_is_refused(settings, rows, fields, problem, tmp_path):
    _, path = save(tmp_path / "model", settings, rows)
    with pytest.raises(ConfigError, match=problem):
        PredictWork(checkpoint=path, **fields).check_model()
