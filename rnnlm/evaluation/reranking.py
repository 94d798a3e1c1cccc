"""The weights with which re-ranked hypotheses come nearest to their references, by a search over a grid."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Tuned:
    """The weights found; `before` and `after` are the mean quality of the first hypotheses, `best` that of the best."""

    lm_weight: float
    length_weight: float
    before: float
    after: float
    best: float


def tune(
    logprob: Floats,
    lm_logprob: Floats,
    num_tokens: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int64],
    quality: Floats,
    *,
    lm_weights: Floats,
    length_weights: Floats,
) -> Tuned:
    """The pair of weights whose first hypotheses have the highest mean `quality`, the smallest weights of equals.

    All arrays have one number a hypothesis; row r has those from `starts[r]` to `starts[r + 1]`.
    """
    sizes = np.diff(starts)
    rows = np.flatnonzero(sizes)
    places = starts[:-1][rows]
    groups = np.repeat(np.arange(len(rows)), sizes[rows])

    def chosen(lm_weight: float, length_weight: float) -> float:
        scores = logprob + lm_weight * lm_logprob + length_weight * num_tokens
        order = np.lexsort((-scores, groups))  # within a row, the best first; equals in their order
        return float(quality[order[places]].mean())

    grid = sorted(((a, b) for a in lm_weights for b in length_weights), key=lambda one: (abs(one[0]), abs(one[1])))
    found = max(grid, key=lambda one: chosen(*one))  # the first of equals
    return Tuned(
        lm_weight=float(found[0]),
        length_weight=float(found[1]),
        before=float(quality[places].mean()),
        after=chosen(*found),
        best=float(np.maximum.reduceat(quality, places).mean()),
    )
