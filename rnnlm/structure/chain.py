"""The linear-chain conditional random field (Lafferty, McCallum & Pereira 2001): a label of L at each of T positions.

    weight(y) = exp(start[y_1] + sum_t emissions[t, y_t] + sum_t transitions[y_{t-1}, y_t] + end[y_T])
    P(y | x) = weight(y) / Z        Z = sum of weight(y) over all L^T sequences

Scores are in nats and may be -inf, which forbids. Padding stands on the right; nothing looks at what it holds. All
arithmetic is in float64, whatever the type of the scores.

**Sums.** Forward and backward sums (Rabiner 1989, III.A and V.A; Sutton & McCallum 2012, 4.1), B x L a step:

    a_t = (a_{t-1} E) * f_t        b_t = E (f_{t+1} * b_{t+1})        E = exp(transitions)    f_t = exp(emissions[t])

A step is one matrix product; its result is divided by its sum. What such a product can lose is what falls below the
range of float64, and that matters if all else turns out to be forbidden. So each row is proved, or summed again:

- Factors are divided by the largest of their kind. Where they, and the sums before a step, all lie between
  exp(-SPREAD) and 1 or are exactly 0, a term is at least exp(-3 SPREAD) or exactly 0, and nothing is lost.
- Otherwise all that is smaller and not 0, such as transitions of -1e4, is raised to exp(-SPREAD) and the row is summed
  once more. Z lies between the two sums; where they agree, what was lost did not matter.
- Otherwise the row is summed in log space, which takes tens of times as long.
- Going back, forward times backward sums give Z at every position. Where they do not, log space again.

The gradient of log Z is made of the marginals (Sutton & McCallum 2012, 4.1 and 5.1.1), from one backward pass; it has
no gradient of its own.

**Maxima.** Viterbi (1967) keeps the best scores up to a label and no back-pointers: an argmax along the one best
sequence finds it again. The k best sequences come from a beam from right to left, which ranks the end of a sequence by
the best sequence with that end, known from Viterbi's pass (Soong & Huang 1991). An end that k others outrank can be
dropped: those belong to k sequences at least as good. So a beam of k is exact.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from rnnlm.types import Lengths, Mask

Emissions = Float[Tensor, "B T L"]  # in this file L counts labels, K hypotheses
Transitions = Float[Tensor, "L L"]  # from, to
LabelScores = Float[Tensor, " L"]
RowScores = Float[Tensor, " B"]
Labels = Int[Tensor, "B T"]

SPREAD = 170.0  # nats; three of them and the logarithm of L stay within float64's 708
LEAST = math.exp(-SPREAD)
TINY = 1e-300  # in place of a sum that is 0, so that 0 / 0 is 0
NEGLIGIBLE = 1e-9  # nats by which two ways to log Z may differ; rounding stays below through thousands of positions
SMALLEST_MASS = 1e-250  # below, a quotient by it could overflow


@dataclass(frozen=True, eq=False)
class Chain:
    """The scores of a batch, in nats, float32 or float64; -inf forbids. `lengths` are 1 to T, int64."""

    emissions: Emissions
    lengths: Lengths
    transitions: Transitions
    start: LabelScores
    end: LabelScores

    @property
    def mask(self) -> Mask:
        """True at real positions."""
        steps = torch.arange(self.emissions.shape[1], device=self.lengths.device)
        return steps < self.lengths.unsqueeze(1)


class Allowed(NamedTuple):
    """Which labels may begin, follow one another (from, to) and end."""

    transitions: Bool[Tensor, "L L"]
    start: Bool[Tensor, " L"]
    end: Bool[Tensor, " L"]


class Decoded(NamedTuple):
    """The best sequences, 0 in padding, and log weight(y) in nats, float64."""

    labels: Labels
    scores: RowScores


class Hypotheses(NamedTuple):
    """Up to K distinct sequences a row, best first: labels (0 in padding and where there is none), log weight(y) in
    nats, float64 (-inf where there is none), and which are there."""

    labels: Int[Tensor, "B K T"]
    scores: Float[Tensor, "B K"]
    exists: Bool[Tensor, "B K"]


def constrain(chain: Chain, allowed: Allowed) -> Chain:
    """The same chain with -inf for all that is not allowed. No gradient goes to what is forbidden."""
    transitions, start, end = (
        scores.masked_fill(~permitted, -math.inf)
        for scores, permitted in zip((chain.transitions, chain.start, chain.end), allowed, strict=True)
    )
    return Chain(chain.emissions, chain.lengths, transitions, start, end)


def score(chain: Chain, labels: Labels) -> RowScores:
    """log weight(labels) in nats, float64, -inf for a forbidden sequence; differentiable. Labels are int64; padding may
    hold anything."""
    mask = chain.mask
    labels = torch.where(mask, labels, 0)
    emitted = chain.emissions.gather(2, labels.unsqueeze(2)).squeeze(2)
    moved = chain.transitions[labels[:, :-1], labels[:, 1:]]
    last = labels.gather(1, chain.lengths.unsqueeze(1) - 1).squeeze(1)
    ends = chain.start[labels[:, 0]].double() + chain.end[last].double()
    total: Tensor = (
        ends
        + torch.where(mask, emitted, 0.0).sum(1, dtype=torch.float64)
        + torch.where(mask[:, 1:], moved, 0.0).sum(1, dtype=torch.float64)
    )
    return total


def log_partition(chain: Chain) -> RowScores:
    """log Z in nats, float64; -inf, with a gradient of 0, where no sequence is allowed. Differentiable once."""
    log_z: Tensor = _LogPartition.apply(chain.emissions, chain.lengths, chain.transitions, chain.start, chain.end)
    return log_z


def log_likelihood(chain: Chain, labels: Labels) -> RowScores:
    """log P(labels | x) in nats, float64, at most 0 up to rounding; -inf for a forbidden sequence. Differentiable
    once."""
    log_z = log_partition(chain)
    return torch.where(log_z == -math.inf, -math.inf, score(chain, labels) - log_z)


@torch.no_grad()
def marginals(chain: Chain) -> Emissions:
    """P(y_t = l | x) in the type of the emissions; 0 in padding and where no sequence is allowed. No gradient."""
    scores = _prepared(chain)
    sums = _sum_forwards(scores)
    found, _ = _expectations(scores, sums, torch.ones_like(sums.log_z))
    return found.transpose(0, 1).to(chain.emissions.dtype)


@torch.no_grad()
def viterbi(chain: Chain) -> Decoded:
    """The most probable sequences (Viterbi 1967; Rabiner 1989, III.B).

    Ties go to the lowest label, the last position deciding first. Where no sequence is allowed the score is -inf and
    the labels mean nothing.
    """
    scores = _prepared(chain)
    before, best = _maximise_forwards(scores)
    arriving = _arriving(scores)
    none = len(scores.start)
    following = torch.full_like(chain.lengths, none)  # behind the last label stands the end, also in padding
    found = []
    for best_before, real in zip(reversed(before.unbind(0)), reversed(scores.real.unbind(0)), strict=True):
        following = torch.where(real, (best_before + arriving[following]).argmax(1), none)
        found.append(following)
    labels = torch.stack(found[::-1], 1)
    return Decoded(labels.masked_fill(labels == none, 0), best)


@torch.no_grad()
def k_best(chain: Chain, k: int) -> Hypotheses:
    """The `k` most probable sequences, the first of them `viterbi`'s; fewer where fewer are allowed.

    A hypothesis is the end of a sequence, with its regret: how far the best sequence with that end is behind the best
    of all. Regrets only grow, from right to left, and Viterbi's own is exactly 0 throughout.
    """
    scores = _prepared(chain)
    before, best = _maximise_forwards(scores)
    arriving = _arriving(scores)
    none = len(scores.start)
    following = torch.full((len(best), k), none, device=best.device)
    regrets = torch.full((len(best), k), math.inf, dtype=torch.float64, device=best.device)
    regrets[:, 0] = 0.0  # one hypothesis: the end itself
    itself = torch.arange(k, device=best.device).expand_as(following)
    found = []
    for best_before, real in zip(reversed(before.unbind(0)), reversed(scores.real.unbind(0)), strict=True):
        reached = best_before.unsqueeze(1) + arriving[following]  # B K L
        further = regrets.unsqueeze(2) + (reached.amax(2, keepdim=True) - reached)
        further = torch.where(reached == -math.inf, math.inf, further).flatten(1)
        ranked, order = further.sort(dim=1, stable=True)  # of equals, that of the better end, then the lowest label
        real = real.unsqueeze(1)
        regrets = torch.where(real, ranked[:, :k], regrets)
        following = torch.where(real, order[:, :k] % none, none)
        found.append((following, torch.where(real, order[:, :k] // none, itself)))
    exists = regrets < math.inf
    labels, place = [], itself
    for label, parent in reversed(found):
        labels.append(label.gather(1, place))
        place = parent.gather(1, place)
    stacked = torch.stack(labels, 2)
    absent = (stacked == none) | ~exists.unsqueeze(2)
    return Hypotheses(stacked.masked_fill(absent, 0), best.unsqueeze(1) - regrets, exists)


class _Scores(NamedTuple):
    """A chain in float64, time first, with 0 for the emissions of padding."""

    emissions: Tensor  # T B L
    real: Tensor  # T B
    lengths: Tensor
    transitions: Tensor
    start: Tensor
    end: Tensor

    def rows(self, some: Tensor) -> "_Scores":
        return self._replace(emissions=self.emissions[:, some], real=self.real[:, some], lengths=self.lengths[some])


def _prepared(chain: Chain) -> _Scores:
    real = chain.mask.t()
    emissions = chain.emissions.transpose(0, 1).double().masked_fill(~real.unsqueeze(2), 0.0).contiguous()
    return _Scores(emissions, real, chain.lengths, chain.transitions.double(), chain.start.double(), chain.end.double())


def _maximise_forwards(scores: _Scores) -> tuple[Tensor, Tensor]:
    """The best score up to each label with its emission, T B L, and that of a whole sequence, B.

    Rows stand innermost: on a CPU the largest over the labels of a step then comes from whole vectors of rows, in half
    the time.
    """
    into = scores.transitions.t().unsqueeze(2)  # to, from, 1
    emissions = scores.emissions.transpose(1, 2).contiguous()
    found = torch.empty_like(emissions)
    torch.add(emissions[0], scores.start.unsqueeze(1), out=found[0])
    for time in range(1, len(emissions)):
        torch.add((found[time - 1].unsqueeze(0) + into).amax(1), emissions[time], out=found[time])
    before = found.transpose(1, 2).contiguous()
    return before, (_at_last(before, scores.lengths) + scores.end).amax(1)


def _arriving(scores: _Scores) -> Tensor:
    """L + 1 x L: the score of coming from each label to a label, or to the end, which is row L."""
    return torch.cat([scores.transitions.t(), scores.end.unsqueeze(0)])


def _at_last(steps: Tensor, lengths: Tensor) -> Tensor:
    """B x L of T x B x L: each row at its last real position."""
    return steps[lengths - 1, torch.arange(len(lengths), device=lengths.device)]


class _Factors(NamedTuple):
    """exp of the scores, each set divided by its largest; `offset` (B) is the log of all that a row was divided by."""

    emissions: Tensor  # T B L
    transitions: Tensor
    start: Tensor
    end: Tensor
    offset: Tensor
    kept: Tensor  # B: no factor lies between 0 and LEAST


class _Sums(NamedTuple):
    """Forward sums a; what stands in rows that are not sound is never read."""

    factors: _Factors
    normalised: Tensor  # T B L: their sum over labels is 1, or 0
    growth: Tensor  # T B: the log of all that they were divided by so far
    whole: Tensor  # B: log Z without the factors' offset
    log_z: Tensor
    sound: Tensor  # B


def _divided(scores: Tensor, *, raised: bool) -> tuple[Tensor, Tensor, Tensor]:
    """exp(scores - peak), the peak over the last dimension, and whether all are 0 or at least LEAST; `raised`, they
    are made so."""
    peak = scores.amax(-1, keepdim=True)
    peak = torch.where(peak == -math.inf, 0.0, peak)  # nothing is allowed: all factors are 0
    below = scores - peak
    small = (below < -SPREAD) & (below > -math.inf)
    if raised:
        below = torch.where(small, -SPREAD, below)
    return below.exp(), peak.squeeze(-1), ~small.any(-1)


def _factors(scores: _Scores, *, raised: bool = False) -> _Factors:
    emissions, peaks, kept = _divided(scores.emissions, raised=raised)
    flat, peak, transitions_kept = _divided(scores.transitions.flatten(), raised=raised)
    start, start_peak, start_kept = _divided(scores.start, raised=raised)
    end, end_peak, end_kept = _divided(scores.end, raised=raised)
    offset = peaks.sum(0) + (scores.lengths - 1) * peak + start_peak + end_peak  # the peaks of padding are 0
    kept = kept.all(0) & transitions_kept & start_kept & end_kept
    return _Factors(emissions, flat.view_as(scores.transitions), start, end, offset, kept)


def _sum_steps(scores: _Scores, factors: _Factors, *, raised: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """`normalised`, `growth` and `whole` of `_Sums`; `raised`, no sum lies between 0 and LEAST."""
    sums, totals = torch.empty_like(factors.emissions), factors.emissions.new_empty(*scores.real.shape, 1)
    torch.mul(factors.emissions[0], factors.start, out=sums[0])
    for time, (values, total) in enumerate(zip(sums.unbind(0), totals.unbind(0), strict=True)):
        if time:
            torch.mm(sums[time - 1], factors.transitions, out=values)
            values.mul_(factors.emissions[time])
        torch.sum(values, 1, keepdim=True, out=total)
        values.div_(total.clamp_min(TINY))
        if raised:
            values.copy_(torch.where(values > 0, values.clamp_min(LEAST), 0.0))
    growth = torch.where(scores.real, totals.squeeze(2).log(), 0.0).cumsum(0)
    return sums, growth, growth[-1] + (_at_last(sums, scores.lengths) @ factors.end).log()


def _sum_forwards(scores: _Scores) -> _Sums:
    factors = _factors(scores)
    sums, growth, whole = _sum_steps(scores, factors)
    lost = (((sums > 0) & (sums < LEAST)).any(2) & scores.real).any(0)
    sound = factors.kept & ~lost
    log_z = factors.offset + whole
    doubtful = (~sound).nonzero().squeeze(1)
    if len(doubtful):
        some = scores.rows(doubtful)
        *_, above = _sum_steps(some, _factors(some, raised=True), raised=True)
        proved = _agree(above, whole[doubtful])
        sound[doubtful] = proved
        rough = doubtful[~proved]
        if len(rough):
            log_z[rough] = _log_forwards(scores.rows(rough))[1]
    return _Sums(factors, sums, growth, whole, log_z, sound)


def _agree(one: Tensor, other: Tensor) -> Tensor:
    return (one == other) | ((one - other).abs() <= NEGLIGIBLE)  # the first for -inf


def _expectations(scores: _Scores, sums: _Sums, given: Tensor) -> tuple[Tensor, Tensor]:
    """P(y_t = l | x) times `given` (B), T x B x L, and sum_t P(y_t = i, y_{t+1} = j | x) summed over rows with
    `given` as weights, L x L."""
    factors, forward = sums.factors, sums.normalised
    into = factors.transitions.t()
    later, leaving = torch.empty_like(forward), torch.empty_like(forward)  # b, and f * b normalised
    totals = torch.ones_like(sums.growth).unsqueeze(2)  # what f * b of the position after was divided by
    last = (scores.lengths - 1).unsqueeze(1)
    later[-1] = factors.end
    for time in range(len(forward) - 2, -1, -1):
        values, total = leaving[time + 1], totals[time]
        torch.mul(later[time + 1], factors.emissions[time + 1], out=values)
        torch.sum(values, 1, keepdim=True, out=total)
        values.div_(total.clamp_min(TINY))
        torch.where(last > time, values @ into, factors.end, out=later[time])
    followed = torch.zeros_like(scores.real)  # the next position is real
    followed[:-1] = scores.real[1:]
    shrunk = torch.where(followed, totals.squeeze(2).log(), 0.0).flip(0).cumsum(0).flip(0)
    both = forward * later
    mass = both.sum(2)
    agree = _agree(sums.growth + mass.log() + shrunk, sums.whole) & ((mass > SMALLEST_MASS) | (sums.whole == -math.inf))
    sound = sums.sound & (agree | ~scores.real).all(0)
    share = torch.where(scores.real & sound & (mass > 0), given / mass, 0.0).unsqueeze(2)
    # where, not a product with 0: what stands in rows that are not sound may be anything
    positions = torch.where(share != 0, both * share, 0.0)
    steps = (share != 0) & followed.unsqueeze(2)
    sources = torch.where(steps, forward * share, 0.0)[:-1].flatten(0, 1)
    targets = torch.where(steps[:-1], leaving[1:], 0.0).flatten(0, 1)
    pairs = factors.transitions * (sources.t() @ targets)
    rough = (~sound).nonzero().squeeze(1)
    if len(rough):
        positions[:, rough], rough_pairs = _log_expectations(scores.rows(rough), sums.log_z[rough], given[rough])
        pairs = pairs + rough_pairs
    return positions, pairs


def _log_forwards(scores: _Scores) -> tuple[Tensor, Tensor]:
    """The logarithms of the forward sums, T x B x L, and log Z, in log space throughout."""
    sums = [scores.emissions[0] + scores.start]
    for emissions in scores.emissions[1:]:
        sums.append((sums[-1].unsqueeze(2) + scores.transitions).logsumexp(1) + emissions)
    stacked = torch.stack(sums)
    return stacked, (_at_last(stacked, scores.lengths) + scores.end).logsumexp(1)


def _log_expectations(scores: _Scores, log_z: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
    """What `_expectations` gives, in log space throughout."""
    forward, _ = _log_forwards(scores)
    log_z = torch.where(log_z == -math.inf, 0.0, log_z).unsqueeze(1)  # nothing is allowed: exp(-inf) is 0
    given, last = given.unsqueeze(1), (scores.lengths - 1).unsqueeze(1)
    positions, pairs = torch.empty_like(forward), torch.zeros_like(scores.transitions)
    later = scores.end.expand_as(forward[0])
    for time in range(len(forward) - 1, -1, -1):
        real = scores.real[time].unsqueeze(1)
        positions[time] = torch.where(real, (forward[time] + later - log_z).exp() * given, 0.0)
        if time:
            leaving = later + scores.emissions[time]
            paired = (forward[time - 1] - log_z).unsqueeze(2) + leaving.unsqueeze(1) + scores.transitions
            pairs += torch.where(real.unsqueeze(2), paired.exp() * given.unsqueeze(2), 0.0).sum(0)
            earlier = (leaving.unsqueeze(1) + scores.transitions).logsumexp(2)
            later = torch.where(last > time - 1, earlier, scores.end)
    return positions, pairs


class _LogPartition(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, emissions: Tensor, lengths: Tensor, transitions: Tensor, start: Tensor, end: Tensor
    ) -> Tensor:
        scores = _prepared(Chain(emissions, lengths, transitions, start, end))
        sums = _sum_forwards(scores)
        ctx.save_for_backward(*scores, *sums.factors, *sums[1:])
        ctx.dtypes = [tensor.dtype for tensor in (emissions, transitions, start, end)]
        return sums.log_z

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        saved = ctx.saved_tensors
        scores, factors = _Scores(*saved[:6]), _Factors(*saved[6:12])
        positions, pairs = _expectations(scores, _Sums(factors, *saved[12:]), grad_outputs[0])
        last = _at_last(positions, scores.lengths)
        found = [positions.transpose(0, 1), pairs, positions[0].sum(0), last.sum(0)]
        by_emissions, *others = (grad.to(dtype) for grad, dtype in zip(found, ctx.dtypes, strict=True))
        return by_emissions, None, *others
