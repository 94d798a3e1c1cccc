"""Words as points in two dimensions: the two directions in which their vectors vary most (principal components).

    C = 1/M sum (x - mean)(x - mean)^T        C u_i = lambda_i u_i        place = ((x - mean) u_1, (x - mean) u_2)

The share lambda_i / trace C says how much of the variation a direction holds; the rest is not on the map.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rnnlm.data.tokens import TokenTable
from rnnlm.errors import DataError
from rnnlm.vectors.words import WordEmbeddings

LEAST_WORDS = 3  # two points are a line


@dataclass(frozen=True)
class WordMap:
    """M words, the most frequent first: how often each occurs, the length of its vector, and its place (M x 2)."""

    words: list[str]
    counts: list[int]
    lengths: list[float]
    places: list[list[float]]
    shares: list[float]  # of the variation, along each axis


def map_words(embeddings: WordEmbeddings, table: TokenTable, most: int) -> WordMap:
    """A map of the `most` most frequent words of a token table; of equal counts the smaller token comes first. Raises
    DataError if there are fewer than three, or all have one vector."""
    words = embeddings.words
    counts = np.bincount(table.tokens, minlength=len(embeddings.matrix))
    tokens = sorted((token for token in words if counts[token]), key=lambda token: (-counts[token], token))[:most]
    if len(tokens) < LEAST_WORDS:
        raise DataError(
            f"tokens: the table holds {len(tokens)} of the model's words, at least {LEAST_WORDS} make a map",
            todo="give a larger table",
        )
    vectors = embeddings.matrix[tokens].astype(np.float64)
    places, shares = principal_components(vectors)
    return WordMap(
        words=[words[token] for token in tokens],
        counts=counts[tokens].tolist(),
        lengths=np.linalg.norm(vectors, axis=1).tolist(),
        places=places.tolist(),
        shares=shares.tolist(),
    )


def principal_components(
    vectors: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Places M x 2, and shares, of vectors M x D. Of each direction the largest element is positive, so that a map is
    not mirrored by chance. Raises DataError if there are no two directions."""
    if vectors.shape[1] < 2:
        raise DataError("checkpoint: vectors of one number have no second direction; there is nothing to map")
    centred = vectors - vectors.mean(0)
    variances, directions = np.linalg.eigh(centred.T @ centred / len(centred))
    if variances[-1] <= 0.0:
        raise DataError("checkpoint: all words have one and the same vector; there is nothing to map")
    two = directions[:, [-1, -2]]
    two = two * np.sign(two[np.abs(two).argmax(0), [0, 1]])
    return centred @ two, variances[[-1, -2]] / variances.sum()
