"""Several systems over the same rows: paired draws, known and unknown words, what is refused."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rnnlm.errors import ConfigError, DataError
from rnnlm.evaluation.label_metrics import tagging_accuracy
from rnnlm.evaluation.labelled.bootstrap import RowRatio, paired_difference
from rnnlm.evaluation.labelled.columns import LabelColumns
from rnnlm.evaluation.labelled.report import systems_sentences, usual_title, write_labelled
from rnnlm.evaluation.labelled.systems import evaluate_systems, named_paths
from rnnlm.evaluation.labelled.words import read_known_words
from rnnlm.evaluation.significance import p_value
from rnnlm.storage import open_location

COLUMNS = LabelColumns("labels")
TAGS = ["N", "V", "D"]


def corpus(rows=80, seed=2):
    random = np.random.default_rng(seed)
    lengths = [1 + row % 6 for row in range(rows)]
    words = [[f"w{i}" for i in random.integers(0, 9, length)] for length in lengths]
    return words, [[TAGS[i] for i in random.integers(0, 3, length)] for length in lengths]


def tagged(labels, share, seed):
    random = np.random.default_rng(seed)
    return [[one if random.random() < share else TAGS[random.integers(3)] for one in row] for row in labels]


@pytest.fixture
def outputs(tmp_path):
    """Paths by name, words, labels and what each system says; the systems write parts of other sizes."""
    words, labels = corpus()
    said = {"crf": tagged(labels, 0.95, 1), "hmm": tagged(labels, 0.6, 2), "twin": tagged(labels, 0.95, 1)}
    for step, (name, predicted) in zip((80, 33, 50), said.items(), strict=True):
        table = pa.table({"words": words, "labels": labels, "predicted_labels": predicted})
        (tmp_path / name).mkdir()
        for first in range(0, 80, step):
            pq.write_table(table.slice(first, step), tmp_path / name / f"part-{first:06d}.parquet")
    return {name: str(tmp_path / name) for name in said}, words, labels, said


def test_the_paired_bootstrap_draws_the_same_rows_for_both():
    random = np.random.default_rng(0)
    below = random.integers(1, 9, 300)
    ours, theirs = (np.minimum(below, random.integers(0, 9, 300)) for _ in range(2))
    ratios = [RowRatio(keep_rows=True) for _ in range(2)]
    for ratio, above in zip(ratios, (ours, theirs), strict=True):
        ratio.add(above[:100], below[:100])
        ratio.add(above[100:], below[100:])
    found, probability = paired_difference(*ratios, 2000)
    drawn = [random.integers(0, 300, 300) for _ in range(2000)]
    differences = np.array([(ours[rows].sum() - theirs[rows].sum()) / below[rows].sum() for rows in drawn])
    true = (ours.sum() - theirs.sum()) / below.sum()
    assert found.value == pytest.approx(true)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(differences, [0.025, 0.975])), abs=0.01)
    assert probability == pytest.approx(p_value(differences, true), abs=0.03)
    assert paired_difference(ratios[0], ratios[0], 200)[1] == 1.0


def test_systems_have_their_own_figures_and_the_first_is_compared_with_the_others(outputs):
    paths, words, labels, said = outputs
    known = pa.array([f"w{i}" for i in range(6)])
    found = evaluate_systems(paths, COLUMNS, draws=300, known=known)
    for name, predicted in said.items():
        tags = found.labelled[name].tags
        expected = tagging_accuracy(labels, predicted, words, known.to_pylist())
        assert tags.accuracy.value == expected.all
        assert (tags.known.unknown.value, tags.known.num_unknown) == (expected.unknown, expected.unknown_words)
        assert tags.known.num_known + tags.known.num_unknown == tags.words
    by = {(one.against, one.figure): one for one in found.differences}
    assert len(by) == 6
    better = by["hmm", "accuracy"]
    assert better.verdict() == "better"
    accuracies = [found.labelled[name].tags.accuracy.value for name in ("crf", "hmm")]
    assert better.difference.value == pytest.approx(accuracies[0] - accuracies[1])
    twin = by["twin", "accuracy on unknown words"]
    assert (twin.difference.value, twin.p_value, twin.verdict()) == (0.0, 1.0, "no significant difference")
    backwards = evaluate_systems({"hmm": paths["hmm"], "crf": paths["crf"]}, COLUMNS, draws=300)
    assert backwards.differences[0].verdict() == "worse"
    assert systems_sentences(backwards)[-1].startswith("hmm against crf, accuracy: -")


def test_the_page_and_the_file_hold_all_systems(outputs, tmp_path):
    found = evaluate_systems(outputs[0], COLUMNS, draws=100)
    write_labelled(found, None, {}, open_location(str(tmp_path / "report")))
    page = (tmp_path / "report/report.html").read_text()
    for said in ("F1 of words by class and system", "Is crf better?", "<td>hmm</td>", "All that follows is about crf"):
        assert said in page
    content = json.loads((tmp_path / "report/labels.json").read_text())
    assert usual_title(found) == content["title"] == "Labels of words: crf, hmm, twin"
    assert list(content["systems"]) == ["crf", "hmm", "twin"]
    assert set(content["systems"]["hmm"]["classes"]) == set(TAGS)
    assert {one["against"] for one in content["differences"]} == {"hmm", "twin"}


def test_labels_and_entities_of_two_systems_are_compared_by_spans(tmp_path):
    labels = [["B-A", "O"], ["O", "B-B"]]
    spans = [[{"start_word": 0, "end_word": 1, "type": "A"}], [{"start_word": 0, "end_word": 1, "type": "B"}]]
    pq.write_table(pa.table({"labels": labels, "predicted_labels": labels}), tmp_path / "tagger.parquet")
    pq.write_table(pa.table({"labels": labels, "predicted_entities": spans}), tmp_path / "finder.parquet")
    paths = named_paths([str(tmp_path / f"{name}.parquet") for name in ("tagger", "finder")])
    found = evaluate_systems(paths, COLUMNS, draws=100)
    assert found.figures() == ["F1 of spans", "accuracy"]
    assert [(one.against, one.figure) for one in found.differences] == [("finder", "F1 of spans")]
    assert [scores.micro.f1 for scores in found.chief_classes()[1].values()] == [1.0, 0.5]


def test_other_rows_are_refused(outputs, tmp_path):
    paths, words, labels, said = outputs
    for name, rows in (("fewer", slice(0, 79)), ("other", slice(0, 80))):
        changed = [list(row) for row in labels]
        changed[41][0] = "X"
        table = {"words": words[rows], "labels": changed[rows], "predicted_labels": said["crf"][rows]}
        pq.write_table(pa.table(table), tmp_path / f"{name}.parquet")
    with pytest.raises(DataError, match=r"crf has 80 rows, .*fewer.parquet has 79; compare"):
        evaluate_systems({"crf": paths["crf"], "fewer": str(tmp_path / "fewer.parquet")}, COLUMNS, draws=100)
    with pytest.raises(DataError, match=r"the references differ: .*crf, .*'X'.* here at .*row 41, column 'labels'"):
        evaluate_systems({"crf": paths["crf"], "other": str(tmp_path / "other.parquet")}, COLUMNS, draws=100)


def test_names_of_systems():
    assert named_paths(["o/crf/", "base=o/x", "o/kind=a/hmm", "s3://b/two.parquet"]) == {
        "crf": "o/crf/",
        "base": "o/x",
        "hmm": "o/kind=a/hmm",
        "two": "s3://b/two.parquet",
    }
    with pytest.raises(ConfigError, match=r"two systems are called 'hmm'; name one: 'against=\[\"hmm_2=b/hmm\"\]'"):
        named_paths(["a/hmm", "b/hmm"])


def test_known_words_are_those_of_the_table(tmp_path):
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table({"words": [["a", "b"], None, ["b", "c"]]}), path)
    assert sorted(read_known_words(str(path)).to_pylist()) == ["a", "b", "c"]
    pq.write_table(pa.table({"words": pa.array([None], pa.list_(pa.string()))}), path)
    with pytest.raises(DataError, match=r"the table holds no words .*jobs.tokenize_corpus"):
        read_known_words(str(path))


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"labels": [["N"]], "predicted_labels": [["N"]]}, "there is no column of words.*set words_column"),
        ({"words": [["a", "b"]], "labels": [["N"]], "predicted_labels": [["N"]]}, "2 values, but 1 .*'words'"),
        ({"labels": ["N"], "predicted_label": ["N"]}, "no labels of words, which train_tokens is about"),
    ],
)
def test_known_words_need_words(tmp_path, columns, said):
    pq.write_table(pa.table(columns), tmp_path / "o.parquet")
    with pytest.raises(DataError, match=said):
        evaluate_systems({"o": str(tmp_path / "o.parquet")}, COLUMNS, known=pa.array(["a"]))
