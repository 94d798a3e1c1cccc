"""A score run on a cluster under random SIGKILLs: of a worker, of the driver, of a node. Not one byte may differ.

`make test-faults` kills 200 times; `make test` six times. The environment variable RNNLM_KILLS sets another number,
RNNLM_SEED another course of events.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ray.cluster_utils import Cluster

from tests.integration.pipeline import ROOT, TIMEOUT_SECONDS, part_bytes, pipeline, run_well

pytestmark = pytest.mark.ray

ROWS = 4000
FEW = 6


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Arguments of a run of some ten seconds in eighty shards, and the parts that it writes in peace."""
    made, folder = pipeline(), tmp_path_factory.mktemp("kills")
    generator = random.Random(3)
    texts = [f"row {i % 7} says {'yes ' * generator.randrange(1, 60)}to number {i * i % 11}" for i in range(ROWS)]
    texts[17] = None
    for number in range(4):
        rows = range(number * ROWS // 4, (number + 1) * ROWS // 4)
        table = pa.table({"id": pa.array(rows), "text": [texts[row] for row in rows]})
        pq.write_table(table, folder / f"{number}.parquet", row_group_size=ROWS // 80)
    arguments = [
        f"checkpoint={made.model}", "corpus=parquet", f"corpus.path='{folder / '*.parquet'}'", "shards=row_group",
    ]  # fmt: skip
    run_well("score", *arguments, "cluster=here", f"output={folder / 'out'}")
    return arguments, part_bytes(folder / "out")


@pytest.fixture
def cluster():
    """A head without room for work, and one node with two CPUs that can be taken away."""
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    yield found
    found.shutdown()


def test_a_few_kills_change_nothing(undisturbed, cluster, tmp_path):
    suffer(undisturbed, cluster, tmp_path / "out", FEW, kinds=["worker", "driver"])


@pytest.mark.faults
@pytest.mark.timeout(0)
def test_many_kills_change_nothing(undisturbed, cluster, tmp_path):
    kills = int(os.environ.get("RNNLM_KILLS", "200"))
    counts = suffer(
        undisturbed, cluster, tmp_path / "out", kills, kinds=["worker", "worker", "driver", "driver", "node"]
    )
    assert set(counts) == {"worker", "driver", "node"} or kills < 20


def suffer(undisturbed, cluster, output: Path, kills: int, *, kinds: list[str]) -> Counter:
    """Run, and run again, until so many kills are done and a run has come to its end."""
    arguments, expected = undisturbed
    seed = int(os.environ.get("RNNLM_SEED", "1"))
    chance = random.Random(seed)
    counts: Counter = Counter()
    node = cluster.add_node(num_cpus=2)
    whole_runs, began = 0, time.monotonic()
    command = [
        sys.executable, "-m", "jobs.score", *arguments, f"cluster.address={cluster.address}", "cluster.workers=2",
        "cluster.max_attempts=50", f"output={output}",
    ]  # fmt: skip
    while True:
        log = output.with_suffix(".log").open("w")
        driver = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        while driver.poll() is None:
            if sum(counts.values()) >= kills:
                driver.wait(timeout=TIMEOUT_SECONDS)
                break
            if not wait_for_work(output, driver):
                break
            time.sleep(chance.uniform(0.0, 0.8))
            kind = chance.choice(kinds)
            victims = workers_of(os.getpid())
            if kind == "worker" and victims:
                os.kill(chance.choice(victims), signal.SIGKILL)
            elif kind == "driver" and driver.poll() is None:
                driver.kill()
                driver.wait()
            elif kind == "node":
                cluster.remove_node(node, allow_graceful=False)
                node = cluster.add_node(num_cpus=2)
            else:
                continue
            counts[kind] += 1
            print(f"{sum(counts.values())} of {kills} kills, {time.monotonic() - began:.1f} s: {kind}", file=sys.stderr)
        log.close()
        said = output.with_suffix(".log").read_text()
        assert driver.returncode in {0, -signal.SIGKILL}, said
        if driver.returncode == 0:
            whole_runs += 1
            check(output, expected)
            if sum(counts.values()) >= kills:
                break
            shutil.rmtree(output)
    print(f"{dict(counts)} kills, {whole_runs} whole runs, seed {seed}: every part the same", file=sys.stderr)
    return counts


def check(output: Path, expected: list[tuple[str, bytes]]) -> None:
    """Nothing lost, nothing doubled, every byte the same."""
    assert part_bytes(output) == expected
    ids = [row for file in sorted((output / "data").iterdir()) for row in pq.read_table(file)["id"].to_pylist()]
    assert ids == list(range(ROWS))
    totals = json.loads((output / "_SUCCESS").read_text())
    assert totals["rows"] == totals["ok"] + totals["null"] + totals["error"] == ROWS
    assert (totals["null"], totals["error"]) == (1, 0)


def wait_for_work(output: Path, driver: subprocess.Popen) -> bool:
    """Wait until this driver's run has done something more; False if it ended first."""
    before = len(list((output / "_run/done").glob("*.json"))) if output.exists() else 0
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while driver.poll() is None:
        if len(list((output / "_run/done").glob("*.json"))) > before:
            return True
        assert time.monotonic() < deadline, "nothing moves"
        time.sleep(0.02)
    return False


def workers_of(ancestor: int) -> list[int]:
    """Processes of the pool below `ancestor`: the machine may have other clusters."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title = (folder / "cmdline").read_bytes()
        except OSError:
            continue  # it ended meanwhile
        if title.startswith(b"ray::ShardWorker") and descends(int(folder.name), ancestor):
            found.append(int(folder.name))
    return found


def descends(process: int, ancestor: int) -> bool:
    """Whether `ancestor` is a parent, or a parent's parent, and so on."""
    while process > 1:
        if process == ancestor:
            return True
        try:
            process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
    return False
