"""ChainCRF beside the functions it calls: its loss learns, its rules hold."""

import itertools
import math

import pytest
import torch
import torchcrf

from rnnlm.nn.crf import BOUND, ChainCRF
from rnnlm.structure.chain import Allowed, log_likelihood

LABELS = 3  # O, B, I
FLOAT32_LOSS = 1e-5  # relative; the oracle adds in float32


def begin_inside_outside():
    """I follows only B or I."""
    transitions = torch.ones(LABELS, LABELS, dtype=torch.bool)
    transitions[0, 2] = False
    return Allowed(transitions, torch.tensor([True, True, False]), torch.ones(LABELS, dtype=torch.bool))


def example(rows=6, steps=7):
    lengths = torch.tensor([steps] + [1 + row % steps for row in range(rows - 1)])
    return torch.randn(rows, steps, LABELS), torch.randint(LABELS, (rows, steps)), lengths


def obeys(labels, allowed):
    moves = all(allowed.transitions[one, two] for one, two in itertools.pairwise(labels))
    return bool(allowed.start[labels[0]] and allowed.end[labels[-1]] and moves)


def test_the_loss_is_that_of_pytorch_crf():
    crf, other = ChainCRF(LABELS), torchcrf.CRF(LABELS, batch_first=True)
    with torch.no_grad():
        for parameter, ours in (
            (other.transitions, crf.transitions),
            (other.start_transitions, crf.start),
            (other.end_transitions, crf.end),
        ):
            parameter.copy_(ours)
    emissions, labels, lengths = example()
    loss = crf.loss(emissions, labels, lengths)
    expected = -other(emissions, labels, mask=crf.chain(emissions, lengths).mask)
    assert loss.dtype == torch.float64
    torch.testing.assert_close(loss.float(), expected, rtol=FLOAT32_LOSS, atol=0)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(crf.transitions.grad, other.transitions.grad, rtol=1e-4, atol=1e-5)


def test_parameters_begin_small_and_the_rules_are_no_part_of_the_state():
    crf = ChainCRF(LABELS, begin_inside_outside())
    assert set(crf.state_dict()) == {"transitions", "start", "end"}
    assert all(parameter.abs().max() <= BOUND for parameter in crf.parameters())
    assert ChainCRF(LABELS).allowed is None
    ChainCRF(LABELS).load_state_dict(crf.state_dict())


def test_decoding_obeys_the_rules():
    allowed = begin_inside_outside()
    crf = ChainCRF(LABELS, allowed)
    emissions, _, lengths = example(40)
    emissions[..., 2] += 2.0  # so that free decoding would break them
    free = ChainCRF(LABELS).decode(emissions, lengths).labels.tolist()
    assert not all(obeys(row[:length], allowed) for row, length in zip(free, lengths.tolist(), strict=True))
    several = crf.k_best(emissions, lengths, 3)
    decoded = crf.decode(emissions, lengths)
    assert torch.equal(several.labels[:, 0], decoded.labels)
    for row, length in enumerate(lengths.tolist()):
        assert all(obeys(one[:length], allowed) for one in several.labels[row, several.exists[row]].tolist())
    probabilities = crf.marginals(emissions, lengths)
    assert not probabilities[:, 0, 2].any()
    torch.testing.assert_close(probabilities.sum(2), crf.chain(emissions, lengths).mask.float())


@pytest.mark.parametrize("constrained", [False, True])
def test_rules_count_in_training_if_asked(constrained):
    crf = ChainCRF(LABELS, begin_inside_outside(), constrain_training=constrained)
    emissions, _, lengths = example(2, 3)
    broken = torch.tensor([[0, 2, 2], [1, 2, 2]])
    assert math.isinf(crf.loss(emissions, broken, lengths).item()) == constrained
    kept = torch.tensor([[0, 1, 2], [1, 2, 2]])
    loss = crf.loss(emissions, kept, lengths)
    loss.backward()
    chain = crf.chain(emissions, lengths, constrained=constrained)
    assert loss.item() == pytest.approx(-log_likelihood(chain, kept).sum().item())
    assert (crf.transitions.grad[0, 2] == 0) == constrained
    assert all(torch.isfinite(parameter.grad).all() for parameter in crf.parameters())


def test_transitions_are_learnt():
    """Emissions say nothing; the labels go round."""
    crf = ChainCRF(LABELS)
    labels = torch.arange(12).remainder(LABELS).expand(4, 12)
    emissions, lengths = torch.zeros(4, 12, LABELS), torch.tensor([12, 9, 6, 12])
    optimizer = torch.optim.Adam(crf.parameters(), lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        crf.loss(emissions, labels, lengths).backward()
        optimizer.step()
    assert crf.loss(emissions, labels, lengths).item() < 0.5
    mask = crf.chain(emissions, lengths).mask
    assert torch.equal(crf.decode(emissions, lengths).labels, labels * mask)


def test_nothing_but_the_loss_records_gradients():
    crf = ChainCRF(LABELS)
    emissions, labels, lengths = example()
    assert crf.loss(emissions, labels, lengths).requires_grad
    assert not crf.decode(emissions, lengths).scores.requires_grad
    assert not crf.marginals(emissions, lengths).requires_grad
    assert not crf.k_best(emissions, lengths, 2).scores.requires_grad
