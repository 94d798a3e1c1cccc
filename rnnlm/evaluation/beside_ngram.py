"""A network beside an n-gram model on the same targets: where each is better, and what their mixture gains.

What is said of neural language models against n-grams (Bengio et al. 2003, "A Neural Probabilistic Language Model";
Mikolov et al. 2010, "Recurrent neural network based language model"; Jozefowicz et al. 2016, "Exploring the Limits of
Language Modeling") is tested by splitting targets:

    by the longest n-gram of the model that ends at the target: what was never seen needs no smoothing in a network
    for each k, by whether the k-gram at the target (from the beginning of the document where that is nearer) was seen
    by how often the target occurred in training: words are known by what they resemble

Mixtures are linear (Jelinek & Mercer 1980; Neubig & Dyer 2016, "Generalizing and Hybridizing Count-based and Neural
Language Models"). Intervals hold 95 % of the draws of a bootstrap over documents, since neighbouring targets depend on
one another (Efron & Tibshirani 1993). All losses are nats a target.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rnnlm.data.tokens import TokenTable
from rnnlm.evaluation.significance import draw_sums
from rnnlm.ngram.backoff import BackoffModel
from rnnlm.ngram.mixture import fit_weight, interpolate
from rnnlm.ngram.model import NGramModel

WEIGHTS = np.linspace(0.0, 1.0, 41)
FREQUENCIES = (0, 1, 10, 100, 1_000, 10_000)  # the least of each class
MIN_DOCUMENTS = 20  # fewer say nothing of other documents
DRAWS = 1000

Logprobs = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Group:
    """Targets that share something. A loss is None if there is no target, or if one was held for impossible; `gain` is
    that of the n-gram model minus that of the network, with the bounds of its interval."""

    name: str
    targets: int
    share: float
    network: float | None
    ngram: float | None
    mixture: float | None
    gain: float | None
    gain_interval: tuple[float, float] | None


@dataclass(frozen=True)
class Curve:
    """Nats a target of the mixture by the n-gram model's weight, and the weight at which they are fewest."""

    weights: list[float]
    nll: list[float | None]
    best_weight: float
    best_nll: float


@dataclass(frozen=True)
class BesideNGram:
    """`seen` has for each k from 1 to the order the targets whose k-gram was seen, and those whose was not."""

    order: int
    weight: float
    total: Group
    by_longest: list[Group]
    seen: list[tuple[Group, Group]]
    by_frequency: list[Group]  # empty where the model has no counts
    curve: Curve
    held_out: Curve | None

    def figures(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def beside_ngram(
    network: Logprobs, model: BackoffModel, table: TokenTable, weight: float, held_out: Curve | None
) -> tuple[BesideNGram, npt.NDArray[np.float64]]:
    """The comparison on a table of which the network has `network` for each target, and the mixture with that weight.

    `held_out` is the curve of the table on which the weight was fitted.
    """
    found = model.look_up(table)
    mixture = interpolate(network, found.logprobs, weight)
    targets, places, documents = _targets(table, model.eos_id)
    losses = -np.stack([network, found.logprobs, mixture])
    split = _Split(losses, documents, table.num_documents)
    result = BesideNGram(
        order=model.order,
        weight=weight,
        total=split.groups({"all": np.ones(len(targets), dtype=bool)})[0],
        by_longest=split.groups({_longest(k): found.lengths == k for k in range(model.order + 1)}),
        seen=_seen(split, found.lengths, places, model.order),
        by_frequency=_by_frequency(split, model.occurrences()[targets]) if isinstance(model, NGramModel) else [],
        curve=measure_curve(network, found.logprobs),
        held_out=held_out,
    )
    return result, mixture


def measure_curve(network: Logprobs, ngram: Logprobs) -> Curve:
    """The mixture of two models of the same targets at every weight."""
    nll = [_finite(-interpolate(network, ngram, float(weight)).mean()) for weight in WEIGHTS]
    best = fit_weight(network, ngram)
    return Curve(WEIGHTS.tolist(), nll, best, -float(interpolate(network, ngram, best).mean()))


def _targets(table: TokenTable, eos: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Of each target its token, its place in its document counted from bos, itself included, and its document."""
    lengths = np.diff(table.offsets) + 1
    ends = np.cumsum(lengths)
    tokens = np.full(int(lengths.sum()), eos, dtype=np.int64)
    inside = np.ones(len(tokens), dtype=bool)
    inside[ends - 1] = False
    tokens[inside] = table.tokens[table.offsets[0] : table.offsets[-1]]
    places = np.arange(len(tokens)) - np.repeat(ends - lengths, lengths) + 2
    return tokens, places, np.repeat(np.arange(len(lengths)), lengths)


def _longest(length: int) -> str:
    return "never seen" if length == 0 else f"{length} token{'s' if length > 1 else ''}"


def _seen(
    split: "_Split", lengths: npt.NDArray[np.int16], places: npt.NDArray[np.int64], order: int
) -> list[tuple[Group, Group]]:
    masks: dict[str, npt.NDArray[np.bool_]] = {}
    for k in range(1, order + 1):
        seen = lengths >= np.minimum(k, places)
        masks |= {f"{k}-gram seen": seen, f"{k}-gram not seen": ~seen}
    groups = split.groups(masks)
    return list(zip(groups[::2], groups[1::2], strict=True))


def _by_frequency(split: "_Split", occurrences: npt.NDArray[np.int64]) -> list[Group]:
    ends: Sequence[float] = (*FREQUENCIES[1:], math.inf)
    return split.groups(
        {
            _class_name(least, end): (occurrences >= least) & (occurrences < end)
            for least, end in zip(FREQUENCIES, ends, strict=True)
        }
    )


def _class_name(least: int, end: float) -> str:
    if end == math.inf:
        return f"{least:,} or more"
    return f"{least:,}" if end == least + 1 else f"{least:,} to {int(end) - 1:,}"


class _Split:
    """Targets with their losses (3 x N: network, n-grams, mixture) and documents, to be divided into groups."""

    def __init__(self, losses: npt.NDArray[np.float64], documents: npt.NDArray[np.int64], num_documents: int) -> None:
        self._losses, self._documents, self._num_documents = losses, documents, num_documents

    def groups(self, masks: dict[str, npt.NDArray[np.bool_]]) -> list[Group]:
        """One for each mask over targets."""
        intervals = self._intervals(list(masks.values()))
        found = []
        for (name, mask), interval in zip(masks.items(), intervals, strict=True):
            targets = int(mask.sum())
            network, ngram, mixture = map(_finite, self._losses[:, mask].mean(axis=1) if targets else [math.inf] * 3)
            gain = None if network is None or ngram is None else ngram - network
            found.append(Group(name, targets, targets / len(mask), network, ngram, mixture, gain, interval))
        return found

    def _intervals(self, masks: list[npt.NDArray[np.bool_]]) -> list[tuple[float, float] | None]:
        gains = self._losses[1] - self._losses[0]
        if self._num_documents < MIN_DOCUMENTS or not np.isfinite(gains).all():
            return [None] * len(masks)
        sums = []
        for mask in masks:
            sums += [self._by_document(mask, gains), self._by_document(mask, np.ones_like(gains))]
        drawn = draw_sums(np.stack(sums), DRAWS).reshape(DRAWS, len(masks), 2)
        return [_interval(drawn[:, number, 0], drawn[:, number, 1]) for number in range(len(masks))]

    def _by_document(self, mask: npt.NDArray[np.bool_], values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        weights = np.where(mask, values, 0.0)
        return np.bincount(self._documents, weights, minlength=self._num_documents).astype(np.float64)


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _interval(sums: npt.NDArray[np.float64], counts: npt.NDArray[np.float64]) -> tuple[float, float] | None:
    """Of the draws that have a target of the group at all."""
    drawn = counts > 0
    if not drawn.any():
        return None
    low, high = np.quantile(sums[drawn] / counts[drawn], [0.025, 0.975])
    return float(low), float(high)
