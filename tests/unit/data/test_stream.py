"""The lane stream: every target of the documents exactly once an epoch, in order, for any number of workers."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rnnlm.data.stream import LaneStream
from rnnlm.data.tokens import TokenTable
from tests.reference import stream_positions

BOS, EOS = 1, 2
DOCUMENTS = st.lists(st.lists(st.integers(3, 90), max_size=7), min_size=1, max_size=9).filter(any)
SIZES = st.integers(1, 5)
KINDS = st.sampled_from([np.int32, np.uint16])


def table_of(documents, kind=np.int32):
    return TokenTable.from_documents([np.array(document, dtype=kind) for document in documents])


def stream_of(table, **options):
    return LaneStream(table, **{"num_lanes": 2, "window": 3, "bos_id": BOS, "eos_id": EOS, **options})


def epoch_of(stream):
    """All windows of one epoch, side by side: inputs, targets and mask, lanes x time; and the fresh flags."""
    windows = [stream.next() for _ in range(stream.steps_per_epoch)]
    joined = [torch.cat([getattr(w, name) for w in windows], dim=1) for name in ("inputs", "targets", "mask")]
    return *joined, [window.fresh for window in windows]


@given(documents=DOCUMENTS, num_lanes=SIZES, window=SIZES, kind=KINDS)
def test_lanes_end_to_end_are_the_documents(documents, num_lanes, window, kind):
    stream = stream_of(table_of(documents, kind), num_lanes=num_lanes, window=window)
    inputs, targets, mask, _ = epoch_of(stream)
    expected_inputs, expected_targets = stream_positions(documents, BOS, EOS)
    assert inputs[mask].tolist() == expected_inputs
    assert targets[mask].tolist() == expected_targets
    assert inputs.dtype == targets.dtype == torch.int64


@given(documents=DOCUMENTS, num_lanes=SIZES, window=SIZES)
def test_where_a_lane_runs_past_the_end_it_repeats_the_beginning_unmasked(documents, num_lanes, window):
    inputs, targets, mask, _ = epoch_of(stream_of(table_of(documents), num_lanes=num_lanes, window=window))
    expected_inputs, expected_targets = stream_positions(documents, BOS, EOS)
    surplus = int((~mask).sum())
    assert surplus < num_lanes
    again = [(expected_inputs * (surplus + 1))[:surplus], (expected_targets * (surplus + 1))[:surplus]]
    assert [inputs[~mask].tolist(), targets[~mask].tolist()] == again


@given(documents=DOCUMENTS, num_lanes=SIZES, window=SIZES, seed=st.integers(0, 3))
def test_shuffling_changes_the_order_of_documents_and_nothing_else(documents, num_lanes, window, seed):
    stream = stream_of(table_of(documents), num_lanes=num_lanes, window=window, shuffle=True, seed=seed)
    for _ in range(2):
        inputs, targets, mask, _ = epoch_of(stream)
        found, start = [], 0
        flat_inputs, flat_targets = inputs[mask].tolist(), targets[mask].tolist()
        for place, target in enumerate(flat_targets):
            if target == EOS:
                found.append(flat_targets[start:place])
                assert flat_inputs[start : place + 1] == [BOS, *flat_targets[start:place]]
                start = place + 1
        assert start == len(flat_targets)
        assert sorted(found) == sorted(documents)


def test_each_epoch_and_each_seed_has_its_own_order():
    table = table_of([[token] for token in range(3, 60)])
    orders = []
    for seed in (0, 1):
        stream = stream_of(table, shuffle=True, seed=seed)
        orders += [tuple(epoch_of(stream)[1].flatten().tolist()) for _ in range(2)]
        assert stream.epoch == 1
    assert len(set(orders)) == 4
    unshuffled = stream_of(table, seed=0)
    assert epoch_of(unshuffled)[1].tolist() == epoch_of(unshuffled)[1].tolist()


JITTER = st.sampled_from([0.0, 1.5])


@given(documents=DOCUMENTS, window=SIZES, shuffle=st.booleans(), fresh=st.booleans(), jitter=JITTER)
def test_any_number_of_ranks_sees_the_same_lanes(documents, window, shuffle, fresh, jitter):
    table = table_of(documents)
    options = {"num_lanes": 4, "window": window, "shuffle": shuffle, "fresh": fresh, "jitter": jitter}
    whole = stream_of(table, **options)
    for world_size in (2, 4):
        alone = stream_of(table, **options)
        ranks = [stream_of(table, **options, rank=rank, world_size=world_size) for rank in range(world_size)]
        for _ in range(alone.steps_per_epoch + 2):
            expected, windows = alone.next(), [stream.next() for stream in ranks]
            for name in ("inputs", "targets", "mask", "fresh"):
                parts = torch.stack([getattr(one, name) for one in windows], dim=1)  # lane i is rank i mod world size
                assert torch.equal(parts.flatten(0, 1), getattr(expected, name)), name
        assert {stream.steps_per_epoch for stream in ranks} == {whole.steps_per_epoch}
        assert all(stream.state() == alone.state() for stream in ranks)


@given(documents=DOCUMENTS, steps=st.integers(0, 12), shuffle=st.booleans(), jitter=JITTER, data=st.data())
def test_restored_anywhere_it_goes_on_as_if_nothing_had_happened(documents, steps, shuffle, jitter, data):
    table, options = table_of(documents), {"shuffle": shuffle, "jitter": jitter, "seed": 5}
    undisturbed, other = stream_of(table, **options), stream_of(table, **options)
    for _ in range(steps):
        undisturbed.next()
    for _ in range(data.draw(st.integers(0, 12))):
        other.next()
    other.restore(undisturbed.state())
    for _ in range(5):
        expected, found = undisturbed.next(), other.next()
        assert all(torch.equal(getattr(expected, n), getattr(found, n)) for n in ("inputs", "targets", "mask", "fresh"))
        assert (other.epoch, other.state()) == (undisturbed.epoch, undisturbed.state())
        assert other.learning_rate_factor == undisturbed.learning_rate_factor


@given(documents=DOCUMENTS, num_lanes=SIZES, window=SIZES)
def test_a_lane_is_fresh_where_its_window_begins_with_a_document_and_in_a_new_epoch(documents, num_lanes, window):
    options = {"num_lanes": num_lanes, "window": window}
    stream = stream_of(table_of(documents), **options, fresh=True)
    for _ in range(2):
        inputs, _, _, flags = epoch_of(stream)
        expected = inputs[:, ::window] == BOS
        expected[:, 0] = True  # what a lane read last is the text before the next lane
        assert torch.equal(torch.stack(flags, dim=1), expected)


def test_without_fresh_the_state_is_carried_through_the_whole_epoch():
    stream = stream_of(table_of([[5], [6], [7, 8, 9]]), window=2)
    for _ in range(2):
        flags = torch.stack(epoch_of(stream)[3], dim=1)
        assert flags[:, 0].all()
        assert not flags[:, 1:].any()


def test_a_small_example_by_hand():
    stream = stream_of(table_of([[5, 6], [7], []]), num_lanes=2, window=2)
    first, second = stream.next(), stream.next()
    assert first.inputs.tolist() == [[BOS, 5], [BOS, 7]]
    assert first.targets.tolist() == [[5, 6], [7, EOS]]
    assert second.inputs.tolist() == [[6], [BOS]]
    assert second.targets.tolist() == [[EOS], [EOS]]
    assert second.mask.tolist() == [[True], [True]]
    assert stream.steps_per_epoch == 2
    assert (stream.epoch, stream.state()) == (0, {"epoch": 0, "position": 3})
    assert stream.next().inputs.tolist() == first.inputs.tolist()
    assert stream.epoch == 1


def test_two_ranks_then_one_then_four_read_what_one_would_have_read():
    table = table_of([[number] * (number % 7) for number in range(3, 90)])
    options = {"num_lanes": 8, "window": 4, "shuffle": True, "jitter": 1.5, "seed": 2}
    alone, state = stream_of(table, **options), {"epoch": 0, "position": 0}
    for world_size, steps in [(2, 5), (1, 6), (4, 30)]:  # the last goes far into a second epoch
        ranks = [stream_of(table, **options, rank=rank, world_size=world_size) for rank in range(world_size)]
        for rank in ranks:
            rank.restore(state)
        for _ in range(steps):
            parts = torch.stack([rank.next().targets for rank in ranks], dim=1)
            assert torch.equal(parts.flatten(0, 1), alone.next().targets)
        state = ranks[0].state()
    assert state["epoch"] >= 1


WINDOW, JITTERED = 40, 3.0


def jittered(seed=0):
    table = table_of([[3 + number % 50 for number in range(60_000)]])
    return stream_of(table, num_lanes=1, window=WINDOW, jitter=JITTERED, seed=seed)


def lengths_of(stream):
    """Of the windows of one epoch, and the factors that came with them."""
    lengths, factors = [], []
    while sum(lengths) < 60_001:
        lengths.append(stream.next().inputs.shape[1])
        factors.append(stream.learning_rate_factor)
    return np.array(lengths), np.array(factors)


def test_jittered_windows_are_random_around_the_window_and_around_half_of_it():
    lengths, factors = lengths_of(jittered())
    assert sum(lengths) == 60_001  # all targets, once
    np.testing.assert_array_equal(factors[:-1], lengths[:-1] / WINDOW)
    short = lengths[:-1] < 0.75 * WINDOW
    assert 0.03 < short.mean() < 0.07  # 5 % of 1,500: a standard deviation is 0.6 %
    for part, mean in [(lengths[:-1][~short], WINDOW), (lengths[:-1][short], WINDOW / 2)]:
        assert abs(part.mean() - mean) < 1.5
        assert abs(part.std() - JITTERED) < 1.0
    assert len(lengths) == pytest.approx(jittered().steps_per_epoch, rel=0.01)


def test_each_epoch_and_each_seed_has_its_own_jitter():
    stream = jittered()
    found = [tuple(lengths_of(stream)[0]), tuple(lengths_of(stream)[0]), tuple(lengths_of(jittered(seed=1))[0])]
    assert len(set(found)) == 3
    assert found[0] == tuple(lengths_of(jittered())[0])


def test_no_jittered_window_is_empty():
    stream = stream_of(table_of([[3] * 500]), num_lanes=1, window=2, jitter=10.0)
    assert all(stream.next().inputs.shape[1] >= 1 for _ in range(300))
