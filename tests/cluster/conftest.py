"""Clusters of three nodes on one machine, and the tiny corpus and model that the tests work on."""

import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ray.cluster_utils import Cluster

from tests.cluster.commands import Command
from tests.integration.pipeline import part_bytes, pipeline, run_well

ROWS = 24_000
SHARDS = 60


@pytest.fixture(scope="session")
def made():
    return pipeline()


@pytest.fixture(scope="session")
def scored(made, tmp_path_factory):
    """Arguments of a score run of some seconds in many shards, and the parts it writes in one process."""
    folder, chance = tmp_path_factory.mktemp("scored"), random.Random(3)
    texts = [f"row {i % 7} says {'yes ' * chance.randrange(1, 60)}to number {i * i % 11}" for i in range(ROWS)]
    table = pa.table({"id": range(ROWS), "text": texts})
    pq.write_table(table, folder / "corpus.parquet", row_group_size=ROWS // SHARDS)
    arguments = [
        f"checkpoint={made.model}", "corpus=parquet", f"corpus.path={folder / 'corpus.parquet'}", "shards=row_group",
    ]  # fmt: skip
    run_well("score", *arguments, "cluster=here", f"output={folder / 'out'}")
    return arguments, part_bytes(folder / "out")


@pytest.fixture
def cluster(monkeypatch):
    """Three nodes with one CPU each; commands join at the first of them."""
    monkeypatch.setenv("RAY_worker_niceness", "0")  # on a busy machine they would hardly move
    found = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False},
    )
    for _ in range(2):
        found.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    yield found
    found.shutdown()


@pytest.fixture(scope="module")
def commands():
    """Starts commands; what still runs after the module's tests is ended."""
    started = []

    def start(*arguments, **options):
        started.append(Command(*arguments, **options))
        return started[-1]

    yield start
    for command in started:
        command.process.kill()
        command.process.wait()
