"""Choosing the values of a continuous cache on held-out text, in one pass over it.

The mixture's likelihood is concave in the weight, which expectation maximisation finds (`rnnlm.ngram.mixture`); so only
the flatness has to be tried, and all tries share one reading of the text.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rnnlm.data.tokens import TokenTable
from rnnlm.inference.stream.cache import Cache, ContinuousCacheConfig
from rnnlm.inference.stream.scorer import WINDOW, Logprobs, StreamScorer, one_lane
from rnnlm.ngram.mixture import fit_weight, interpolate

FLATNESSES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.8)


@dataclass(frozen=True)
class FittedCache:
    """The best values, and the log-probabilities of the text they were found on, without and with the cache."""

    config: ContinuousCacheConfig
    plain: Logprobs
    mixed: Logprobs


def fit_cache(
    scorer: StreamScorer,
    table: TokenTable,
    *,
    size: int,
    flatnesses: Sequence[float] = FLATNESSES,
    on_progress: Callable[[int], None] = lambda done: None,  # noqa: ARG005 - nobody looks
) -> FittedCache:
    """Try each flatness with the weight that suits it best; the model of `scorer` is read as it was trained."""
    caches = [Cache(size, flatness, 0.0) for flatness in flatnesses]
    plain, found = np.empty(table.num_targets), np.empty((len(caches), table.num_targets))
    stream, done = one_lane(table, scorer.tokenizer, WINDOW), 0
    state = scorer.model.initial_state(1)
    for _ in range(stream.steps_per_epoch):
        hidden, targets, state = scorer.read(stream.next(), state, learning=False)
        part = slice(done, done + len(targets))
        plain[part] = scorer.model.softmax.logprobs(hidden, targets).double().cpu().numpy()
        for row, cache in zip(found, caches, strict=True):
            row[part] = cache.look_up(hidden, targets).double().cpu().numpy()
        done += len(targets)
        on_progress(done)
    found = np.where(np.isnan(found), plain, found)  # before anything was kept the model stands alone
    weights = [fit_weight(plain, row) for row in found]
    mixtures = [interpolate(plain, row, weight) for row, weight in zip(found, weights, strict=True)]
    best = int(np.argmax([mixed.sum() for mixed in mixtures]))
    config = ContinuousCacheConfig(size=size, flatness=flatnesses[best], weight=weights[best])
    return FittedCache(config, plain, mixtures[best])
