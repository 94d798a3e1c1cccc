"""Nearest vectors: those that looking at every pair finds, in any blocks, with ties in the order of rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnlm.vectors import neighbours
from rnnlm.vectors.columns import Directions, with_direction
from rnnlm.vectors.neighbours import Nearest


def vectors_of(values):
    return with_direction(values, np.arange(len(values))).vectors


def brute_force(queries, data, k, *, min_cosine=-1.0, leave_out_self=False):
    """All pairs, one at a time, in float64; the best by cosine in float32, then by row."""
    found = []
    for query in range(len(queries)):
        pairs = []
        for row in range(len(data)):
            one, other = queries[query].astype(np.float64), data[row].astype(np.float64)
            lengths = np.sqrt((one * one).sum()) * np.sqrt((other * other).sum())
            if not (np.isfinite(lengths) and lengths > 0.0) or (leave_out_self and row == query):
                continue
            cosine = np.float32((one * other).sum() / lengths)
            if cosine >= np.float32(min_cosine):
                pairs.append((-cosine, row))
        found.append([(row, -cosine) for cosine, row in sorted(pairs)[:k]])
    return found


def searched(queries, data, k, *, block=10**9, **options):
    nearest, data = Nearest(vectors_of(queries), k, **options), vectors_of(data)
    for start in range(0, len(data.rows), block):
        nearest.add(data.part(start, start + block))
    rows, cosines = nearest.found
    return [
        [(row, np.float32(cosine)) for row, cosine in zip(*one, strict=True) if row >= 0]
        for one in zip(rows.tolist(), cosines, strict=True)
    ]


@given(st.data())
def test_the_result_is_that_of_looking_at_every_pair(data):
    seed, size = data.draw(st.integers(0, 2**32)), data.draw(st.sampled_from([1, 2, 5, 33]))
    random = np.random.default_rng(seed)
    rows, count, k = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 8)), data.draw(st.integers(1, 70))
    if data.draw(st.booleans()):  # few values: many ties, and some vectors of zeros
        values = random.integers(-1, 2, size=(rows, size)).astype(np.float32)
    else:
        values = random.normal(size=(rows, size)).astype(np.float32)
    values[random.random(rows) < 0.1] = np.nan
    queries = vectors_of(random.normal(size=(count, size)).astype(np.float32)).values
    options = {"min_cosine": data.draw(st.sampled_from([-1.0, 0.0, 0.5, 1.0]))}
    expected = brute_force(queries, values, k, **options)
    for block in (1, 7, 1000):
        assert searched(queries, values, k, block=block, **options) == expected


def test_blocks_of_any_size_give_the_same(monkeypatch):
    random = np.random.default_rng(1)
    values = random.normal(size=(900, 48)).astype(np.float32)
    values[300:600] = values[random.integers(0, 300, size=300)] * 3.0  # ties, but for the rounding of products
    values[600:620] = values[0]
    expected = searched(values, values, 7, leave_out_self=True)
    assert expected[:9] == brute_force(values[:9], values, 7, leave_out_self=True)
    monkeypatch.setattr(neighbours, "CROWDED", 0)
    monkeypatch.setattr(neighbours, "PAIR_NUMBERS", 100)
    for block in (13, 64, 500):
        assert searched(values, values, 7, block=block, leave_out_self=True) == expected


def test_of_equal_cosines_the_first_rows_come_first():
    values = np.array([[0, 1], [2, 0], [1, 0], [0.5, 0], [-1, 0]], dtype=np.float32)
    found = searched(np.array([[1, 0]], dtype=np.float32), values, 4, block=2)
    assert found == [[(1, 1.0), (2, 1.0), (3, 1.0), (0, 0.0)]]
    assert searched(values[1:2], values[1:], 2, block=1) == [[(0, 1.0), (1, 1.0)]]


def test_rows_that_are_themselves_left_out_keep_k_neighbours():
    values = np.random.default_rng(2).normal(size=(30, 4)).astype(np.float32)
    found = searched(values, values, 5, leave_out_self=True, block=8)
    assert [len(one) for one in found] == [5] * 30
    assert all(row != query for query, one in enumerate(found) for row, _ in one)
    assert all(one[0] == (query, 1.0) for query, one in enumerate(searched(values, values, 5)))


def test_what_has_no_direction_is_counted_and_left_out():
    values = np.array([[1, 0], [0, 0], [np.nan, 1], [np.inf, 0], [0, -2]], dtype=np.float32)
    found = with_direction(values, np.arange(5))
    assert found.directions == Directions(rows=2, zero=1, non_finite=2)
    assert found.vectors.rows.tolist() == [0, 4]
    assert searched(values[:1], values, 9) == [[(0, 1.0), (4, 0.0)]]


@pytest.mark.parametrize(
    ("kind", "scale"), [(np.float32, 1e-30), (np.float32, 1e30), (np.float64, 1e-250), (np.float64, 1e250)]
)
def test_directions_of_the_smallest_and_the_largest_vectors(kind, scale):
    values = np.array([[1, 2], [2, 1], [-1, 0.5]]).astype(kind)
    rows = [[row for row, _ in one] for one in searched(values, values, 3)]
    scaled = searched(values * kind(scale), values * kind(scale), 3)
    assert [[row for row, _ in one] for one in scaled] == rows
    assert scaled[0][1][1] == pytest.approx(0.8)
