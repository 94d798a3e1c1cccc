"""From which probability on something is given, so that F1 on held-out data is highest (Lipton, Elkan &
Naryanaswamy 2014 say what that costs: for a class that is hard to tell it is far below one half, and gives it often).

    F1(t) = 2 |given and right| / (|given| + |right|)        given: what is at least as probable as t
"""

import numpy as np
import numpy.typing as npt

USUAL = 0.5


def best_threshold(
    probabilities: npt.NDArray[np.float64], right: npt.NDArray[np.bool_], num_right: int, *, floor: float = 0.0
) -> float:
    """Of candidates that are `right` or not; `num_right` counts also what is no candidate and so can never be given.
    All candidates are more probable than `floor`.

    It lies half way between two probabilities; of equals it is the highest. USUAL where F1 is 0 in any case.
    """
    order = np.argsort(-probabilities, kind="stable")
    ranked, hits = probabilities[order], np.cumsum(right[order])
    below = np.append(ranked[1:], floor)  # the next lower candidate, which is not to be given
    f1 = 2.0 * hits / (np.arange(1, len(ranked) + 1) + max(1, num_right))
    f1[ranked == below] = 0.0  # equals are given together
    if not f1.any():
        return USUAL
    best = int(np.argmax(f1))
    return float(ranked[best] + below[best]) / 2.0
