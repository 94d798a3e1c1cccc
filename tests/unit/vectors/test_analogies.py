"""Analogies by 3CosAdd, against every word in turn, and over vectors whose answer is known."""

import numpy as np
import pytest

from rnnlm.errors import DataError
from rnnlm.vectors.analogies import solve_analogies
from rnnlm.vectors.words import WordEmbeddings
from tests.corpora import save_tiny


@pytest.fixture
def embeddings(tmp_path):
    return WordEmbeddings(save_tiny(tmp_path / "c"))


def test_answers_are_those_of_trying_every_word(embeddings):
    unit = embeddings.matrix / np.linalg.norm(embeddings.matrix.astype(np.float64), axis=1, keepdims=True)
    triples = [["cat", "dog", "mat"], ["on", "under", "the"], ["cat", "cat", "dog"]]
    for triple, found in zip(triples, solve_analogies(embeddings, triples, 4), strict=True):
        a, b, c = (embeddings.tokens[word] for word in triple)
        query = unit[b] - unit[a] + unit[c]
        cosines = {word: unit[token] @ query / np.linalg.norm(query) for word, token in embeddings.tokens.items()}
        expected = sorted((word for word in cosines if word not in triple), key=lambda word: -cosines[word])[:4]
        assert [word for word, _ in found.answers] == expected
        assert [cosine for _, cosine in found.answers] == pytest.approx([cosines[word] for word in expected], abs=1e-6)
        assert list(found[:3]) == triple


def test_a_parallelogram_is_completed_whatever_the_lengths(embeddings):
    directions = {"cat": [1, 0, 1], "dog": [0, 1, 1], "mat": [1, 0, -1], "tree": [0, 1, -1]}
    embeddings.matrix[:, :] = 0.0
    embeddings.matrix[:, 3:] = 0.1
    for length, (word, direction) in enumerate(directions.items(), 1):
        embeddings.matrix[embeddings.tokens[word]] = length * np.array([*direction, *[0.0] * 5])
    (found,) = solve_analogies(embeddings, [["cat", "dog", "mat"]], 1)
    assert found.answers == [("tree", pytest.approx(1.0))]
    (found,) = solve_analogies(embeddings, [["cat", "dog", "mat"]], 5, min_cosine=0.9)
    assert [word for word, _ in found.answers] == ["tree"]


def test_what_cannot_be_solved_is_refused(embeddings):
    with pytest.raises(DataError, match="analogies: 'zzz' is none of the 13 words"):
        solve_analogies(embeddings, [["cat", "zzz", "dog"]], 1)
    embeddings.matrix[embeddings.tokens["mat"]] = 0.0
    with pytest.raises(DataError, match="analogies: the vector of 'mat' is zero"):
        solve_analogies(embeddings, [["cat", "mat", "dog"]], 1)
    # dog + tree = cat, without rounding.
    for word, direction in {"cat": [0, 0, 0, 1], "dog": [0.5] * 4, "tree": [-0.5, -0.5, -0.5, 0.5]}.items():
        embeddings.matrix[embeddings.tokens[word]] = [*direction, *[0.0] * 4]
    with pytest.raises(DataError, match=r"'dog' - 'cat' \+ 'tree' is zero"):
        solve_analogies(embeddings, [["cat", "dog", "tree"]], 1)
