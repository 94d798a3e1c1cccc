"""Vectors of words from their pieces: equal to those of one word alone, in training as in inference, and of use."""

import random

import numpy as np
import pytest
import torch

from rnnlm.checkpoint import load_checkpoint
from rnnlm.config import from_dict, to_dict
from rnnlm.data.labelled import LabelledTable
from rnnlm.data.labelled_stream import LabelledReader
from rnnlm.data.labels.schemes import Span
from rnnlm.data.span_table import SpanTable
from rnnlm.data.tokenizers.labels import LabelsConfig
from rnnlm.data.tokenizers.sentencepiece import SentencePieceConfig
from rnnlm.errors import ConfigError
from rnnlm.inference import spelled
from rnnlm.inference.classify import fitted_temperature
from rnnlm.inference.tag import Tagger
from rnnlm.nn.cells.gru import GRUConfig
from rnnlm.nn.cells.lstm import LSTMConfig
from rnnlm.nn.words.characters import RecurrentCharactersConfig
from rnnlm.nn.words.embedding import WordEmbeddingConfig
from rnnlm.nn.words.subwords import SubwordsConfig
from rnnlm.tasks.batching import SentencesConfig
from rnnlm.tasks.classification import ClassificationConfig
from rnnlm.tasks.entities import EntitiesConfig
from rnnlm.tasks.tagging import TaggingConfig
from rnnlm.training.loop import train
from rnnlm.training.optimizers.adamw import AdamWConfig
from rnnlm.training.settings import LoopConfig, TrainingConfig, TrainingData

ROUNDING = 1e-5
KINDS = {
    **{
        name: SubwordsConfig(embedding_size=5, combine=name, cell=GRUConfig(hidden_size=3))
        for name in ("first", "last", "mean", "max", "recurrent")
    },
    "lstm": SubwordsConfig(embedding_size=5, cell=LSTMConfig(hidden_size=4)),
}
every_kind = pytest.mark.parametrize("kind", KINDS)
PARTS = {"kal": "X", "mor": "Y", "tis": "Z"}


def by_part(count, *, seed=0):
    """Which of three parts stands somewhere in the word says the label; its other letters say nothing of it."""
    drawn = random.Random(seed)
    rows, labels = [], []
    for _ in range(count):
        parts = drawn.choices(list(PARTS), k=4)
        sides = [["".join(drawn.choices(["bo", "du", "fe", "gi"], k=drawn.randint(0, 2))) for _ in "ab"] for _ in parts]
        rows.append([before + part + behind for part, (before, behind) in zip(parts, sides, strict=True)])
        labels.append([PARTS[part] for part in parts])
    return rows, labels


ROWS, LABELS = by_part(60)
TOKENIZER = LabelsConfig(subwords=SentencePieceConfig(model_type="bpe", vocab_size=290)).train_labelled(
    zip(ROWS, LABELS, strict=True)
)
TABLE = LabelledTable.from_rows(ROWS, LABELS, TOKENIZER)


def read(rows):
    table = LabelledTable.from_rows(rows, None, TOKENIZER)
    return LabelledReader(table, pieces=True).read(np.arange(len(rows)))


def slowly(feature, kind, word):
    """The vector of a word, from the vectors of its pieces one by one."""
    pieces = torch.tensor(TOKENIZER.subwords.encode([word])[0].tolist())
    vectors = feature.embedding(pieces)
    if kind in {"recurrent", "lstm"}:
        reads = ((feature.ahead, vectors), (feature.back, vectors.flip(0)))
        return torch.cat([cell(read.unsqueeze(0), cell.initial_state(1))[0][0, -1] for cell, read in reads])
    ways = {"first": vectors[0], "last": vectors[-1], "mean": vectors.mean(0), "max": vectors.amax(0)}
    return ways[kind]


@every_kind
def test_words_of_a_batch_have_the_vectors_they_have_alone(kind):
    feature = KINDS[kind].build(TOKENIZER)
    rows = [["kal", "dubomorfegi", "unheard-of", "tis"], ["é"], ["kal", "x" * 40]]
    found = feature(read(rows))
    assert found.shape == (3, 4, KINDS[kind].output_size)
    for row, words in enumerate(rows):
        for place, word in enumerate(words):
            torch.testing.assert_close(found[row, place], slowly(feature, kind, word), rtol=0, atol=ROUNDING)
            torch.testing.assert_close(found[row, place], feature(read([[word]]))[0, 0], rtol=0, atol=ROUNDING)


@every_kind
def test_all_weights_have_a_gradient(kind):
    feature = KINDS[kind].build(TOKENIZER)
    feature(read([["kal", "dubomorfegi"]])).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in feature.parameters())


def task_of(kind, type_=TaggingConfig, **fields):
    words = [WordEmbeddingConfig(size=4), KINDS[kind], RecurrentCharactersConfig(cell=LSTMConfig(hidden_size=4))]
    return type_(**{"words": words, "cell": LSTMConfig(hidden_size=8), "dropout": 0.0, **fields})


def trained(task, folder, data=(ROWS, LABELS), steps=1, **fields):
    table = LabelledTable.from_rows(*data, TOKENIZER, **fields)
    settings = TrainingConfig(
        task=task,
        batching=SentencesConfig(words=128),
        optimizer=AdamWConfig(learning_rate=0.02),
        loop=LoopConfig(max_steps=steps, valid_every_steps=steps),
    )
    train(settings, TrainingData(table, table, TOKENIZER), str(folder))
    return load_checkpoint(str(folder))


@every_kind
def test_inference_reads_words_as_training_does(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(spelled, "CHARACTERS", 9)  # several parts, longest words first
    monkeypatch.setattr(spelled, "BATCH_WORDS", 20)
    checkpoint = trained(task_of(kind), tmp_path / "run")
    rows = [*by_part(20, seed=3)[0], ["x" * 50, "b"], []]
    with torch.inference_mode():
        expected = checkpoint.model.decode(read(rows))
    for row, found, labels, confidences in zip(rows, Tagger(checkpoint).tag(rows), *expected, strict=True):
        assert found.labels == [TOKENIZER.labels[label] for label in labels[: len(row)]]
        np.testing.assert_allclose(found.confidences, confidences[: len(row)], atol=ROUNDING)


@pytest.mark.parametrize("combine", ["max", "recurrent"])
def test_a_rule_about_parts_of_words_is_learnt_for_words_never_seen(combine, tmp_path):
    words = [SubwordsConfig(embedding_size=12, combine=combine, cell=LSTMConfig(hidden_size=8))]
    task = TaggingConfig(words=words, encoder=[LSTMConfig(hidden_size=8)], dropout=0.0, head="softmax")
    checkpoint = trained(task, tmp_path / "run", by_part(300), steps=60)
    rows, labels = by_part(120, seed=1)
    seen = {word for row in by_part(300)[0] for word in row}
    found = Tagger(checkpoint).tag(rows)
    new = [
        (guess, label)
        for row, tagged, right in zip(rows, found, labels, strict=True)
        for word, guess, label in zip(row, tagged.labels, right, strict=True)
        if word not in seen
    ]
    assert len(new) > 50
    assert np.mean([guess == label for guess, label in new]) > 0.9


def test_classifiers_and_finders_of_spans_read_pieces_too(tmp_path):
    task = task_of("mean", ClassificationConfig)
    checkpoint = trained(task, tmp_path / "run", (ROWS, [row[:1] for row in LABELS]), of_rows=True)
    table = LabelledTable.from_rows(ROWS, [row[:1] for row in LABELS], TOKENIZER, of_rows=True)
    assert fitted_temperature(checkpoint, table) > 0
    spans = SpanTable.from_spans(ROWS, [[Span(0, 1, "X")]] * len(ROWS), TOKENIZER)
    entities = task_of("mean", EntitiesConfig)
    assert entities.validate(entities.build(TOKENIZER), spans, TOKENIZER, num_lanes=1).nll.isfinite()


def test_pieces_are_only_read_where_a_feature_asks_for_them():
    assert task_of("mean").reads_pieces
    assert not TaggingConfig().reads_pieces
    plain = LabelledReader(TABLE).read(np.arange(2))
    with pytest.raises(AssertionError, match="the reader was not asked for pieces"):
        KINDS["mean"].build(TOKENIZER)(plain)


def test_what_does_not_fit_is_refused():
    without = LabelsConfig().train_labelled(zip(ROWS, LABELS, strict=True))
    with pytest.raises(ConfigError, match=r"the vocabulary has none; make one with .*tokenizer.subwords="):
        task_of("mean").build(without)
    for one in KINDS.values():
        assert from_dict(SubwordsConfig, to_dict(one)) == one
