"""A classifier by command: a vocabulary, a table of rows with their class and a model, then classes for plain text."""

import pyarrow.parquet as pq
import pytest

from rnnlm.checkpoint import load_checkpoint
from rnnlm.data.labels.words import split_words
from rnnlm.inference.classify import Classifier
from rnnlm.inference.predict.calibration import read_calibration
from tests.integration.pipeline import refusal, run_well

GOOD, BAD = (
    ["a fine film", "what a good story .", "good , good fun"],
    ["a dull film", "what a bad story .", "bad , dull"],
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder with texts.tsv, a table and a model."""
    folder = tmp_path_factory.mktemp("classifier")
    lines = [
        f"{label} {text} {number}"
        for number in range(20)
        for label, texts in (("pos", GOOD), ("neg", BAD))
        for text in texts
    ]
    (folder / "texts.tsv").write_text("".join(f"{line}\n" for line in lines))
    source = ["corpus=labelled_tsv", f"corpus.path={folder / 'texts.tsv'}", "corpus.separator=' '"]
    columns = ["words_column=text", "labels_column=label"]
    run_well("train_tokenizer", *source, *columns, "tokenizer=labels", f"output={folder / 'tokenizer'}")
    vocabulary = f"tokenizer_path={folder / 'tokenizer'}"
    run_well("tokenize_corpus", *source, *columns, "cluster=here", vocabulary, f"output={folder / 'table'}")
    run_well(
        "train",
        "task=classification",
        "task.class_weights=balanced",
        vocabulary,
        f"train_tokens={folder / 'table'}",
        f"valid_tokens={folder / 'table'}",
        "cell.hidden_size=16",
        "batching.words=128",
        "optimizer.learning_rate=0.03",
        "loop.max_epochs=100",
        "loop.max_steps=60",
        "tracker=none",
        "threads=1",
        f"output={folder / 'model'}",
    )
    return folder, source


def test_texts_get_their_class(made, tmp_path):
    folder, source = made
    asked = [
        f"checkpoint={folder / 'model'}",
        *source,
        "words_column=text",
        "cluster=here",
        f"output={tmp_path / 'out'}",
    ]
    assert "threshold: it is about rows of several labels" in refusal(
        2, "predict", *asked, "prefix=p_", "threshold=0.9"
    )
    assert "prefix=predicted_" in refusal(2, "predict", *asked)
    run_well("predict", *asked, "prefix=p_", "probabilities=true")
    rows = [row for part in (tmp_path / "out" / "data").iterdir() for row in pq.ParquetFile(part).read().to_pylist()]
    assert list(rows[0]) == ["text", "label", "p_label", "p_confidence", "p_probabilities", "error"]
    assert len(rows) == 120
    assert sum(row["label"] == row["p_label"] for row in rows) > 110


def test_a_calibration_is_fitted_and_applied(made, tmp_path):
    folder, source = made
    model = f"checkpoint={folder / 'model'}"
    said = run_well("calibrate", model, f"tokens={folder / 'table'}", f"output={tmp_path / 'calibration'}")
    assert "calibrate: temperature " in said
    asked = [
        model,
        *source,
        "words_column=text",
        "cluster=here",
        "prefix=p_",
        f"calibration={tmp_path / 'calibration'}",
    ]
    run_well("predict", *asked, f"output={tmp_path / 'out'}")
    rows = [row for part in (tmp_path / "out" / "data").iterdir() for row in pq.ParquetFile(part).read().to_pylist()]
    calibration = read_calibration(str(tmp_path / "calibration"))
    words = [list(split_words(row["text"])) for row in rows]
    sure = Classifier(load_checkpoint(str(folder / "model")), temperature=calibration.temperature).classify(words)
    assert [row["p_confidence"] for row in rows] == pytest.approx(sure.max(axis=1).tolist(), abs=1e-5)
    assert calibration.temperature != 1.0


def test_a_tagger_refuses_a_table_of_rows(made, tmp_path):
    folder, _ = made
    table = f"{folder / 'table'}"
    arguments = [f"train_tokens={table}", f"valid_tokens={table}", f"tokenizer_path={folder / 'tokenizer'}"]
    assert "task=classification" in refusal(2, "train", "task=tagging", *arguments, f"output={tmp_path / 'out'}")
