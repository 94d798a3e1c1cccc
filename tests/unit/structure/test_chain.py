"""The linear-chain CRF against the enumeration of all sequences, pytorch-crf, and itself under what must not matter."""

import itertools
import math

import pytest
import torch
import torchcrf
from hypothesis import given
from hypothesis import strategies as st

from rnnlm.structure import chain as module
from rnnlm.structure.chain import (
    Allowed,
    Chain,
    constrain,
    k_best,
    log_likelihood,
    log_partition,
    marginals,
    score,
    viterbi,
)

FLOAT64_SUMS = 1e-10  # nats and probabilities; sums over a few thousand sequences in another order
PROVED = 1e-8  # nats; what the two ways to log Z may differ by, and some
FLOAT32_MARGINALS = 1e-6  # probabilities that are rounded to float32
FLOAT32_LOSS = 1e-5  # relative; an oracle that adds in float32


def example(rows=3, steps=4, labels=3, *, lengths=None, dtype=torch.float64, scale=1.0):
    shapes = [(rows, steps, labels), (labels, labels), (labels,), (labels,)]
    emissions, *others = (scale * torch.randn(shape, dtype=dtype) for shape in shapes)
    return Chain(emissions, lengths_of(rows, steps) if lengths is None else torch.tensor(lengths), *others)


def lengths_of(rows, steps):
    return torch.tensor([steps] + [1 + row % steps for row in range(rows - 1)])


def some_sequences(chain):
    return torch.randint(chain.emissions.shape[2], chain.emissions.shape[:2])


def enumerated(chain, row):
    """[(log weight, labels)] of one row, in order of the labels."""
    emissions, transitions, start, end = (
        scores.tolist() for scores in (chain.emissions[row], chain.transitions, chain.start, chain.end)
    )
    length = int(chain.lengths[row])
    found = []
    for labels in itertools.product(range(len(start)), repeat=length):
        terms = [start[labels[0]], end[labels[-1]]]
        terms += [emissions[time][label] for time, label in enumerate(labels)]
        terms += [transitions[one][two] for one, two in itertools.pairwise(labels)]
        found.append((math.fsum(terms) if -math.inf not in terms else -math.inf, labels))
    return found


def total(weights):
    peak = max(weights)
    return peak if peak == -math.inf else peak + math.log(math.fsum(math.exp(weight - peak) for weight in weights))


def enumerated_marginals(chain, row):
    found = torch.zeros(chain.emissions.shape[1:], dtype=torch.float64)
    sequences = enumerated(chain, row)
    log_z = total([weight for weight, _ in sequences])
    for weight, labels in sequences:
        if log_z > -math.inf:
            for time, label in enumerate(labels):
                found[time, label] += math.exp(weight - log_z)
    return found


def assert_is_enumeration(chain, tolerance=FLOAT64_SUMS):
    log_z, probabilities, decoded = log_partition(chain), marginals(chain), viterbi(chain)
    for row in range(len(chain.lengths)):
        sequences = enumerated(chain, row)
        assert log_z[row].item() == pytest.approx(total([weight for weight, _ in sequences]), rel=1e-12, abs=tolerance)
        torch.testing.assert_close(
            probabilities[row].double(),
            enumerated_marginals(chain, row),
            rtol=0,
            atol=tolerance if probabilities.dtype == torch.float64 else FLOAT32_MARGINALS,
        )
        best, labels = max(sequences, key=lambda found: found[0])
        assert decoded.scores[row].item() == pytest.approx(best, rel=1e-12, abs=tolerance)
        if best > -math.inf and sum(weight > best - 1e-6 for weight, _ in sequences) == 1:
            assert tuple(decoded.labels[row, : len(labels)].tolist()) == labels
        assert not decoded.labels[row, len(labels) :].any()
        assert_best_are_enumerated(chain, row, sequences, tolerance)


def assert_best_are_enumerated(chain, row, sequences, tolerance):
    possible = {labels: weight for weight, labels in sequences if weight > -math.inf}
    for k in (1, 3, len(sequences) + 2):
        found = k_best(chain, k)
        count = int(found.exists[row].sum())
        assert count == min(k, len(possible))
        assert found.exists[row, :count].all()
        labels = [tuple(one) for one in found.labels[row, :count, : chain.lengths[row]].tolist()]
        assert len(set(labels)) == count
        assert found.scores[row, :count].tolist() == pytest.approx(
            [possible[one] for one in labels], rel=1e-12, abs=tolerance
        )
        best = sorted(possible.values(), reverse=True)[:count]
        assert found.scores[row, :count].tolist() == pytest.approx(best, rel=1e-12, abs=tolerance)
        assert (found.scores[row, count:] == -math.inf).all()
        assert not found.labels[row, count:].any()
        assert not found.labels[row, :, chain.lengths[row] :].any()


def gradients(function, chain):
    leaves = [scores.detach().requires_grad_() for scores in (chain.emissions, *scores_of(chain))]
    emissions, transitions, start, end = leaves
    given = function(Chain(emissions, chain.lengths, transitions, start, end))
    return torch.autograd.grad(given, leaves)


def scores_of(chain):
    return chain.transitions, chain.start, chain.end


def in_log_space(monkeypatch):
    """Nothing is proved, so every row is summed in log space."""
    monkeypatch.setattr(module, "SPREAD", -1.0)
    monkeypatch.setattr(module, "_agree", lambda one, other: torch.zeros_like(one, dtype=torch.bool))


@pytest.mark.parametrize(("rows", "steps", "labels"), [(3, 4, 3), (4, 1, 3), (3, 5, 1), (1, 1, 1), (5, 6, 2)])
@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_all_sequences_are_summed_and_ranked(rows, steps, labels, scale, dtype):
    assert_is_enumeration(example(rows, steps, labels, scale=scale, dtype=dtype))


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_log_space_gives_the_same(scale, monkeypatch):
    chain = example(scale=scale)
    expected = [log_partition(chain), marginals(chain), *gradients(lambda chain: log_partition(chain).sum(), chain)]
    in_log_space(monkeypatch)
    found = [log_partition(chain), marginals(chain), *gradients(lambda chain: log_partition(chain).sum(), chain)]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=FLOAT64_SUMS)
    assert_is_enumeration(chain)


@pytest.mark.parametrize("log_space", [False, True])
@pytest.mark.parametrize(("rows", "steps", "labels"), [(3, 4, 3), (2, 1, 2), (2, 3, 1)])
def test_gradients_are_those_of_finite_differences(rows, steps, labels, log_space, monkeypatch):
    if log_space:
        in_log_space(monkeypatch)
    chain = example(rows, steps, labels)
    sequences = some_sequences(chain)
    leaves = [scores.requires_grad_() for scores in (chain.emissions, *scores_of(chain))]

    def both(emissions, transitions, start, end):
        chain_ = Chain(emissions, chain.lengths, transitions, start, end)
        return log_partition(chain_), log_likelihood(chain_, sequences)

    assert torch.autograd.gradcheck(both, leaves)


def test_the_gradient_of_log_z_is_the_marginals_and_has_none_itself():
    chain = example()
    (by_emissions, *_) = gradients(lambda chain: log_partition(chain).sum(), chain)
    torch.testing.assert_close(by_emissions, marginals(chain), rtol=0, atol=0)
    chain.emissions.requires_grad_()
    (first,) = torch.autograd.grad(log_partition(chain).square().sum(), chain.emissions, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


def test_a_score_is_the_sum_that_defines_it():
    chain = example(4, 5, 3)
    sequences = some_sequences(chain)
    for row, length in enumerate(chain.lengths.tolist()):
        weights = {labels: weight for weight, labels in enumerated(chain, row)}
        assert score(chain, sequences)[row].item() == pytest.approx(weights[tuple(sequences[row, :length].tolist())])
    found = viterbi(chain)
    torch.testing.assert_close(score(chain, found.labels), found.scores)
    several = k_best(chain, 4)
    for place in range(4):
        there = several.exists[:, place]
        scored = score(chain, several.labels[:, place])
        torch.testing.assert_close(scored[there], several.scores[there, place])


def test_float32_scores_are_summed_in_float64():
    chain = example(4, 200, 5, dtype=torch.float32, scale=5.0)
    doubled = Chain(chain.emissions.double(), chain.lengths, *(scores.double() for scores in scores_of(chain)))
    sequences = some_sequences(chain)
    for function in (
        log_partition,
        lambda chain: log_likelihood(chain, sequences),
        lambda chain: viterbi(chain).scores,
    ):
        assert torch.equal(function(chain), function(doubled))
    assert all(
        grad.dtype == torch.float32 for grad in gradients(lambda chain: log_likelihood(chain, sequences).sum(), chain)
    )
    assert marginals(chain).dtype == torch.float32


@pytest.mark.parametrize(("rows", "steps", "labels"), [(7, 12, 5), (32, 40, 20), (3, 2, 4)])
def test_pytorch_crf_agrees(rows, steps, labels):
    chain = example(rows, steps, labels, dtype=torch.float32)
    other = torchcrf.CRF(labels, batch_first=True)
    ours = zip((other.transitions, other.start_transitions, other.end_transitions), scores_of(chain), strict=True)
    with torch.no_grad():
        for parameter, scores in ours:
            parameter.copy_(scores)
    sequences = some_sequences(chain)
    expected = other(chain.emissions, sequences, mask=chain.mask, reduction="none")
    torch.testing.assert_close(log_likelihood(chain, sequences).float(), expected, rtol=FLOAT32_LOSS, atol=1e-5)
    decoded = viterbi(chain).labels.tolist()
    trimmed = [row[:length] for row, length in zip(decoded, chain.lengths.tolist(), strict=True)]
    assert trimmed == other.decode(chain.emissions, mask=chain.mask)
    parameters = [other.transitions, other.start_transitions, other.end_transitions]
    theirs = torch.autograd.grad(expected.sum(), parameters)
    (_, *found) = gradients(lambda chain: log_likelihood(chain, sequences).sum(), chain)
    for one, other in zip(found, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("padding", [0.0, 1e30, math.inf, math.nan])
def test_padding_changes_no_bit(padding):
    chain = example(4, 6, 3)
    padded = torch.nn.functional.pad(chain.emissions, (0, 0, 0, 3))
    sequences = some_sequences(chain)
    longer = torch.nn.functional.pad(sequences, (0, 3), value=-100)
    behind = torch.arange(9) >= chain.lengths.unsqueeze(1)
    padded[behind] = padding
    longer[behind] = -100
    wide = Chain(padded, chain.lengths, *scores_of(chain))
    assert torch.equal(log_likelihood(wide, longer), log_likelihood(chain, sequences))
    assert torch.equal(marginals(wide)[:, :6], marginals(chain))
    assert torch.equal(viterbi(wide).labels[:, :6], viterbi(chain).labels)
    assert torch.equal(k_best(wide, 3).labels[:, :, :6], k_best(chain, 3).labels)
    assert torch.equal(k_best(wide, 3).scores, k_best(chain, 3).scores)
    found = gradients(lambda chain: log_likelihood(chain, longer).sum(), wide)
    expected = gradients(lambda chain: log_likelihood(chain, sequences).sum(), chain)
    assert not found[0][behind].any()
    assert torch.equal(found[0][:, :6], expected[0])
    for one, other in zip(found[1:], expected[1:], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=FLOAT64_SUMS)


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_neighbours_change_nothing(scale):
    """Also where some rows go through log space and others do not."""
    chain = example(5, 6, 4)
    chain.emissions[::2] *= scale
    several = k_best(chain, 3)
    for row, length in enumerate(chain.lengths.tolist()):
        alone = Chain(chain.emissions[row : row + 1, :length], chain.lengths[row : row + 1], *scores_of(chain))
        torch.testing.assert_close(log_partition(alone)[0], log_partition(chain)[row], rtol=1e-12, atol=FLOAT64_SUMS)
        torch.testing.assert_close(marginals(alone)[0], marginals(chain)[row, :length], rtol=0, atol=FLOAT64_SUMS)
        assert torch.equal(viterbi(alone).labels[0], viterbi(chain).labels[row, :length])
        assert torch.equal(k_best(alone, 3).labels[0], several.labels[row, :, :length])
        assert torch.equal(k_best(alone, 3).scores[0], several.scores[row])


def test_ties_go_to_the_lowest_label():
    equal = Chain(torch.zeros(2, 3, 3), torch.tensor([3, 2]), torch.zeros(3, 3), torch.zeros(3), torch.zeros(3))
    assert viterbi(equal).labels.tolist() == [[0, 0, 0], [0, 0, 0]]
    emissions = torch.zeros(1, 2, 3)
    emissions[0, 1, 1:] = 1.0
    tied = Chain(emissions, torch.tensor([2]), *scores_of(equal))
    assert viterbi(tied).labels.tolist() == [[0, 1]]
    assert k_best(tied, 4).labels.tolist() == [[[0, 1], [1, 1], [2, 1], [0, 2]]]


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 4), st.integers(1, 8))
def test_the_first_of_the_best_is_viterbis_also_in_ties(seed, steps, labels, k):
    torch.manual_seed(seed)
    whole = Chain(
        torch.randint(-1, 2, (4, steps, labels)).float(),
        torch.randint(1, steps + 1, (4,)),
        torch.randint(-1, 2, (labels, labels)).float(),
        torch.zeros(labels),
        torch.zeros(labels),
    )
    found, decoded = k_best(whole, k), viterbi(whole)
    assert torch.equal(found.labels[:, 0], decoded.labels)
    assert torch.equal(found.scores[:, 0], decoded.scores)
    assert (found.scores.diff(dim=1)[found.exists[:, 1:]] <= 0).all()


@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 3), st.sampled_from([-math.inf, -1e4, -300.0]))
def test_whatever_is_forbidden_the_sequences_that_are_left_are_summed(seed, steps, labels, forbidden):
    torch.manual_seed(seed)
    chain = example(3, steps, labels)
    for scores in (chain.emissions, *scores_of(chain)):
        scores.masked_fill_(torch.rand(scores.shape) < 0.4, forbidden)
    assert_is_enumeration(chain, PROVED)
    leaves = gradients(lambda chain: log_partition(chain).sum(), chain)
    assert all(torch.isfinite(grad).all() for grad in leaves)
    lengths = (log_partition(chain) > -math.inf) * chain.lengths
    assert leaves[0].sum((1, 2)).tolist() == pytest.approx(lengths.tolist(), abs=PROVED)
    assert leaves[1].sum().item() == pytest.approx((lengths - 1).clamp_min(0).sum().item(), abs=PROVED)


@given(st.integers(0, 10_000), st.floats(0.0, 4.0))
def test_scores_of_any_size_are_summed(seed, exponent):
    torch.manual_seed(seed)
    chain = example(3, 5, 3, scale=10**exponent)
    assert_is_enumeration(chain, PROVED)
    first, *rest = gradients(lambda chain: log_partition(chain).sum(), chain)
    assert first.sum((1, 2)).tolist() == pytest.approx(chain.lengths.tolist(), abs=PROVED)
    assert [grad.sum().item() for grad in rest] == pytest.approx([chain.lengths.sum().item() - 3, 3, 3], abs=PROVED)


def counted(monkeypatch):
    """The rows that go through log space, forwards."""
    rows = []
    real = module._log_forwards
    monkeypatch.setattr(module, "_log_forwards", lambda scores: (rows.append(len(scores.lengths)), real(scores))[1])
    return rows


@pytest.mark.parametrize("forbidden", [-math.inf, -1e4])
def test_forbidden_transitions_take_the_fast_way(forbidden, monkeypatch):
    chain = example(8, 30, 6, scale=3.0)
    chain.transitions.fill_diagonal_(forbidden)
    chain.start[2] = chain.end[3] = forbidden
    rows = counted(monkeypatch)
    found = gradients(lambda chain: log_partition(chain).sum(), chain)
    assert sum(rows) == 0
    with monkeypatch.context() as patched:
        in_log_space(patched)
        expected = gradients(lambda chain: log_partition(chain).sum(), chain)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=PROVED)


@pytest.mark.parametrize("at_the_end", [False, True])
def test_what_falls_below_the_range_of_float64_and_matters_later_is_kept(at_the_end, monkeypatch):
    """Label 1 loses 100 nats a position against label 0, and at last is the only one that may stand there."""
    steps = 40
    emissions = torch.zeros(2, steps, 2)
    emissions[0, :, 1] = -100.0
    alone = torch.full((2, 2), -math.inf).fill_diagonal_(0.0)
    start, end = torch.zeros(2), torch.zeros(2)
    (end if at_the_end else start)[0] = -math.inf
    chain = Chain(emissions, torch.tensor([steps, steps]), alone, start, end)
    rows = counted(monkeypatch)
    assert log_partition(chain).tolist() == [-100.0 * steps, 0.0]
    assert sum(rows) == int(at_the_end)  # from the start on there is no other label to fall behind,
    rows.clear()
    assert torch.equal(marginals(chain)[:, :, 1], torch.ones(2, steps))
    assert sum(rows) == 1 + int(at_the_end)  # but going back there is
    by_emissions, by_transitions, *_ = gradients(lambda chain: log_partition(chain).sum(), chain)
    assert torch.equal(by_emissions[:, :, 1], torch.ones(2, steps))
    assert by_transitions.tolist() == [[0, 0], [0, 2 * (steps - 1)]]


def test_autocast_and_half_precision_emissions_are_summed_in_float64():
    chain = example(3, 5, 4, dtype=torch.float32)
    half = Chain(chain.emissions.bfloat16(), chain.lengths, *scores_of(chain))
    expected = log_partition(Chain(half.emissions.float(), chain.lengths, *scores_of(chain)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(log_partition(half), expected)
        assert gradients(lambda chain: log_partition(chain).sum(), half)[0].dtype == torch.bfloat16


def test_minus_ten_thousand_is_only_a_low_score_if_all_else_is_lower():
    chain = Chain(
        torch.zeros(1, 3, 2), torch.tensor([3]), torch.full((2, 2), -1e4), torch.zeros(2), torch.tensor([0.0, -1e4])
    )
    assert_is_enumeration(chain)
    apart = constrain(
        Chain(torch.zeros(1, 2, 2), torch.tensor([2]), torch.tensor([[0.0, -1e4], [0.0, 0.0]]), *[torch.zeros(2)] * 2),
        Allowed(torch.ones(2, 2, dtype=torch.bool), torch.tensor([True, False]), torch.tensor([False, True])),
    )
    assert log_partition(apart).item() == pytest.approx(-1e4)
    assert_is_enumeration(apart)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_extreme_emissions_stay_finite(sign):
    chain = example(4, 50, 5, dtype=torch.float32)
    chain.emissions.copy_(torch.where(torch.rand(chain.emissions.shape) < 0.5, 1e4, sign * -1e4))
    sequences = some_sequences(chain)
    assert torch.isfinite(log_likelihood(chain, sequences)).all()
    found = gradients(lambda chain: log_likelihood(chain, sequences).sum(), chain)
    assert all(torch.isfinite(grad).all() for grad in found)
    torch.testing.assert_close(marginals(chain).sum(2), chain.mask.float(), rtol=0, atol=FLOAT32_MARGINALS)
    assert torch.isfinite(viterbi(chain).scores).all()


def test_a_row_for_which_nothing_is_allowed_is_defined_and_leaves_the_others_alone():
    chain = example(3, 4, 2, lengths=[4, 2, 3])
    dead = Chain(chain.emissions.clone(), chain.lengths, *scores_of(chain))
    dead.emissions[1, 1] = -math.inf
    sequences = some_sequences(chain)
    assert log_partition(dead)[1] == -math.inf
    assert log_likelihood(dead, sequences)[1] == -math.inf
    assert viterbi(dead).scores[1] == -math.inf
    assert not marginals(dead)[1].any()
    assert not k_best(dead, 2).exists[1].any()
    others = torch.tensor([0, 2])
    assert torch.equal(log_partition(dead)[others], log_partition(chain)[others])
    assert torch.equal(k_best(dead, 2).labels[others], k_best(chain, 2).labels[others])
    found = gradients(lambda chain: log_partition(chain).sum(), dead)
    expected = gradients(lambda chain: log_partition(chain)[others].sum(), chain)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=FLOAT64_SUMS)


def test_what_is_not_allowed_has_no_probability_and_no_gradient():
    chain = example(3, 5, 3)
    allowed = Allowed(
        ~torch.eye(3, dtype=torch.bool), torch.tensor([True, False, True]), torch.tensor([True, True, False])
    )
    bound = constrain(chain, allowed)
    assert_is_enumeration(bound)
    by_emissions, by_transitions, by_start, by_end = gradients(
        lambda chain: log_partition(constrain(chain, allowed)).sum(), chain
    )
    assert not by_transitions.diagonal().any()
    assert (by_start[1], by_end[2]) == (0, 0)
    assert torch.equal(by_emissions, marginals(bound))
    broken = torch.zeros(3, 5, dtype=torch.int64)
    assert log_likelihood(bound, broken)[0] == -math.inf


def test_layout_and_inputs_are_left_alone():
    chain = example(4, 6, 3)
    crossed = Chain(
        chain.emissions.mT.contiguous().mT, chain.lengths, chain.transitions.t().contiguous().t(), *scores_of(chain)[1:]
    )
    copies = [scores.clone() for scores in (crossed.emissions, *scores_of(crossed))]
    for function in (
        log_partition,
        marginals,
        lambda chain: viterbi(chain).labels,
        lambda chain: k_best(chain, 2).scores,
    ):
        assert torch.equal(function(crossed), function(chain))
    assert all(
        torch.equal(one, other) for one, other in zip(copies, (crossed.emissions, *scores_of(crossed)), strict=True)
    )
