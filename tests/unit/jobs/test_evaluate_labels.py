"""jobs.evaluate over predicted labels: what it asks for."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.evaluate import evaluate
from jobs.schemas import EvaluateJob
from rnnlm.config import from_dict
from rnnlm.errors import ConfigError
from tests.integration.pipeline import run_well


def job(tmp_path, **fields):
    needed = {"predictions": str(tmp_path / "out.parquet"), "reference_column": "labels"}
    return from_dict(EvaluateJob, {"output": str(tmp_path / "report"), **needed, **fields})


@pytest.fixture
def output(tmp_path):
    labels = [["B-PER", "O"], ["O", "B-LOC", "I-LOC"]]
    predicted = [["B-PER", "O"], ["O", "B-LOC", "O"]]
    pq.write_table(pa.table({"labels": labels, "predicted_labels": predicted}), tmp_path / "out.parquet")
    return tmp_path


SAID = [
    "evaluate: 2 rows (0 without a prediction), 5 words, accuracy 80.00 % (",
    "evaluate: 2 rows (0 without a prediction), 2 spans, F1 50.00 % (",
]


def test_the_figures_are_said(output, capsys):
    evaluate(job(output, bootstrap_draws=100))
    said = capsys.readouterr().out.splitlines()
    assert all(line.startswith(start) for line, start in zip(said, SAID, strict=False))
    assert {file.name for file in (output / "report").iterdir()} == {"report.html", "labels.json"}


def test_the_command_does_the_same(output):
    said = run_well(
        "evaluate", f"predictions={output / 'out.parquet'}", "reference_column=labels", "scheme=iob2",
        f"output={output / 'report'}",
    )  # fmt: skip
    assert said.startswith(SAID[0])
    assert SAID[1] in said
    assert (output / "report/report.html").exists()


def test_several_systems_of_one_command(output):
    """Names are given where folders have the same, and the words of training are known."""
    path = output / "out.parquet"
    table = pq.read_table(path).append_column("words", pa.array([["a", "b"], ["c", "d", "e"]]))
    pq.write_table(table, path)
    pq.write_table(pa.table({"words": [["a", "c"]]}), output / "table.parquet")
    said = run_well(
        "evaluate", f"predictions={path}", f'against=["twin={path}"]', "reference_column=labels",
        f"train_tokens={output / 'table.parquet'}", "bootstrap_draws=100", f"output={output / 'report'}",
    )  # fmt: skip
    assert "evaluate: out: 2 rows" in said
    assert "known words 100.00 %" in said
    assert "out against twin, accuracy on unknown words: +0.00 points" in said
    assert "<h1>Labels of words: out, twin</h1>" in (output / "report/report.html").read_text()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"predictions": None, "hypotheses": "h", "intent_column": "i"}, "intent_column .* are about predictions"),
        ({"predictions": None, "hypotheses": "h", "labels_of": "rows"}, "labels_of, .* are about predictions"),
        ({"predictions": None, "hypotheses": "h", "against": ["a", "b"]}, "compared with one other output"),
        ({"reference_column": None}, "predictions need reference_column"),
        ({"hypotheses": "h", "checkpoint": "c"}, "a report of their own; leave out hypotheses, checkpoint"),
        ({"ensemble": ["m"]}, "leave out cache, adaptation, ensemble"),
        ({"scheme": "iob3"}, "scheme: .*'iob1'"),
        ({"predictions": None, "reference_column": None, "scored": "s", "scheme": "iob2"}, "are about predictions"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(tmp_path, fields, said):
    with pytest.raises(ConfigError, match=said):
        job(tmp_path, **fields)
