"""Batches of labelled words: every row once an epoch on any number of workers, and nothing lost in padding."""

import random

import numpy as np
import pytest

from rnnlm.data.labelled import LabelledTable
from rnnlm.data.labelled_stream import LabelledReader, LabelledStream
from rnnlm.data.tokenizers.labels import UNKNOWN_LABEL, LabelsConfig, LabelTokenizer

WORDS = ["a", "be", "cat", "Dogs", "x1", "extraordinarily", "of", "the", "42"]
LABELS = ["N", "V", "O"]


def rows_of(count, *, longest=12, seed=0):
    drawn = random.Random(seed)
    words = [drawn.choices(WORDS, k=drawn.randint(1, longest)) for _ in range(count)]
    return words, [drawn.choices(LABELS, k=len(row)) for row in words]


def tokenizer_of(words, labels):
    return LabelsConfig().train_labelled(zip(words, labels, strict=True))


ROWS, ROW_LABELS = rows_of(57)
TOKENIZER = tokenizer_of(ROWS, ROW_LABELS)
TABLE = LabelledTable.from_rows(ROWS, ROW_LABELS, TOKENIZER)


def spelled(tokenizer: LabelTokenizer, batch, row):
    """The words of a row, from its characters."""
    found = []
    for place in range(int(batch.lengths[row])):
        spelling = int(batch.spelling[row, place])
        ids = batch.spellings[spelling, : batch.spelling_lengths[spelling]].tolist()
        found.append("".join(tokenizer.characters[one - 2] for one in ids))
    return found


def rows_in(batch):
    """(words, labels) of each row of a batch that has words."""
    for row in range(len(batch.lengths)):
        if batch.mask[row].any():
            words = spelled(TOKENIZER, batch, row)
            labels = [TOKENIZER.labels[one] for one in batch.labels[row, : len(words)].tolist()]
            yield " ".join(words), " ".join(labels)


def stream_of(**fields):
    return LabelledStream(LabelledReader(TABLE), **{"words": 40, "max_rows": None, "seed": 3, **fields})


def same(one, other):
    return all((getattr(one, name) == getattr(other, name)).all() for name in one.__dataclass_fields__)


def test_a_batch_holds_its_rows_and_nothing_behind_their_ends():
    rows = np.array([5, 0, 31, -1])
    batch = LabelledReader(TABLE).read(rows)
    for row, number in enumerate(rows[:3]):
        assert spelled(TOKENIZER, batch, row) == ROWS[number]
        assert batch.words[row, : len(ROWS[number])].tolist() == TOKENIZER.word_ids(ROWS[number]).tolist()
        assert batch.labels[row, : len(ROWS[number])].tolist() == TOKENIZER.label_ids(ROW_LABELS[number]).tolist()
        assert batch.mask[row].tolist() == [step < len(ROWS[number]) for step in range(batch.words.shape[1])]
    assert batch.lengths[3] == 1
    assert not batch.mask[3].any()
    assert (batch.labels[~batch.mask] == UNKNOWN_LABEL).all()


def test_spellings_are_distinct_and_the_longest_come_first():
    batch = LabelledReader(TABLE).read(np.arange(20))
    assert len({tuple(row) for row in batch.spellings.tolist()}) == len(batch.spellings)
    assert len(batch.spellings) == len({word for row in ROWS[:20] for word in row})
    lengths = batch.spelling_lengths.tolist()
    assert lengths == sorted(lengths, reverse=True)
    assert batch.spellings.shape[1] == lengths[0]
    assert ((batch.spellings > 0).sum(1) == batch.spelling_lengths).all()


@pytest.mark.parametrize("labels", [None, [["N"]] * 3])
def test_without_a_label_a_word_there_is_none(labels):
    table = LabelledTable.from_rows([["a", "be"], [], ["cat", "a"]], labels, TOKENIZER)
    batch = LabelledReader(table).read(np.arange(3))
    assert batch.lengths.tolist() == [2, 1, 2]
    assert not batch.mask.any()
    assert spelled(TOKENIZER, batch, 2) == ["cat", "a"]


def test_classes_of_rows_are_padded():
    classes = [["N"], ["V", "O", "new"], [], ["O"]]  # as many labels as words in some
    rows = [["a"], ["be", "a", "cat"], ["a"], []]
    table = LabelledTable.from_rows(rows, classes, TOKENIZER, of_rows=True)
    batch = LabelledReader(table).read(np.array([0, 1, 2, 3, -1]))
    unknown = UNKNOWN_LABEL
    n, v, o = TOKENIZER.label_ids(LABELS).tolist()
    none = [unknown] * 3
    assert batch.classes.tolist() == [[n, unknown, unknown], [v, o, unknown], none, [o, unknown, unknown], none]
    assert batch.has_words.tolist() == [True, True, True, False, False]
    assert not batch.mask.any()
    assert LabelledReader(table).read(np.array([2, -1])).classes.shape == (2, 0)
    assert LabelledReader(TABLE).read(np.arange(3)).classes.shape == (3, 0)


def test_rows_are_cut_behind_their_first_words():
    table = LabelledTable.from_rows([["a", "be", "cat"], [], ["of"]], [["N"], [], ["V"]], TOKENIZER, of_rows=True)
    cut = table.first_words(2)
    batch = LabelledReader(cut).read(np.arange(3))
    assert [spelled(TOKENIZER, batch, row) for row in (0, 2)] == [["a", "be"], ["of"]]
    assert cut.offsets.tolist() == [0, 2, 2, 3]
    assert cut.fingerprint != table.fingerprint
    assert table.first_words(3).fingerprint == table.fingerprint


def test_rows_without_words_alone_make_a_batch():
    batch = LabelledReader(LabelledTable.from_rows([[], []], None, TOKENIZER)).read(np.arange(2))
    assert batch.words.tolist() == [[0], [0]]
    assert batch.spellings.tolist() == [[0]]
    assert batch.spelling_lengths.tolist() == [1]


def test_an_unknown_label_is_masked_and_a_word_without_characters_has_one_of_padding():
    batch = LabelledReader(LabelledTable.from_rows([["a", ""]], [["N", "new"]], TOKENIZER)).read(np.array([0]))
    assert batch.mask.tolist() == [[True, False]]
    assert batch.spelling_lengths.tolist() == [1, 1]


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_workers_together_see_every_row_once_an_epoch(world_size):
    expected = sorted((" ".join(words), " ".join(labels)) for words, labels in zip(ROWS, ROW_LABELS, strict=True))
    streams = [stream_of(rank=rank, world_size=world_size) for rank in range(world_size)]
    for epoch in range(2):
        found, number = [], len(streams[0]._batches)
        for _ in range(number):
            parts = [list(rows_in(stream.next())) for stream in streams]
            found += [row for part in parts for row in part]
            assert {stream.epoch for stream in streams} == {epoch}
        for stream in streams:
            stream.restore({"epoch": epoch + 1, "position": 0})
        assert sorted(found) == expected


def test_the_budget_counts_padding_and_rows():
    stream = stream_of(words=40, max_rows=5)
    for _ in range(stream.steps_per_epoch):
        rows, steps = stream.next().words.shape
        assert rows * steps <= 40 or rows == 1
        assert rows <= 5


def test_a_stream_goes_on_where_its_state_says():
    stream = stream_of(words=64)
    for _ in range(stream.steps_per_epoch + 2):
        stream.next()
    state = stream.state()
    again = stream_of(words=64)
    again.restore(state)
    assert state["epoch"] == 1
    assert all(same(stream.next(), again.next()) for _ in range(10))


def test_epochs_and_seeds_differ():
    one, other = stream_of(), stream_of(seed=4)
    first = [list(rows_in(one.next())) for _ in range(one.steps_per_epoch)]
    assert [list(rows_in(one.next())) for _ in range(len(first))] != first
    assert [list(rows_in(other.next())) for _ in range(len(first))] != first


def test_only_the_rows_asked_for_come():
    stream = stream_of(rows=np.array([3, 7]), words=1000)
    assert stream.steps_per_epoch == 1
    assert sorted(words for words, _ in rows_in(stream.next())) == sorted(" ".join(ROWS[row]) for row in (3, 7))
