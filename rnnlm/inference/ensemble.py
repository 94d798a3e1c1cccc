"""Several models of the same tokens as one: the mean of their probabilities, and n-grams mixed in.

p(w | h) = (1 - ngram_weight) mean over networks of p_k(w | h)  +  ngram_weight p_ngram(w | h)
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rnnlm.checkpoint import Checkpoint
from rnnlm.errors import ConfigError
from rnnlm.inference.packed import Report, ignore
from rnnlm.inference.precision import Products
from rnnlm.inference.score import Scorer, Scores
from rnnlm.inference.stream.cache import CacheConfig
from rnnlm.ngram.mixture import interpolate
from rnnlm.ngram.store import StoredNGram

Logprobs = npt.NDArray[np.float64]


class EnsembleScorer:
    """Scores documents as `Scorer` does, with networks that vote and perhaps an n-gram model."""

    def __init__(
        self,
        checkpoints: Sequence[Checkpoint],
        *,
        cache: CacheConfig | None = None,
        ngram: StoredNGram | None = None,
        ngram_weight: float = 0.1,
        products: Products | None = None,
    ) -> None:
        check_same_tokenizer(checkpoints, ngram)
        self.tokenizer = checkpoints[0].tokenizer
        self._scorers = [Scorer(checkpoint, cache=cache, products=products) for checkpoint in checkpoints]
        self._ngram, self._ngram_weight = ngram, ngram_weight

    def score_texts(self, texts: Sequence[str], *, keep_tokens: bool = False, report: Report = ignore) -> Scores:
        """Scores of texts, in their order."""
        documents = self.tokenizer.encode(texts)
        each, count = [], len(self._scorers)
        for number, scorer in enumerate(self._scorers):
            scores = scorer.score_tokens(documents, keep_tokens=True, report=_behind(report, number, count))
            assert scores.token_logprobs is not None
            each.append(np.concatenate([np.zeros(0), *scores.token_logprobs]))
        found = ensemble(each)
        if self._ngram is not None:
            partner = np.concatenate([np.zeros(0), *self._ngram.model.logprobs(documents)])
            found = interpolate(found, partner, self._ngram_weight)
        lengths = np.array([len(document) + 1 for document in documents], dtype=np.int64)
        parts = np.split(found, np.cumsum(lengths))[:-1]
        logprob = np.array([part.sum() for part in parts], dtype=np.float64)
        tokens = [part.astype(np.float32) for part in parts] if keep_tokens else None
        return Scores(logprob, lengths.astype(np.int32), tokens)


def _behind(report: Report, done: int, count: int) -> Report:
    """Tells the share of one model's work as that of all `count` models, `done` of which are."""
    return lambda share: report((done + share) / count)


def ensemble(each: Sequence[Logprobs], weights: Sequence[float] | None = None) -> Logprobs:
    """Log of the mean probability of several models; `weights` add up to 1, None weighs all alike."""
    shares = [1.0 / len(each)] * len(each) if weights is None else list(weights)
    if len(shares) != len(each) or not math.isclose(sum(shares), 1.0, abs_tol=1e-6) or min(shares) < 0.0:
        raise ConfigError(f"ensemble: {len(each)} models need as many weights that add up to 1, not {shares}")
    with np.errstate(divide="ignore"):
        parts = np.stack([one + np.log(share) for one, share in zip(each, shares, strict=True)])
    voted: Logprobs = np.logaddexp.reduce(parts, axis=0)
    return voted


def check_same_tokenizer(checkpoints: Sequence[Checkpoint], ngram: StoredNGram | None = None) -> None:
    """Raise ConfigError unless all predict the same tokens."""
    first, *others = checkpoints
    for other in others:
        if other.tokenizer.fingerprint != first.tokenizer.fingerprint:
            raise ConfigError(
                f"ensemble: {other.location.uri} has tokenizer {other.tokenizer.fingerprint[:12]}, "
                f"{first.location.uri} has {first.tokenizer.fingerprint[:12]}; models vote on the same tokens only"
            )
    if ngram is not None and ngram.tokenizer.fingerprint != first.tokenizer.fingerprint:
        raise ConfigError(
            f"ngram: it has tokenizer {ngram.tokenizer.fingerprint[:12]}, {first.location.uri} has "
            f"{first.tokenizer.fingerprint[:12]}; train it on the same token tables"
        )
