"""Nested entities as a task of the loop: workers add up, data are checked, and a grammar of nested names is learnt."""

import random

import numpy as np
import pytest
import torch

from rnnlm.checkpoint import load_checkpoint
from rnnlm.config import from_dict, to_dict
from rnnlm.data.labels.schemes import Span
from rnnlm.data.span_stream import SpanReader
from rnnlm.data.span_table import SpanTable
from rnnlm.data.tokenizers.labels import LabelsConfig
from rnnlm.errors import ConfigError
from rnnlm.evaluation.label_metrics import score_spans
from rnnlm.nn.cells.lstm import LSTMConfig
from rnnlm.nn.words.embedding import WordEmbeddingConfig
from rnnlm.tasks.batching import LanesConfig, SentencesConfig
from rnnlm.tasks.entities import EntitiesConfig
from rnnlm.training.loop import train
from rnnlm.training.optimizers.adamw import AdamWConfig
from rnnlm.training.settings import LoopConfig, TrainingConfig, TrainingData
from tests.corpora import words_tokenizer


def tiny(**fields):
    return EntitiesConfig(
        **{
            "cell": LSTMConfig(hidden_size=32),
            "words": [WordEmbeddingConfig(size=16)],
            "dropout": 0.0,
            "projection_size": 24,
            "projection_dropout": 0.0,
            **fields,
        }
    )


def nested(count, *, seed=0):
    """Offices of places: `the king of Spain` is a person, `Spain` a place and a government."""
    drawn = random.Random(seed)
    rows, spans = [], []
    for _ in range(count):
        words, found = [], []
        for _ in range(drawn.randint(1, 3)):
            words += drawn.choices(["and", "so", "then"], k=drawn.randint(0, 2))
            opened = []
            for _ in range(drawn.randint(0, 2)):
                opened.append(len(words))
                words += ["the", drawn.choice(["king", "queen"]), "of"]
            words.append(drawn.choice(["Spain", "Rome"]))
            found += [Span(len(words) - 1, len(words), kind) for kind in ("GPE", "LOC")]
            found += [Span(at, len(words), "PER") for at in opened]
        rows.append(words)
        spans.append(found)
    return rows, spans


ROWS, SPANS = nested(300)
TOKENIZER = LabelsConfig().train_labelled(
    (words, [span.type for span in spans]) for words, spans in zip(ROWS, SPANS, strict=True)
)
TABLE = SpanTable.from_spans(ROWS[:60], SPANS[:60], TOKENIZER)


@pytest.mark.parametrize("world_size", [2, 4])
def test_workers_add_up_to_the_loss_and_gradient_of_one(world_size):
    task = tiny()
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


def test_validation_sees_every_target_once_on_any_number_of_workers():
    task = tiny(dropout=0.5)
    model = task.build(TOKENIZER).train()
    whole = task.validate(model, TABLE, TOKENIZER, num_lanes=1)
    assert model.training
    assert whole.num_targets == TABLE.num_targets
    parts = [task.validate(model, TABLE, TOKENIZER, num_lanes=1, rank=rank, world_size=3) for rank in range(3)]
    assert sum(part.num_targets for part in parts) == TABLE.num_targets
    assert sum(part.nll.item() for part in parts) == pytest.approx(whole.nll.item(), rel=1e-6)


def test_rows_without_spans_are_learnt_from_and_rows_without_words_are_not():
    table = SpanTable.from_spans([["and"], []], [[], []], TOKENIZER)
    task = tiny()
    assert task.learnable(table).tolist() == [0]
    assert task.left_out(table) == 0
    assert task.validate(task.build(TOKENIZER), table, TOKENIZER, num_lanes=1).num_targets == 1


def test_what_does_not_fit_is_refused():
    for fields, problem in [
        ({"cell": LSTMConfig(hidden_size=7)}, "cannot be halved"),
        ({"max_width": 0}, "greater than or equal to 1"),
    ]:
        with pytest.raises(ValueError, match=problem):
            tiny(**fields)
    with pytest.raises(ConfigError, match="tokenizer=labels"):
        tiny().build(words_tokenizer())
    with pytest.raises(ValueError, match="batching=sentences"):
        TrainingConfig(task=tiny(), batching=LanesConfig())


def test_the_config_comes_back():
    task = tiny(max_width=12, projection_size=7)
    assert from_dict(EntitiesConfig, to_dict(task)) == task


def test_a_grammar_of_nested_names_is_learnt(tmp_path):
    words, spans = nested(60, seed=1)
    tables = [SpanTable.from_spans(ROWS, SPANS, TOKENIZER), SpanTable.from_spans(words, spans, TOKENIZER)]
    settings = TrainingConfig(
        task=tiny(),
        batching=SentencesConfig(words=256),
        optimizer=AdamWConfig(learning_rate=0.01),
        loop=LoopConfig(max_steps=200, valid_every_steps=200),
    )
    train(settings, TrainingData(*tables, TOKENIZER), str(tmp_path / "run"))
    model = load_checkpoint(str(tmp_path / "run")).model
    decoded = model.decode(SpanReader(tables[1]).read(np.arange(len(words))))
    found = [[Span(one.start, one.end, TOKENIZER.labels[one.type]) for one in row] for row in decoded]
    scores = score_spans(spans, found)
    assert scores.micro.f1 == 1.0
    assert {name: one.support > 30 for name, one in scores.classes.items()} == dict.fromkeys(TOKENIZER.labels, True)
