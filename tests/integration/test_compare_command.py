"""Runs of the real jobs compared: outputs of jobs.score by two models, and of jobs.train."""

import json
import shutil

from jobs.compare import compare
from jobs.schemas import CompareJob, ScoreJob
from jobs.score import score
from rnnlm.checkpoint import load_checkpoint
from rnnlm.config import from_dict
from tests.corpora import save_tiny
from tests.integration.pipeline import pipeline, run_well


def test_two_models_over_the_same_rows_by_command(tmp_path):
    made = pipeline()
    save_tiny(tmp_path / "tiny", tokenizer=load_checkpoint(str(made.model)).tokenizer)
    for name, model in (("trained", made.model), ("random", tmp_path / "tiny")):
        corpus = {"_target_": "rnnlm.data.formats.parquet.ParquetCorpus", "path": str(made.corpus)}
        job = {"checkpoint": str(model), "corpus": corpus, "cluster": {"workers": 0}, "output": str(tmp_path / name)}
        score(from_dict(ScoreJob, {**job, "error_budget": 1.0}))
    said = run_well(
        "compare", f"runs=[{tmp_path}/trained,{tmp_path}/random]", f"output={tmp_path}/out", "draws=200"
    ).splitlines()
    assert said[-2].startswith("compare: random against trained: +")
    assert "worse (p = 0.0050)" in said[-2]
    assert said[-1] == f"output: {tmp_path}/out/report.html"
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["significance"]["rows"] == 240
    assert set(report["settings"]) == {"checkpoint", "fingerprint.model"}


def test_a_trained_run_and_its_copy(tmp_path):
    made = pipeline()
    shutil.copytree(made.model, tmp_path / "copy")
    runs = [str(made.model), str(tmp_path / "copy")]
    compare(from_dict(CompareJob, {"runs": runs, "output": str(tmp_path / "out")}))
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["kind"] == "train"
    assert report["settings"] == {}
    assert {one["figures"]["parameters"] for one in report["runs"].values()} != {None}
