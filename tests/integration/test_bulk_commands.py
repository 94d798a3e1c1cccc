"""The jobs around a bulk run as commands: before it, after it, and what is made of its scores."""

import json

import pyarrow.parquet as pq
import pytest

from tests.integration.pipeline import part_bytes, pipeline, run_job, run_well


@pytest.fixture(scope="module")
def made():
    return pipeline()


@pytest.fixture(scope="module")
def scored(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scored") / "out"
    run_well("score", *made.score_arguments(folder), "cluster=here", "shard_seconds=0.0001")
    return folder


def test_a_dry_run_says_what_comes_and_the_report_what_came(made, tmp_path):
    arguments = [*made.score_arguments(tmp_path / "out"), "cluster=here"]
    said = run_well("score", *arguments, "dry_run=true")
    assert "rows      240 in 1 shards" in said
    assert [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] == ["estimate.json"]
    run_well("score", *arguments)
    estimate = json.loads((tmp_path / "out/_run/report.json").read_text())["estimate"]
    assert estimate["rows"] == {"estimated": 240, "true": 240, "ratio": 1.0}
    assert estimate["tokens"]["ratio"] == pytest.approx(1.0, abs=0.3)
    done = run_job("score", *arguments, "threads=2", "dry_run=true")
    assert done.returncode == 2
    assert "work.threads: 1 -> 2" in done.stderr


def test_a_sound_output_is_verified_and_a_changed_one_is_not(scored, made, tmp_path):
    assert "240 rows accounted for" in run_well("verify", f"output={scored}")
    arguments = [*made.score_arguments(tmp_path / "out"), "cluster=here"]
    run_well("score", *arguments)
    part = tmp_path / "out/data/part-000000.parquet"
    part.write_bytes(part.read_bytes()[:-1])
    done = run_job("verify", f"output={tmp_path / 'out'}")
    assert done.returncode == 3
    assert "part-000000.parquet has" in done.stderr


def test_the_state_of_an_output_as_text_and_as_json(scored):
    said = run_well("inspect", f"path={scored}")
    assert "score, finished" in said
    assert "240 = 236 ok + 4 null + 0 with an error" in said
    assert json.loads(run_well("inspect", f"path={scored}", "json=true"))["totals"]["rows"] == 240
    assert "240 rows" in run_well("inspect", f"path={scored}/data")


def test_scores_become_partitions_with_a_report(scored, tmp_path):
    arguments = [f"corpus.path={scored}/data", "cluster=here"]
    said = run_well("filter", *arguments, f"output={tmp_path / 'out'}")
    assert f"report: {tmp_path / 'out'}/report/report.html" in said
    rows = {}
    for file in (tmp_path / "out/data").rglob("*.parquet"):
        name = file.parent.name.partition("=")[2]
        rows.setdefault(name, []).extend(pq.ParquetFile(file).read().to_pylist())
    assert sum(map(len, rows.values())) == 240
    highest = {name: max(row["bits_per_byte"] for row in rows[name]) for name in ("head", "middle")}
    assert highest["head"] < min(row["bits_per_byte"] for row in rows["middle"])
    assert highest["middle"] < min(row["bits_per_byte"] for row in rows["tail"])
    assert all(row["bits_per_byte"] is None for row in rows["__HIVE_DEFAULT_PARTITION__"])
    assert "<svg" in (tmp_path / "out/report/report.html").read_text()
    run_well(
        "compact",
        f"corpus.path='{tmp_path / 'out/data/partition=head'}'",
        "cluster=here",
        f"output={tmp_path / 'head'}",
    )
    (part,) = (tmp_path / "head/data").iterdir()
    assert pq.ParquetFile(part).metadata.num_rows == len(rows["head"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["score_column=perplexity"], "no column 'perplexity'"),
        (["quantiles=[0.5,0.2]"], "quantiles: must be finite and ascend"),
        (["quantiles=[0.5]"], "1 cuts make 2 partitions, but 3 names are given"),
        (["keep=[best]"], "no partition 'best' among head, middle, tail"),
        (["names=[a/b,c,d]"], "names: 'a/b' cannot be the name of a folder"),
    ],
)
def test_a_filter_that_cannot_be_is_refused(scored, tmp_path, arguments, said):
    done = run_job("filter", f"corpus.path={scored}/data", f"output={tmp_path / 'out'}", "cluster=here", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert not (tmp_path / "out").exists()


def test_rows_with_an_error_beyond_the_budget_end_with_exit_code_3(made, tmp_path):
    corpus = tmp_path / "corpus.parquet"
    table = pq.read_table(made.corpus)
    pq.write_table(table.slice(0, 200), corpus)
    content = bytearray(corpus.read_bytes())
    content[200:260] = b"\xff" * 60  # inside the first data page
    corpus.write_bytes(content)
    done = run_job(
        "score", f"checkpoint={made.model}", "corpus=parquet", f"corpus.path={corpus}", f"output={tmp_path / 'out'}"
    )
    assert done.returncode in {2, 3}
    assert "corpus.parquet" in done.stderr
    assert not (tmp_path / "out/_SUCCESS").exists()


def test_the_parts_do_not_depend_on_where_the_job_was_cut(scored, made, tmp_path):
    run_well("score", *made.score_arguments(tmp_path / "out"), "cluster=here", "shard_seconds=0.0001")
    assert part_bytes(tmp_path / "out") == part_bytes(scored)
