"""What a user sees who runs the jobs one after another, kills them, and runs them again."""

import json
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jobs.schemas
from jobs.help import show_help
from tests.integration.pipeline import ROOT, TIMEOUT_SECONDS, part_bytes, pipeline, refusal, run_job, run_well

QUICK_SECONDS = 3.0  # what scoring 1,000 short rows may take beyond the imports
NOISE_SECONDS = 2.0  # a loaded machine


@pytest.fixture(scope="module")
def made():
    return pipeline()


def wait_for(condition, process):
    """Poll until `condition` holds; the process must not end before."""
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_bulk_output_holds_what_is_documented_and_a_rerun_does_nothing(made, tmp_path):
    said = run_well("score", *made.score_arguments(tmp_path / "out"), "cluster=here")
    assert "240 rows (236 ok, 4 null, 0 with an error)" in said
    names = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert names == {
        "data/part-000000.parquet",
        "_run/plan.json",
        "_run/listing.arrow",
        "_run/done/000000.json",
        "_run/config.yaml",
        "_run/report.json",
        "_SUCCESS",
    }
    totals = json.loads((tmp_path / "out" / "_SUCCESS").read_text())
    assert totals["rows"] == totals["ok"] + totals["null"] + totals["error"] == 240
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "data").iterdir()}
    assert "1 of 1 shards were done before" in run_well(
        "score", *made.score_arguments(tmp_path / "out"), "cluster=here"
    )
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "data").iterdir()} == before


def test_scores_come_with_the_rows_they_belong_to(made, tmp_path):
    run_well("score", *made.score_arguments(tmp_path / "out"), "cluster=here", "token_logprobs=true")
    rows = pq.read_table(tmp_path / "out" / "data").to_pylist()
    assert [row["id"] for row in rows] == list(range(240))
    for row in rows:
        if row["text"] is None:
            assert row["error"].startswith("null_text")
            assert row["logprob"] is None
        else:
            assert row["error"] is None
            assert len(row["token_logprobs"]) == row["num_tokens"]
            # token_logprobs are float32, their sum is not
            assert sum(row["token_logprobs"]) == pytest.approx(row["logprob"], abs=1e-4)


def test_a_killed_score_goes_on_to_the_same_bytes(made, tmp_path):
    shards = ["cluster=here", "shard_seconds=0.00001"]
    run_well("score", *made.score_arguments(tmp_path / "whole"), *shards)
    command = [sys.executable, "-m", "jobs.score", *made.score_arguments(tmp_path / "killed"), *shards]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    done = tmp_path / "killed" / "_run" / "done"
    wait_for(lambda: done.is_dir() and len(list(done.iterdir())) >= 3, process)
    process.kill()
    process.communicate()
    assert not (tmp_path / "killed" / "_SUCCESS").exists()
    run_well("score", *made.score_arguments(tmp_path / "killed"), *shards)
    assert part_bytes(tmp_path / "killed") == part_bytes(tmp_path / "whole")


def test_a_terminated_training_goes_on_to_the_same_weights(made, tmp_path):
    arguments = [*made.train_arguments, "loop.max_steps=400", "task.dropout=0.3", "loop.valid_every_steps=50"]
    run_well("train", *arguments, f"output={tmp_path / 'whole'}")
    stopped = tmp_path / "stopped"
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs.train", *arguments, f"output={stopped}"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for((stopped / "checkpoints" / "index.json").exists, process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 143, errors
    assert "run the same command again" in errors
    run_well("train", *arguments, f"output={stopped}")
    last = "step-00000400"
    for name in ("weights.safetensors", "training.safetensors"):
        whole = (tmp_path / "whole" / "checkpoints" / last / name).read_bytes()
        assert (stopped / "checkpoints" / last / name).read_bytes() == whole


def test_a_sweep_gives_a_run_a_trial_and_a_failed_trial_stops_no_other(made, tmp_path):
    done = run_job(
        "train", "-m", "cell=lstm,gru,elman", "task.embedding_size=16,7", *made.train_arguments[:3],
        "cell.hidden_size=16", "batching.num_lanes=4", "tracker=none", "loop.max_steps=2", f"output={tmp_path}",
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("a tied softmax needs") == 3
    trials = sorted(path.parent.parent.name for path in tmp_path.glob("*/checkpoints/index.json"))
    assert trials == [f"cell-{cell}+task.embedding_size-16" for cell in ("elman", "gru", "lstm")]


def test_generation_is_the_same_however_the_rows_are_cut(made, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("".join(f"row {i}\n" for i in range(40)))
    arguments = [
        f"checkpoint={made.model}", "corpus=lines", f"corpus.path={prompts}", "decoding.max_tokens=12",
        "num_hypotheses=2", "cluster=here",
    ]  # fmt: skip
    run_well("generate", *arguments, f"output={tmp_path / 'one'}")
    run_well("generate", *arguments, "shard_seconds=0.00005", f"output={tmp_path / 'many'}")
    one, many = pq.read_table(tmp_path / "one" / "data"), pq.read_table(tmp_path / "many" / "data")
    assert len(list((tmp_path / "many" / "data").iterdir())) > 1
    texts = [[found["text"] for found in row] for row in one["hypotheses"].to_pylist()]
    assert texts == [[found["text"] for found in row] for row in many["hypotheses"].to_pylist()]
    assert all(len(row) == 2 for row in texts)


def test_the_standard_perplexity_counts_every_target_of_the_stream(made, tmp_path):
    said = run_well("evaluate", f"checkpoint={made.model}", f"tokens={made.tokens}", f"output={tmp_path}")
    tokens = pq.read_table(made.tokens / "data").column("tokens").drop_null()
    targets = sum(map(len, tokens.to_pylist())) + len(tokens)
    assert f"stream of {targets:,} targets" in said
    assert (tmp_path / "report.html").exists()


def test_small_inputs_are_quick(made, tmp_path):
    pq.write_table(pa.table({"text": [f"row {i}" for i in range(1000)]}), tmp_path / "short.parquet")

    def seconds(*command):
        began = time.perf_counter()
        subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True, timeout=TIMEOUT_SECONDS)
        return time.perf_counter() - began

    imports = seconds("-c", "import jobs.score")
    whole = seconds(
        "-m", "jobs.score", f"checkpoint={made.model}", "corpus=parquet", f"corpus.path={tmp_path / 'short.parquet'}",
        f"output={tmp_path / 'out'}",
    )  # fmt: skip
    assert whole - imports < QUICK_SECONDS + NOISE_SECONDS, (whole, imports)


def test_every_job_explains_every_field(capsys):
    names = sorted(path.stem for path in (ROOT / "conf").glob("*.yaml"))
    assert len(names) >= 6
    for name in names:
        show_help(name, schema_of(name), ROOT / "conf")
        lines = capsys.readouterr().out.splitlines()
        fields = [line for line in lines if line.startswith("  ") and "=" in line.split()[0]]
        assert fields
        for line in fields:
            assert len(line.split()) > 1, f"{name}: {line.strip()} has no explanation"


def schema_of(job):
    """The schema whose docstring names the command."""
    schemas = [value for value in vars(jobs.schemas).values() if isinstance(value, type)]
    (found,) = [schema for schema in schemas if (schema.__doc__ or "").startswith(f"python -m jobs.{job}:")]
    return found


def test_a_stream_is_read_with_all_that_helps(made, tmp_path):
    tokens = [f"tokens={made.tokens}", f"tokenizer_path={made.tokenizer}"]
    run_well("train_ngram", *tokens, "order=3", f"output={tmp_path / 'ngram'}")
    arguments = [
        f"checkpoint={made.model}", f"tokens={made.tokens}", "cache=continuous", "cache.size=50", "adaptation=dynamic",
        f"ensemble=[{made.model}]", f"ngram={tmp_path / 'ngram'}", f"fit_on={made.tokens}",
        f"token_logprobs={tmp_path / 'logprobs.parquet'}", f"output={tmp_path / 'report'}",
    ]  # fmt: skip
    said = run_well("evaluate", *arguments)
    assert "With a continuous cache of 50 (flatness " in said
    assert "dynamic evaluation every 20 targets and an ensemble of 2 models and n-grams (weight " in said
    stream = json.loads((tmp_path / "report/report.json").read_text())["stream"]
    assert stream["strengthened"]["perplexity"] < stream["perplexity"]
    assert "With a continuous cache" in (tmp_path / "report/report.html").read_text()
    logprobs = pq.read_table(tmp_path / "logprobs.parquet")["token_logprobs"].to_pylist()
    assert len(logprobs) == stream["documents"] == 236
    assert -sum(map(sum, logprobs)) / stream["targets"] == pytest.approx(stream["strengthened"]["nll"])


def test_what_helps_a_stream_needs_a_stream(made, tmp_path):
    said = refusal(2, "evaluate", "scored=somewhere", "cache=continuous", f"output={tmp_path / 'report'}")
    assert "give tokens=..." in said
