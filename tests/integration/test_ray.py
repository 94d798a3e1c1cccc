"""The same jobs on Ray: same bytes on any number of workers, with deaths on the way, and by `ray job submit`."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.local_head import local_head
from tests.integration.pipeline import ROOT, TIMEOUT_SECONDS, part_bytes, pipeline, run_job, run_well

pytestmark = pytest.mark.ray

# Two workers add their gradients in another order than one process does.
SAME_LOSS = 1e-5
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def made():
    return pipeline()


@pytest.fixture(scope="module")
def cluster():
    """A head with a token of its own; gives the environment to reach it and the address of its dashboard."""
    with local_head(num_cpus=2) as head:
        yield {**head.environment, "RAY_ADDRESS": head.address}, head.dashboard


@pytest.fixture(scope="module")
def local(made, tmp_path_factory):
    """The scores that this very process makes; two columns whose types Arrow rewrites when it pickles."""
    folder = tmp_path_factory.mktemp("local")
    table = pq.read_table(made.corpus)
    table = table.append_column("tags", pa.array([[("k", i)] for i in range(240)], pa.map_(pa.string(), pa.int64())))
    table = table.append_column("pair", pa.array([[i, None] for i in range(240)], pa.list_(pa.float32(), 2)))
    pq.write_table(table, folder / "corpus.parquet", row_group_size=40)
    arguments = [
        f"checkpoint={made.model}", "corpus=parquet", f"corpus.path={folder / 'corpus.parquet'}",
        "shard_seconds=0.0001",
    ]  # fmt: skip
    run_well("score", *arguments, "cluster=here", f"output={folder / 'out'}")
    assert len(part_bytes(folder / "out")) > 3
    return arguments, part_bytes(folder / "out")


def submitted(cluster, job, *arguments):
    """What `ray job submit` of a job says."""
    env, dashboard = cluster
    command = [str(BIN / "ray"), "job", "submit", f"--address={dashboard}", "--working-dir", ".", "--"]
    return subprocess.run(
        [*command, sys.executable, "-m", f"jobs.{job}", *arguments],
        cwd=ROOT,
        env={name: value for name, value in env.items() if name != "RAY_ADDRESS"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


def test_a_submitted_job_gives_the_local_bytes(cluster, local, tmp_path):
    arguments, expected = local
    done = submitted(cluster, "score", *arguments, "cluster.workers=2", f"output={tmp_path / 'out'}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "by 2 Ray workers" in done.stdout
    assert part_bytes(tmp_path / "out") == expected


@pytest.mark.slow
def test_a_submitted_sweep_runs_in_that_cluster_and_a_rerun_has_nothing_to_do(cluster, made, tmp_path):
    sweep = ["train", "-m", "hydra/launcher=ray", *made.train_arguments, "loop.max_steps=2", "seed=1,2"]
    for _ in range(2):
        done = submitted(cluster, *sweep, f"output={tmp_path}")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "2 of 2 trials finished" in done.stdout
    records = [json.loads(file.read_text()) for file in (tmp_path / "_sweep/trials").iterdir()]
    assert [record["attempts"] for record in records] == [1, 1]


def test_a_second_command_joins_the_running_cluster(cluster, local, tmp_path):
    env, _ = cluster
    arguments, expected = local
    heads = count_heads()
    run_well("score", *arguments, "cluster.workers=1", f"output={tmp_path / 'out'}", env=env)
    assert count_heads() == heads
    assert part_bytes(tmp_path / "out") == expected


def count_heads() -> int:
    """Ray head servers that this test's process started, directly or not."""
    commands = (path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists())
    return sum(b"gcs_server" in command.split(b"\0")[0] for command in commands)


def test_a_killed_worker_is_replaced_and_nothing_is_lost(cluster, local, tmp_path):
    env, _ = cluster
    arguments, expected = local
    command = [sys.executable, "-m", "jobs.score", *arguments, "cluster.workers=2", f"output={tmp_path / 'out'}"]
    process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    killed = False
    while process.poll() is None:
        workers = [pid for pid, title in process_titles() if title.startswith("ray::ShardWorker")]
        if workers and not killed:
            os.kill(workers[0], signal.SIGKILL)
            killed = True
        time.sleep(0.002)
    out, errors = process.communicate()
    assert process.returncode == 0, out + errors
    assert killed
    assert part_bytes(tmp_path / "out") == expected


def process_titles():
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            yield int(folder.name), (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it ended meanwhile


def test_more_workers_than_the_cluster_has_are_refused_before_anything_is_written(cluster, local, tmp_path):
    env, _ = cluster
    arguments, _ = local
    done = run_job("score", *arguments, "cluster.workers=99", f"output={tmp_path / 'out'}", env=env)
    assert done.returncode == 4
    assert "the cluster has 2" in done.stderr
    assert not (tmp_path / "out").exists()


def test_two_workers_train_the_model_that_one_trains(cluster, made, tmp_path):
    env, _ = cluster
    arguments = [*made.train_arguments, "loop.max_steps=20"]
    run_well("train", *arguments, f"output={tmp_path / 'one'}")
    run_well("train", *arguments, "workers=2", f"output={tmp_path / 'two'}", env=env)
    one, two = (last_validation(tmp_path / name) for name in ("one", "two"))
    assert two["tokens"] == one["tokens"]
    assert two["nll"] == pytest.approx(one["nll"], abs=SAME_LOSS)


def last_validation(folder: Path) -> dict:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["kind"] == "valid"][-1]
