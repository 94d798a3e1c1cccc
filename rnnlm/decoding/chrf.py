"""chrF (Popović 2015) of all pairs of some texts: the score of `sacrebleu.CHRF()` for sentences, for many at once.

Characters without white space, n-grams of 1 to 6; precision and recall are means over the orders that both texts have,
and recall counts twice as much (beta = 2).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

ORDERS = 6
BETA_SQUARED = 4.0


def chrf_of_pairs(texts: Sequence[str]) -> npt.NDArray[np.float64]:
    """N x N, 0 to 1: text i as a hypothesis for the reference text j."""
    codes = [np.frombuffer("".join(text.split()).encode("utf-32-le"), dtype=np.uint32) for text in texts]
    count = len(texts)
    precision, recall, orders = (np.zeros((count, count)) for _ in range(3))
    for numbers in _ngrams(codes):
        counts, sizes = _counts(numbers)
        common = np.array([np.minimum(one, counts).sum(1) for one in counts], dtype=np.float64)
        both = (sizes[:, None] > 0) & (sizes[None, :] > 0)
        precision += np.where(both, common / np.maximum(sizes, 1)[:, None], 0.0)
        recall += np.where(both, common / np.maximum(sizes, 1)[None, :], 0.0)
        orders += both
    precision, recall = precision / np.maximum(orders, 1), recall / np.maximum(orders, 1)
    weighted = BETA_SQUARED * precision + recall
    return (1 + BETA_SQUARED) * precision * recall / np.where(weighted > 0, weighted, 1.0)


def _ngrams(codes: Sequence[npt.NDArray[np.uint32]]) -> list[list[npt.NDArray[np.int64]]]:
    """For each order the n-grams of each text as numbers, equal where the n-grams are. An n-gram is the pair of an
    (n-1)-gram and a character."""
    lengths = np.array([len(one) for one in codes])
    single = np.unique(np.concatenate(codes), return_inverse=True)[1].astype(np.int64)
    characters = np.split(single, np.cumsum(lengths)[:-1])
    base = int(single.max(initial=0)) + 1
    found, current = [characters], characters
    for n in range(2, ORDERS + 1):
        pairs = [one[:-1] * base + letters[n - 1 :] for one, letters in zip(current, characters, strict=True)]
        numbers = np.unique(np.concatenate(pairs), return_inverse=True)[1].astype(np.int64)
        current = np.split(numbers, np.cumsum([len(one) for one in pairs])[:-1])
        found.append(current)
    return found


def _counts(numbers: Sequence[npt.NDArray[np.int64]]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """How often each n-gram is in each text, and how many there are."""
    width = max((int(one.max(initial=-1)) for one in numbers), default=-1) + 1
    counts = np.stack([np.bincount(one, minlength=width) for one in numbers]).astype(np.int32)
    return counts, np.array([len(one) for one in numbers])
