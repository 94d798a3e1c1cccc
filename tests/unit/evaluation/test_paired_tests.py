"""Permutation test, bootstrap sums and Holm's adjustment: known answers, error rates on simulated rows."""

import itertools

import numpy as np
import pytest

from rnnlm.evaluation.significance import draw_sums, holm, permutation_p_values


def test_rows_that_are_all_equal_have_p_1():
    assert permutation_p_values(np.zeros((2, 50)), 200).tolist() == [1.0, 1.0]


def test_a_shift_of_all_rows_has_the_smallest_p_value():
    shifted = np.full((1, 50), 0.25)
    assert permutation_p_values(shifted, 999).tolist() == [1 / 1000]
    assert permutation_p_values(-shifted, 999).tolist() == [1 / 1000]


def test_the_permutation_test_approximates_the_exact_one():
    differences = np.random.default_rng(3).normal(0.4, 1.0, 10)
    signs = np.array(list(itertools.product([-1.0, 1.0], repeat=10)))
    exact = np.mean(np.abs(signs @ differences) >= abs(differences.sum()) - 1e-12)
    draws = 20_000
    found = permutation_p_values(differences[None], draws)[0]
    assert abs(found - exact) < 4.0 * np.sqrt(exact * (1.0 - exact) / draws)  # four standard errors


def test_of_equal_systems_one_in_twenty_seems_to_differ():
    rows = np.random.default_rng(5).standard_t(4, (1000, 60))
    found = permutation_p_values(rows, 400)
    assert abs(np.mean(found < 0.05) - 0.05) < 4.0 * np.sqrt(0.05 * 0.95 / 1000)


def test_an_interval_of_draws_holds_the_true_difference_19_times_in_20():
    random = np.random.default_rng(7)
    sizes = random.integers(20, 200, (300, 150)).astype(float)
    table = 0.3 * sizes + random.normal(0.0, 20.0, sizes.shape)  # 0.3 a byte
    drawn = draw_sums(np.concatenate([table, sizes]), 400)
    lows, highs = np.quantile(drawn[:, :300] / drawn[:, 300:], [0.025, 0.975], axis=0)
    held = np.mean((lows < 0.3) & (highs > 0.3))
    assert 0.89 < held < 0.99  # 0.95, four standard errors of 300 trials and a percent for the percentile's bias


@pytest.mark.parametrize(
    ("given", "adjusted"),
    [
        ([0.01], [0.01]),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),  # 4 x .005, 3 x .01, 2 x .03, then no less than it
        ([0.5, 0.6], [1.0, 1.0]),
        ([], []),
    ],
)
def test_holm_by_hand(given, adjusted):
    assert holm(given) == pytest.approx(adjusted)
