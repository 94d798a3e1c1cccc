"""Maps of words: principal components of known clouds, the right words, and pages that hold them."""

import json

import numpy as np
import pytest

from rnnlm.errors import DataError
from rnnlm.storage import open_location
from rnnlm.vectors.map_page import write_map
from rnnlm.vectors.word_map import map_words, principal_components
from rnnlm.vectors.words import WordEmbeddings
from tests.corpora import save_tiny, token_table

TEXTS = ["the cat sat on the mat . the dog"] * 3


def test_a_flat_cloud_is_laid_out_as_it_is():
    random = np.random.default_rng(2)
    flat = random.normal(size=(40, 2)) * [3.0, 1.0]
    turned, _ = np.linalg.qr(random.normal(size=(5, 5)))
    places, shares = principal_components(flat @ turned[:2] + 7.0)
    assert shares.sum() == pytest.approx(1.0)
    assert shares[0] > shares[1]
    distances = [np.linalg.norm(cloud[:, None] - cloud[None], axis=2) for cloud in (flat, places)]
    np.testing.assert_allclose(*distances, atol=1e-12)
    mirrored, _ = principal_components(flat @ turned[:2] + 3.0)
    np.testing.assert_allclose(mirrored, places, atol=1e-12)


def test_the_most_frequent_words_are_mapped_with_counts_and_lengths(tmp_path):
    embeddings = WordEmbeddings(save_tiny(tmp_path / "c"))
    found = map_words(embeddings, token_table(TEXTS), 4)
    assert (found.words[0], found.counts) == ("the", [9, 3, 3, 3])
    tokens = [embeddings.tokens[word] for word in found.words]
    assert tokens[1:] == sorted(tokens[1:])
    assert found.lengths == pytest.approx(np.linalg.norm(embeddings.matrix[tokens], axis=1))
    write_map(found, "Words & <tags>", "a/model", open_location(str(tmp_path / "map")))
    page = (tmp_path / "map/map.html").read_text()
    assert "Words &amp; &lt;tags&gt;" in page
    assert page.count("<svg") == 4
    assert json.loads((tmp_path / "map/map.json").read_text())["words"] == found.words


def test_what_makes_no_map_is_refused(tmp_path):
    embeddings = WordEmbeddings(save_tiny(tmp_path / "c"))
    with pytest.raises(DataError, match="tokens: the table holds 2 of the model's words"):
        map_words(embeddings, token_table(["the cat"]), 10)
    embeddings.matrix[:] = 1.0
    with pytest.raises(DataError, match="all words have one and the same vector"):
        map_words(embeddings, token_table(TEXTS), 10)
    with pytest.raises(DataError, match="vectors of one number"):
        principal_components(np.ones((4, 1)))
