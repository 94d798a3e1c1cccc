"""All measurements of one model, batch by batch; what comes out is plain data."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import exp

import torch
from torch import Tensor

from rnnlm.diagnosis.context import context_lengths, context_losses, effective_context
from rnnlm.diagnosis.gates import GateCounts, GateUse, count_gates
from rnnlm.diagnosis.gradients import gradient_norms, layers_with_memory
from rnnlm.diagnosis.horizon import horizon
from rnnlm.diagnosis.passages import Passages
from rnnlm.diagnosis.recurrent_matrices import RecurrentMatrix, recurrent_matrices
from rnnlm.diagnosis.replacement import draw_others, replacement_effects, replacement_lags
from rnnlm.errors import ConfigError, NonFiniteError
from rnnlm.nn.language_model import LanguageModel

BATCH_ROWS = 64  # passages at a time: a gradient keeps all of their steps
QUANTILES = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class GradientDecay:
    """Of one layer: mean and quantiles over passages of g_k (`gradients.py`), k = 0, 1 ..."""

    layer: int  # from 0, as in task.layers
    kind: str
    mean: list[float]
    quantiles: dict[str, list[float]]
    horizon: int | None


@dataclass(frozen=True)
class ContextCurve:
    """Mean loss by context length in nats; `excess_error` is the standard error of its distance to the whole
    passage's, position by position."""

    lengths: list[int]
    nll: list[float]
    excess_error: list[float]
    effective: int

    @property
    def perplexity(self) -> list[float]:
        """The same as perplexities."""
        return [exp(min(700.0, nll)) for nll in self.nll]


@dataclass(frozen=True)
class ReplacementCurve:
    """Mean effect of replacing one token by its lag, in nats."""

    lags: list[int]
    kl: list[float]
    loss: list[float]
    horizon: int | None


@dataclass(frozen=True)
class Diagnosis:
    """What was found of one model."""

    num_parameters: int
    gradients: list[GradientDecay]
    context: ContextCurve
    replacement: ReplacementCurve
    gates: list[GateUse]
    matrices: list[RecurrentMatrix]


def passage_steps(max_lag: int) -> int:
    """Inputs a passage needs: as many again as the longest lag, so that no state is fresh where lags are counted."""
    return 2 * max_lag


def num_batches(count: int) -> int:
    """Calls of `on_batch` for so many passages."""
    return -(-count // BATCH_ROWS)


def diagnose(
    model: LanguageModel,
    passages: Passages,
    *,
    max_lag: int,
    seed: int,
    on_batch: Callable[[], None] = lambda: None,
) -> Diagnosis:
    """Measure a model in evaluation mode. Raises ConfigError if it has no memory, NonFiniteError if a loss or
    gradient is not finite."""
    if not layers_with_memory(model):
        raise ConfigError("task.layers: no layer carries a state from step to step; there is nothing to diagnose")
    lengths, lags = context_lengths(passages.inputs.shape[1]), replacement_lags(max_lag)
    others = draw_others(passages, lags, seed)
    norms, losses, kl, rise, gates = [], [], [], [], GateCounts()
    for batch, replaced in zip(passages.batches(BATCH_ROWS), others.split(BATCH_ROWS), strict=True):
        norms.append(_finite("gradient", gradient_norms(model, batch, max_lag)))
        losses.append(_finite("loss", context_losses(model, batch, lengths)))
        effect = replacement_effects(model, batch, lags, replaced)
        kl.append(effect.kl)
        rise.append(effect.loss)
        count_gates(model, batch, max_lag, gates)
        on_batch()
    return Diagnosis(
        num_parameters=sum(parameter.numel() for parameter in model.parameters()),
        gradients=_decays(model, torch.cat(norms, dim=1)),
        context=_context(lengths, torch.cat(losses)),
        replacement=_replacement(lags, torch.cat(kl), torch.cat(rise)),
        gates=gates.use(),
        matrices=recurrent_matrices(model),
    )


def _finite(what: str, values: Tensor) -> Tensor:
    if not values.isfinite().all():
        raise NonFiniteError(f"a {what} of the model is not a finite number", todo="did its training diverge?")
    return values


def _decays(model: LanguageModel, norms: Tensor) -> list[GradientDecay]:
    """Of norms L x B x lags."""
    kinds = [type(layer).__name__ for layer in model.stack.cells()]
    found = []
    for layer, values in zip(layers_with_memory(model), norms, strict=True):
        mean = values.mean(0).tolist()
        quantiles = {str(q): values.quantile(q, dim=0).tolist() for q in QUANTILES}
        found.append(GradientDecay(layer, kinds[layer], mean, quantiles, horizon(range(len(mean)), mean)))
    return found


def _context(lengths: list[int], losses: Tensor) -> ContextCurve:
    nll = losses.mean(0).tolist()
    errors = (losses - losses[:, -1:]).std(0) / len(losses) ** 0.5
    return ContextCurve(lengths, nll, errors.tolist(), effective_context(lengths, nll))


def _replacement(lags: Sequence[int], kl: Tensor, rise: Tensor) -> ReplacementCurve:
    divergence = kl.mean(0).tolist()
    return ReplacementCurve(list(lags), divergence, rise.mean(0).tolist(), horizon(lags, divergence))
