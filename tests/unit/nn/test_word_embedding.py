"""Vectors of words from a file: what matches what, what is fresh, what is learnt, and what a file must be like."""

import logging

import numpy as np
import pytest
import torch

from rnnlm.checkpoint import load_checkpoint
from rnnlm.data.labelled import LabelledTable
from rnnlm.data.labelled_stream import LabelledReader
from rnnlm.data.tokenizers.labels import LabelTokenizer
from rnnlm.data.vector_files.safetensors import write_safetensors
from rnnlm.errors import DataError
from rnnlm.nn.cells.lstm import LSTMConfig
from rnnlm.nn.words.embedding import FixedWordEmbedding, WordEmbeddingConfig
from rnnlm.tasks.batching import SentencesConfig
from rnnlm.tasks.tagging import TaggingConfig
from rnnlm.training.loop import train
from rnnlm.training.optimizers.adamw import AdamWConfig
from rnnlm.training.settings import LoopConfig, TrainingConfig, TrainingData

SIZE = 64
VOCABULARY = ["<unk>", "Haus", "haus", "1990", "Lion", "rare", "seldom", "never"]
UNKNOWN, UPPER, LOWER, YEAR, LION, RARE, SELDOM, NEVER = range(len(VOCABULARY))
TOKENIZER = LabelTokenizer(VOCABULARY, list("abc"), ["N", "V"], lower=False, zero_digits=False)
COUNTS = np.array([0, 5, 3, 2, 2, 1, 2, 0])
FILE = {"haus": 1.0, "0000": 2.0, "LION": 3.0, "lion": 4.0, "rare": 5.0, "never": 6.0, "Haus": 7.0}
TABLE = LabelledTable.from_rows(
    [["Haus", "haus", "1990"], ["Lion", "rare"], ["seldom", "x"]], [["N", "V", "N"], ["V", "N"], ["V", "N"]], TOKENIZER
)


@pytest.fixture
def path(tmp_path):
    """Each word's vector is one number again and again."""
    found = str(tmp_path / "v.safetensors")
    write_safetensors(found, list(FILE), np.repeat(np.array(list(FILE.values()), np.float32)[:, None], SIZE, 1))
    return found


def prepared(counts=COUNTS, **options):
    torch.manual_seed(0)
    feature = WordEmbeddingConfig(**{"size": SIZE, **options}).build(TOKENIZER)
    feature.prepare(counts, TOKENIZER)
    return feature


def vectors_of(feature, words):
    """What a model that no longer learns reads of words."""
    return feature.eval()(LabelledReader(LabelledTable.from_rows([words], None, TOKENIZER)).read(np.array([0])))[0]


def test_words_are_matched_exactly_then_in_lower_case_then_without_digits(path):
    weight = prepared(pretrained=path).embedding.weight
    found = {VOCABULARY[row]: weight[row, 0].item() for row in (UPPER, LOWER, YEAR, LION, RARE, NEVER)}
    assert found == {"Haus": 7.0, "haus": 1.0, "1990": 2.0, "Lion": 3.0, "rare": 5.0, "never": 6.0}
    assert weight.requires_grad


def test_fresh_vectors_are_as_large_as_those_of_the_file(path):
    weight = prepared(pretrained=path).embedding.weight.detach()
    scale = np.sqrt(np.mean(np.square([7.0, 1.0, 2.0, 3.0, 5.0, 6.0])))
    for row in (UNKNOWN, SELDOM):
        assert weight[row].std().item() == pytest.approx(scale, rel=0.25)
    fixed = prepared(pretrained=path, trainable=False).embedding.weight.detach()
    assert fixed.std().item() == pytest.approx(scale, rel=0.25)


def test_words_never_seen_in_training_are_no_singletons(path):
    for options in ({}, {"trainable": False}):
        unknown = prepared(pretrained=path, unknown_singletons=0.75, unknown_words=0.25, **options).unknown
        assert unknown.tolist() == [0.25, 0.25, 0.25, 0.25, 0.25, 0.75, 0.25, 0.25]


def test_fixed_vectors_are_the_files_and_all_others_are_one(path):
    feature = prepared(pretrained=path, trainable=False)
    found = vectors_of(feature, ["never", "Haus", "seldom", "not in the vocabulary"])
    assert found[:2, 0].tolist() == [6.0, 7.0]
    assert (found[2] == found[3]).all()
    assert [name for name, _ in feature.named_parameters()] == ["embedding.weight"]
    assert feature.embedding.weight.shape == (1, SIZE)
    found[:2].sum().backward(retain_graph=True)
    assert (feature.embedding.weight.grad == 0).all()
    found.sum().backward()
    assert (feature.embedding.weight.grad == 2).all()


@pytest.mark.parametrize("trainable", [True, False])
def test_a_run_begins_with_them_and_a_checkpoint_needs_no_file(path, tmp_path, trainable):
    words = [WordEmbeddingConfig(size=SIZE, pretrained=path, trainable=trainable, unknown_singletons=1.0)]
    settings = TrainingConfig(
        task=TaggingConfig(cell=LSTMConfig(hidden_size=8), words=words),
        optimizer=AdamWConfig(learning_rate=0.01, weight_decay=0.1),
        batching=SentencesConfig(words=8),
        loop=LoopConfig(max_steps=5),
    )
    train(settings, TrainingData(TABLE, TABLE, TOKENIZER), str(tmp_path / "run"))
    (tmp_path / "v.safetensors").unlink()
    feature = load_checkpoint(str(tmp_path / "run")).model.words[0]
    assert isinstance(feature, FixedWordEmbedding) is not trainable
    found = vectors_of(feature, ["Haus", "never"])
    if trainable:
        assert (found[0] - 7.0).abs().max() > 1e-3
        torch.testing.assert_close(found[1], torch.full((SIZE,), 6.0), rtol=0.01, atol=0)  # but for weight decay
    else:
        assert found[:, 0].tolist() == [7.0, 6.0]


def test_it_says_how_many_words_were_found(path, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        prepared(pretrained=path)
    (said,) = caplog.records
    assert said.getMessage() == f"{path} has vectors for 6 of the tokenizer's 8 words"
    assert said.levelno == logging.INFO
    caplog.clear()
    write_safetensors(path, ["Haus", "haus"], np.ones((2, SIZE), np.float32))
    prepared(pretrained=path)
    first, second = (record.getMessage() for record in caplog.records)
    assert "has vectors for 2 of the tokenizer's 8 words" in first
    assert "1 of the vocabulary's 8 words are not in the training data and have no vector from a file" in second


def test_a_file_that_does_not_fit_says_what_to_set(path, tmp_path):
    with pytest.raises(
        DataError, match=r"vectors have 64 numbers, size \(task.words\) is 3 .*; set size \(task.words\)=64"
    ):
        prepared(pretrained=path, size=3)
    with pytest.raises(DataError, match=r"there is no file nowhere.txt; check pretrained \(task.words\)"):
        prepared(pretrained="nowhere.txt")
    write_safetensors(path, ["zebra"], np.ones((1, SIZE), np.float32))
    with pytest.raises(DataError, match="none of the tokenizer's 8 words is in"):
        prepared(pretrained=path)
    with pytest.raises(ValueError, match="trainable: false would keep random vectors"):
        WordEmbeddingConfig(trainable=False)
