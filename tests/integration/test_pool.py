"""Workers that die, hang or cannot start: the pool on a small cluster of this test's own."""

import json
import os
import signal
import time
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from ray.cluster_utils import Cluster

from jobs.distributed import shard_pool
from jobs.distributed.shard_pool import run_on_ray
from jobs.schemas import ClusterConfig
from rnnlm.bulk.engine import execute, prepare, run_here
from rnnlm.bulk.plan import CostModel
from rnnlm.bulk.shard import Progress
from rnnlm.config import config
from rnnlm.data.formats.parquet import ParquetCorpus
from rnnlm.errors import EnvironmentFailure, FailuresError, StalledError, TerminatedError
from tests.unit.bulk.toy import CountProcessor, CountWork, parts

pytestmark = pytest.mark.ray

ROWS = 60
SLEEPS = {"slow": 0.5, "long": 3.0}


@config
class FaultyWork(CountWork):
    """Counts characters; some rows do terrible things, if a file says so."""

    faults: str
    "Folder: a file named `<fault>-<row>` makes it happen, one named `<fault>-<row>-once` just once."

    def cost(self):
        return CostModel(seconds_per_row=1.0, seconds_per_byte=0.0)

    def identity(self):
        return {}

    def build(self, device):
        folder = Path(self.faults)
        if (folder / "build").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return FaultyProcessor(self)


class FaultyProcessor(CountProcessor):
    def process(self, table, rows):
        for fault in Path(self.work.faults).iterdir():
            kind, _, row = fault.name.partition("-")
            number, _, once = row.partition("-")
            if number.isdigit() and int(number) in rows.tolist():
                if once:
                    fault.unlink()
                if kind == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                if kind == "hang":
                    hang_for_a_minute()
                if kind in SLEEPS:
                    time.sleep(SLEEPS[kind])
        return super().process(table, rows)


def hang_for_a_minute():
    time.sleep(60)


@pytest.fixture(scope="module")
def nodes():
    """A head without room for workers, so that a node can be taken away."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    cluster.add_node(num_cpus=2)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(shard_pool, "BACKOFF_SECONDS", (0.0,))
    monkeypatch.setattr(shard_pool, "NODE_SECONDS", 0.0)


@pytest.fixture
def setting(tmp_path, nodes):
    """A corpus of 12 shards, the folder of faults, and the bytes that an undisturbed run gives."""
    rows = range(ROWS)
    pq.write_table(pa.table({"text": ["x" * (row % 9) for row in rows]}), tmp_path / "corpus.parquet", row_group_size=5)
    (tmp_path / "faults").mkdir()
    run(tmp_path, tmp_path / "undisturbed", pool=run_here)
    return tmp_path


def run(folder, output, *, seen=None, said=None, pool=None, on_event=None, **options):
    corpus = ParquetCorpus(path=str(folder / "corpus.parquet"))
    plan = prepare(FaultyWork(faults=str(folder / "faults")), corpus, str(output), target_seconds=5.0)
    cluster = ClusterConfig(**{"workers": 2, "stall_seconds": 60.0, "grace_seconds": 20.0, **options})

    def on_ray(run, shards, on_progress):
        return run_on_ray(run, shards, cluster, on_progress=on_progress, say=([] if said is None else said).append)

    return execute(plan, pool or on_ray, on_event=on_event or ([] if seen is None else seen).append)


def fault(folder, name):
    (folder / "faults" / name).touch()


def test_workers_give_the_bytes_of_one_process_and_tell_of_progress(setting):
    for row in range(0, ROWS, 5):
        fault(setting, f"slow-{row}")
    seen = []
    run(setting, setting / "out", seen=seen)
    assert parts(setting / "out") == parts(setting / "undisturbed")
    records = [json.loads(file.read_text()) for file in (setting / "out/_run/done").iterdir()]
    assert {record["worker"] for record in records} <= {"worker-1", "worker-2"}
    assert all(isinstance(event, Progress) or event.rows == 5 for event in seen)


def test_a_worker_that_dies_is_replaced(setting):
    fault(setting, "kill-12-once")
    fault(setting, "kill-33-once")
    run(setting, setting / "out")
    assert parts(setting / "out") == parts(setting / "undisturbed")


def test_a_row_that_kills_its_worker_costs_its_shard_alone(setting):
    fault(setting, "kill-12")
    with pytest.raises(
        FailuresError, match=r"1 of 12 shards failed; the first: shard 2 \(rows from 10\) ended 2 workers"
    ):
        run(setting, setting / "out", max_attempts=2)
    assert len(list((setting / "out/_run/done").iterdir())) == 11
    (setting / "faults/kill-12").unlink()
    run(setting, setting / "out")
    assert parts(setting / "out") == parts(setting / "undisturbed")


def test_a_worker_that_hangs_is_ended_with_its_stacks_shown(setting):
    fault(setting, "hang-41-once")
    said = []
    run(setting, setting / "out", said=said, stall_seconds=15.0)
    assert parts(setting / "out") == parts(setting / "undisturbed")
    assert "has not moved for 15 s at shard 8" in said[0]
    assert "hang_for_a_minute" in said[0]


def test_a_shard_that_always_hangs_is_set_aside_and_the_run_ends_as_stalled(setting):
    fault(setting, "hang-41")
    with pytest.raises(StalledError, match=r"shard 8 \(rows from 40\) hung 1 workers"):
        run(setting, setting / "out", stall_seconds=15.0, max_attempts=1)
    assert len(list((setting / "out/_run/done").iterdir())) == 11


def test_a_model_that_kills_every_worker_is_said_at_once(setting):
    fault(setting, "build")
    with pytest.raises(EnvironmentFailure, match="5 workers in a row died while they started"):
        run(setting, setting / "out")


@pytest.mark.slow  # Ray takes half a minute to notice
def test_a_lost_node_is_nobodys_fault(setting, nodes, monkeypatch):
    monkeypatch.setattr(shard_pool, "NODE_SECONDS", 30.0)
    extra = nodes.add_node(num_cpus=2)
    for row in range(0, ROWS, 5):
        fault(setting, f"slow-{row}")
    removed = []

    def watch(event):
        if not isinstance(event, Progress) and not removed:
            removed.append(event)
            nodes.remove_node(extra, allow_graceful=False)

    run(setting, setting / "out", on_event=watch, workers=4, max_attempts=1)
    assert removed
    assert parts(setting / "out") == parts(setting / "undisturbed")


def test_a_signal_lets_the_shards_in_work_finish(setting):
    for row in range(0, ROWS, 5):
        fault(setting, f"long-{row}")
    at_work = []

    def terminate(event):
        if isinstance(event, Progress) and event.rows == 0:
            at_work.append(event.shard)
            raise TerminatedError("terminated")

    with pytest.raises(TerminatedError):
        run(setting, setting / "out", on_event=terminate)
    done = [int(file.stem) for file in (setting / "out/_run/done").iterdir()]
    assert at_work[0] in done
    assert len(done) < 12
    for row in range(0, ROWS, 5):
        (setting / f"faults/long-{row}").unlink()
    assert run(setting, setting / "out").resumed_shards == len(done)
    assert parts(setting / "out") == parts(setting / "undisturbed")


def test_workers_that_never_come_end_the_run_as_stalled(setting, nodes):
    hog = ray.remote(num_cpus=2)(Hog).remote()
    ray.get(hog.here.remote())
    with pytest.raises(StalledError, match=r"no worker came up for \d s; each needs 1 CPU"):
        run(setting, setting / "out", stall_seconds=2.5)
    ray.kill(hog)
    run(setting, setting / "out")
    assert parts(setting / "out") == parts(setting / "undisturbed")


class Hog:
    """Holds the whole cluster."""

    def here(self):
        return True


def test_a_configuration_says_which_workers():
    kinds = {
        options: [
            (kind.device, kind.wanted, asdict(kind.needs))
            for kind in shard_pool.kinds_of(ClusterConfig(**dict(options)))
        ]
        for options in [(), (("workers", 3), ("cpus", 2.0)), (("gpu_workers", 4), ("gpus", 0.25))]
    }
    assert list(kinds.values()) == [
        [("cpu", None, {"cpus": 1.0, "gpus": 0.0})],
        [("cpu", 3, {"cpus": 2.0, "gpus": 0.0})],
        [("cuda", 4, {"cpus": 1.0, "gpus": 0.25})],
    ]
