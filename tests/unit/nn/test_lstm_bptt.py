"""The LSTM's steps written out give the outputs and gradients of torch's kernel."""

import pytest
import torch

from rnnlm.nn.cells.lstm import LSTMConfig
from rnnlm.nn.cells.lstm_bptt import LEAST_WORK, LSTMSequence, pays_off

STEPS, ROWS, INPUT, HIDDEN = 5, 256, 24, 64


@pytest.fixture
def taken(monkeypatch):
    """A list that grows by one whenever the steps written out are taken."""
    calls, apply = [], LSTMSequence.apply
    monkeypatch.setattr(LSTMSequence, "apply", lambda *given: (calls.append(1), apply(*given))[1])
    return calls


def outputs_and_gradients(cell, inputs, state, *, bfloat16):
    """Outputs and last state, and the gradients of a loss that hangs on all of them."""
    given = [tensor.clone().requires_grad_() for tensor in (inputs, *state)]
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        outputs, final = cell(given[0], tuple(given[1:]))
    made = [outputs, *final]
    loss = sum((tensor * torch.linspace(-1, 1, tensor.numel()).view(tensor.shape)).sum() for tensor in made)
    return [*made, *torch.autograd.grad(loss, [*given, *cell.parameters()])]


def test_bfloat16_training_errs_no_more_than_torchs_kernel_does(taken, monkeypatch):
    cell = LSTMConfig(hidden_size=HIDDEN).build(INPUT)
    inputs, state = torch.randn(ROWS, STEPS, INPUT), [torch.randn(ROWS, HIDDEN) for _ in range(2)]
    exact = outputs_and_gradients(cell, inputs, state, bfloat16=False)
    assert taken == []
    ours = outputs_and_gradients(cell, inputs, state, bfloat16=True)
    assert taken == [1]
    monkeypatch.setattr("rnnlm.nn.cells.lstm.pays_off", lambda *_: False)
    theirs = outputs_and_gradients(cell, inputs, state, bfloat16=True)
    for right, one, other in zip(exact, ours, theirs, strict=True):
        assert 0.0 < (one - right).norm() < 1.1 * (other - right).norm() < 0.05 * right.norm()


def test_its_gradients_are_those_of_finite_differences():
    shapes = ((3, 2, 4), (2, 5), (2, 5), (20, 4), (20, 5), (20,))
    given = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(LSTMSequence.apply, given)


@pytest.mark.parametrize("rows", [ROWS, ROWS - 1])
def test_evaluation_float32_and_narrow_steps_are_torchs(taken, rows):
    assert pays_off(rows, HIDDEN, torch.bfloat16) is (rows * HIDDEN >= LEAST_WORK)
    cell = LSTMConfig(hidden_size=HIDDEN).build(INPUT)
    inputs, state = torch.randn(rows, STEPS, INPUT), cell.initial_state(rows)
    cell(inputs, state)
    with torch.autocast("cpu", torch.bfloat16):
        cell.eval()(inputs, state)
        assert taken == []
        cell.train()(inputs, state)
    assert len(taken) == (rows == ROWS)


def test_weight_drop_thins_the_matrix_out_for_all_steps(taken):
    cell = LSTMConfig(hidden_size=HIDDEN, weight_drop=0.5).build(INPUT)
    inputs = torch.zeros(ROWS, STEPS, INPUT)
    state = (torch.ones(ROWS, HIDDEN), torch.zeros(ROWS, HIDDEN))
    with torch.autocast("cpu", torch.bfloat16):
        outputs, _ = cell(inputs, state)
    assert taken == [1]
    gradient = torch.autograd.grad(outputs.sum(), cell.fused.weight_hh_l0)[0]
    assert 0.4 < (gradient == 0).float().mean() < 0.6
