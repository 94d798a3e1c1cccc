"""`python -m jobs.train` killed with SIGKILL at random moments: the parameters come out the same to the bit."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from tests.integration.pipeline import ROOT, TIMEOUT_SECONDS, pipeline, run_well

KILLS = 5
STEPS = 120
SAVE_EVERY = 7


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    arguments = [
        *pipeline().train_arguments, f"loop.max_steps={STEPS}", f"loop.save_every_steps={SAVE_EVERY}",
        "loop.valid_every_steps=40", "loop.log_every_steps=5", "task.dropout=0.3", "batching.jitter=2",
        "averaging=ema", "loop.accumulate=2",
    ]  # fmt: skip
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    run_well("train", *arguments, f"output={folder}")
    return arguments, outcome(folder)


def outcome(folder):
    """The files of the checkpoints and the pointers to them; the rows, times apart."""
    kept = sorted(path for path in folder.glob("checkpoints/**/*") if path.is_file() and path.name != "training.json")
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    rows = [{k: v for k, v in json.loads(line).items() if "second" not in k and "share" not in k} for line in lines]
    return {str(path.relative_to(folder)): path.read_bytes() for path in kept}, rows


def last_step(folder):
    index = folder / "checkpoints/index.json"
    return int(json.loads(index.read_text())["last"].removeprefix("step-")) if index.exists() else 0


def test_five_kills_at_random_steps_change_nothing(undisturbed, tmp_path):
    arguments, expected = undisturbed
    folder, generator = tmp_path / "run", random.Random(7)
    # After at least so many steps are saved, and a random moment later.
    goals = sorted(generator.randrange(STEPS - 2 * SAVE_EVERY) for _ in range(KILLS))
    for goal in goals:
        command = [sys.executable, "-m", "jobs.train", *arguments, f"output={folder}"]
        process = subprocess.Popen(
            command, cwd=ROOT, env=dict(os.environ), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while last_step(folder) < goal:
            assert process.poll() is None, "it ended before it was killed"
            assert time.monotonic() < deadline
            time.sleep(0.001)
        time.sleep(generator.uniform(0.0, 0.05))
        assert process.poll() is None, "it ended before it was killed"
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    run_well("train", *arguments, f"output={folder}")
    assert outcome(folder) == expected
