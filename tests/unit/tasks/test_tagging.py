"""Tagging as a task of the loop: workers add up, bad data and settings are refused, and rules are learnt that need the
next word or the characters alone."""

import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from rnnlm.checkpoint import load_checkpoint
from rnnlm.config import from_dict, to_dict
from rnnlm.data.labelled import LabelledTable
from rnnlm.data.labelled_stream import LabelledReader
from rnnlm.data.tokenizers.labels import LabelsConfig
from rnnlm.data.tokens import TOKENIZER_KEY
from rnnlm.errors import ConfigError, DataError, TerminatedError
from rnnlm.nn.cells.lstm import LSTMConfig
from rnnlm.nn.layers.bidirectional import BidirectionalConfig
from rnnlm.nn.layers.reading_order import ReadingOrderConfig
from rnnlm.nn.words.characters import ConvolutionalCharactersConfig, RecurrentCharactersConfig
from rnnlm.nn.words.embedding import WordEmbeddingConfig
from rnnlm.tasks.batching import LanesConfig, SentencesConfig
from rnnlm.tasks.tagging import TaggingConfig
from rnnlm.training.loop import train
from rnnlm.training.optimizers.adamw import AdamWConfig
from rnnlm.training.settings import Hooks, LoopConfig, TrainingConfig, TrainingData
from tests.corpora import words_tokenizer

WORDS = WordEmbeddingConfig(size=8)
FILTERS = ConvolutionalCharactersConfig(embedding_size=8, num_filters=16)
RECURRENT = RecurrentCharactersConfig(embedding_size=8, cell=LSTMConfig(hidden_size=8))


def tiny(**fields):
    return TaggingConfig(**{"cell": LSTMConfig(hidden_size=16), "words": [WORDS, FILTERS], "dropout": 0.0, **fields})


def by_next_word(count, *, seed=0):
    """The label is that of the word which follows: what only the backward direction knows."""
    drawn = random.Random(seed)
    rows = [drawn.choices("abcdef", k=drawn.randint(1, 8)) for _ in range(count)]
    return rows, [["vowel" if word in "ae" else "consonant" for word in [*row[1:], "a"]] for row in rows]


def by_suffix(count, *, seed=0):
    """The label is in the end of the word, and hardly a word comes twice."""
    drawn = random.Random(seed)
    rows = [["".join(drawn.choices("abcdefgh", k=drawn.randint(1, 9))) for _ in range(5)] for _ in range(count)]
    rows = [[word + drawn.choice(["ing", "ed", "s"]) for word in row] for row in rows]
    return rows, [[{"g": "part", "d": "past", "s": "plural"}[word[-1]] for word in row] for row in rows]


ROWS, LABELS = by_next_word(60)
TOKENIZER = LabelsConfig().train_labelled(zip(ROWS, LABELS, strict=True))
TABLE = LabelledTable.from_rows(ROWS, LABELS, TOKENIZER)
every_head = pytest.mark.parametrize("head", ["softmax", "crf"])


def write(path, words, labels, fingerprint=TOKENIZER.fingerprint):
    lists = pa.list_(pa.string())
    schema = pa.schema([("words", lists), ("labels", lists)], metadata={TOKENIZER_KEY: fingerprint})
    pq.write_table(pa.table({"words": words, "labels": labels}, schema=schema), path)
    return str(path)


@every_head
@pytest.mark.parametrize("world_size", [2, 4])
def test_workers_add_up_to_the_loss_and_gradient_of_one(head, world_size):
    task = tiny(head=head)
    model = task.build(TOKENIZER).eval()
    sums = []
    for size in (1, world_size):
        streams = [
            task.open_stream(TABLE, TOKENIZER, SentencesConfig(words=70), seed=1, rank=rank, world_size=size)
            for rank in range(size)
        ]
        model.zero_grad()
        nll, targets = 0.0, 0
        for _ in range(streams[0].steps_per_epoch):
            for stream in streams:
                batch = stream.next()
                loss, state = task.loss(model, batch, ())
                loss.nll.backward()
                assert state == ()
                assert loss.num_targets == task.num_targets(batch)
                nll, targets = nll + loss.nll.item(), targets + loss.num_targets
        sums.append((nll, targets, [parameter.grad.clone() for parameter in model.parameters()]))
    (one, targets, gradients), (other, other_targets, other_gradients) = sums
    assert targets == other_targets == TABLE.num_targets
    assert one == pytest.approx(other, rel=1e-6)
    torch.testing.assert_close(gradients, other_gradients, rtol=1e-4, atol=1e-4)


@every_head
def test_validation_sees_every_target_once_on_any_number_of_workers(head):
    task = tiny(head=head, dropout=0.5)
    model = task.build(TOKENIZER).train()
    whole = task.validate(model, TABLE, TOKENIZER, num_lanes=1)
    assert model.training
    assert whole.num_targets == TABLE.num_targets
    assert task.validate(model, TABLE, TOKENIZER, num_lanes=1).nll == whole.nll
    parts = [task.validate(model, TABLE, TOKENIZER, num_lanes=1, rank=rank, world_size=3) for rank in range(3)]
    assert sum(part.num_targets for part in parts) == TABLE.num_targets
    assert sum(part.nll.item() for part in parts) == pytest.approx(whole.nll.item(), rel=1e-6)


def test_rows_with_unknown_labels_are_left_out_and_counted():
    rows = [["a", "b"], ["c"], ["d"], []]
    table = LabelledTable.from_rows(rows, [["vowel", "new"], ["vowel"], ["new"], []], TOKENIZER)
    for head, left_out, targets in (("crf", 2, 1), ("softmax", 1, 2)):
        task = tiny(head=head)
        assert task.left_out(table) == left_out
        assert task.validate(task.build(TOKENIZER), table, TOKENIZER, num_lanes=1).num_targets == targets
        stream = task.open_stream(table, TOKENIZER, SentencesConfig(), seed=1, rank=0, world_size=1)
        assert task.num_targets(stream.next()) == targets


def test_a_table_is_read_and_one_without_a_label_a_word_is_refused(tmp_path):
    task = tiny()
    found = task.read_table(write(tmp_path / "good.parquet", ROWS, LABELS), TOKENIZER, for_training=True)
    assert found.fingerprint == TABLE.fingerprint
    for labels, problem in (([["vowel"]], "more labels than words"), ([["x", "y"]], "no row with labels")):
        with pytest.raises(DataError, match=problem):
            task.read_table(write(tmp_path / "bad.parquet", [["a", "b"]], labels), TOKENIZER, for_training=False)
    with pytest.raises(DataError, match="was made with vocabulary"):
        task.read_table(write(tmp_path / "other.parquet", ROWS, LABELS, "else"), TOKENIZER, for_training=True)


def test_what_does_not_fit_is_refused():
    for fields, problem in [
        ({"cell": LSTMConfig(hidden_size=7)}, "cannot be halved"),
        ({"words": []}, "at least 1"),
        ({"scheme": "iob3"}, "Input should be"),
    ]:
        with pytest.raises(ValueError, match=problem):
            tiny(**fields)
    backward = ReadingOrderConfig(inner=LSTMConfig(hidden_size=4))
    assert tiny(encoder=[backward]).build(TOKENIZER)
    with pytest.raises(ConfigError, match="tokenizer=labels"):
        tiny().build(words_tokenizer())
    with pytest.raises(ConfigError, match=r"task.scheme: .*iobes"):
        tiny(scheme="iobes").build(TOKENIZER)
    with pytest.raises(ValueError, match="batching=sentences"):
        TrainingConfig(task=tiny(), batching=LanesConfig())
    assert SentencesConfig(max_rows=2).problems(3)
    assert not SentencesConfig(max_rows=3).problems(3)


def test_the_config_comes_back():
    task = tiny(words=[RECURRENT], encoder=[BidirectionalConfig(forward=LSTMConfig(hidden_size=4))], scheme="io")
    assert from_dict(TaggingConfig, to_dict(task)) == task


def trained(task, data, unseen, folder, *, steps, hooks=None):
    words, labels = data
    tokenizer = LabelsConfig().train_labelled(zip(words, labels, strict=True))
    settings = TrainingConfig(
        task=task,
        batching=SentencesConfig(words=256),
        optimizer=AdamWConfig(learning_rate=0.01),
        loop=LoopConfig(max_steps=steps, valid_every_steps=steps),
    )
    tables = [LabelledTable.from_rows(*one, tokenizer) for one in (data, unseen)]
    train(settings, TrainingData(*tables, tokenizer), str(folder), hooks=hooks)
    return load_checkpoint(str(folder)).model, tables[1]


def accuracy(model, table):
    batch = LabelledReader(table).read(np.arange(table.num_rows))
    right = model.decode(batch).labels == batch.labels
    return right[batch.mask].float().mean().item()


@every_head
def test_a_rule_about_the_next_word_is_learnt(head, tmp_path):
    task = tiny(head=head, words=[WordEmbeddingConfig(size=8)])
    model, unseen = trained(task, by_next_word(400), by_next_word(50, seed=1), tmp_path / "run", steps=150)
    assert accuracy(model, unseen) > 0.98


def test_the_same_rule_is_out_of_reach_from_left_to_right(tmp_path):
    task = tiny(words=[WordEmbeddingConfig(size=8)], encoder=[LSTMConfig(hidden_size=16)], head="softmax")
    model, unseen = trained(task, by_next_word(400), by_next_word(50, seed=1), tmp_path / "run", steps=150)
    assert accuracy(model, unseen) < 0.9


@pytest.mark.parametrize("characters", [FILTERS, RECURRENT], ids=["filters", "recurrent"])
def test_a_rule_about_suffixes_is_learnt_for_words_never_seen(characters, tmp_path):
    task = tiny(words=[WORDS, characters])
    model, unseen = trained(task, by_suffix(300), by_suffix(50, seed=1), tmp_path / "run", steps=100)
    assert accuracy(model, unseen) > 0.95


def test_a_run_that_is_stopped_goes_on_to_the_same_weights(tmp_path):
    task, data = tiny(dropout=0.2), by_next_word(100)
    whole, _ = trained(task, data, data, tmp_path / "whole", steps=8)
    steps = iter(range(100))
    stop = Hooks(should_stop=lambda: next(steps) == 3)
    with pytest.raises(TerminatedError):
        trained(task, data, data, tmp_path / "parts", steps=8, hooks=stop)
    again, _ = trained(task, data, data, tmp_path / "parts", steps=8)
    for one, other in zip(whole.state_dict().values(), again.state_dict().values(), strict=True):
        assert (one == other).all()
