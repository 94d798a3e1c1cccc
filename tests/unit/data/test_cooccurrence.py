"""Co-occurrence vectors: counts and PPMI against plain loops, singular vectors against a dense decomposition."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rnnlm.data import cooccurrence
from rnnlm.data.cooccurrence import SMOOTHING, cooccurrence_vectors, count_pairs, left_singular, ppmi
from rnnlm.data.tokens import TokenTable

VOCAB, EOS = 12, 0
DOCUMENTS = st.lists(st.lists(st.integers(1, VOCAB - 1), max_size=9), min_size=1, max_size=9)
FLOAT32 = 1e-5


def table_of(documents):
    return TokenTable.from_documents([np.array(document, dtype=np.uint16) for document in documents])


def counted(documents, window):
    """Pairs and counts, plainly."""
    found = Counter()
    for document in documents:
        tokens = [*document, EOS]
        for i, one in enumerate(tokens):
            for distance in range(1, window + 1):
                if i + distance < len(tokens):
                    found[one, tokens[i + distance]] += window - distance + 1
                    found[tokens[i + distance], one] += window - distance + 1
    return found


def found_counts(documents, window):
    pairs, counts = count_pairs(table_of(documents), vocab_size=VOCAB, eos_id=EOS, window=window)
    found = Counter()
    for first, second, count in zip(*pairs.tolist(), counts.tolist(), strict=True):
        found[first, second] += count
    return found


@given(documents=DOCUMENTS, window=st.integers(1, 5))
def test_pairs_within_a_document_are_counted_by_their_distance(documents, window):
    assert found_counts(documents, window) == counted(documents, window)


def test_of_a_large_corpus_evenly_spaced_blocks_are_counted(monkeypatch):
    monkeypatch.setattr(cooccurrence, "MOST_TOKENS", 40)
    monkeypatch.setattr(cooccurrence, "BLOCK", 10)
    documents = [[1 + i % 7] * 9 for i in range(40)]  # with its end, a document is a block
    found = found_counts(documents, 2)
    assert sum(found.values()) == sum(counted(documents[:4], 2).values())
    assert len({first for first, _ in found}) > 3  # not from one place


@given(documents=DOCUMENTS.filter(any))
def test_ppmi_is_as_defined(documents):
    pairs, counts = count_pairs(table_of(documents), vocab_size=VOCAB, eos_id=EOS, window=2)
    found = ppmi(torch.from_numpy(pairs), torch.from_numpy(counts), VOCAB).to_dense()
    together = counted(documents, 2)
    alone = Counter()
    for (one, _), count in together.items():
        alone[one] += count
    smoothed = sum(count**SMOOTHING for count in alone.values())
    for one in range(VOCAB):
        for other in range(VOCAB):
            expected = 0.0
            if together[one, other]:
                share = alone[other] ** SMOOTHING / smoothed
                expected = max(0.0, math.log(together[one, other] / alone[one] / share))
            assert found[one, other].item() == pytest.approx(expected, abs=FLOAT32)


def test_singular_vectors_are_those_of_the_dense_matrix():
    generator = torch.Generator().manual_seed(3)
    dense = torch.randn(90, 90, generator=generator).clamp_min(0.8) - 0.8  # a fifth is not zero; not symmetric
    for kind, strength in enumerate((5.0, 4.0, 3.0, 2.0)):  # four kinds of words, each with contexts of its own
        dense[10 * kind : 10 * kind + 10, 50 - 10 * kind : 60 - 10 * kind] += strength
    found = left_singular(dense.to_sparse_coo(), 4, generator)
    left, values, _ = torch.linalg.svd(dense)
    expected = left[:, :4] * values[:4].sqrt()
    # Singular vectors have no sign.
    torch.testing.assert_close(found @ found.t(), expected @ expected.t(), rtol=0, atol=1e-3)


def test_words_in_the_same_places_get_the_same_vectors():
    generator = np.random.default_rng(0)
    # Token 3 and 4 stand between the same neighbours; 5 and 6 between others.
    places = {3: (7, 8), 4: (7, 8), 5: (9, 10), 6: (9, 10)}
    documents = [[places[t][0], t, places[t][1]] for t in generator.integers(3, 7, size=400)]
    vectors = cooccurrence_vectors(table_of(documents), vocab_size=VOCAB, eos_id=EOS, size=4, window=1)
    assert vectors.shape == (VOCAB, 4)
    near = vectors @ vectors.t()
    assert near[3, 4] > 0.9
    assert near[5, 6] > 0.9
    assert abs(near[3, 5]) < 0.3
    seen = [EOS, *range(3, 11)]
    torch.testing.assert_close(vectors[seen].norm(dim=1), torch.ones(len(seen)), rtol=0, atol=FLOAT32)
    assert not vectors[[1, 2, 11]].any()


def test_more_coordinates_than_tokens_are_no_problem():
    vectors = cooccurrence_vectors(table_of([[1, 2, 3]]), vocab_size=VOCAB, eos_id=EOS, size=20, window=2)
    assert vectors.shape == (VOCAB, 20)
    assert vectors.isfinite().all()


def test_a_corpus_of_nothing_gives_zeros():
    assert not cooccurrence_vectors(table_of([[], []]), vocab_size=VOCAB, eos_id=EOS, size=3, window=2).any()
