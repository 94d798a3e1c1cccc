"""N-gram models that back off, whatever smoothing made them (Katz 1987): what an ARPA file holds.

With h = w1 ... w(m-1) a history and h' = w2 ... w(m-1):

    p(w | h) = p(h w)                 if the n-gram h w is listed
             = b(h) p(w | h')         otherwise; b is 1 where h is not listed

The targets are those of the networks: each token of a document and its end, given bos and all tokens before, of which
the last `order` - 1 count. Nothing is carried from document to document.

Ids are those of `counts.py`: token ids, V for the beginning of a document; and V + 1, if there is one, for `<unk>`. It
stands for all tokens without a 1-gram, which share its probability equally, so that p(. | h) adds up to one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rnnlm.data.tokens import TokenTable
from rnnlm.ngram.counts import Framed, Numbers, find, frame

QUERY_TOKENS = 1 << 20  # looked up at a time; bounds memory

Logprobs = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Level:
    """The n-grams of one order by id: sorted keys; ln p of the last token, -inf if it is not listed; ln b as a context,
    empty in the highest order. Order 1 has every id."""

    keys: Numbers
    logprobs: Logprobs
    backoffs: Logprobs


@dataclass(frozen=True)
class LookedUp:
    """Of each target of a table: ln p, and the length of the longest n-gram of the model that ends there (0: not even
    the token has been seen)."""

    logprobs: Logprobs
    lengths: npt.NDArray[np.int16]


class BackoffModel:
    """Levels of order 1 upwards; float64 throughout."""

    def __init__(self, levels: Sequence[Level], *, vocab_size: int, bos_id: int, eos_id: int) -> None:
        assert len(levels) > 0
        assert len(levels[0].keys) in {vocab_size + 1, vocab_size + 2}
        self.levels = tuple(levels)
        self.vocab_size, self.bos_id, self.eos_id = vocab_size, bos_id, eos_id
        self._base = len(levels[0].keys)
        self._listed = np.isfinite(levels[0].logprobs[:vocab_size])
        unlisted = ~self._listed
        unlisted[bos_id] &= bos_id == eos_id  # one that is not eos is never predicted
        self.unlisted = np.flatnonzero(unlisted)
        self._read_as = np.arange(vocab_size + 1)
        self._shares = np.zeros(vocab_size + 1)  # ln of a token's share of the probability of what it is read as
        if self._base == vocab_size + 2 and len(self.unlisted):
            self._read_as[self.unlisted] = vocab_size + 1
            self._shares[self.unlisted] = -np.log(len(self.unlisted))

    @property
    def order(self) -> int:
        return len(self.levels)

    @property
    def seen_tokens(self) -> npt.NDArray[np.bool_]:
        """(V,): which tokens the model has met."""
        return self._listed

    @property
    def num_ngrams(self) -> list[int]:
        """How many n-grams of each order were seen."""
        return [int(self.seen_tokens.sum()), *(len(one.keys) for one in self.levels[1:])]

    def logprobs(self, documents: Sequence[npt.NDArray[np.integer]]) -> list[Logprobs]:
        """For each document (without bos and eos) the natural log-probability of each token, then of its end."""
        table = TokenTable.from_documents(documents)
        ends = np.cumsum(np.diff(table.offsets) + 1)
        return np.split(self.table_logprobs(table), ends)[:-1]

    def table_logprobs(self, table: TokenTable) -> Logprobs:
        """The same for all documents of a token table end to end, one number a target."""
        return self.look_up(table).logprobs

    def look_up(self, table: TokenTable) -> LookedUp:
        """The same, and how much of each target and its history the model knows."""
        logprobs, lengths, begin = [np.zeros(0)], [np.zeros(0, dtype=np.int16)], 0
        while begin < table.num_documents:
            limit = int(np.searchsorted(table.offsets, table.offsets[begin] + QUERY_TOKENS, side="right")) - 1
            end = min(max(limit, begin + 1), table.num_documents)
            block = TokenTable(table.tokens, table.offsets[begin : end + 1], 0)
            found = self._look_up(frame(block, bos=self.vocab_size, eos=self.eos_id))
            logprobs.append(found.logprobs)
            lengths.append(found.lengths)
            begin = end
        return LookedUp(np.concatenate(logprobs), np.concatenate(lengths))

    def _look_up(self, framed: Framed) -> LookedUp:
        """From the shortest history to the longest: each that is listed either knows the target or backs off."""
        tokens = self._read_as[framed.tokens]
        logprobs = self.levels[0].logprobs[tokens]
        seen = np.append(self.seen_tokens, False)[framed.tokens]
        lengths = seen.astype(np.int16)
        ids = tokens  # of the n-gram that begins at each position; -1 if it is not listed
        for length, level in enumerate(self.levels[1:], start=2):
            starts = framed.starts(length)
            starts = starts[ids[starts] >= 0]
            targets = starts + length - 1
            contexts = ids[starts]
            place = find(level.keys, contexts * self._base + tokens[targets])
            known = place >= 0
            logprobs[targets] += self.levels[length - 2].backoffs[contexts]
            logprobs[targets[known]] = level.logprobs[place[known]]
            lengths[targets[known & seen[targets]]] = length  # an n-gram of <unk> says nothing of the token
            ids = np.full(len(tokens), -1)
            ids[starts] = place
        is_target = framed.tokens != self.vocab_size
        return LookedUp((logprobs + self._shares[framed.tokens])[is_target], lengths[is_target])
