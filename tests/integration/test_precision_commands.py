"""`precision=` as a user meets it: tried, kept with the run, shown, and refused when it changes."""

import json

import pyarrow.parquet as pq
import pytest

from rnnlm.native.library import kind
from tests.integration.pipeline import part_bytes, pipeline, refusal, run_job, run_well


@pytest.fixture(scope="module")
def made():
    return pipeline()


def test_a_tried_precision_stays_with_the_run(made, tmp_path):
    arguments = [*made.score_arguments(tmp_path / "out"), "cluster=here", "precision=auto"]
    done = run_job("score", *arguments)
    assert done.returncode == 0, done.stderr
    assert "score: precision " in done.stderr
    report = json.loads((tmp_path / "out" / "_run" / "report.json").read_text())
    products = report["products"]
    assert products["kernels"] == kind(products["precision"])
    assert (
        json.loads(pq.read_metadata(next((tmp_path / "out" / "data").iterdir())).metadata[b"rnnlm.products"])
        == products
    )
    plan = json.loads((tmp_path / "out" / "_run" / "plan.json").read_text())
    assert plan["identity"]["work"]["products"] == products
    if products["precision"] != "float32":
        assert abs(products["trial"]["perplexity_change"]) <= 0.001
    before = part_bytes(tmp_path / "out")
    (tmp_path / "out" / "_SUCCESS").unlink()
    next((tmp_path / "out" / "_run" / "done").iterdir()).unlink()
    again = run_job("score", *arguments)
    assert again.returncode == 0, again.stderr
    assert "score: precision " not in again.stderr  # no second trial, which might choose otherwise
    assert part_bytes(tmp_path / "out") == before


def test_another_precision_is_another_run(made, tmp_path):
    arguments = [*made.score_arguments(tmp_path / "out"), "cluster=here"]
    run_well("score", *arguments, "precision=int8")
    said = refusal(2, "score", *arguments)
    assert "work.products.precision: 'int8' -> 'float32'" in said


def test_scores_in_int8_are_near_those_in_float32(made, tmp_path):
    columns = []
    for precision in ("float32", "int8"):
        run_well("score", *made.score_arguments(tmp_path / precision), "cluster=here", f"precision={precision}")
        columns.append(pq.read_table(tmp_path / precision / "data").column("logprob").to_pylist())
    assert columns[0] != columns[1]
    for exact, rounded in zip(*columns, strict=True):
        assert rounded == (None if exact is None else pytest.approx(exact, abs=0.2))


def test_generation_in_int8(made, tmp_path):
    arguments = ["corpus=inline", "corpus.texts=[row,number]", "decoding=greedy", "decoding.max_tokens=5"]
    run_well(
        "generate", f"checkpoint={made.model}", *arguments, "cluster=here", "precision=int8", f"output={tmp_path / 'o'}"
    )
    assert all(len(row["hypotheses"]) == 1 for row in pq.read_table(tmp_path / "o" / "data").to_pylist())


def test_a_precision_nobody_knows_is_refused(made, tmp_path):
    assert "precision" in refusal(2, "score", *made.score_arguments(tmp_path / "out"), "precision=int4")
