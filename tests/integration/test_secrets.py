"""Credentials in URIs and in the environment: in nothing that a job prints or writes, whatever it does."""

import sys
import traceback

import pyarrow.parquet as pq
import pytest

from jobs.discretion import keep_secrets
from rnnlm.storage import open_location
from tests.integration.pipeline import pipeline, run_job, run_well
from tests.servers import SECRET

pytestmark = pytest.mark.s3

HIDDEN = {
    "RAY_AUTH_TOKEN": "hidden-ray-token" * 4,
    "MLFLOW_TRACKING_PASSWORD": "hidden-mlflow-password",
    "WANDB_API_KEY": "hidden-wandb-key",
    "AZURE_STORAGE_KEY": "hidden-azure-key",
}
SECRETS = [SECRET, *HIDDEN.values()]


def check(*contents: str | bytes) -> None:
    for content in contents:
        found = content.encode() if isinstance(content, str) else content
        assert not [secret for secret in SECRETS if secret.encode() in found]


def test_jobs_from_and_to_a_store_keep_its_credentials_to_themselves(s3, tmp_path):
    made, run, scored = pipeline(), s3.full_uri("run"), s3.full_uri("scored")
    open_location(s3.full_uri("in", "corpus.parquet")).write_bytes(made.corpus.read_bytes())
    score = ["corpus=parquet", f"corpus.path='{s3.full_uri('in')}'", "cluster=here", f"output='{scored}'"]
    said = [
        run_well("train", *made.train_arguments, "loop.max_steps=10", f"output='{run}'", env=HIDDEN),
        run_well("score", *score, f"checkpoint='{run}'", env=HIDDEN),
        run_well("evaluate", f"scored='{scored}'", f"run='{run}'", f"output={tmp_path / 'report'}", env=HIDDEN),
    ]
    refused = run_job("score", *score, f"checkpoint='{made.model}'", f"corpsu='{run}'", env=HIDDEN)
    assert refused.returncode == 2
    stored = {name: open_location(s3.full_uri()).join(*name.split("/")).read_bytes() for name in files(s3)}
    local = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    assert {"scored/_SUCCESS", "run/settings.json", "scored/_run/plan.json"} <= set(stored)
    assert local
    check(*said, *stored.values(), *local, refused.stdout, refused.stderr)
    footers = [open_location(s3.full_uri()).join(*name.split("/")) for name in stored if name.endswith(".parquet")]
    assert footers
    check(*(repr(footer_of(one)) for one in footers))


@pytest.mark.ray
@pytest.mark.slow
def test_neither_do_a_sweep_and_its_leaderboard(s3, tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "local")
    made, start = pipeline(), s3.full_uri("no-such-weights")
    sweep = ["-m", "hydra/launcher=ray", *made.train_arguments, "loop.max_steps=2", "seed=1,2"]
    failed = run_job("train", *sweep, f"init_from='{start}'", f"output={tmp_path}", env=HIDDEN)
    assert failed.returncode == 3
    written = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
    assert any(b"no-such-weights" in content for content in written)
    check(failed.stdout, failed.stderr, *written)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_not_even_the_traceback_of_a_bug_shows_them(monkeypatch, capsys, stream):
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # so that they are put back
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    keep_secrets()
    print(f"output: s3://key:{SECRET}@bucket/run", file=getattr(sys, stream))
    traceback.print_exception(
        RuntimeError(f"s3://key:{SECRET}@bucket/run?secret_token={SECRET}"), file=getattr(sys, stream)
    )
    text = getattr(capsys.readouterr(), stream.removeprefix("std"))
    assert text.startswith("output: s3://bucket/run\n")
    assert "RuntimeError: s3://bucket/run?" in text
    check(text)


def files(s3) -> list[str]:
    return open_location(s3.full_uri()).list_files()


def footer_of(location) -> dict:
    with location.open_input() as stream:
        return pq.read_metadata(stream).metadata or {}
