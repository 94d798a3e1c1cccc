"""Runs whose weights are averaged: the averages are validated and kept, and stopped runs go on to the bit."""

import pytest
import safetensors.torch
import torch

from rnnlm.checkpoint import load_checkpoint
from rnnlm.errors import TerminatedError
from rnnlm.storage import open_location
from rnnlm.tasks.batching import LanesConfig
from rnnlm.training.averaging import EMAConfig, NoAveragingConfig, NTASGDConfig
from rnnlm.training.loop import train
from rnnlm.training.metrics import METRICS, read_metrics
from rnnlm.training.optimizers.adamw import AdamWConfig
from rnnlm.training.optimizers.muon import MuonConfig
from rnnlm.training.optimizers.sgd import SGDConfig
from rnnlm.training.schedules import ConstantConfig
from rnnlm.training.settings import Hooks, LoopConfig, TrainingConfig, TrainingData
from tests.corpora import sentences, tiny_task, token_table, words_tokenizer

STEPS = 23
RUNS = {
    "ema": (AdamWConfig(learning_rate=0.02), EMAConfig(decay=0.9)),
    "ema-muon": (MuonConfig(learning_rate=0.05, adamw_learning_rate=0.02), EMAConfig(decay=0.9)),
    # A rate at which validation soon gets worse.
    "nt_asgd": (SGDConfig(learning_rate=20.0), NTASGDConfig(patience=1)),
}


@pytest.fixture(scope="module")
def data():
    return TrainingData(
        train=token_table(sentences(25)), valid=token_table(sentences(9, seed=1)), tokenizer=words_tokenizer()
    )


def settings_of(name, averaging=None):
    optimizer, default = RUNS[name]
    return TrainingConfig(
        task=tiny_task(num_layers=2, dropout=0.4),
        batching=LanesConfig(num_lanes=4, window=5),
        optimizer=optimizer,
        schedule=ConstantConfig(warmup_steps=0),
        averaging=averaging or default,
        loop=LoopConfig(max_steps=STEPS, log_every_steps=3, valid_every_steps=3, save_every_steps=2, valid_lanes=2),
        seed=3,
    )


def rows_of(folder, kind):
    return [row for row in read_metrics(open_location(str(folder / METRICS))) if row["kind"] == kind]


def checkpoints(folder):
    return {
        f"{path.parent.name}/{path.name}": path.read_bytes()
        for path in sorted((folder / "checkpoints").rglob("*.safetensors"))
    }


@pytest.fixture(scope="module", params=RUNS)
def whole(request, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(settings_of(request.param), data, str(folder))
    return request.param, folder


def stop_after(steps):
    """Asks to stop after so many steps of this process."""
    asked = iter(range(1, 10_000))
    return Hooks(should_stop=lambda: next(asked) == steps)


@pytest.mark.parametrize("stop", [1, 8, 15])
def test_stopped_and_started_again_it_ends_the_same_to_the_bit(whole, data, tmp_path, stop):
    name, folder = whole
    with pytest.raises(TerminatedError):
        train(settings_of(name), data, str(tmp_path / "run"), hooks=stop_after(stop))
    train(settings_of(name), data, str(tmp_path / "run"))
    assert checkpoints(tmp_path / "run") == checkpoints(folder)
    for kind in ("train", "valid"):
        found, expected = rows_of(tmp_path / "run", kind), rows_of(folder, kind)
        assert [(row["step"], row["nll"]) for row in found] == [(row["step"], row["nll"]) for row in expected]


def test_the_averages_are_validated_and_kept_and_the_run_does_not_notice(whole, data, tmp_path):
    name, folder = whole
    train(settings_of(name, NoAveragingConfig()), data, str(tmp_path / "run"))
    for found, expected in zip(rows_of(folder, "train"), rows_of(tmp_path / "run", "train"), strict=True):
        assert (found["nll"], found["grad_norm"]) == (expected["nll"], expected["grad_norm"])
    found, expected = rows_of(folder, "valid"), rows_of(tmp_path / "run", "valid")
    assert found[-1]["nll"] != expected[-1]["nll"]

    last = folder / "checkpoints" / f"step-{STEPS:08d}"
    own = load_checkpoint(str(tmp_path / "run/checkpoints" / last.name)).model
    saved = safetensors.torch.load_file(last / "training.safetensors")
    for index, parameter in enumerate(own.parameters()):
        assert torch.equal(saved[f"averaging.weight.{index}"], parameter)
    kept = load_checkpoint(str(last)).model
    loss = settings_of(name).task.validate(kept, data.valid, data.tokenizer, num_lanes=2)
    assert loss.nll.item() / loss.num_targets == found[-1]["nll"]
    assert not torch.equal(kept.embedding.weight, own.embedding.weight)
