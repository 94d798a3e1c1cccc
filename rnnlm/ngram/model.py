"""Interpolated modified Kneser-Ney smoothing (Chen & Goodman 1998), as KenLM estimates it (Heafield et al. 2013).

With a the adjusted counts (`counts.py`), D the discounts of their order (`discounts.py`), h = w1 ... w(m-1) a history,
h' = w2 ... w(m-1) and V the size of the vocabulary:

    p(w | h) = (a(h w) - D(a(h w))) / sum_x a(h x)  +  b(h) p(w | h')
    b(h)     = sum_x D(a(h x)) / sum_x a(h x)                             1 if h was never seen
    p(w)     = (a(w) - D(a(w))) / sum_x a(x)  +  b() / (V - 1 if bos is a token of its own, else V)

Every p(. | h) adds up to one over all tokens that can be predicted: everything but a bos that is not eos.
The targets are those of the networks: each token of a document and its end, given bos and all tokens before, of which
the last `order` - 1 count. Nothing is carried from document to document.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rnnlm.data.tokens import TokenTable
from rnnlm.ngram.counts import Framed, Numbers, Order, frame
from rnnlm.ngram.discounts import Discounts

QUERY_TOKENS = 1 << 20  # looked up at a time; bounds memory

Logprobs = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Smoothed:
    """One order ready for queries: by n-gram id its own share of the probability, and by id of a context (one order
    below) the share that the shorter history gets."""

    ngrams: Order
    own: npt.NDArray[np.float64]
    backoff: npt.NDArray[np.float64]


class NGramModel:
    """Counts and discounts of order 1 upwards, and what follows from them; float64 throughout."""

    def __init__(
        self, orders: Sequence[Order], discounts: Sequence[Discounts], *, vocab_size: int, bos_id: int, eos_id: int
    ) -> None:
        assert len(orders) == len(discounts) > 0
        assert len(orders[0].keys) == vocab_size + 1
        self.orders, self.discounts = tuple(orders), tuple(discounts)
        self.vocab_size, self.bos_id, self.eos_id = vocab_size, bos_id, eos_id
        sizes = [1, *(len(one.keys) for one in orders)]
        every_context = [
            np.zeros(vocab_size + 1, dtype=np.int64),
            *(one.keys // (vocab_size + 1) for one in orders[1:]),
        ]
        self._smoothed = [
            _smooth(ngrams, found, contexts, size)
            for ngrams, found, contexts, size in zip(orders, discounts, every_context, sizes, strict=False)
        ]
        lowest = self._smoothed[0]
        can_follow = np.ones(vocab_size + 1, dtype=bool)
        can_follow[vocab_size] = False
        can_follow[bos_id] = bos_id == eos_id
        self._unigram = lowest.own + np.where(can_follow, lowest.backoff[0] / can_follow.sum(), 0.0)

    @property
    def order(self) -> int:
        return len(self.orders)

    @property
    def num_ngrams(self) -> list[int]:
        """How many distinct n-grams of each order were seen."""
        return [int((one.counts > 0).sum()) for one in self.orders]

    def logprobs(self, documents: Sequence[npt.NDArray[np.integer]]) -> list[Logprobs]:
        """For each document (without bos and eos) the natural log-probability of each token, then of its end."""
        table = TokenTable.from_documents(documents)
        ends = np.cumsum(np.diff(table.offsets) + 1)
        return np.split(self.table_logprobs(table), ends)[:-1]

    def table_logprobs(self, table: TokenTable) -> Logprobs:
        """The same for all documents of a token table end to end, one number a target."""
        found, begin = [np.zeros(0)], 0
        while begin < table.num_documents:
            limit = int(np.searchsorted(table.offsets, table.offsets[begin] + QUERY_TOKENS, side="right")) - 1
            end = min(max(limit, begin + 1), table.num_documents)
            block = TokenTable(table.tokens, table.offsets[begin : end + 1], 0)
            framed = frame(block, bos=self.vocab_size, eos=self.eos_id)
            with np.errstate(divide="ignore"):  # a bos that is not eos has probability 0
                found.append(np.log(self._probabilities(framed)[framed.tokens != self.vocab_size]))
            begin = end
        return np.concatenate(found)

    def _probabilities(self, framed: Framed) -> npt.NDArray[np.float64]:
        """Of the token at each position, given those before it; from the shortest history to the longest."""
        probability = self._unigram[framed.tokens]
        ids = framed.tokens  # of the n-gram that begins at each position; -1 if it was never seen
        for length, one in enumerate(self._smoothed[1:], start=2):
            starts = framed.starts(length)
            starts = starts[ids[starts] >= 0]
            targets = starts + length - 1
            contexts = ids[starts]
            place = one.ngrams.find(contexts * (self.vocab_size + 1) + framed.tokens[targets])
            probability[targets] *= one.backoff[contexts]
            seen = place >= 0
            probability[targets[seen]] += one.own[place[seen]]
            ids = np.full(len(framed.tokens), -1)
            ids[starts] = place
        return probability


def _smooth(ngrams: Order, discounts: Discounts, contexts: Numbers, num_contexts: int) -> Smoothed:
    """`contexts` has the id of each n-gram's context."""
    taken = discounts.of(ngrams.counts)
    total = np.bincount(contexts, weights=ngrams.counts, minlength=num_contexts)
    given = np.bincount(contexts, weights=taken, minlength=num_contexts)
    backoff = np.divide(given, total, out=np.ones(num_contexts), where=total > 0)
    return Smoothed(ngrams, (ngrams.counts - taken) / np.maximum(total, 1.0)[contexts], backoff)
