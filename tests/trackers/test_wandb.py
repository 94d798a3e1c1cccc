"""jobs.train with Weights & Biases offline: files beside the run, no connection, nothing of the machine in them."""

import importlib.util
import json
import platform

import pytest

from tests.integration.pipeline import pipeline, run_well

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="no wandb: make test-trackers"),
]
NOWHERE = "http://127.0.0.1:9"  # whoever tries to connect gets an error


def test_an_offline_run_is_in_files_whole_and_goes_on_under_its_id(tmp_path):
    output = tmp_path / "run"
    own = [one for one in pipeline().train_arguments if not one.startswith("tracker=")]
    arguments = [*own, "tracker=wandb", "tracker.tags=[words]", "loop.max_steps=30", f"output={output}"]
    env = {"WANDB_API_KEY": "hidden" * 8, "WANDB_BASE_URL": NOWHERE, "HTTPS_PROXY": NOWHERE, "HTTP_PROXY": NOWHERE}
    said = run_well("train", *arguments, env=env)
    run_id = json.loads((output / "wandb.json").read_text())["run_id"]
    (folder,) = output.glob(f"wandb/offline-run-*-{run_id}")
    content = (folder / f"run-{run_id}.wandb").read_bytes()
    for expected in (b"train/nll", b"valid/perplexity", b"task.cell.hidden_size", b"checkpoints/step-00000030"):
        assert expected in content
    written = b"".join(file.read_bytes() for file in output.rglob("*") if file.is_file()) + said.encode()
    assert b"hiddenhidden" not in written
    assert platform.node().encode() not in content
    run_well("train", *arguments, env=env)
    assert json.loads((output / "wandb.json").read_text())["run_id"] == run_id
    assert [file.name for file in tmp_path.iterdir()] == ["run"]
