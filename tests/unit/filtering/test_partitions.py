import json
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnlm.errors import ConfigError, DataError
from rnnlm.filtering.groups import GroupedSketch, encode_groups, join_groups
from rnnlm.filtering.partitions import Cuts, PartitionCounts, cut_at_quantiles, cut_at_thresholds

scores = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True, width=32))
rows = st.lists(st.tuples(scores, st.sampled_from(["en", "de", "null", None])), max_size=80)


def columns(rows):
    return pa.array([score for score, _ in rows], pa.float32()), pa.array([group for _, group in rows], pa.string())


def sketched(values, groups=None, **kwargs):
    grouped = GroupedSketch(**kwargs)
    grouped.add(values, groups)
    return grouped


@given(rows=rows, at=st.integers(0, 80))
def test_every_row_is_counted_in_its_group_however_the_batches_are(rows, at):
    values, groups = columns(rows)
    whole = sketched(values, groups)
    for name in whole.sketches:
        of_group = [score for score, group in rows if (group or "null") == name]
        scored = [score for score in of_group if score is not None and math.isfinite(score)]
        assert whole.sketches[name].count == len(scored)
        assert whole.unscored[name] == len(of_group) - len(scored)
    assert sum(whole.unscored.values()) + whole.total().count == len(rows)

    parts = sketched(values[at:], groups[at:].dictionary_encode())
    parts.merge(sketched(pa.chunked_array([values[:at], values[:0]]), pa.chunked_array([groups[:at], groups[:0]])))
    assert parts.to_dict() == whole.to_dict()
    assert GroupedSketch.from_dict(json.loads(json.dumps(whole.to_dict()))).to_dict() == whole.to_dict()


@given(rows=rows, least=st.integers(1, 30))
def test_assign_is_what_a_loop_over_rows_says(rows, least):
    values, groups = columns(rows)
    grouped = sketched(values, groups)
    if not grouped.total().count:
        with pytest.raises(DataError, match="no row has a score"):
            cut_at_quantiles(grouped)
        return
    cuts = cut_at_quantiles(grouped, min_group_rows=least)
    found = cuts.assign(values, groups).to_pylist()
    for (score, group), partition in zip(rows, found, strict=True):
        if score is None or not math.isfinite(score):
            assert partition is None
            continue
        low, high = cuts.for_group(group or "null")
        assert partition == ("head" if score <= low else "middle" if score <= high else "tail")
    assert set(cuts.own) == {name for name, sketch in grouped.sketches.items() if sketch.count >= least}
    assert Cuts.from_dict(json.loads(json.dumps(cuts.to_dict()))) == cuts


def test_terciles_of_each_group_are_thirds_and_the_lowest_is_the_head():
    generator = np.random.default_rng(5)
    values = np.concatenate([generator.lognormal(5.0, 0.5, 9000), generator.lognormal(8.0, 0.5, 9000)])
    groups = pa.array(["en"] * 9000 + ["yo"] * 9000)
    cuts = cut_at_quantiles(sketched(pa.array(values), groups))
    partitions = cuts.assign(pa.array(values), groups)
    counts = PartitionCounts(cuts.names)
    counts.add(partitions, groups)
    for _, by_partition, unscored in counts.groups():
        # The width of a bucket, in rows: 0.05 % of a score is a thousandth of the scale of this distribution.
        assert all(abs(rows - 3000) <= 10 for rows in by_partition.values())
        assert by_partition["head"] >= 3000
        assert unscored == 0
    names = np.array(partitions.to_pylist())
    assert values[:9000][names[:9000] == "head"].max() < values[:9000][names[:9000] == "middle"].min()


def test_a_value_equal_to_a_threshold_belongs_to_the_lower_partition():
    cuts = cut_at_thresholds([0.0, 10.0, 20.0], ["a", "b", "c", "d"])
    values = pa.array([-0.0, 0.0, 1e-300, 10.0, math.nextafter(10.0, 11.0), 20.0, 21.0, None, math.nan, math.inf])
    assert cuts.assign(values).to_pylist() == ["a", "a", "b", "b", "c", "c", "d", None, None, None]


def test_many_equal_scores_stay_together():
    values = pa.array([-1.0] * 60 + [3.0] * 40)
    cuts = cut_at_quantiles(sketched(values))
    assert cuts.common == (-1.0, 3.0)
    assert cuts.assign(values).value_counts().to_pylist() == [
        {"values": "head", "counts": 60},
        {"values": "middle", "counts": 40},
    ]


def test_small_and_unknown_groups_take_the_cuts_of_all_rows():
    values, groups = pa.array([1.0] * 100 + [50.0] * 5), pa.array(["big"] * 100 + ["small"] * 5)
    cuts = cut_at_quantiles(sketched(values, groups))
    assert set(cuts.own) == {"big"}
    assert cuts.for_group("small") == cuts.for_group("never seen") == cuts.common


def test_the_partition_has_all_names_in_their_order_even_in_an_empty_batch():
    cuts = cut_at_thresholds([1.0, 2.0])
    for values, groups in ((pa.array([], pa.float64()), None), (pa.array([9.0]), pa.array(["x"]))):
        assert cuts.assign(values, groups).type == pa.dictionary(pa.int32(), pa.string())
        assert cuts.assign(values, groups).dictionary.to_pylist() == ["head", "middle", "tail"]
        assert len(cuts.assign(values, groups)) == len(values)


@pytest.mark.parametrize("kind", [pa.int64(), pa.float16(), pa.float32(), pa.decimal128(10, 2)])
def test_scores_may_be_any_numbers(kind):
    values = pa.array([1.0, None, 3.0], pa.float64()).cast(kind)
    assert cut_at_thresholds([2.0], ["low", "high"]).assign(values).to_pylist() == ["low", None, "high"]


@pytest.mark.parametrize("values", [pa.array(["1.0"]), pa.array([True]), pa.array([[1.0]])])
def test_scores_that_are_no_numbers_are_refused(values):
    with pytest.raises(DataError, match="numbers are needed"):
        GroupedSketch().add(values)


@pytest.mark.parametrize(
    ("groups", "names"),
    [
        (pa.array([2, None, 2]), ["2", "null"]),
        (pa.array([True, False, True]), ["false", "true"]),
        (pa.DictionaryArray.from_arrays([1, 0, 1], ["", "b", "never"]), ["", "b"]),
        (pa.DictionaryArray.from_arrays([0, 1, 2], ["a", "a", None]), ["a", "null"]),
        (pa.array(["b", "a", "null"], pa.large_string()), ["a", "b", "null"]),
    ],
)
def test_groups_may_be_anything_that_can_be_written(groups, names):
    found, codes = encode_groups(groups, 3)
    assert found == names
    written = ["null" if value is None else str(value).lower() for value in groups.to_pylist()]
    assert [found[code] for code in codes] == written


def test_groups_that_cannot_be_written_are_refused():
    with pytest.raises(DataError, match="cannot be written as text"):
        GroupedSketch().add(pa.array([1.0]), pa.array([[1]]))


def test_several_columns_make_one_group():
    joined = join_groups([pa.array(["en", "de", None]), pa.array(["wiki", None, "news"]).dictionary_encode()])
    assert joined.to_pylist() == ["en / wiki", "de / null", "null / news"]


def test_too_many_groups_are_refused_with_advice_also_when_merged():
    grouped = sketched(pa.array([1.0, 2.0]), pa.array(["a", "b"]), max_groups=2)
    grouped.add(pa.array([3.0]), pa.array(["a"]))
    with pytest.raises(DataError, match=r"more than 2 groups, 'c' among them; group by a column with fewer values"):
        grouped.add(pa.array([3.0]), pa.array(["c"]))
    with pytest.raises(DataError, match="more than 2 groups"):
        grouped.merge(sketched(pa.array([3.0]), pa.array(["d"])))


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"quantiles": []}, "at least one"),
        ({"quantiles": [0.5, 0.5]}, "ascend"),
        ({"quantiles": [0.0, 0.5]}, "between 0 and 1"),
        ({"quantiles": [0.5]}, "1 cuts make 2 partitions, but 3 names"),
        ({"quantiles": [0.2, 0.4], "names": ["a", "a", "b"]}, "must differ"),
        ({"quantiles": [0.2, 0.4], "names": ["a", "", "b"]}, "not be empty"),
    ],
)
def test_wrong_cuts_are_refused(arguments, problem):
    with pytest.raises(ConfigError, match=problem):
        cut_at_quantiles(sketched(pa.array([1.0])), **arguments)


def test_all_problems_of_thresholds_are_told_at_once():
    with pytest.raises(ConfigError) as caught:
        cut_at_thresholds([math.nan, 1.0, 2.0], ["a", "a"])
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["thresholds", "names", "names"]


@given(rows=rows, at=st.integers(0, 80))
def test_counts_add_up_however_the_batches_are(rows, at):
    values, groups = columns(rows)
    cuts = cut_at_thresholds([-1.0, 1.0])
    found = cuts.assign(values, groups)
    whole, first, second = (PartitionCounts(cuts.names) for _ in range(3))
    whole.add(found, groups)
    first.add(found[:at], groups[:at])
    second.add(found[at:], groups[at:])
    second.merge(first)
    assert second.to_dict() == whole.to_dict()
    assert PartitionCounts.from_dict(json.loads(json.dumps(whole.to_dict()))).to_dict() == whole.to_dict()
    by_partition, unscored = whole.total()
    partitions = found.to_pylist()
    assert by_partition == {name: partitions.count(name) for name in cuts.names}
    assert unscored == partitions.count(None)
    assert sum(sum(row.values()) + rest for _, row, rest in whole.groups()) == len(rows)


def test_other_partitions_are_not_counted_together():
    counts, other = PartitionCounts(["low", "high"]), cut_at_thresholds([1.0, 2.0])
    with pytest.raises(ValueError, match="counted as"):
        counts.add(other.assign(pa.array([1.0])))
    with pytest.raises(ValueError, match="counted as"):
        counts.merge(PartitionCounts())
    with pytest.raises(DataError, match="other partitions"):
        PartitionCounts.from_dict({"names": ["a", "b"], "groups": {"all": [1, 2]}})


@pytest.mark.parametrize("cls", [Cuts, PartitionCounts, GroupedSketch])
def test_json_of_something_else_is_refused(cls):
    for data in ({}, {"names": ["a"], "groups": [], "relative_error": 0.01}):
        with pytest.raises(DataError):
            cls.from_dict(data)
