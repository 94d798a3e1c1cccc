"""What Prometheus finds on the endpoint of a Ray node while jobs run, and whether strangers are let in."""

import os
import subprocess
import sys
import time
import urllib.request

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
from prometheus_client.parser import text_string_to_metric_families
from ray.cluster_utils import Cluster

from jobs.distributed.meters import METERS, Meters
from jobs.distributed.shard_pool import run_on_ray
from jobs.schemas import ClusterConfig
from rnnlm.bulk.engine import execute, prepare
from rnnlm.data.formats.parquet import ParquetCorpus
from tests.integration.pipeline import ROOT
from tests.servers import free_ports
from tests.unit.bulk.toy import CountWork

pytestmark = pytest.mark.ray

WAIT_SECONDS = 30.0  # for a figure to reach the endpoint


@pytest.fixture(scope="module")
def endpoint():
    """URL of the metrics of a cluster of this module's own, and the cluster's address."""
    (port,) = free_ports(1)
    head = {
        "num_cpus": 2,
        "metrics_export_port": port,
        "object_store_memory": 80_000_000,
        "_system_config": {"metrics_report_interval_ms": 500},
    }
    cluster = Cluster(initialize_head=True, head_node_args=head)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    yield f"http://127.0.0.1:{port}/metrics", cluster.address
    ray.shutdown()
    cluster.shutdown()


def scrape(url: str, run: str) -> dict[str, float]:
    """Sums of our metrics of a run over all workers, by name, and by name and code of error."""
    with urllib.request.urlopen(url) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        found: dict[str, float] = {}
        for sample in (sample for family in families for sample in family.samples):
            if sample.name.startswith("ray_rnnlm_") and sample.labels["run"] == run:
                assert set(sample.labels) >= {"job", "run", *METERS[sample.name.removeprefix("ray_")].labels}
                for key in (sample.name, f"{sample.name} {sample.labels.get('code', '')}"):
                    found[key.removeprefix("ray_")] = found.get(key.removeprefix("ray_"), 0.0) + sample.value
    return found


def scrape_until(url: str, run: str, complete) -> dict[str, float]:
    deadline = time.monotonic() + WAIT_SECONDS
    while not complete(found := scrape(url, run)):
        assert time.monotonic() < deadline, found
        time.sleep(0.3)
    return found


def test_a_bulk_run_is_on_the_endpoint_with_the_counts_of_its_records(endpoint, tmp_path):
    url, _ = endpoint
    texts = ["xyz", None, "bad", "four"] * 10
    pq.write_table(pa.table({"text": texts}), tmp_path / "corpus.parquet", row_group_size=5)
    (tmp_path / "trouble.json").write_text("[12]")
    work = CountWork(trouble=str(tmp_path / "trouble.json"))
    output = str(tmp_path / "out")
    plan = prepare(work, ParquetCorpus(path=str(tmp_path / "corpus.parquet")), output, target_seconds=5.0)
    assert len(plan.shards) == 8
    cluster = ClusterConfig(workers=2)

    def pool(run, shards, on_progress):
        return run_on_ray(run, shards, cluster, on_progress=on_progress, say=print)

    totals = execute(plan, pool, on_event=lambda _: None).totals
    settled = {"rnnlm_rows_total": 39, "rnnlm_shards_done_total": 8, "rnnlm_row_errors_total": 21}
    found = scrape_until(url, output, lambda found: all(found.get(name, 0) >= settled[name] for name in settled))
    assert {name: found[name] for name in settled} == settled
    assert found["rnnlm_shards_left"] == 0
    assert found["rnnlm_tokens_total"] == totals.tokens == 70 - 3
    assert {code: found[f"rnnlm_row_errors_total {code}"] for code in totals.errors} == totals.errors
    assert totals.errors == {"bad": 10, "failed": 1, "null_text": 10}
    assert found["rnnlm_busy_seconds_total"] > 0
    assert "rnnlm_shards_failed_total" not in found


def test_training_and_failed_shards_are_on_the_endpoint(endpoint):
    url, _ = endpoint
    meters = Meters("train", "s3://key:secret@bucket/run?scheme=http&session_token=hidden")
    meters.row({"kind": "train", "step": 3, "tokens": 96, "nll": 2.5, "tokens_per_second": 1000.0})
    meters.row({"kind": "valid", "step": 3, "tokens": 96, "nll": 2.75})
    meters.add("rnnlm_shards_failed_total", 2)
    meters.add("rnnlm_padding_positions_total", 0)
    run = "s3://bucket/run"
    found = scrape_until(url, run, lambda found: "rnnlm_shards_failed_total" in found)
    assert {name: value for name, value in found.items() if " " not in name} == {
        "rnnlm_train_loss_nats": 2.5,
        "rnnlm_valid_loss_nats": 2.75,
        "rnnlm_train_tokens_per_second": 1000.0,
        "rnnlm_train_steps": 3,
        "rnnlm_train_tokens": 96,
        "rnnlm_shards_failed_total": 2,
    }


@pytest.mark.parametrize(
    ("token", "said"),
    [
        (None, "the Ray cluster {} does not let this user in: Token authentication is enabled but no auth"),
        pytest.param("0" * 64, "no Ray cluster answers at {}", marks=pytest.mark.slow),  # Ray tries for 20 seconds
    ],
    ids=["none", "wrong"],
)
def test_a_cluster_lets_nobody_in_without_its_token(endpoint, tmp_path, token, said):
    script = (
        "import sys\nfrom jobs.app import guarded\nfrom jobs.distributed.cluster import connect\n"
        "sys.exit(guarded(lambda: connect(sys.argv[1])))"
    )
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    env |= {"HOME": str(tmp_path), **({"RAY_AUTH_TOKEN": token} if token else {})}
    command = [sys.executable, "-c", script, endpoint[1]]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 4, done.stderr
    assert f"EnvironmentFailure: {said.format(endpoint[1])}" in done.stderr
    assert "RAY_AUTH_TOKEN_PATH" in done.stderr
    assert "Traceback" not in done.stderr
    assert token is None or token not in done.stdout + done.stderr
