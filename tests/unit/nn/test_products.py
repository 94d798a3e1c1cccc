"""Products through oneDNN are torch's, with their gradients."""

import pytest
import torch
import torch.nn.functional as F

from rnnlm.nn.activations import tanh
from rnnlm.nn.products import LEAST_WORK, linear, times_transposed

STEPS, ROWS, INPUT, OUTPUT = 4, 32, 96, 256


def drawn(*shape):
    return torch.randn(shape, requires_grad=True)


@pytest.fixture
def through_onednn(monkeypatch):
    """A list that grows by one with every product that `linear` gives to oneDNN in the forward pass."""
    calls = []
    monkeypatch.setattr(
        "rnnlm.nn.products.times_transposed", lambda *given: (calls.append(1), times_transposed(*given))[1]
    )
    return calls


@pytest.mark.parametrize("with_bias", [True, False])
def test_outputs_and_gradients_are_those_of_torch(through_onednn, with_bias):
    values, weight, bias = drawn(STEPS, ROWS, INPUT), drawn(OUTPUT, INPUT), drawn(OUTPUT) if with_bias else None
    assert values.numel() * OUTPUT >= LEAST_WORK
    given = [values, weight, bias] if with_bias else [values, weight]
    outputs = linear(values, weight, bias)
    assert through_onednn == [1]
    found = torch.autograd.grad(outputs.square().sum(), given)
    exact = [tensor.detach().double().requires_grad_() for tensor in given]
    right = F.linear(*exact)
    expected = torch.autograd.grad(right.square().sum(), exact)
    torch.testing.assert_close(outputs.double(), right, rtol=0, atol=1e-4)
    for one, other in zip(found, expected, strict=True):
        assert (one - other).norm() < 1e-5 * other.norm()


@pytest.mark.parametrize("which", ["values", "weight", "none"])
def test_only_what_is_asked_for_gets_a_gradient(through_onednn, which):
    given = {"values": torch.randn(STEPS * ROWS, INPUT), "weight": torch.randn(OUTPUT, INPUT)}
    if which == "none":
        assert not linear(**given).requires_grad
    else:
        linear(**{**given, which: given[which].requires_grad_()}).sum().backward()
        assert given[which].grad is not None
        assert [tensor.grad is None for tensor in given.values()].count(True) == 1
    assert through_onednn


@pytest.mark.parametrize("case", ["small", "float64", "bfloat16", "empty"])
def test_other_products_are_torchs_own(through_onednn, case):
    values, weight = drawn(0 if case == "empty" else 1 if case == "small" else 256, INPUT), drawn(OUTPUT, INPUT)
    if case == "float64":
        values, weight = values.double(), weight.double()
    with torch.autocast("cpu", torch.bfloat16, enabled=case == "bfloat16"):
        assert torch.equal(linear(values, weight), F.linear(values, weight))
    assert through_onednn == []


def test_tanh_without_a_gradient_is_that_with_one():
    values = torch.linspace(-20, 20, 100_001, requires_grad=True)
    with torch.no_grad():
        found = tanh(values)
    assert 0.0 < (found - tanh(values)).abs().max() < 3e-7
