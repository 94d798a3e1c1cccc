"""The contract of every optimizer in conf/optimizer that says it is elementwise: cut into the parts of three ranks it
does the same to the bit, and what the ranks remember is, together, what one would."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from rnnlm.config import from_dict
from rnnlm.training.optimizers.base import OptimizerConfig, set_learning_rate
from rnnlm.training.sharding import BLOCK, ShardedOptimizer, sharding_problems
from rnnlm.world import SingleWorld

CONF = Path(__file__).resolve().parents[2] / "conf" / "optimizer"
OPTIMIZERS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(CONF.glob("*.yaml"))}
VARIANTS = {
    **OPTIMIZERS,
    "sgd-momentum": {**OPTIMIZERS["sgd"], "momentum": 0.8},
    "decaying": {**OPTIMIZERS["adamw"], "weight_decay": 0.3},
}
WORLD, STEPS = 3, 4
SHAPES = [(40, 17), (BLOCK * WORLD,), (3,), (1, 1), (7, 5)]  # of which one never has a gradient: the last


class ThreadWorld(SingleWorld):
    """A rank among the threads of this process, as far as an optimizer sees it."""

    size = WORLD

    def __init__(self, rank, rows, barrier):
        self.rank, self._rows, self._barrier = rank, rows, barrier

    def gather_rows(self, rows):
        self._rows[self.rank] = rows
        self._barrier.wait()
        stacked = torch.stack(self._rows)
        self._barrier.wait()  # all have read
        return stacked


def model():
    generator = torch.Generator().manual_seed(3)  # ranks are threads, and would share torch's own
    return nn.ParameterList(nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES)


def trained(parameters, optimizer, rate, steps):
    """The state of the optimizer after some steps; the gradients depend on the step alone."""
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        for parameter in list(parameters)[:-1]:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        set_learning_rate(optimizer, rate / (1 + step))
        optimizer.step()


def state_of(optimizer):
    if isinstance(optimizer, ShardedOptimizer):
        return optimizer.whole_state()
    whole = [optimizer.state.get(p, {}) for group in optimizer.param_groups for p in group["params"]]
    return [{name: value for name, value in state.items() if isinstance(value, torch.Tensor)} for state in whole]


def assert_same(found, expected):
    assert [state.keys() for state in found] == [state.keys() for state in expected]
    for one, other in zip(found, expected, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in other)


def on_ranks(work):
    """What `work(world)` gives on each of the ranks, all at once."""
    rows, barrier = [None] * WORLD, threading.Barrier(WORLD, timeout=30)
    with ThreadPoolExecutor(WORLD) as pool:
        return list(pool.map(lambda rank: work(ThreadWorld(rank, rows, barrier)), range(WORLD)))


@pytest.fixture(params=[name for name in VARIANTS if not sharding_problems(from_dict(OptimizerConfig, VARIANTS[name]))])
def config(request):
    return from_dict(OptimizerConfig, VARIANTS[request.param])


def test_some_are_elementwise_and_the_others_are_refused_by_name():
    problems = {name: sharding_problems(from_dict(OptimizerConfig, values)) for name, values in VARIANTS.items()}
    assert {name for name, found in problems.items() if not found} >= {"adamw", "sgd", "sgd-momentum", "decaying"}
    assert problems["muon"][0].startswith("optimizer_sharding: Muon needs whole matrices")


def test_ranks_do_what_one_does_to_the_bit(config):
    whole = model()
    optimizer = config.build(whole)
    trained(whole, optimizer, config.learning_rate, range(STEPS))

    def work(world):
        own = model()
        sharded = ShardedOptimizer(config.build(own), world)
        trained(own, sharded, config.learning_rate, range(STEPS))
        return own, state_of(sharded)

    for own, state in on_ranks(work):
        assert all(torch.equal(one, other) for one, other in zip(own, whole, strict=True))
        assert_same(state, state_of(optimizer))


def test_each_rank_remembers_its_part_only(config):
    def work(world):
        own = model()
        sharded = ShardedOptimizer(config.build(own), world)
        trained(own, sharded, config.learning_rate, range(1))
        return sum(
            v.numel() for s in sharded.state.values() for v in s.values() if isinstance(v, torch.Tensor) and v.dim()
        )

    whole = model()
    optimizer = config.build(whole)
    trained(whole, optimizer, config.learning_rate, range(1))
    all_of_it = sum(value.numel() for state in state_of(optimizer) for value in state.values() if value.dim())
    shares = on_ranks(work)
    assert sum(shares) == all_of_it
    assert max(shares) <= all_of_it / WORLD + 2 * BLOCK * len(SHAPES)


def test_ranks_go_on_from_what_one_has_saved(config):
    whole = model()
    optimizer = config.build(whole)
    trained(whole, optimizer, config.learning_rate, range(2))
    weights = [parameter.detach().clone() for parameter in whole]
    saved = [{name: value.clone() for name, value in state.items()} for state in state_of(optimizer)]
    trained(whole, optimizer, config.learning_rate, range(2, STEPS))

    def work(world):
        own = model()
        sharded = ShardedOptimizer(config.build(own), world)
        with torch.no_grad():
            for parameter, weight in zip(own, weights, strict=True):
                parameter.copy_(weight)
        for index, state in enumerate(saved):
            for name, value in state.items():
                sharded.take_state(index, name, value)
        trained(own, sharded, config.learning_rate, range(2, STEPS))
        return own

    for own in on_ranks(work):
        assert all(torch.equal(one, other) for one, other in zip(own, whole, strict=True))
