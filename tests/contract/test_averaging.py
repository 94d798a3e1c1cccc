"""The contract of every averaging in conf/averaging: it leaves the run alone, and goes on from a checkpoint to the bit."""

import copy
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from rnnlm.config import from_dict
from rnnlm.training.averaging import AveragingConfig
from tests.corpora import tiny_task

CONF = Path(__file__).resolve().parents[2] / "conf" / "averaging"
AVERAGINGS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(CONF.glob("*.yaml"))}
KINDS = [name for name in AVERAGINGS if name != "none"]
STEPS = 12
LOSSES = [5.0, 4.0, 4.5, 4.6, 4.7, 4.8, 4.9, 5.0, 5.1, 5.2, 5.3, 5.4]  # would trigger whatever waits for a trigger


def model_of():
    torch.manual_seed(5)
    return tiny_task().build_model(9)


def build(name, model):
    return from_dict(AveragingConfig, AVERAGINGS[name]).build(model)


def run(model, averager, steps):
    """Weights that wander, a validation after every step."""
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator))
        averager.update(step)
        averager.observe(LOSSES[step - 1])


def weights(model):
    return [parameter.detach().clone() for parameter in model.parameters()]


def averaged(model, averager):
    with averager.swap():
        return weights(model)


def same(one, other):
    return all(torch.equal(first, second) for first, second in zip(one, other, strict=True))


def test_none_is_none():
    assert build("none", model_of()) is None


@pytest.mark.parametrize("name", KINDS)
def test_the_run_keeps_its_own_weights(name):
    model, alone = model_of(), model_of()
    averager = build(name, model)
    held = [parameter.data_ptr() for parameter in model.parameters()]
    run(model, averager, range(1, STEPS + 1))
    run(alone, build(name, nn.Module()), range(1, STEPS + 1))
    before = weights(model)
    assert same(before, weights(alone))
    with averager.swap():
        assert not same(weights(model), before)
        # In place: flattened weights of torch's modules and optimizers hold on to the tensors.
        assert [parameter.data_ptr() for parameter in model.parameters()] == held
    assert same(weights(model), before)
    assert [parameter.data_ptr() for parameter in model.parameters()] == held


@pytest.mark.parametrize("name", KINDS)
def test_the_average_follows_updates_alone(name):
    model = model_of()
    averager = build(name, model)
    run(model, averager, range(1, STEPS + 1))
    found = averaged(model, averager)
    for parameter in model.parameters():
        parameter.data.add_(1.0)
    assert same(averaged(model, averager), found)
    averager.update(STEPS + 1)
    assert not same(averaged(model, averager), found)


@pytest.mark.parametrize("name", KINDS)
def test_the_weights_come_back_after_an_error(name):
    model = model_of()
    averager = build(name, model)
    run(model, averager, range(1, STEPS + 1))
    before = weights(model)
    with pytest.raises(RuntimeError), averager.swap():
        raise RuntimeError
    assert same(weights(model), before)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("within", [True, False])
@pytest.mark.parametrize("stop", range(STEPS))
def test_saved_and_restored_it_ends_the_same_to_the_bit(name, within, stop):
    whole = model_of()
    kept = build(name, whole)
    run(whole, kept, range(1, STEPS + 1))

    first = model_of()
    averager = build(name, first)
    run(first, averager, range(1, stop + 1))
    outside = averager.tensors()
    with averager.swap():
        checkpoint = copy.deepcopy(first.state_dict())
        saved = averager.tensors() if within else outside
    assert all(isinstance(tensor, torch.Tensor) for tensor in saved.values())

    second = model_of()
    averager = build(name, second)
    second.load_state_dict(checkpoint)
    averager.restore(saved)
    assert same(weights(second), weights(first))
    run(second, averager, range(stop + 1, STEPS + 1))
    assert same(weights(second), weights(whole))
    assert same(averaged(second, averager), averaged(whole, kept))


@pytest.mark.parametrize("name", KINDS)
def test_calls_that_would_mix_up_weights_are_our_mistakes(name):
    model = model_of()
    averager = build(name, model)
    with averager.swap():
        with pytest.raises(AssertionError):
            averager.update(1)
        with pytest.raises(AssertionError), averager.swap():
            pass


@pytest.mark.parametrize("name", KINDS)
def test_tied_weights_are_averaged_once(name):
    model = model_of()
    assert model.softmax.weight is model.embedding.weight
    averager = build(name, model)
    run(model, averager, range(1, STEPS + 1))
    assert len([key for key in averager.tensors() if key.startswith("weight.")]) == len(list(model.parameters()))
    with averager.swap():
        assert model.softmax.weight is model.embedding.weight
