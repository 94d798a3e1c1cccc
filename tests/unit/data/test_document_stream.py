"""Batches of documents: every target once an epoch, whole documents as far as they fit, for any number of workers."""

from collections import Counter

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from rnnlm.data.document_stream import DocumentStream
from rnnlm.data.tokens import TokenTable
from tests.reference import stream_positions

BOS, EOS = 1, 2
DOCUMENTS = st.lists(st.lists(st.integers(3, 90), max_size=7), min_size=1, max_size=30).filter(any)
NAMES = ("inputs", "targets", "mask", "fresh")


def stream_of(documents, **options):
    table = TokenTable.from_documents([np.array(document, dtype=np.int32) for document in documents])
    return DocumentStream(table, **{"num_documents": 4, "longest": 3, "bos_id": BOS, "eos_id": EOS, **options})


def rows_of(stream):
    """Inputs and targets of every row of one epoch, without padding and without rows that are empty."""
    rows = []
    for _ in range(stream.steps_per_epoch):
        window = stream.next()
        assert window.fresh.all()
        assert window.mask.sum(1).max() == window.mask.shape[1]  # no batch is wider than its longest row
        for inputs, targets, mask in zip(window.inputs, window.targets, window.mask, strict=True):
            assert mask.tolist() == sorted(mask.tolist(), reverse=True)
            if mask.any():
                rows.append((tuple(inputs[mask].tolist()), tuple(targets[mask].tolist())))
    return rows


def pieces_of(documents, longest):
    """The same from the documents, one after another."""
    for document in documents:
        inputs, targets = stream_positions([document], BOS, EOS)
        for start in range(0, len(targets), longest):
            yield tuple(inputs[start : start + longest]), tuple(targets[start : start + longest])


@given(documents=DOCUMENTS, longest=st.integers(1, 9), rows=st.integers(1, 5))
def test_in_order_the_rows_are_the_documents_cut_at_the_longest(documents, longest, rows):
    stream = stream_of(documents, longest=longest, num_documents=rows)
    for _ in range(2):
        assert rows_of(stream) == list(pieces_of(documents, longest))


@given(documents=DOCUMENTS, longest=st.integers(1, 9), seed=st.integers(0, 3))
def test_shuffled_the_rows_are_the_same_in_another_order(documents, longest, seed):
    stream = stream_of(documents, longest=longest, shuffle=True, seed=seed)
    for _ in range(2):
        assert Counter(rows_of(stream)) == Counter(pieces_of(documents, longest))


def test_each_epoch_and_each_seed_has_its_own_order():
    documents = [[token] for token in range(3, 60)]
    stream = stream_of(documents, shuffle=True)
    orders = [rows_of(stream), rows_of(stream), rows_of(stream_of(documents, shuffle=True, seed=1))]
    assert len({tuple(order) for order in orders}) == 3
    assert rows_of(stream_of(documents, shuffle=True)) == orders[0]


def test_shuffled_rows_of_a_batch_are_about_equally_long():
    documents = [[5] * length for length in np.random.default_rng(0).integers(1, 60, size=400)]
    padding = {}
    for shuffle in (False, True):
        stream = stream_of(documents, longest=100, shuffle=shuffle)
        masks = [stream.next().mask for _ in range(stream.steps_per_epoch)]
        padding[shuffle] = 1.0 - sum(mask.sum().item() for mask in masks) / sum(mask.numel() for mask in masks)
    assert padding[False] > 0.3
    assert padding[True] < 0.05


@given(documents=DOCUMENTS, shuffle=st.booleans())
def test_any_number_of_ranks_sees_the_same_batches(documents, shuffle):
    for world_size in (2, 4):
        alone = stream_of(documents, shuffle=shuffle)
        ranks = [stream_of(documents, shuffle=shuffle, rank=r, world_size=world_size) for r in range(world_size)]
        for _ in range(alone.steps_per_epoch + 2):
            expected, windows = alone.next(), [stream.next() for stream in ranks]
            for name in NAMES:
                parts = torch.stack([getattr(one, name) for one in windows], dim=1)
                assert torch.equal(parts.flatten(0, 1), getattr(expected, name)), name
        assert all(stream.state() == alone.state() for stream in ranks)


@given(documents=DOCUMENTS, steps=st.integers(0, 12), shuffle=st.booleans(), data=st.data())
def test_restored_anywhere_it_goes_on_as_if_nothing_had_happened(documents, steps, shuffle, data):
    undisturbed, other = (stream_of(documents, shuffle=shuffle, seed=5) for _ in range(2))
    for _ in range(steps):
        undisturbed.next()
    for _ in range(data.draw(st.integers(0, 12))):
        other.next()
    other.restore(undisturbed.state())
    for _ in range(5):
        expected, found = undisturbed.next(), other.next()
        assert all(torch.equal(getattr(expected, name), getattr(found, name)) for name in NAMES)
        assert (other.epoch, other.state()) == (undisturbed.epoch, undisturbed.state())
