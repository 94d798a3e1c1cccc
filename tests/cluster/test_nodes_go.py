"""A node or a worker goes in the middle of a run, with or without notice: the result is that of an undisturbed run."""

import json
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
import ray
import safetensors.torch
import torch
from ray.core.generated import autoscaler_pb2

from rnnlm.checkpoint import resolve_checkpoint
from rnnlm.errors import NonFiniteError
from tests.cluster.commands import children, nodes_with, raylet
from tests.integration.pipeline import part_bytes

pytestmark = [pytest.mark.ray, pytest.mark.cluster, pytest.mark.timeout(900)]

STEPS = 6000  # half a minute: long enough for Ray to notice on the way
SAVE_EVERY = 25
SCORER, TRAINER, TRIAL = "ray::ShardWorker.process", "ray::RayTrainWorker", "ray::run_trial"
AGAIN = "the workers start again, from step-"


def done_shards(output: Path) -> int:
    return len(list((output / "_run/done").glob("*.json")))


def last_step(output: Path) -> int:
    index = output / "checkpoints/index.json"
    return int(json.loads(index.read_text())["last"].removeprefix("step-")) if index.exists() else 0


def weights(output: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(f"{resolve_checkpoint(str(output), 'last').address}/weights.safetensors")


def lose(cluster, node, title: str) -> None:
    """A node goes without notice, and all its processes at once."""
    workers = children(raylet(node), title)
    cluster.remove_node(node, allow_graceful=False)
    for worker in workers:
        with suppress(ProcessLookupError):  # it went with its raylet
            os.kill(worker, signal.SIGKILL)


def assert_same(output: Path, expected: dict[str, torch.Tensor]) -> None:
    found = weights(output)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.fixture(scope="module")
def training(made):
    return [
        *made.train_arguments, f"loop.max_steps={STEPS}", f"loop.save_every_steps={SAVE_EVERY}", "task.dropout=0.2",
        "loop.valid_every_steps=1000", "workers=2", "optimizer_sharding=true",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(commands, training, tmp_path_factory):
    """What two workers train in peace, on a cluster of their own."""
    folder = tmp_path_factory.mktemp("undisturbed")
    command = commands(folder / "log", "train", *training, f"output={folder / 'out'}")
    assert command.end() == 0, command.said()
    return weights(folder / "out")


@pytest.fixture
def start(commands, cluster, training, tmp_path):
    """Starts the training on the cluster, or goes on with it."""
    return lambda: commands(
        tmp_path / "log", "train", *training, f"address={cluster.address}", f"output={tmp_path / 'out'}"
    )


@pytest.fixture
def begun(start, tmp_path):
    """The training, as far as a second checkpoint."""
    command = start()
    command.wait_until(lambda: last_step(tmp_path / "out") > SAVE_EVERY)
    return command


def test_a_node_goes_while_rows_are_scored(commands, cluster, scored, tmp_path):
    arguments, expected = scored
    output = tmp_path / "out"
    command = commands(
        tmp_path / "log", "score", *arguments, f"cluster.address={cluster.address}", "cluster.workers=3",
        f"output={output}",
    )  # fmt: skip
    command.wait_until(lambda: nodes_with(cluster, SCORER))
    lose(cluster, nodes_with(cluster, SCORER)[0], SCORER)
    assert done_shards(output) < len(expected), "it was done before the node went"
    assert command.end() == 0, command.said()
    assert " died at shard " in command.said()
    assert part_bytes(output) == expected


def test_a_node_goes_while_workers_train(cluster, begun, undisturbed, tmp_path):
    lose(cluster, nodes_with(cluster, TRAINER)[0], TRAINER)
    assert begun.end() == 0, begun.said()
    assert AGAIN in begun.said()
    assert_same(tmp_path / "out", undisturbed)


def test_a_node_that_will_go_is_left_after_all_was_saved(cluster, begun, undisturbed, tmp_path):
    node = nodes_with(cluster, TRAINER)[0]
    drain(cluster, node)
    begun.wait_until(lambda: AGAIN in begun.said())
    assert not children(raylet(node), TRAINER)
    cluster.remove_node(node, allow_graceful=False)
    assert begun.end() == 0, begun.said()
    assert begun.said().count(AGAIN) == 1
    assert_same(tmp_path / "out", undisturbed)


def drain(cluster, node) -> None:
    """What an autoscaler or a cloud does before it takes a node away: what `ray drain-node` does, but at once."""
    deadline_ms = int((time.time() + 100) * 1000)
    preemption = autoscaler_pb2.DrainNodeReason.DRAIN_NODE_REASON_PREEMPTION
    client = ray._raylet.GcsClient(address=cluster.address)
    accepted, why = client.drain_node(node.node_id, preemption, "test", deadline_ms)
    assert accepted, why


def test_a_worker_and_the_command_are_told_to_go(cluster, start, begun, undisturbed, tmp_path):
    os.kill(children(raylet(nodes_with(cluster, TRAINER)[0]), TRAINER)[0], signal.SIGTERM)
    begun.wait_until(lambda: AGAIN in begun.said())
    again = int(begun.said().partition(AGAIN)[2].split()[0])
    begun.wait_until(lambda: last_step(tmp_path / "out") > again)
    begun.process.send_signal(signal.SIGTERM)
    assert begun.end() == 143, begun.said()
    assert "the state is saved" in begun.said()
    stopped = last_step(tmp_path / "out")
    assert again < stopped < STEPS
    assert start().end() == 0
    assert_same(tmp_path / "out", undisturbed)


def test_a_node_goes_in_the_middle_of_a_sweep(commands, cluster, made, tmp_path):
    seeds = (1, 2, 3)
    sweep = [
        "train", "-m", *made.train_arguments, f"loop.max_steps={STEPS}", f"loop.save_every_steps={SAVE_EVERY}",
        "loop.valid_every_steps=1000", "task.dropout=0.2", f"seed={','.join(map(str, seeds))}",
    ]  # fmt: skip
    calm, output = tmp_path / "calm", tmp_path / "out"
    command = commands(tmp_path / "calm.log", *sweep, f"output={calm}")
    assert command.end() == 0, command.said()
    command = commands(
        tmp_path / "log", *sweep, "hydra/launcher=ray", f"hydra.launcher.address={cluster.address}", f"output={output}"
    )
    command.wait_until(lambda: all(last_step(output / f"seed-{seed}") > SAVE_EVERY for seed in seeds))
    lose(cluster, nodes_with(cluster, TRIAL)[0], TRIAL)
    assert all(last_step(output / f"seed-{seed}") < STEPS for seed in seeds), "a trial was done before the node went"
    assert command.end() == 0, command.said()
    assert "3 of 3 trials finished" in command.said()
    for seed in seeds:
        assert_same(output / f"seed-{seed}", weights(calm / f"seed-{seed}"))


def test_an_error_of_the_users_is_told_and_not_tried_again(commands, cluster, training, tmp_path):
    command = commands(
        tmp_path / "log", "train", *training, f"address={cluster.address}", f"output={tmp_path / 'out'}",
        "optimizer.learning_rate=1e38",
    )  # fmt: skip
    assert command.end() == NonFiniteError.exit_code, command.said()
    assert "NonFiniteError: the gradient of step" in command.said()
    assert command.said().count("the workers start again") == 1  # to hear that they are not to
