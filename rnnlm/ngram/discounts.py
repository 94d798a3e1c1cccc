"""How much is taken from counts of 1, 2 and 3 or more: modified Kneser-Ney smoothing.

Chen & Goodman (1998), "An Empirical Study of Smoothing Techniques for Language Modeling" (TR-10-98), equation 26: with
t_k the number of n-grams of an order whose adjusted count is k,

    Y  = t_1 / (t_1 + 2 t_2)
    D1 = 1 - 2 Y t_2 / t_1      D2 = 2 - 3 Y t_3 / t_2      D3+ = 3 - 4 Y t_4 / t_3

These are estimates for text, whose counts fall off smoothly. Where there is too little of it (t_1, t_2 or t_3 is zero)
or it is no text (D_k is not between 0 and k), the discounts of that order are given ones instead, as KenLM's
`--discount_fallback` has them: 0.5, 1 and 1.5. The unigrams of a character model are a common case.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rnnlm.ngram.counts import Numbers


@dataclass(frozen=True)
class Discounts:
    """D1, D2 and D3+ of one order, and whether they were estimated from its counts."""

    values: tuple[float, float, float]
    estimated: bool

    def of(self, counts: Numbers) -> npt.NDArray[np.float64]:
        """What is taken from each count; nothing from zero."""
        return np.array([0.0, *self.values])[np.minimum(counts, 3)]


def estimate_discounts(counts: Numbers, fallback: Sequence[float]) -> Discounts:
    """The discounts of an order with these adjusted counts."""
    t1, t2, t3, t4 = np.bincount(np.minimum(counts, 5), minlength=6)[1:5].tolist()
    if min(t1, t2, t3) > 0:
        share = t1 / (t1 + 2 * t2)
        d1, d2, d3 = 1 - 2 * share * t2 / t1, 2 - 3 * share * t3 / t2, 3 - 4 * share * t4 / t3
        if 0 <= d1 <= 1 and 0 <= d2 <= 2 and 0 <= d3 <= 3:
            return Discounts((d1, d2, d3), estimated=True)
    d1, d2, d3 = fallback
    return Discounts((d1, d2, d3), estimated=False)
