"""jobs.train with a real MLflow server: what arrives, one run through a kill, and a server that is not there."""

import importlib.util
import json
import subprocess
import sys
import time
import urllib.request

import pytest

from tests.integration.pipeline import ROOT, TIMEOUT_SECONDS, pipeline, run_job, run_well
from tests.servers import free_ports

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("flask") is None, reason="no MLflow server: make test-trackers"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Address of an MLflow server with an empty store."""
    folder = tmp_path_factory.mktemp("mlflow")
    (port,) = free_ports(1)
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
        "--backend-store-uri", f"sqlite:///{folder}/store.db", "--default-artifact-root", str(folder / "artifacts"),
    ]  # fmt: skip
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not is_up(port):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
        process.terminate()
        process.wait()


def is_up(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
            return True
    except OSError:
        return False


def ask(server, path, **body):
    request = urllib.request.Request(
        f"{server}/api/2.0/mlflow/{path}", data=json.dumps(body).encode() if body else None
    )
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def runs_of(server, experiment):
    found = ask(server, f"experiments/get-by-name?experiment_name={experiment}")["experiment"]["experiment_id"]
    return ask(server, "runs/search", experiment_ids=[found])["runs"]


def history(server, run, key):
    path = f"metrics/get-history?run_id={run['info']['run_id']}&metric_key={key}"
    return [(int(point["step"]), point["value"]) for point in ask(server, path).get("metrics", [])]


def rows_of(folder, kind):
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row["nll"]) for row in rows if row["kind"] == kind]


def arguments(made, server, experiment, output):
    own = [one for one in made.train_arguments if not one.startswith("tracker=")]
    return [
        *own, "tracker=mlflow", f"tracker.tracking_uri={server}", f"tracker.experiment={experiment}",
        "tracker.tags={team: words}", "loop.log_every_steps=10", f"output={output}",
    ]  # fmt: skip


def as_dict(pairs):
    return {pair["key"]: pair["value"] for pair in pairs}


def check_run(server, run, output):
    for kind in ("train", "valid"):
        assert history(server, run, f"{kind}/nll") == rows_of(output, kind)
    parameters, tags = as_dict(run["data"]["params"]), as_dict(run["data"]["tags"])
    assert parameters["task.cell.hidden_size"] == "16"
    assert parameters["optimizer._target_"].startswith("rnnlm.")
    best = json.loads((output / "checkpoints/index.json").read_text())["best"]
    assert tags["rnnlm.checkpoint"] == f"{output}/checkpoints/{best}"
    assert tags["rnnlm.output"] == str(output)
    assert tags["team"] == "words"
    assert run["info"]["status"] == "FINISHED"
    assert run["info"]["run_name"] == output.name


def test_a_run_that_is_killed_is_one_run_on_the_server(server, tmp_path):
    output = tmp_path / "killed"
    command = [*arguments(pipeline(), server, "kills", output), "loop.max_steps=3000", "loop.save_every_steps=50"]
    with subprocess.Popen([sys.executable, "-m", "jobs.train", *command], cwd=ROOT, stderr=subprocess.PIPE) as process:
        try:
            deadline = time.monotonic() + TIMEOUT_SECONDS
            while not ((output / "mlflow.json").exists() and history(server, runs_of(server, "kills")[0], "train/nll")):
                assert process.poll() is None, process.stderr.read()
                assert time.monotonic() < deadline
                time.sleep(0.2)
        finally:
            process.kill()
    run_well("train", *command)
    (run,) = runs_of(server, "kills")
    check_run(server, run, output)  # a row that was told before the kill and is computed again is the same to the bit


def test_a_server_that_is_gone_costs_nothing_and_gets_everything_when_it_is_back(server, tmp_path):
    output, (port,) = tmp_path / "gone", free_ports(1)
    made = pipeline()
    done = run_job("train", *arguments(made, f"http://127.0.0.1:{port}", "gone", output), "loop.max_steps=30")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("mlflow fails, the training goes on") == 1
    rows = len((output / "metrics.jsonl").read_text().splitlines())
    assert f"mlflow lacks the last {rows} rows, which are in metrics.jsonl" in done.stderr
    run_well("train", *arguments(made, server, "gone", output), "loop.max_steps=30")
    (run,) = runs_of(server, "gone")
    check_run(server, run, output)
