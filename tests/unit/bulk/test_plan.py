"""The plan: shards are all rows in corpus order, each of about the target's work, and nothing else decides them."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnlm.bulk.plan import CostModel, plan_shards
from rnnlm.data.files import FileStamp
from rnnlm.data.listing import Unit

ROUNDING = 1e-5  # seconds of a shard are rounded to the microsecond, its shares are float sums

UNITS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 5000)), max_size=12).map(
    lambda sizes: [
        Unit(FileStamp("corpus", 0, 0), index, rows, size if rows else 0) for index, (rows, size) in enumerate(sizes)
    ]
)
COSTS = st.builds(CostModel, seconds_per_row=st.floats(0, 2), seconds_per_byte=st.floats(0, 0.01))
TARGETS = st.floats(0.01, 60)


@given(units=UNITS, cost=COSTS, target=TARGETS)
def test_shards_are_all_rows_once_in_order(units, cost, target):
    shards = plan_shards(units, cost, target_seconds=target)
    rows = [
        (piece.unit.index, row) for shard in shards for piece in shard.pieces for row in range(piece.start, piece.stop)
    ]
    assert rows == [(unit.index, row) for unit in units for row in range(unit.rows)]
    assert [shard.index for shard in shards] == list(range(len(shards)))
    first = 0
    for shard in shards:
        assert shard.first_row == first
        assert shard.rows == sum(piece.stop - piece.start for piece in shard.pieces) > 0
        first += shard.rows


@given(units=UNITS, cost=COSTS, target=TARGETS)
def test_a_shard_is_about_the_target_and_none_could_take_more(units, cost, target):
    shards = plan_shards(units, cost, target_seconds=target)

    def seconds(piece):
        return cost.seconds(piece.unit.rows, piece.unit.num_bytes) * (piece.stop - piece.start) / piece.unit.rows

    for shard in shards:
        assert shard.seconds == pytest.approx(sum(map(seconds, shard.pieces)), abs=ROUNDING)
        # A unit is cut in equal rows, so a piece may have one row more than its share, and no less than one.
        longest = max(seconds(piece) / (piece.stop - piece.start) for piece in shard.pieces)
        assert shard.seconds <= target + longest + ROUNDING
    for shard, following in itertools.pairwise(shards):
        assert shard.seconds + seconds(following.pieces[0]) > target - ROUNDING


@given(units=UNITS, cost=COSTS, target=TARGETS)
def test_the_plan_is_a_function_of_its_arguments(units, cost, target):
    again = [Unit(unit.file, unit.index, unit.rows, unit.num_bytes) for unit in units]
    assert plan_shards(units, cost, target_seconds=target) == plan_shards(again, cost, target_seconds=target)


@given(units=UNITS, more=UNITS, cost=COSTS, target=TARGETS)
def test_what_comes_later_does_not_change_what_is_complete(units, more, cost, target):
    before = plan_shards(units, cost, target_seconds=target)
    after = plan_shards([*units, *more], cost, target_seconds=target)
    assert after[: max(0, len(before) - 1)] == before[:-1]


def test_a_large_unit_is_cut_and_small_ones_are_packed():
    cost = CostModel(seconds_per_row=1.0, seconds_per_byte=0.0)
    units = [Unit(FileStamp("c", 0, 0), index, rows, 0) for index, rows in enumerate([3, 3, 3, 25, 0, 2])]
    shards = plan_shards(units, cost, target_seconds=10.0)
    assert [[(p.unit.index, p.start, p.stop) for p in shard.pieces] for shard in shards] == [
        [(0, 0, 3), (1, 0, 3), (2, 0, 3)],
        [(3, 0, 8)],
        [(3, 8, 16)],
        [(3, 16, 25)],
        [(5, 0, 2)],
    ]
    assert [shard.part for shard in shards[:2]] == ["part-000000.parquet", "part-000001.parquet"]


def test_a_row_longer_than_the_target_is_a_shard_of_its_own():
    cost = CostModel(seconds_per_row=100.0, seconds_per_byte=0.0)
    assert [s.rows for s in plan_shards([Unit(FileStamp("c", 0, 0), 0, 4, 0)], cost, target_seconds=1.0)] == [
        1,
        1,
        1,
        1,
    ]


def test_nothing_to_do_is_no_shard():
    assert plan_shards([], CostModel(1.0, 1.0), target_seconds=1.0) == []
    assert plan_shards([Unit(FileStamp("c", 0, 0), 0, 0, 0)], CostModel(1.0, 1.0), target_seconds=1.0) == []
