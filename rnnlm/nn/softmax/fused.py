"""The losses of the output layers with their gradients, formed in one pass over chunks of positions.

All of them are functions of how far the log-normaliser lies above the target's logit,

    d = log sum_v exp(z_v) - z_target - log prior

    exact      nll = d
    mixture    nll = -log sum_k exp(-d_k)      K rows a position, one an expert, prior its weight (Yang et al. 2018)
    sampled    nll = log(1 + exp(d))           the sum is an estimate over all tokens but the target

and the derivative of the nll by d (1, the expert's responsibility, 1 - P(target)) is the factor on the gradient of the
log-normaliser. Label smoothing by e replaces z_target by (1 - e) z_target + e mean_v z_v, and a mean of logits is one
logit, that of the mean of W.
"""

import functools
import importlib.util
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rnnlm.nn.prepared import active_weights
from rnnlm.nn.products import product_dtype
from rnnlm.nn.softmax.base import SoftmaxLoss
from rnnlm.nn.softmax.log_normaliser import (
    KernelTable,
    PanelTable,
    PreparedTable,
    Reading,
    ReadingTable,
    Struck,
    Table,
    chunks,
    read,
    read_prepared,
)


@dataclass(frozen=True)
class Sample:
    """Distinct tokens (K) that stand for the vocabulary, and the log of the probability that each was drawn."""

    tokens: Tensor
    log_inclusion: Tensor


@dataclass(frozen=True)
class Kind:
    """Which loss: `group` rows of hidden states belong to one position (the experts of a mixture)."""

    group: int = 1
    sample: Sample | None = None
    smoothing: float = 0.0

    def nll(self, excess: Tensor) -> tuple[Tensor, Tensor]:
        """From d of n rows: nll of n / group positions, and its derivative by d."""
        if self.sample is not None:
            return torch.logaddexp(excess, torch.zeros_like(excess)), excess.sigmoid()
        below = -excess.unflatten(0, (-1, self.group))
        return -below.logsumexp(1), below.softmax(1).flatten()


def fused_loss(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, kind: Kind, prior: Tensor | None = None
) -> SoftmaxLoss:
    """Of hidden states (M x H) against the output matrix (V x H); `targets` and the log `prior` have M entries."""
    precision = product_dtype(weight)
    with torch.autocast(weight.device.type, enabled=False):  # what is not a large product keeps its precision
        objective, nll = _FusedLoss.apply(hidden.to(weight.dtype), weight, bias, prior, targets, kind, precision)
    return SoftmaxLoss(objective, nll)


def reading_table(weight: Tensor, bias: Tensor | None) -> ReadingTable:
    """The output matrix (V x H) for `target_logprobs`: prepared, if weights are; on a GPU for one kernel, where triton
    can be had."""
    active = active_weights()
    if has_kernel(weight):
        from rnnlm.nn.softmax.log_normaliser_triton import TritonTable  # noqa: PLC0415 - other machines do not have it

        if active is None:
            return TritonTable(weight, bias, product_dtype(weight))
        precision = getattr(torch, active.precision)
        return active.keep(weight, lambda: TritonTable(weight, bias, precision))
    if active is None or not active.gains(weight):
        return Table(weight, bias, product_dtype(weight))
    kind = PanelTable if active.in_panels else PreparedTable
    return active.keep(weight, lambda: kind(active, weight, bias))


def has_kernel(weight: Tensor) -> bool:
    """Whether a table where this one lies can be read by a kernel of ours."""
    return weight.device.type == "cuda" and weight.dtype == torch.float32 and _has_triton()


@functools.cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def target_logprobs(hidden: Tensor, table: ReadingTable, targets: Tensor) -> Tensor:
    """log P(target) of each row under the exact softmax; no gradient."""
    hidden = hidden.to(table.sum_dtype)
    if isinstance(table, KernelTable):
        normaliser, logit = table.read(hidden, targets)
        return (logit - normaliser).clamp_max_(0.0)
    result = hidden.new_empty(len(targets))
    with torch.no_grad(), torch.autocast(hidden.device.type, enabled=False):
        for part in chunks(len(targets)):
            if isinstance(table, PreparedTable):
                normaliser, logit = read_prepared(hidden[part], targets[part], table)
            else:
                normaliser = read(hidden[part], table, differentiate=False).log_normaliser
                logit = target_logits(hidden[part], table.exact_weight, table.exact_bias, targets[part])
            result[part] = (logit - normaliser).clamp_max_(0.0)  # the two parts are rounded differently
    return result


def target_logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
    """One logit a row, that of its target."""
    logits = (hidden * weight[targets]).sum(1)
    return logits if bias is None else logits + bias[targets]


class _FusedLoss(torch.autograd.Function):
    """Objective and nll. The gradients are made in the forward pass and scaled in place by the backward pass, which
    saves a copy of the largest of them and can therefore run once only."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        prior: Tensor | None,
        targets: Tensor,
        kind: Kind,
        precision: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        table = _table(weight, bias, kind, precision)
        place = _places(weight, kind.sample)
        gradients = _Gradients(hidden, weight, bias, table) if any(ctx.needs_input_grad) else None
        nll = torch.zeros((), dtype=torch.float64, device=hidden.device)
        for part in chunks(len(targets), kind.group):
            rows, target = hidden[part], targets[part]
            struck = None if place is None else _strike(place, target)
            reading = read(rows, table, struck, differentiate=gradients is not None)
            excess = reading.log_normaliser - target_logits(rows, weight, bias, target)
            losses, factor = kind.nll(excess if prior is None else excess - prior[part])
            nll += losses.sum(dtype=torch.float64)
            if gradients is not None:
                gradients.add(part, rows, reading, factor)
            del reading  # its powers of the last chunk must not lie beside the gradients when these are copied
        objective = nll if not kind.smoothing else nll + kind.smoothing * _above_mean(hidden, weight, bias, targets)
        if gradients is not None:
            made = gradients.finish(hidden, weight, targets, kind)
            ctx.has = (True, True, bias is not None, prior is not None)
            # Not by save_for_backward: what that keeps has a second owner, and would be copied to become a `.grad`.
            ctx.made = [g for g, has in zip(made, ctx.has, strict=True) if has and g is not None]
        nll = nll.clone()
        ctx.mark_non_differentiable(nll)
        return objective, nll

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        scale = grad_outputs[0]
        made, ctx.made = ctx.made, None
        if made is None:
            raise RuntimeError("the gradient of a fused loss can be asked for once")
        scaled = iter([gradient.mul_(scale.to(gradient.dtype)) for gradient in made])
        del made
        return *(next(scaled) if has else None for has in ctx.has), None, None, None


class _Gradients:
    """Gradients by hidden states, W, b and log prior, while they add up."""

    def __init__(self, hidden: Tensor, weight: Tensor, bias: Tensor | None, table: Table) -> None:
        self.hidden = torch.empty_like(hidden)
        self.table = weight.new_zeros(weight.shape[1], len(table.weight))  # H x V
        self.table_bias = None if bias is None else bias.new_zeros(len(table.weight))
        self.factor = hidden.new_empty(len(hidden))

    def add(self, part: slice, rows: Tensor, reading: Reading, factor: Tensor) -> None:
        torch.mul(reading.mean, factor.unsqueeze(1), out=self.hidden[part])
        reading.add_gradients(rows, factor, self.table, self.table_bias)
        self.factor[part] = factor

    def finish(
        self, hidden: Tensor, weight: Tensor, targets: Tensor, kind: Kind
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        """With the part of the targets' own logits, and of smoothing."""
        by_target = kind.smoothing - self.factor
        self.hidden.addcmul_(weight[targets], by_target.unsqueeze(1))
        weight_grad = _spread(self.table.t(), kind.sample, len(weight))
        weight_grad.index_add_(0, targets, hidden * by_target.unsqueeze(1))
        bias_grad = None if self.table_bias is None else _spread(self.table_bias, kind.sample, len(weight))
        if bias_grad is not None:
            bias_grad.index_add_(0, targets, by_target)
        if kind.smoothing:
            self.hidden.sub_(weight.mean(0), alpha=kind.smoothing)
            weight_grad.sub_(hidden.sum(0), alpha=kind.smoothing / len(weight))
            if bias_grad is not None:
                bias_grad.sub_(kind.smoothing * len(hidden) / len(weight))
        return self.hidden, weight_grad, bias_grad, -self.factor


def _table(weight: Tensor, bias: Tensor | None, kind: Kind, precision: torch.dtype) -> Table:
    if kind.sample is None:
        return Table(weight, bias, precision)
    tokens, correction = kind.sample.tokens, -kind.sample.log_inclusion
    return Table(weight[tokens], correction if bias is None else bias[tokens] + correction, precision)


def _spread(gradient: Tensor, sample: Sample | None, size: int) -> Tensor:
    """Gradients of a table's rows as those of all `size` tokens."""
    if sample is None:
        return gradient.contiguous()
    return gradient.new_zeros(size, *gradient.shape[1:]).index_copy_(0, sample.tokens, gradient)


def _places(weight: Tensor, sample: Sample | None) -> Tensor | None:
    """Where in the sample each of V tokens is; -1 if it is not there."""
    if sample is None:
        return None
    places = torch.full((len(weight),), -1, device=weight.device)
    places[sample.tokens] = torch.arange(len(sample.tokens), device=weight.device)
    return places


def _strike(places: Tensor, targets: Tensor) -> Struck:
    """A target that was drawn is not a negative of its own row."""
    columns = places[targets]
    rows = (columns >= 0).nonzero().squeeze(1)
    return Struck(rows, columns[rows])


def _above_mean(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
    """Sum over rows of the target's logit less the mean logit."""
    mean = hidden @ weight.mean(0)
    if bias is not None:
        mean = mean + bias.mean()
    return (target_logits(hidden, weight, bias, targets) - mean).sum(dtype=torch.float64)
