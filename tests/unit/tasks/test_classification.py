"""Classification as a task of the loop: tables of rows' classes, workers add up, and rules are learnt about long rows."""

import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from rnnlm.checkpoint import load_checkpoint
from rnnlm.config import from_dict, to_dict
from rnnlm.data.labelled import LabelledTable, labels_metadata
from rnnlm.data.labelled_stream import LabelledReader
from rnnlm.data.tokenizers.labels import LabelsConfig
from rnnlm.data.tokens import tokens_metadata
from rnnlm.errors import ConfigError, DataError
from rnnlm.inference.classify import Classifier, fitted_temperature
from rnnlm.nn.cells.lstm import LSTMConfig
from rnnlm.nn.layers.bidirectional import BidirectionalConfig
from rnnlm.nn.layers.reading_order import ReadingOrderConfig
from rnnlm.nn.words.embedding import WordEmbeddingConfig
from rnnlm.tasks.batching import SentencesConfig
from rnnlm.tasks.classification import ClassificationConfig
from rnnlm.tasks.tagging import TaggingConfig
from rnnlm.training.loop import train
from rnnlm.training.optimizers.adamw import AdamWConfig
from rnnlm.training.settings import LoopConfig, TrainingConfig, TrainingData

WORDS = [WordEmbeddingConfig(size=8, unknown_singletons=0.0)]
POOLINGS = ["last", "mean", "max", "attention"]


def tiny(**fields):
    return ClassificationConfig(**{"cell": LSTMConfig(hidden_size=16), "words": WORDS, "dropout": 0.0, **fields})


def by_early_word(count, *, longest=60, seed=0):
    """The class is whether a word stands among the first three of a long row; it may come later in any."""
    drawn = random.Random(seed)
    rows, classes = [], []
    for number in range(count):
        row = drawn.choices("abcdefgh", k=drawn.randint(20, longest))
        if number % 2:
            row[drawn.randrange(3)] = "key"
        rows.append(row)
        classes.append(["yes" if number % 2 else "no"])
    return rows, classes


def table_of(rows, classes):
    tokenizer = LabelsConfig().train_labelled(zip(rows, classes, strict=True))
    return LabelledTable.from_rows(rows, classes, tokenizer, of_rows=True), tokenizer


ROWS, ONE = by_early_word(40)
SEVERAL = [sorted({word for word in row if word in "abc"})[: number % 4] for number, row in enumerate(ROWS)]
every_kind = pytest.mark.parametrize(
    ("multi_label", "classes"), [(False, ONE), (True, SEVERAL)], ids=["one", "several"]
)


def write(path, tokenizer, words, labels, *, of_rows=True):
    lists = pa.list_(pa.string())
    metadata = {**tokens_metadata(tokenizer), **labels_metadata(of_rows=of_rows)}
    schema = pa.schema([("words", lists), ("labels", lists)], metadata=metadata)
    pq.write_table(pa.table({"words": words, "labels": labels}, schema=schema), path)
    return str(path)


@every_kind
@pytest.mark.parametrize("world_size", [2, 4])
def test_workers_add_up_to_the_loss_and_gradient_of_one(multi_label, classes, world_size):
    table, tokenizer = table_of(ROWS, classes)
    task = tiny(multi_label=multi_label, class_weights="balanced", label_smoothing=0.1)
    model = task.build(tokenizer).eval()
    task.prepare(model, table, tokenizer)
    sums = []
    for size in (1, world_size):
        streams = [
            task.open_stream(table, tokenizer, SentencesConfig(words=300), seed=1, rank=rank, world_size=size)
            for rank in range(size)
        ]
        model.zero_grad()
        nll, targets = 0.0, 0
        for _ in range(streams[0].steps_per_epoch):
            for stream in streams:
                batch = stream.next()
                loss, state = task.loss(model, batch, ())
                loss.objective.backward()
                assert state == ()
                assert loss.num_targets == task.num_targets(batch)
                nll, targets = nll + loss.nll.item(), targets + loss.num_targets
        sums.append((nll, targets, [parameter.grad.clone() for parameter in model.parameters()]))
    (one, targets, gradients), (other, other_targets, other_gradients) = sums
    assert targets == other_targets == len(ROWS) == table.num_targets
    assert one == pytest.approx(other, rel=1e-6)
    torch.testing.assert_close(gradients, other_gradients, rtol=1e-4, atol=1e-4)


@every_kind
def test_validation_sees_every_row_once_on_any_number_of_workers(multi_label, classes):
    table, tokenizer = table_of(ROWS, classes)
    task = tiny(multi_label=multi_label, dropout=0.5, class_weights="balanced")
    model = task.build(tokenizer).train()
    whole = task.validate(model, table, tokenizer, num_lanes=1)
    assert model.training
    assert whole.num_targets == len(ROWS)
    parts = [task.validate(model, table, tokenizer, num_lanes=1, rank=rank, world_size=3) for rank in range(3)]
    assert sum(part.num_targets for part in parts) == len(ROWS)
    assert sum(part.nll.item() for part in parts) == pytest.approx(whole.nll.item(), rel=1e-6)


def test_rows_of_an_unknown_class_are_left_out_and_counted():
    _, tokenizer = table_of(ROWS, ONE)
    rows, classes = [["a"], ["b", "key"], []], [["new"], ["yes"], ["no"]]
    table = LabelledTable.from_rows(rows, classes, tokenizer, of_rows=True)
    task = tiny()
    assert (task.left_out(table), table.num_unknown) == (1, 1)
    assert "1 unknown" in str(table)
    assert task.validate(task.build(tokenizer), table, tokenizer, num_lanes=1).num_targets == 1
    assert tiny(multi_label=True).left_out(table) == 0  # only the class that is unknown is


def test_balanced_weights_are_by_the_number_of_rows():
    rows = [["a"]] * 8
    table, tokenizer = table_of(rows, [["often"]] * 6 + [["once"]] + [["new"]])
    labels = ["new", "often", "once"]
    assert tokenizer.labels == labels
    for multi_label, expected in ((False, [8 / 3, 8 / 18, 8 / 3]), (True, [7.0, 2 / 6, 7.0])):
        task = tiny(class_weights="balanced", multi_label=multi_label)
        model = task.build(tokenizer)
        task.prepare(model, table, tokenizer)
        torch.testing.assert_close(model.class_weights, torch.tensor(expected))
    half = LabelledTable.from_rows(rows, [["often"]] * 8, tokenizer, of_rows=True)
    task.prepare(model, half, tokenizer)  # two classes have no row
    assert model.class_weights.isfinite().all()
    with pytest.raises(ConfigError, match="2 numbers for the 3 classes"):
        tiny(class_weights=[1.0, 2.0]).build(tokenizer)


def test_tables_are_read_and_what_does_not_fit_is_refused(tmp_path):
    table, tokenizer = table_of(ROWS, ONE)
    found = tiny().read_table(write(tmp_path / "a.parquet", tokenizer, ROWS, ONE), tokenizer, for_training=True)
    assert found.of_rows
    assert found.fingerprint == table.fingerprint
    with pytest.raises(DataError, match="task=classification"):
        TaggingConfig().read_table(str(tmp_path / "a.parquet"), tokenizer, for_training=True)
    for labels, of_rows, problem in (
        ([["yes", "no"]], True, "more than one class"),
        ([[]], True, "or none"),
        ([["new"]], True, "no row with a class"),
        ([["yes"]], False, "labels of words"),
    ):
        path = write(tmp_path / "b.parquet", tokenizer, [["a"]], labels, of_rows=of_rows)
        with pytest.raises(DataError, match=problem):
            tiny().read_table(path, tokenizer, for_training=False)
    path = write(tmp_path / "b.parquet", tokenizer, [["a", "b"], ["a"]], [["yes", "no"], []])
    assert tiny(multi_label=True).read_table(path, tokenizer, for_training=True).num_targets == 2
    write(tmp_path / "b.parquet", tokenizer, [["a"]], [["yes"]], of_rows=False)
    with pytest.raises(DataError, match="others of rows"):
        tiny().read_table(str(tmp_path), tokenizer, for_training=True)


def test_only_training_cuts_rows(tmp_path):
    _, tokenizer = table_of(ROWS, ONE)
    path = write(tmp_path / "a.parquet", tokenizer, [ROWS[0], ["b", "a"]], ONE[:2])
    task = tiny(max_words=3)
    cut, whole = (task.read_table(path, tokenizer, for_training=training) for training in (True, False))
    batch = LabelledReader(cut).read(np.arange(2))
    assert batch.words.tolist() == [tokenizer.word_ids(row).tolist() for row in (ROWS[0][:3], ["b", "a", "<unk>"])]
    assert batch.lengths.tolist() == [3, 2]
    assert batch.classes.tolist() == [tokenizer.label_ids(own).tolist() for own in ONE[:2]]
    assert len(whole.words) == len(ROWS[0]) + 2


def test_a_document_longer_than_a_batch_is_read_whole_and_alone():
    rows = [["a"] * 3000, *ROWS[:20]]
    table, tokenizer = table_of(rows, ONE[:21])
    stream = tiny().open_stream(table, tokenizer, SentencesConfig(words=256), seed=1, rank=0, world_size=1)
    shapes = [tuple(stream.next().words.shape) for _ in range(stream.steps_per_epoch)]
    assert (1, 3000) in shapes
    assert all(rows * words <= 256 for rows, words in shapes if (rows, words) != (1, 3000))


def test_final_states_are_asked_of_encoders_that_have_them():
    cell = LSTMConfig(hidden_size=4)
    both = BidirectionalConfig(forward=cell)
    for encoder, size in (([cell], 4), ([both], 4), ([ReadingOrderConfig(inner=cell)], 0), ([both, cell], 4)):
        assert tiny(pooling="last", encoder=encoder).forward_size() == size
    mixed = [
        BidirectionalConfig(forward=cell, combine="sum"),
        BidirectionalConfig(forward=both),
        ReadingOrderConfig(inner=cell, order="middle_out"),
    ]
    for layer in mixed:
        with pytest.raises(ValueError, match="pooling: the final states"):
            tiny(pooling="last", encoder=[layer])
        assert tiny(pooling="mean", encoder=[layer])


def test_the_config_comes_back():
    for weights in ("balanced", [1.0, 2.5]):
        task = tiny(pooling="attention", class_weights=weights, multi_label=True, max_words=7, label_smoothing=0.1)
        assert from_dict(ClassificationConfig, to_dict(task)) == task
    for fields in ({"class_weights": [0.0]}, {"class_weights": "most"}, {"label_smoothing": 1.0}, {"pooling": "min"}):
        with pytest.raises(ValueError, match=next(iter(fields))):
            tiny(**fields)


def trained(task, data, unseen, folder, *, steps):
    table, tokenizer = table_of(*data)
    held_out = LabelledTable.from_rows(*unseen, tokenizer, of_rows=True)
    settings = TrainingConfig(
        task=task,
        batching=SentencesConfig(words=512),
        optimizer=AdamWConfig(learning_rate=0.01),
        loop=LoopConfig(max_steps=steps, valid_every_steps=steps),
    )
    train(settings, TrainingData(table, held_out, tokenizer), str(folder))
    return load_checkpoint(str(folder)), held_out


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_rule_about_the_beginning_of_long_rows_is_learnt(pooling, tmp_path):
    data, unseen = by_early_word(400), by_early_word(60, seed=1)
    checkpoint, held_out = trained(tiny(pooling=pooling), data, unseen, tmp_path / "run", steps=150)
    found = Classifier(checkpoint).classify(unseen[0]).argmax(1)
    assert (found == held_out.labels).mean() > 0.95
    assert 0.01 <= fitted_temperature(checkpoint, held_out) <= 100.0


def test_several_classes_are_learnt(tmp_path):
    drawn = random.Random(0)

    def data(count):
        rows = [drawn.choices("abcdefgh", k=drawn.randint(1, 10)) for _ in range(count)]
        return rows, [sorted({word for word in row if word in "abc"}) for row in rows]

    unseen = data(80)
    task = tiny(multi_label=True, class_weights="balanced")
    checkpoint, _ = trained(task, data(400), unseen, tmp_path / "run", steps=300)
    found = Classifier(checkpoint).classify(unseen[0]) > 0.5
    names = [[label for label, there in zip("abc", row, strict=True) if there] for row in found]
    assert np.mean([one == other for one, other in zip(names, unseen[1], strict=True)]) > 0.95


def test_a_class_of_one_row_can_be_learnt(tmp_path):
    rows, classes = by_early_word(40)
    rows, classes = [*rows, ["single"] * 3], [*classes, ["rare"]]
    task = tiny(class_weights="balanced")
    checkpoint, _ = trained(task, (rows, classes), (rows, classes), tmp_path / "run", steps=60)
    assert checkpoint.tokenizer.labels[Classifier(checkpoint).classify([rows[-1]])[0].argmax()] == "rare"
    assert checkpoint.model.class_weights.tolist() == pytest.approx([41 / 60, 41 / 3, 41 / 60])
