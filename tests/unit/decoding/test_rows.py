"""Sums and searches in rows of logits against torch's own, in float64."""

import numpy as np
import pytest
import torch

from rnnlm.decoding.rows import GROUP, GROUPS_PER_PLACE, best, best_few, log_sum_exp

FLOAT32_NATS = 2e-6  # a few roundings of numbers near 10
SIZES = [1, 5, 64, 257, 1000, 1003]
GROUPED = GROUP * GROUPS_PER_PLACE


def logits_of(size, rows=20, dtype=torch.float32):
    return torch.from_numpy(np.random.default_rng(size).normal(size=(rows, size)) * 3).to(dtype)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shift", [0.0, -80.0, 300.0])
def test_the_log_sum_exp_is_that_of_float64(size, shift):
    logits = logits_of(size) + shift
    logits[::3, 0] = -1e9
    torch.testing.assert_close(log_sum_exp(logits).double(), logits.double().logsumexp(1), rtol=3e-7, atol=FLOAT32_NATS)


def test_absent_logits_add_nothing():
    logits = logits_of(50)
    absent = torch.cat([logits, torch.full((20, 3), -torch.inf)], dim=1)
    torch.testing.assert_close(log_sum_exp(absent), log_sum_exp(logits), rtol=0, atol=FLOAT32_NATS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("size", SIZES)
def test_the_best_few_fall_and_are_the_largest(size, dtype):
    logits = logits_of(size, dtype=dtype)
    assert torch.equal(best(logits), logits.argmax(1))
    for count in {1, 3, size // GROUPED, size // GROUPED + 1, size - 1, size} - {0}:
        if count <= size:
            values, tokens = best_few(logits, count)
            assert torch.equal(values, logits.topk(count, dim=1).values)
            assert torch.equal(logits.gather(1, tokens), values)
            assert all(len(set(row)) == count for row in tokens.tolist())


@pytest.mark.parametrize("count", [1, 4, 100, 643])
def test_equals_are_all_found_once(count):
    logits = torch.zeros(5, 643)
    logits[:, 600:] = 1.0
    values, tokens = best_few(logits, count)
    assert values.sum(1).tolist() == [min(count, 43)] * 5
    assert all(len(set(row)) == count for row in tokens.tolist())


@pytest.mark.parametrize("count", [3, 40, 900])
def test_a_row_alone_is_searched_as_in_a_batch(count):
    logits = logits_of(1003).round()  # many equals
    together = best_few(logits, count)[1]
    alone = torch.cat([best_few(logits[row : row + 1], count)[1] for row in range(len(logits))])
    assert torch.equal(together, alone)
