"""Averages of weights beside slow truths: the recursion written out, and the paper's algorithm 1."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from rnnlm.training.averaging import EMAConfig, NTASGDConfig

FLOAT = 1e-12  # float64 arithmetic of a few operations


def wander(model, averager, steps, start=1):
    """Random weights step after step; gives them all."""
    history = []
    for step in range(start, start + steps):
        for parameter in model.parameters():
            parameter.data.normal_()
        averager.update(step)
        history.append(model.weight.detach().clone())
    return history


def average_of(model, averager):
    with averager.swap():
        return model.weight.detach().clone()


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.9999])
def test_an_ema_is_its_recursion_written_out(decay):
    model = nn.Linear(3, 2).double()
    first = model.weight.detach().clone()
    averager = EMAConfig(decay=decay).build(model)
    assert torch.equal(average_of(model, averager), first)
    history = wander(model, averager, 60)
    decays = [min(decay, (1 + step) / (10 + step)) for step in range(1, 61)]
    expected = torch.zeros_like(first)
    for index, weights in enumerate([first, *history]):
        share = 1.0 if index == 0 else 1 - decays[index - 1]
        for later in decays[index:]:
            share *= later
        expected += share * weights
    torch.testing.assert_close(average_of(model, averager), expected, rtol=0, atol=FLOAT)


def test_an_ema_of_a_long_decay_soon_forgets_where_it_began():
    model = nn.Linear(3, 2)
    averager = EMAConfig(decay=0.9999).build(model)
    model.weight.data.fill_(100.0)
    for step in range(1, 30):
        averager.update(step)
    assert (average_of(model, averager) - 100.0).abs().max() < 1e-3


def algorithm_1(validations, n):
    """The index of the validation at which T is set, by the lines of the paper (ICLR 2018); None if it never is."""
    logs = []
    for t, v in enumerate(validations):
        if t > n and v > min(logs[i] for i in range(t - n)):  # i in {0, ..., t - n - 1}
            return t
        logs.append(v)
    return None


def triggered_at(validations, n):
    averager = NTASGDConfig(patience=n).build(nn.Linear(2, 2))
    for index, loss in enumerate(validations):
        averager.observe(loss)
        if averager.averages:
            return index
    return None


@pytest.mark.parametrize(
    ("losses", "n", "expected"),
    [
        ([5.0, 4.0, 4.1, 4.2], 1, 3),  # 4.1: all but the last one are [5.0]; 4.2: [5.0, 4.0]
        ([5.0, 4.0, 4.1, 4.2, 4.3], 2, 4),
        ([5.0, 4.0, 4.1, 3.9, 3.95, 3.9], 2, None),  # what is as good as the best before does not trigger
        ([5.0, 4.0, 4.1, 3.9, 3.95, 3.92, 3.91], 2, 6),
        ([5.0, 6.0], 1, None),  # too early: t > n
        ([5.0, 6.0, 7.0], 1, 2),
        ([9.0, 8.0, 7.0, 6.0, 5.0, 4.0], 1, None),
    ],
)
def test_the_trigger_by_hand(losses, n, expected):
    assert triggered_at(losses, n) == expected == algorithm_1(losses, n)


@given(st.lists(st.sampled_from([3.0, 3.1, 3.2, 3.3, 3.4]), max_size=12), st.integers(1, 5))
def test_the_trigger_is_that_of_the_paper(losses, n):
    assert triggered_at(losses, n) == algorithm_1(losses, n)


def test_from_the_trigger_on_it_is_the_mean_of_all_weights():
    model = nn.Linear(3, 2).double()
    averager = NTASGDConfig(patience=1).build(model)
    averager.observe(1.0)
    wander(model, averager, 3)
    averager.observe(2.0)
    assert torch.equal(average_of(model, averager), model.weight.detach())  # not yet
    history = wander(model, averager, 4, start=4)
    averager.observe(2.0)  # T: the weights after step 7 are the first in the mean
    torch.testing.assert_close(average_of(model, averager), history[-1], rtol=0, atol=0)
    history = [history[-1], *wander(model, averager, 50, start=8)]
    torch.testing.assert_close(average_of(model, averager), torch.stack(history).mean(0), rtol=0, atol=FLOAT)
    averager.observe(9.0)  # the trigger is pulled once
    torch.testing.assert_close(average_of(model, averager), torch.stack(history).mean(0), rtol=0, atol=FLOAT)
