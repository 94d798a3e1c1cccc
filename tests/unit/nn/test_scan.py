"""The elementwise linear recurrence: the loop and the scan by chunks against a loop over Python floats."""

import math

import numpy as np
import pytest
import torch

from rnnlm.nn import linear_scan as module
from rnnlm.nn.linear_scan import CHUNK, FEW_LANES, MANY_STEPS, choose, linear_scan

METHODS = ["steps", "chunks"]
LENGTHS = [1, 2, CHUNK, 2 * CHUNK - 1, 2 * CHUNK, 2 * CHUNK + 1, 5 * CHUNK + 3, 2 * CHUNK**2, 4096]
RANGES = {  # of the decay
    "any": (0.0, 1.0),
    "near 0": (0.0, 1e-20),
    "near 1": (1 - 1e-4, 1.0),
    "half": (0.5, 0.5),
}

FLOAT64_SUMS = 1e-12  # relative to the largest |c|: a few thousand terms in another order
FLOAT32_SUMS = 2e-5  # the same in float32, for sums of up to 4,096 terms that hardly decay


def example(steps, *, low=0.0, high=1.0, dtype=torch.float64, rows=2, size=3):
    decay = torch.empty(rows, steps, size, dtype=torch.float64).uniform_(low, high).to(dtype)
    return decay, torch.randn(rows, steps, size, dtype=dtype), torch.randn(rows, size, dtype=dtype)


def slowly(decay, addend, start):
    """c_t = a_t c_{t-1} + b_t, number by number."""
    decay, addend, start = (tensor.detach().double().numpy() for tensor in (decay, addend, start))
    memory = np.zeros(addend.shape)
    for row in range(addend.shape[0]):
        for lane in range(addend.shape[2]):
            last = float(start[row, lane])
            for time in range(addend.shape[1]):
                last = float(decay[row, time, lane]) * last + float(addend[row, time, lane])
                memory[row, time, lane] = last
    return torch.from_numpy(memory)


def assert_near(found, expected, tolerance):
    scale = max(1.0, expected.abs().max().item())
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("steps", LENGTHS)
@pytest.mark.parametrize("kind", RANGES)
def test_every_way_is_the_recurrence(method, steps, kind):
    low, high = RANGES[kind]
    for dtype, tolerance in ((torch.float64, FLOAT64_SUMS), (torch.float32, FLOAT32_SUMS)):
        given = example(steps, low=low, high=high, dtype=dtype)
        found = linear_scan(*given, method)
        assert found.dtype == dtype
        assert_near(found, slowly(*given), tolerance)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("steps", [1, 4, 2 * CHUNK, 2 * CHUNK + 5])
def test_gradients_are_those_of_finite_differences(method, steps):
    given = [tensor.requires_grad_() for tensor in example(steps, rows=1, size=2)]
    assert torch.autograd.gradcheck(lambda *tensors: linear_scan(*tensors, method), given)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", RANGES)
@pytest.mark.parametrize("steps", [3 * CHUNK + 1, 4096])
def test_gradients_are_those_of_autograd_through_the_loop(method, kind, steps):
    low, high = RANGES[kind]
    given = [tensor.requires_grad_() for tensor in example(steps, low=low, high=high)]
    weights = torch.randn(2, steps, 3, dtype=torch.float64)
    found = torch.autograd.grad(linear_scan(*given, method), given, weights)
    last, memory = given[2], []
    for decay, addend in zip(given[0].unbind(1), given[1].unbind(1), strict=True):
        last = decay * last + addend
        memory.append(last)
    for one, other in zip(found, torch.autograd.grad(torch.stack(memory, 1), given, weights), strict=True):
        assert_near(one, other, FLOAT64_SUMS)


@pytest.mark.parametrize("method", METHODS)
def test_what_does_not_decay_is_remembered_to_the_bit(method):
    steps = 4096
    start = torch.randn(2, 3, requires_grad=True)
    memory = linear_scan(torch.ones(2, steps, 3), torch.zeros(2, steps, 3), start, method)
    assert torch.equal(memory, start.unsqueeze(1).expand(2, steps, 3))
    weights = torch.zeros(2, steps, 3)
    weights[:, -1] = torch.randn(2, 3)
    assert torch.equal(torch.autograd.grad(memory, start, weights)[0], weights[:, -1])
    ones = torch.ones(2, steps, 3)  # whole numbers below 2^24 add up exactly
    counted = linear_scan(ones, ones, torch.zeros(2, 3), method)
    assert torch.equal(counted[0, :, 0], torch.arange(1.0, steps + 1))


@pytest.mark.parametrize("method", METHODS)
def test_what_is_forgotten_at_once_leaves_nothing(method):
    steps = 3 * CHUNK + 2
    _, addend, start = example(steps, dtype=torch.float32)
    assert torch.equal(linear_scan(torch.zeros_like(addend), addend, start, method), addend)


@pytest.mark.parametrize("method", METHODS)
def test_a_product_of_decays_that_underflows_is_nothing(method):
    steps = 1000
    decay, start = torch.full((1, steps, 1), 0.5), torch.ones(1, 1)
    for tensor in (decay, start):
        tensor.requires_grad_()
    memory = linear_scan(decay, torch.zeros(1, steps, 1), start, method)
    assert torch.equal(memory[0, :100, 0], torch.tensor([0.5**time for time in range(1, 101)]))
    assert memory[0, -1, 0] == 0.0
    memory.sum().backward()
    assert start.grad.item() == pytest.approx(1.0)  # 1/2 + 1/4 + ...
    assert torch.isfinite(decay.grad).all()


@pytest.mark.parametrize("method", METHODS)
def test_what_comes_later_changes_nothing_before(method):
    decay, addend, start = example(5 * CHUNK)
    cut = 2 * CHUNK + 3
    before = linear_scan(decay, addend, start, method)[:, :cut]
    addend[:, cut:], decay[:, cut:] = math.inf, math.nan
    assert torch.equal(linear_scan(decay, addend, start, method)[:, :cut], before)


@pytest.mark.parametrize("method", METHODS)
def test_tensors_that_do_not_lie_in_order_make_no_difference_and_are_left_alone(method):
    given = example(3 * CHUNK)
    crossed = [tensor.mT.contiguous().mT for tensor in given[:2]] + [given[2].t().contiguous().t()]
    copies = [tensor.clone() for tensor in crossed]
    assert not crossed[0].is_contiguous()
    torch.testing.assert_close(linear_scan(*crossed, method), linear_scan(*given, method), rtol=0, atol=0)
    assert all(torch.equal(one, other) for one, other in zip(crossed, copies, strict=True))
    leaves = [tensor.detach().requires_grad_() for tensor in crossed]
    found = torch.autograd.grad(linear_scan(*leaves, method).sum(), leaves)  # a gradient of stride 0
    expected = torch.autograd.grad(linear_scan(*leaves, method), leaves, torch.ones(given[0].shape).double())
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_only_the_gradients_that_are_asked_for_are_formed():
    decay, addend, start = example(4)
    addend.requires_grad_()
    linear_scan(decay, addend, start).sum().backward()
    assert addend.grad is not None
    assert decay.grad is None
    assert start.grad is None


def test_there_is_no_second_derivative():
    given = [tensor.requires_grad_() for tensor in example(4)]
    (first,) = torch.autograd.grad(linear_scan(*given).square().sum(), given[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


@pytest.mark.parametrize(
    ("rows", "steps", "size", "expected"),
    [
        (1, MANY_STEPS, FEW_LANES, "chunks"),
        (1, MANY_STEPS - 1, FEW_LANES, "steps"),
        (2, MANY_STEPS, FEW_LANES, "steps"),
        (32, 35, 512, "steps"),
        (1, 4096, 512, "chunks"),
    ],
)
def test_few_lanes_and_many_steps_are_scanned_by_chunks(rows, steps, size, expected, monkeypatch):
    decay = torch.zeros(rows, steps, size)
    assert choose(decay) == expected
    calls = []
    real = module._scan
    monkeypatch.setattr(module, "_scan", lambda *given, **how: (calls.append(how["chunked"]), real(*given, **how)))
    linear_scan(decay, decay, decay[:, 0])
    assert calls[0] == (expected == "chunks")


def test_an_accelerator_scans_by_chunks_unless_there_is_hardly_a_chunk():
    assert choose(torch.empty(64, 2 * CHUNK, 512, device="meta")) == "chunks"
    assert choose(torch.empty(64, 2 * CHUNK - 1, 512, device="meta")) == "steps"
