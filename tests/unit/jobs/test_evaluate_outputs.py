"""jobs.evaluate over outputs with right answers: what it asks for, what it says."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.evaluate import evaluate
from jobs.schemas import EvaluateJob
from rnnlm.config import from_dict
from rnnlm.errors import ConfigError, DataError


@pytest.fixture
def output(tmp_path):
    texts = ["a dog runs", "two cats"]
    hypotheses = [[{"text": text, "tokens": [1], "logprob": -1.0, "finish_reason": "end"}] for text in texts]
    pq.write_table(pa.table({"en": ["a dog ran", "two cats"], "hypotheses": hypotheses}), tmp_path / "out.parquet")
    return str(tmp_path / "out.parquet")


def job(output, folder, **fields):
    return from_dict(EvaluateJob, {"output": str(folder), "hypotheses": output, "reference_column": "en", **fields})


def test_the_figures_their_signatures_and_the_report_are_there(output, tmp_path, capsys):
    evaluate(job(output, tmp_path / "report", baseline_column="en", against=output, bootstrap_draws=100))
    said = capsys.readouterr().out
    assert "evaluate: 2 rows (0 without an output), BLEU " in said
    assert "exact match 50.00 %, words in place 80.00 %, word error rate 20.00 %" in said
    assert "evaluate: BLEU: nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2." in said
    assert "the column en as it is: BLEU 100.00" in said or "the column en as it is: BLEU " in said
    assert said.count("no significant difference (p = 1.000)") == 5
    assert {file.name for file in (tmp_path / "report").iterdir()} == {"report.html", "report.md", "report.json"}
    assert "<h1>Generated text</h1>" in (tmp_path / "report/report.html").read_text()


def test_chosen_metrics_are_those_that_are_said(output, tmp_path, capsys):
    evaluate(job(output, tmp_path / "report", metrics=["miss_rate", "error_rate"], unit="chars"))
    assert "evaluate: 2 rows (0 without an output), sentence error rate 50.00 %, character error rate 11.76 %" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"hypotheses": None, "reference_column": None}, "give scored=.*or hypotheses=.* and reference_column=..."),
        ({"reference_column": None}, "hypotheses and reference_column belong together"),
        ({"metrics": ["bleu", "rouge"]}, "metrics: unknown: rouge; choose of bleu, chrf, exact_match"),
        ({"metrics": []}, "give each once, and at least one"),
        ({"unit": "syllables"}, "unit: .*'words', 'chars' or 'phonemes'"),
        ({"hypotheses": None, "reference_column": None, "scored": "s", "against": "o"}, "against.* about hypotheses"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(output, tmp_path, fields, said):
    with pytest.raises(ConfigError, match=said):
        job(output, tmp_path / "report", **fields)


def test_a_refused_output_leaves_no_report(output, tmp_path):
    with pytest.raises(DataError, match="there is no column 'fr'"):
        evaluate(job(output, tmp_path / "report", reference_column="fr"))
    assert not (tmp_path / "report").exists()
