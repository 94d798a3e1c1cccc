import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rnnlm.errors import DataError
from rnnlm.filtering.quantiles import BLOCK, RELATIVE_ERROR, QuantileSketch

TINY = 2.3e-308  # below it floats lose digits, and the bound is a fraction of it
ROUNDING = 1.0 + 1e-12  # of the test's own arithmetic

finite = st.floats(allow_nan=False, allow_infinity=False)
arrays = hnp.arrays(np.float64, st.integers(1, 200), elements=finite)
perplexities = st.builds(
    lambda seed, size: np.random.default_rng(seed).lognormal(5.0, 1.0, size), st.integers(0, 999), st.integers(1, 5000)
)
errors = st.sampled_from([1e-5, RELATIVE_ERROR, 0.01, 0.25])


def sketch_of(values, error=RELATIVE_ERROR):
    sketch = QuantileSketch(error)
    sketch.add(np.asarray(values, dtype=np.float64))
    return sketch


def exact(values, q):
    return float(np.sort(values)[math.floor(q * (len(values) - 1))])


@given(values=arrays | perplexities, q=st.floats(0.0, 1.0), error=errors)
def test_a_quantile_is_the_exact_one_or_above_it_within_the_error(values, q, error):
    true, found = exact(values, q), sketch_of(values, error).quantile(q)
    assert true <= found <= values.max()
    # Halves, since the difference of the largest floats of both signs is not a float.
    assert found / 2 - true / 2 <= error * max(abs(true), TINY) / 2 * ROUNDING


@given(values=arrays | perplexities, q=st.floats(0.0, 1.0))
def test_at_least_the_share_q_lies_at_or_below_a_quantile_and_the_buckets_know_how_many(values, q):
    sketch = sketch_of(values)
    cut = sketch.quantile(q)
    ends, counts = sketch.buckets()
    below = int((values <= cut).sum())
    assert below == counts[ends <= cut].sum()
    assert below > math.floor(q * (len(values) - 1))


@given(values=arrays)
def test_count_minimum_and_maximum_are_exact(values):
    sketch = sketch_of(values)
    assert (sketch.count, sketch.minimum, sketch.maximum) == (len(values), values.min(), values.max())


@given(st.data())
def test_any_order_and_grouping_of_adding_and_merging_gives_the_same(data):
    values = data.draw(arrays)
    order = data.draw(st.permutations(range(len(values))))
    ends = sorted(data.draw(st.lists(st.integers(0, len(values)), max_size=6)))
    parts = [sketch_of(part) for part in np.split(values[list(order)], ends)]
    while len(parts) > 1:
        at = data.draw(st.integers(0, len(parts) - 2))
        first, second = parts.pop(at), parts.pop(at)
        second.merge(first)
        parts.insert(data.draw(st.integers(0, len(parts))), second)
    assert parts[0].to_dict() == sketch_of(values).to_dict()


@given(values=arrays, error=errors)
def test_json_gives_the_sketch_back(values, error):
    sketch = sketch_of(values, error)
    again = QuantileSketch.from_dict(json.loads(json.dumps(sketch.to_dict())))
    assert again.to_dict() == sketch.to_dict()
    assert again.quantiles([0.0, 0.5, 1.0]) == sketch.quantiles([0.0, 0.5, 1.0])
    again.add(values)
    assert again.count == 2 * len(values)


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, 0.5, -3.0, 7.0, 1000.0, -1024.0])
def test_round_values_are_found_exactly_wherever_they_lie(value):
    sketch = sketch_of([-1e9, value, 1e9])
    assert sketch.quantile(0.5) == value


def test_more_than_a_block_at_once_is_the_same_as_a_little_at_a_time():
    values = np.random.default_rng(3).normal(0.0, 10.0, BLOCK + 1000)
    little = QuantileSketch()
    for part in np.array_split(values, 50):
        little.add(part)
    assert little.to_dict() == sketch_of(values).to_dict()
    assert sketch_of(values.reshape(-1, 8)).to_dict() == little.to_dict()


def test_a_million_perplexities_cost_kilobytes():
    sketch = sketch_of(np.random.default_rng(4).lognormal(5.0, 0.6, 1_000_000))
    assert sketch.num_bytes < 200_000
    assert len(json.dumps(sketch.to_dict())) < 200_000


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused_and_nothing_is_counted(bad):
    sketch = sketch_of([1.0])
    with pytest.raises(ValueError, match="finite"):
        sketch.add(np.array([2.0, bad, 3.0]))
    assert sketch.to_dict() == sketch_of([1.0]).to_dict()


def test_a_sketch_of_nothing():
    sketch = sketch_of([])
    assert (sketch.count, sketch.minimum, sketch.maximum) == (0, None, None)
    with pytest.raises(ValueError, match="nothing"):
        sketch.quantile(0.5)
    assert QuantileSketch.from_dict(sketch.to_dict()).to_dict() == sketch.to_dict()
    sketch.merge(sketch_of([2.0]))
    assert sketch.to_dict() == sketch_of([2.0]).to_dict()


def test_wrong_arguments_are_refused():
    for error in (0.0, 1e-6, 0.5, math.nan):
        with pytest.raises(ValueError, match="relative_error"):
            QuantileSketch(error)
    with pytest.raises(ValueError, match="differ"):
        QuantileSketch(0.01).merge(QuantileSketch(0.02))
    for q in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="0 to 1"):
            sketch_of([1.0]).quantile(q)


@pytest.mark.parametrize(
    "change", [{"counts": [1]}, {"counts": [1, 0]}, {"key_steps": [5, 0]}, {"minimum": None}, {"relative_error": 7.0}]
)
def test_damaged_json_is_refused(change):
    data = sketch_of([1.0, 2.0]).to_dict()
    with pytest.raises(DataError, match="sketch"):
        QuantileSketch.from_dict({**data, **change})
    with pytest.raises(DataError, match="sketch"):
        QuantileSketch.from_dict({key: value for key, value in data.items() if key not in change})
