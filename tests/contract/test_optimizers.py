"""The contract of every optimizer in conf/optimizer: it moves every parameter downhill, obeys the rate the loop sets,
and what it remembers survives a checkpoint to the bit."""

import copy
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from rnnlm.config import from_dict
from rnnlm.training.optimizers.base import OptimizerConfig, set_learning_rate
from rnnlm.training.run_state import RunState
from rnnlm.world import SingleWorld
from tests.corpora import CELLS, tiny_task

CONF = Path(__file__).resolve().parents[2] / "conf" / "optimizer"
OPTIMIZERS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(CONF.glob("*.yaml"))}
VARIANTS = {
    **OPTIMIZERS,
    "sgd-momentum": {**OPTIMIZERS["sgd"], "momentum": 0.8},
    "muon-whole": {**OPTIMIZERS["muon"], "split_gates": False, "precision": "float32"},
    "decaying": {**OPTIMIZERS["muon"], "weight_decay": 0.3},
}
VOCABULARY = 10
ROUNDING = 1e-12  # relative, of one product of floats


@pytest.fixture(params=VARIANTS)
def config(request):
    return from_dict(OptimizerConfig, VARIANTS[request.param])


def model_of(**fields):
    torch.manual_seed(5)
    return tiny_task(**{"num_layers": 2, **fields}).build_model(VOCABULARY)


def train(model, optimizer, config, steps):
    """Language modelling of a few tokens that change from step to step, at rates that change too."""
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        tokens = torch.randint(VOCABULARY, (2, 4), generator=generator)
        optimizer.zero_grad()
        hidden, _ = model(tokens[:, :3], model.initial_state(2))
        model.softmax.objective(hidden.flatten(0, 1), tokens[:, 1:].flatten()).objective.backward()
        set_learning_rate(optimizer, config.learning_rate / (1 + step))
        optimizer.step()


class NoStream:
    """A stream that stands still; there is nothing else of a run here."""

    epoch, steps_per_epoch, learning_rate_factor = 0, 1, 1.0

    def next(self):
        raise AssertionError

    def state(self):
        return {}

    def restore(self, state):
        assert state == {}


def run_of(model, optimizer):
    return RunState(model=model, optimizer=optimizer, stream=NoStream(), carried=(), seed=1)


def assert_same_weights(one, other):
    for first, second in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("cell", CELLS)
def test_every_parameter_is_optimized_once_and_only_matrices_decay(config, cell, tied):
    model = model_of(cell=cell, tied=tied)
    config = from_dict(type(config), {**vars(config), "weight_decay": 0.25})
    optimizer = config.build(model)
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert len({id(p) for p in held}) == len(held) == len(list(model.parameters()))
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert all(decays[id(p)] == (0.25 if p.dim() > 1 else 0.0) for p in model.parameters())


def test_rates_are_set_by_the_loop_in_proportion(config):
    optimizer = config.build(model_of())
    built = [group["lr"] for group in optimizer.param_groups]
    assert built[0] == config.learning_rate
    set_learning_rate(optimizer, config.learning_rate / 8)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([r / 8 for r in built], rel=ROUNDING)


def test_at_rate_zero_nothing_moves_and_otherwise_everything_does(config):
    model = model_of()
    before = copy.deepcopy(model)
    frozen = from_dict(type(config), {**vars(config), "weight_decay": 0.0}).build(model)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    set_learning_rate(frozen, 0.0)
    frozen.step()
    assert_same_weights(model, before)
    set_learning_rate(frozen, config.learning_rate)
    frozen.step()
    for one, other in zip(model.parameters(), before.parameters(), strict=True):
        assert (one != other).any()


def test_a_parameter_without_a_gradient_stays(config):
    model = model_of()
    before = copy.deepcopy(model)
    optimizer = config.build(model)
    model.embedding.weight.grad = torch.randn_like(model.embedding.weight)
    optimizer.step()
    for (name, one), other in zip(model.named_parameters(), before.parameters(), strict=True):
        assert torch.equal(one, other) == (name != "embedding.weight")


class Bowl(nn.Module):
    """|W - target|^2 + |b - target|^2, of a matrix that is a cell's and a vector."""

    def __init__(self):
        super().__init__()
        self.cell = CELLS["lstm"](hidden_size=4).build(3)
        self.targets = [torch.randn_like(parameter) for parameter in self.parameters()]

    def forward(self):
        return sum(((p - t) ** 2).sum() for p, t in zip(self.parameters(), self.targets, strict=True))


def test_a_bowl_is_descended(config):
    bowl = Bowl()
    rate = {"SGDConfig": 0.05}.get(type(config).__name__, config.learning_rate)
    config = from_dict(type(config), {**vars(config), "weight_decay": 0.0})
    optimizer = config.build(bowl)
    heights = []
    for _ in range(60):
        optimizer.zero_grad()
        height = bowl()
        height.backward()
        heights.append(height.item())
        set_learning_rate(optimizer, rate)
        optimizer.step()
    assert heights[1] < heights[0]
    assert heights[-1] < heights[30] < heights[0]


@pytest.mark.parametrize("stop", [0, 1, 4])
def test_saved_and_restored_it_ends_the_same_to_the_bit(config, stop):
    whole = model_of()
    train(whole, config.build(whole), config, range(8))

    first = model_of()
    optimizer = config.build(first)
    train(first, optimizer, config, range(stop))
    saved = run_of(first, optimizer).capture(SingleWorld())

    second = model_of()
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    optimizer = config.build(second)
    run_of(second, optimizer).restore(copy.deepcopy(saved), SingleWorld())
    train(second, optimizer, config, range(stop, 8))
    assert_same_weights(second, whole)


def test_it_goes_on_from_a_state_dict_of_torch(config):
    whole = model_of()
    train(whole, config.build(whole), config, range(8))
    first = model_of()
    optimizer = config.build(first)
    train(first, optimizer, config, range(4))
    other = config.build(first)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(first, other, config, range(4, 8))
    assert_same_weights(first, whole)


def test_all_it_remembers_is_tensors(config):
    model = model_of()
    optimizer = config.build(model)
    train(model, optimizer, config, range(2))
    for state in optimizer.state.values():
        assert all(isinstance(value, torch.Tensor) for value in state.values() if value is not None)
