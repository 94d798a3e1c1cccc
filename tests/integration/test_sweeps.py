"""Sweeps with `hydra/launcher=ray` and searches with jobs.tune as a user runs them, killed and run again."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from tests.integration.pipeline import ROOT, TIMEOUT_SECONDS, pipeline, run_job, run_well

pytestmark = pytest.mark.ray

RAY = ["-m", "hydra/launcher=ray"]
TINY = ["loop.max_steps=2"]


@pytest.fixture(autouse=True)
def a_cluster_of_its_own(monkeypatch):
    """Each command starts one, whatever else runs on this machine."""
    monkeypatch.setenv("RAY_ADDRESS", "local")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # Ray's own 15 starves workers on a busy machine


@pytest.fixture(scope="module")
def made():
    return pipeline()


def standings(folder):
    return {row["trial"]: row for row in pq.read_table(folder / "leaderboard.parquet").to_pylist()}


def states(folder):
    found = [row["state"] for row in standings(folder).values()]
    return {state: found.count(state) for state in found}


def attempts(folder):
    records = [json.loads(path.read_text()) for path in (folder / "_sweep" / "trials").iterdir()]
    return {record["name"]: record["attempts"] for record in records}


def test_three_of_twenty_trials_fail_and_a_rerun_runs_those_three(made, tmp_path):
    starts = [tmp_path / f"start-{k}" for k in range(20)]  # weights to begin with, three of which are not there yet
    broken = starts[3:12:4]
    arguments = [
        *RAY, *made.train_arguments, *TINY, f"init_from={','.join(map(str, starts))}", f"output={tmp_path / 'out'}",
        "seed=1",
    ]  # fmt: skip
    for start in starts:
        if start not in broken:
            start.symlink_to(made.model)
    done = run_job("train", *arguments)
    assert done.returncode == 3, done.stderr
    assert "3 of 20 trials failed" in done.stderr
    assert states(tmp_path / "out") == {"finished": 17, "failed": 3}
    failed = {name: row for name, row in standings(tmp_path / "out").items() if row["state"] == "failed"}
    assert all("does not exist" in row["error"] for row in failed.values())
    page = (tmp_path / "out" / "leaderboard.html").read_text()
    assert "start-3 does not exist" in page

    refused = run_job("train", *[one.replace("max_steps=2", "max_steps=3") for one in arguments])
    assert refused.returncode == 2
    assert "loop.max_steps: 2 -> 3" in refused.stderr

    for start in broken:
        start.symlink_to(made.model)
    said = run_well("train", *arguments)
    assert "20 of 20 trials finished" in said
    assert states(tmp_path / "out") == {"finished": 20}
    assert attempts(tmp_path / "out") == {name: 2 if name in failed else 1 for name in attempts(tmp_path / "out")}


@pytest.mark.slow
def test_trials_that_cannot_be_run_as_they_are_fail_alone(made, tmp_path):
    done = run_job(
        "train", *RAY, *made.train_arguments, *TINY, "task.embedding_size=16,7", "workers=1,2", f"output={tmp_path}"
    )
    assert done.returncode == 3, done.stderr
    errors = [row["error"] for row in standings(tmp_path).values() if row["state"] == "failed"]
    assert sum("a tied softmax needs" in error for error in errors) == 2
    assert sum("works in one process" in error for error in errors) == 1


@pytest.mark.slow
def test_other_jobs_are_swept_too(made, tmp_path):
    run_well("score", *RAY, *made.score_arguments(tmp_path), "token_logprobs=true,false")
    rows = standings(tmp_path)
    assert sorted(rows) == ["token_logprobs-False", "token_logprobs-True"]
    assert all(row["figure"] == "tokens a second and worker" for row in rows.values())
    assert all((tmp_path / name / "_SUCCESS").exists() for name in rows)


def start(job, *arguments):
    command = [sys.executable, "-m", f"jobs.{job}", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition, process):
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def saved(folder, count):
    return lambda: len(list(folder.glob("*/checkpoints/index.json"))) >= count


@pytest.mark.slow
def test_a_terminated_sweep_saves_its_trials_and_goes_on(made, tmp_path):
    arguments = [
        *RAY, *made.train_arguments, "loop.max_steps=3000", "loop.save_every_steps=20", "loop.valid_every_steps=1000",
        "seed=1,2", f"output={tmp_path}",
    ]  # fmt: skip
    process = start("train", *arguments)
    wait_for(saved(tmp_path, 2), process)
    process.terminate()
    _, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 143, errors
    assert states(tmp_path) == {"interrupted": 2}
    run_well("train", *arguments)
    assert states(tmp_path) == {"finished": 2}
    assert set(attempts(tmp_path).values()) == {2}
    for seed in (1, 2):
        rows = [json.loads(line) for line in (tmp_path / f"seed-{seed}" / "metrics.jsonl").read_text().splitlines()]
        assert [row["step"] for row in rows if row["kind"] == "valid"] == [1000, 2000, 3000]


@pytest.mark.slow
def test_the_death_of_a_trial_stops_no_other(made, tmp_path):
    arguments = [
        *RAY, "hydra.launcher.max_retries=0", "hydra.launcher.max_parallel=1", *made.train_arguments,
        "loop.max_steps=2000", "loop.save_every_steps=10", "loop.valid_every_steps=1000", "seed=1,2", f"output={tmp_path}",
    ]  # fmt: skip
    process = start("train", *arguments)
    wait_for(saved(tmp_path, 1), process)
    os.kill(trial_process(process.pid), signal.SIGKILL)
    _, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 3, errors
    assert standings(tmp_path)["seed-1"]["error"].startswith("its process died")
    assert standings(tmp_path)["seed-2"]["state"] == "finished"


def trial_process(driver):
    """The Ray worker that runs a trial, of the cluster that `driver` has started."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            parents[int(folder.name)] = parent, (folder / "cmdline").read_text()
        except OSError:
            continue  # it ended meanwhile
    for pid, (parent, command) in parents.items():
        if command.startswith("ray::run_trial"):
            while parent in parents and parent != driver:
                parent = parents[parent][0]
            if parent == driver:
                return pid
    raise AssertionError("no trial runs")


@pytest.mark.slow
def test_a_search_stops_trials_early_and_writes_a_recipe_that_trains(made, tmp_path):
    arguments = [
        "cell=lstm,gru", "optimizer.learning_rate=tag(log,interval(1e-4,1e-1))", *made.train_arguments,
        "experiment=demo/train", "loop.max_steps=40", "loop.valid_every_steps=4", "tune.search=optuna", "tune.trials=4",
        f"output={tmp_path / 'out'}",
    ]  # fmt: skip
    said = run_well("tune", *arguments)
    rows = standings(tmp_path / "out")
    assert len(rows) == 4
    assert set(states(tmp_path / "out")) <= {"finished", "stopped early"}
    best = next(iter(rows.values()))
    assert best["value"] == min(row["value"] for row in rows.values())
    recipe = yaml.safe_load((tmp_path / "out" / "conf" / "experiment" / "best" / "train.yaml").read_text())
    assert recipe["defaults"][0] == "/experiment/demo/train"
    assert recipe["optimizer"]["learning_rate"] == best["optimizer.learning_rate"]
    command = said.partition("python -m jobs.train ")[2].split()
    run_well("train", *command[:-1], f"output={tmp_path / 'trained'}", "threads=1")
    settings = json.loads((tmp_path / "trained" / "settings.json").read_text())
    tried = json.loads((tmp_path / "out" / best["trial"] / "settings.json").read_text())
    assert {**settings, "output": "", "threads": 1} == {**tried, "output": "", "threads": 1}


def test_a_search_over_what_is_not_there_is_refused_before_ray_starts(made, tmp_path):
    done = run_job(
        "tune", *made.train_arguments, "optimizer.learnin_rate=0.1,0.2", "seed=1,2", f"output={tmp_path / 'out'}"
    )
    assert done.returncode == 2
    assert "did you mean 'learning_rate'" in done.stderr
    done = run_job("tune", *made.train_arguments, "cell=lstm,gru", "tune.scheduler=pbt", f"output={tmp_path / 'out'}")
    assert done.returncode == 2
    assert "cell cannot change while a run goes on" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_population_takes_over_from_its_best(made, tmp_path):
    arguments = [
        "optimizer.learning_rate=choice(1e-6,0.02)", "task.dropout=interval(0.0,0.1)", *made.train_arguments,
        "loop.max_steps=100", "loop.valid_every_steps=10", "tune.scheduler=pbt", "tune.trials=4",
        "tune.perturb_percent=20", f"output={tmp_path}",
    ]  # fmt: skip
    run_well("tune", *arguments)
    assert states(tmp_path) == {"finished": 4}
    begun = [json.loads(path.read_text().splitlines()[0])["nll"] for path in tmp_path.glob("trial-*/metrics.jsonl")]
    assert len(begun) > len(set(begun))  # a trial that learned nothing has the beginning of another


@pytest.mark.slow
def test_a_killed_search_goes_on(made, tmp_path):
    arguments = [
        "optimizer.learning_rate=interval(0.001,0.01)", *made.train_arguments, "loop.max_steps=600",
        "loop.valid_every_steps=50", "tune.scheduler=none", "tune.trials=4", f"output={tmp_path}",
    ]  # fmt: skip
    process = start("tune", *arguments)
    wait_for((tmp_path / "leaderboard.md").exists, process)  # the first has ended
    process.kill()
    process.communicate()
    run_well("tune", *arguments)
    assert states(tmp_path) == {"finished": 4}
    for metrics in tmp_path.glob("trial-*/metrics.jsonl"):
        steps = [row["step"] for row in map(json.loads, metrics.read_text().splitlines()) if row["kind"] == "valid"]
        assert steps == list(range(50, 601, 50))
    refused = run_job("tune", *arguments, "tune.trials=5")
    assert refused.returncode == 2
    assert "tune.trials: 4 -> 5" in refused.stderr
