"""Gradient norms by lag against what is known: Elman's product of Jacobians, a linear recurrence, a scaled U, and for
every cell differences of the loss when a state is nudged."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from rnnlm.diagnosis.gradients import gradient_norms, layers_with_memory
from rnnlm.diagnosis.passages import Passages
from rnnlm.nn.layers.layer_norm import LayerNormConfig
from rnnlm.nn.softmax.adaptive import AdaptiveSoftmaxConfig
from rnnlm.nn.softmax.full import FullSoftmaxConfig
from rnnlm.nn.softmax.mixture import MixtureSoftmaxConfig
from tests.cells import CASES, config_of
from tests.corpora import tiny_task
from tests.toy_cell import RunningMean

VOCAB, ROWS, MAX_LAG = 13, 3, 6
ROUNDING = 1e-10  # float64, products of a few matrices


def passages_of(steps=2 * MAX_LAG):
    return Passages(torch.randint(VOCAB, (ROWS, steps)), torch.randint(VOCAB, (ROWS,)))


def model_of(case, **fields):
    task = dataclasses.replace(
        tiny_task(tied=False), cell=config_of(case), embedding_size=4, softmax=FullSoftmaxConfig(tied=False), **fields
    )
    return task.build_model(VOCAB).double().eval()


def output_gradient(model, hidden, targets):
    """d loss / d h of the softmax by hand: V^T (p - target)."""
    wrong = model.softmax.logits(hidden).softmax(1)
    wrong[torch.arange(len(targets)), targets] -= 1.0
    return wrong @ model.softmax.weight


@torch.no_grad()
def test_elmans_are_products_of_jacobians():
    model, passages = model_of("elman"), passages_of()
    states, hidden = [], model.initial_state(ROWS)
    for tokens in passages.inputs.unbind(1):
        _, hidden = model.stack.advance(model.project_tokens(tokens), hidden)
        states.append(hidden[0])
    gradient = output_gradient(model, states[-1], passages.targets)
    weight = next(model.stack.cells()).recurrent_weight()
    expected = [gradient.norm(dim=1)]
    for state in states[: -MAX_LAG - 1 : -1]:
        gradient = (gradient * (1.0 - state.square())) @ weight
        expected.append(gradient.norm(dim=1))
    found = gradient_norms(model, passages, MAX_LAG)
    torch.testing.assert_close(found, torch.stack(expected, dim=1)[None], rtol=0, atol=ROUNDING)


def test_a_running_mean_halves_it_each_step():
    found = gradient_norms(model_of("toy"), passages_of(), MAX_LAG)[0]
    halves = found[:, :1] * 0.5 ** torch.arange(MAX_LAG + 1)
    torch.testing.assert_close(found, halves, rtol=ROUNDING, atol=0)
    assert isinstance(next(model_of("toy").stack.cells()), RunningMean)


@pytest.mark.parametrize("radius", [0.5, 1.0, 1.25])
def test_a_rotation_scaled_to_a_radius_gives_that_decay(radius):
    model = model_of("elman-relu")
    (cell,) = model.stack.cells()
    with torch.no_grad():
        cell.fused.weight_ih_l0.abs_()
        model.embedding.weight.abs_()  # all units stay above 0, where relu is the identity
        cell.recurrent_weight().copy_(radius * torch.eye(len(cell.recurrent_weight())).roll(1, 0))
        cell.fused.bias_hh_l0.fill_(1.0)
    found = gradient_norms(model, passages_of(), MAX_LAG)[0]
    expected = found[:, :1] * radius ** torch.arange(MAX_LAG + 1)
    torch.testing.assert_close(found, expected, rtol=ROUNDING, atol=0)


@pytest.mark.parametrize("case", CASES)
def test_every_cell_agrees_with_differences_of_the_loss(case):
    """The state after a prefix is nudged along random directions; only what is carried on can matter from there."""
    model, passages = model_of(case), passages_of(4)
    lag, nudge = 2, 1e-5
    (norms,) = gradient_norms(model, passages, lag)
    with torch.no_grad():
        _, state = model.run(passages.inputs[:, :-lag], model.initial_state(ROWS))
        gradient = []
        for place, tensor in enumerate(state):
            for element in range(tensor.shape[1]):
                losses = []
                for sign in (1.0, -1.0):
                    changed = [one.clone() for one in state]
                    changed[place][:, element] += sign * nudge
                    hidden, _ = model.run(passages.inputs[:, -lag:], tuple(changed))
                    losses.append(-model.softmax.logprobs(hidden[:, -1], passages.targets))
                gradient.append((losses[0] - losses[1]) / (2.0 * nudge))
    torch.testing.assert_close(norms[:, lag], torch.stack(gradient, dim=1).norm(dim=1), rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("softmax", [AdaptiveSoftmaxConfig(cutoffs=[4]), MixtureSoftmaxConfig(num_experts=2)])
def test_every_softmax_has_a_gradient(softmax):
    task = dataclasses.replace(tiny_task(), softmax=softmax)
    found = gradient_norms(task.build_model(VOCAB).double().eval(), passages_of(), MAX_LAG)
    assert (found > 0.0).all()


def test_layers_without_a_state_have_none():
    layers = [config_of("sru"), LayerNormConfig(), config_of("gru")]
    task = dataclasses.replace(tiny_task(tied=False), layers=layers)
    model = task.build_model(VOCAB).double().eval()
    assert layers_with_memory(model) == [0, 2]
    found = gradient_norms(model, passages_of(), MAX_LAG)
    assert found.shape == (2, ROWS, MAX_LAG + 1)
    assert (found > 0.0).all()


def test_the_gradient_of_a_lower_layer_counts_every_way_up():
    """Nudging the lower layer's output at lag 1 also reaches the upper layer's memory, which is counted."""
    model, passages = model_of("elman", num_layers=2), passages_of()
    found = gradient_norms(model, passages, MAX_LAG)
    lower, upper = model.stack.cells()
    states = [model.initial_state(ROWS)[:1], model.initial_state(ROWS)[1:]]
    nodes = []
    for tokens in passages.inputs.unbind(1):
        outputs, states[0] = lower.advance(model.project_tokens(tokens), states[0])
        nodes.append(outputs)
        outputs, states[1] = upper.step(outputs, states[1])
    loss = F.cross_entropy(model.softmax.logits(outputs), passages.targets, reduction="sum")
    expected = torch.autograd.grad(loss, nodes[: -MAX_LAG - 2 : -1])
    torch.testing.assert_close(found[0], torch.stack([one.norm(dim=1) for one in expected], dim=1))
