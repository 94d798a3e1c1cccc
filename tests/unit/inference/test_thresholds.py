"""The threshold of the highest F1, against trying all."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rnnlm.inference.thresholds import USUAL, best_threshold

candidates = st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.35, 0.5, 0.8, 0.95]), st.booleans()), max_size=12)


def f1(rows, missed, threshold):
    given = [right for probability, right in rows if probability >= threshold]
    return 2 * sum(given) / max(1, len(given) + missed + sum(right for _, right in rows))


@given(candidates, st.integers(0, 3))
def test_no_threshold_has_a_higher_f1(rows, missed):
    probabilities = np.array([probability for probability, _ in rows])
    right = np.array([right for _, right in rows], dtype=bool)
    found = best_threshold(probabilities, right, missed + int(right.sum()))
    best = max(f1(rows, missed, threshold) for threshold in np.linspace(0, 1, 201))
    assert f1(rows, missed, found) == best
    if not best:
        assert found == USUAL


def test_it_lies_half_way_and_of_equals_it_is_the_highest():
    right = np.array([True, True, False, True, False])
    assert best_threshold(np.array([0.9, 0.8, 0.4, 0.2, 0.1]), right, 3) == (0.2 + 0.1) / 2
    assert best_threshold(np.array([0.9, 0.8]), np.array([True, False]), 1) == (0.9 + 0.8) / 2
    assert best_threshold(np.array([0.9, 0.5]), np.array([True, True]), 2, floor=0.1) == (0.5 + 0.1) / 2
    equal = np.array([0.9, 0.4, 0.3]), np.array([True, False, True])  # 2 / 3 with the first, and not better with more
    assert best_threshold(*equal, 3) == (0.3 + 0.0) / 2
    assert best_threshold(np.array([0.9, 0.4, 0.3, 0.2]), np.array([True, False, False, True]), 2) == (0.9 + 0.4) / 2
