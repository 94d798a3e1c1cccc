"""Analogies between words by their vectors: a is to b as c is to which word? (Mikolov, Yih & Zweig 2013, "Linguistic
regularities in continuous space word representations", section 4; Levy & Goldberg 2014 call it 3CosAdd.)

    answer = argmax over d of cos(d, b - a + c)        a, b, c at length 1, and none of them an answer
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rnnlm.errors import DataError
from rnnlm.vectors.columns import with_direction
from rnnlm.vectors.words import Ranked, WordEmbeddings


class Analogy(NamedTuple):
    """a is to b as c is to the answers, the best first, each with its cosine to b - a + c."""

    a: str
    b: str
    c: str
    answers: Ranked


def solve_analogies(
    embeddings: WordEmbeddings, triples: Sequence[Sequence[str]], k: int, *, min_cosine: float = -1.0
) -> list[Analogy]:
    """The k best answers to each [a, b, c]. Raises DataError if a word is not in the vocabulary or has no direction, or
    if b - a + c has none."""
    found = []
    for a, b, c in triples:
        given = embeddings.directions([a, b, c], "analogies")
        unit = given.values / given.lengths[:, None]
        queries = with_direction((unit[1] - unit[0] + unit[2])[None], np.array([-1])).vectors
        if not len(queries.rows):
            raise DataError(f"analogies: '{b}' - '{a}' + '{c}' is zero", todo="leave the analogy out")
        words = {word for word, token in embeddings.tokens.items() if token in given.rows}
        (ranked,) = embeddings.nearest(queries, k + len(words), min_cosine=min_cosine)
        found.append(Analogy(a, b, c, [one for one in ranked if one[0] not in words][:k]))
    return found
