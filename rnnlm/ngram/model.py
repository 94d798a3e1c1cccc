"""Interpolated modified Kneser-Ney smoothing (Chen & Goodman 1998), as KenLM estimates it (Heafield et al. 2013).

With a the adjusted counts (`counts.py`), D the discounts of their order (`discounts.py`), h = w1 ... w(m-1) a history,
h' = w2 ... w(m-1) and V the size of the vocabulary:

    p(w | h) = (a(h w) - D(a(h w))) / sum_x a(h x)  +  b(h) p(w | h')
    b(h)     = sum_x D(a(h x)) / sum_x a(h x)                             1 if h was never seen
    p(w)     = (a(w) - D(a(w))) / sum_x a(x)  +  b() / (V - 1 if bos is a token of its own, else V)

Every p(. | h) adds up to one over all tokens that can be predicted: everything but a bos that is not eos.

Both cases together are a model that backs off (`backoff.py`), whose p(h w) are all that is above for listed n-grams.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rnnlm.ngram.backoff import BackoffModel, Level
from rnnlm.ngram.counts import Numbers, Order, find
from rnnlm.ngram.discounts import Discounts


class NGramModel(BackoffModel):
    """Counts and discounts of order 1 upwards, and what follows from them."""

    def __init__(
        self, orders: Sequence[Order], discounts: Sequence[Discounts], *, vocab_size: int, bos_id: int, eos_id: int
    ) -> None:
        assert len(orders) == len(discounts) > 0
        assert len(orders[0].keys) == vocab_size + 1
        self.orders, self.discounts = tuple(orders), tuple(discounts)
        can_follow = np.ones(vocab_size + 1, dtype=bool)
        can_follow[vocab_size] = False
        can_follow[bos_id] = bos_id == eos_id
        levels = _levels(orders, discounts, can_follow)
        super().__init__(levels, vocab_size=vocab_size, bos_id=bos_id, eos_id=eos_id)

    @property
    def seen_tokens(self) -> npt.NDArray[np.bool_]:
        return self.orders[0].counts[: self.vocab_size] > 0

    def occurrences(self) -> Numbers:
        """(V,): how often each token was a target in training. Adjusted counts are true ones in the highest order and
        where an n-gram begins with bos; each target ends just one such n-gram."""
        base = self.vocab_size + 1
        total, begins = np.zeros(base), np.arange(base) == self.vocab_size
        for length, one in enumerate(self.orders, start=1):
            if length > 1:
                begins = begins[one.keys // base]
            true = one.counts * (begins if length < self.order else 1)
            total += np.bincount(one.keys % base, weights=true, minlength=base)
        return total[: self.vocab_size].astype(np.int64)


def _levels(orders: Sequence[Order], discounts: Sequence[Discounts], can_follow: npt.NDArray[np.bool_]) -> list[Level]:
    """From the shortest n-grams to the longest: p(h w) of each that was seen, b(h) of each as a history."""
    base = len(can_follow)
    levels = []
    own, backoff = _smooth(orders[0], discounts[0], np.zeros(base, dtype=np.int64), 1)
    probabilities = own + backoff[0] * can_follow / can_follow.sum()
    suffixes = np.zeros(base, dtype=np.int64)  # by n-gram, the id of what remains without its first token
    with np.errstate(divide="ignore"):  # a bos that is not eos has probability 0
        for shorter, ngrams, taken in zip(orders, orders[1:], discounts[1:], strict=False):
            contexts, tokens = np.divmod(ngrams.keys, base)
            suffixes = find(shorter.keys, suffixes[contexts] * base + tokens)
            own, backoff = _smooth(ngrams, taken, contexts, len(shorter.keys))
            levels.append(Level(shorter.keys, np.log(probabilities), np.log(backoff)))
            probabilities = own + backoff[contexts] * probabilities[suffixes]
        return [*levels, Level(orders[-1].keys, np.log(probabilities), np.zeros(0))]


def _smooth(
    ngrams: Order, discounts: Discounts, contexts: Numbers, num_contexts: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """By n-gram its own share of the probability, by context the share that the shorter history gets. `contexts` has
    the id of each n-gram's context."""
    taken = discounts.of(ngrams.counts)
    total = np.bincount(contexts, weights=ngrams.counts, minlength=num_contexts)
    given = np.bincount(contexts, weights=taken, minlength=num_contexts)
    backoff = np.divide(given, total, out=np.ones(num_contexts), where=total > 0)
    return (ngrams.counts - taken) / np.maximum(total, 1.0)[contexts], backoff
