"""Counting n-grams by sorting: no object of Python's a token or an n-gram.

Each document is framed `bos w1 ... wn eos`. An m-gram's id is its place among the sorted keys of its order; its key is

    key(w1 ... wm) = id(w1 ... w(m-1)) * B + wm          B = V + 1, since bos has an id of its own, V

so a key fits into 64 bits whatever the order, and `key // B` is the id of the context. A token is the id of itself.

The counts are the adjusted ones of Kneser-Ney smoothing (Heafield et al. 2013, "Scalable Modified Kneser-Ney Language
Model Estimation", section 3.2). With c for occurrences:

    a(w1 ... wm) = c(w1 ... wm)                              if m is the highest order, or w1 is bos
                 = |{v : c(v w1 ... wm) > 0}|                otherwise; v may be bos

A tokenizer may use one sign for bos and eos; here they are two: bos stands only first and eos is only predicted.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rnnlm.data.tokens import TokenTable

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Framed:
    """Documents end to end. `room[j]` is how many positions are left in j's document, j included."""

    tokens: Numbers
    room: Numbers

    def starts(self, length: int) -> Numbers:
        """Where an n-gram of so many tokens begins."""
        return np.flatnonzero(self.room >= length)


@dataclass(frozen=True)
class Order:
    """The distinct n-grams of one order: sorted keys, and the adjusted count of each."""

    keys: Numbers
    counts: Numbers


def find(among: Numbers, keys: Numbers) -> Numbers:
    """The place of each key among sorted ones, -1 for what is not there."""
    if not len(among):
        return np.full(len(keys), -1)
    place = np.minimum(np.searchsorted(among, keys), len(among) - 1)
    return np.where(among[place] == keys, place, -1)


def frame(table: TokenTable, *, bos: int, eos: int) -> Framed:
    """All documents of a table with bos before and eos behind."""
    lengths = np.diff(table.offsets) + 2
    ends = np.cumsum(lengths)
    tokens = np.empty(int(ends[-1]) if len(ends) else 0, dtype=np.int64)
    body = np.ones(len(tokens), dtype=bool)
    body[ends - lengths] = body[ends - 1] = False
    tokens[ends - lengths] = bos
    tokens[ends - 1] = eos
    tokens[body] = table.tokens[table.offsets[0] : table.offsets[-1]]
    return Framed(tokens, np.repeat(ends, lengths) - np.arange(len(tokens)))


def count_orders(table: TokenTable, *, order: int, vocab_size: int, eos: int) -> list[Order]:
    """Adjusted counts of order 1 (every id, bos with 0, seen or not) up to `order`."""
    base = vocab_size + 1
    framed = frame(table, bos=vocab_size, eos=eos)
    ids = framed.tokens
    keys = np.arange(base)
    counts = np.bincount(ids, minlength=base)  # occurrences, of which all but those that begin with bos are replaced
    counts[vocab_size] = 0  # bos is never predicted
    begins = keys == vocab_size
    orders = []
    for length in range(2, order + 1):
        assert len(keys) < (1 << 63) // base
        starts = framed.starts(length)
        longer = ids[starts] * base + framed.tokens[starts + length - 1]
        longer_keys, first, inverse, occurrences = np.unique(
            longer, return_index=True, return_inverse=True, return_counts=True
        )
        # Each distinct n-gram is one more left context of what remains without its first token.
        contexts = np.bincount(ids[starts[first] + 1], minlength=len(keys))
        orders.append(Order(keys, np.where(begins, counts, contexts)))
        ids = np.full(len(framed.tokens), -1)
        ids[starts] = inverse
        keys, counts, begins = longer_keys, occurrences, framed.tokens[starts[first]] == vocab_size
    return [*orders, Order(keys, counts)]
