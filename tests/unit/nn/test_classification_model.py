"""The classifier as a network: padding and neighbours change nothing, and losses are those of their formulas."""

import numpy as np
import pytest
import torch

from rnnlm.data.labelled import LabelledTable
from rnnlm.data.labelled_stream import LabelledReader
from rnnlm.data.tokenizers.labels import LabelTokenizer
from rnnlm.nn.cells.lstm import LSTMConfig
from rnnlm.nn.classification_model import counted_rows
from rnnlm.nn.words.characters import RecurrentCharactersConfig
from rnnlm.nn.words.embedding import WordEmbeddingConfig
from rnnlm.tasks.classification import ClassificationConfig

CLASSES = ["bad", "fair", "good"]
TOKENIZER = LabelTokenizer(["<unk>", "a", "bb", "cab"], list("abc"), CLASSES, lower=False, zero_digits=False)
ROWS = [["a"], ["bb", "cab", "a", "x", "abcabc"], ["cab", "a"], ["a", "bb", "a"]]
ONE = [["good"], ["bad"], ["new"], ["good"]]
SEVERAL = [["good"], ["bad", "fair"], [], ["new", "fair"]]
WORDS = [WordEmbeddingConfig(size=6), RecurrentCharactersConfig(embedding_size=4, cell=LSTMConfig(hidden_size=3))]
every_kind = pytest.mark.parametrize("multi_label", [False, True], ids=["one", "several"])


def model_of(**fields):
    torch.manual_seed(1)
    task = ClassificationConfig(**{"cell": LSTMConfig(hidden_size=8), "words": WORDS, "dropout": 0.0, **fields})
    return task.build(TOKENIZER).eval()


def batch_of(rows=ROWS, classes=ONE, order=None):
    table = LabelledTable.from_rows(rows, classes, TOKENIZER, of_rows=True)
    return LabelledReader(table).read(np.arange(len(rows)) if order is None else np.array(order))


@pytest.mark.parametrize("pooling", ["last", "mean", "max", "attention"])
@every_kind
def test_padding_and_neighbours_change_nothing(pooling, multi_label):
    classes = SEVERAL if multi_label else ONE
    model = model_of(pooling=pooling, multi_label=multi_label, num_layers=2)
    together, losses = model.logits(batch_of(classes=classes)), []
    for row, (words, own) in enumerate(zip(ROWS, classes, strict=True)):
        alone = batch_of([words], [own])
        torch.testing.assert_close(together[row], model.logits(alone)[0], rtol=0, atol=1e-6)
        losses.append(model.loss(alone).nll.item())
    assert model.loss(batch_of(classes=classes)).nll.item() == pytest.approx(sum(losses), abs=1e-5)


def test_the_nll_of_one_class_is_by_softmax_and_unknown_ones_are_left_out():
    model, batch = model_of(), batch_of()
    logprobs = model.logits(batch).log_softmax(1)
    assert counted_rows(batch, multi_label=False).tolist() == [True, True, False, True]
    expected = -(logprobs[0, 2] + logprobs[1, 0] + logprobs[3, 2])
    assert model.loss(batch).nll.item() == pytest.approx(expected.item(), rel=1e-6)
    assert model.loss(batch).objective.item() == model.loss(batch).nll.item()
    torch.testing.assert_close(model.probabilities(batch, 2.0), (model.logits(batch) / 2.0).softmax(1))


def test_the_nll_of_several_is_by_sigmoid_over_all_classes():
    model, batch = model_of(multi_label=True), batch_of(classes=SEVERAL, order=[0, 1, 2, 3, -1])
    there = torch.tensor([[0, 0, 1], [1, 1, 0], [0, 0, 0], [0, 1, 0]])
    probabilities = model.probabilities(batch)[:4]
    assert counted_rows(batch, multi_label=True).tolist() == [True] * 4 + [False]
    expected = -torch.where(there == 1, probabilities, 1 - probabilities).log().sum()
    assert model.loss(batch).nll.item() == pytest.approx(expected.item(), rel=1e-5)


def test_weights_and_smoothing_change_what_is_minimised_as_defined():
    weights, e = [0.5, 1.0, 3.0], 0.3
    model, batch = model_of(class_weights=weights, label_smoothing=e), batch_of()
    logprobs = model.logits(batch).log_softmax(1)
    expected = sum(
        weights[own] * (-(1 - e) * logprobs[row, own] - e / 3 * logprobs[row].sum())
        for row, own in ((0, 2), (1, 0), (3, 2))
    )
    loss = model.loss(batch)
    assert loss.objective.item() == pytest.approx(expected.item(), rel=1e-6)
    assert loss.nll.item() == pytest.approx(model_of().loss(batch).nll.item())

    model, batch = model_of(class_weights=weights, multi_label=True, label_smoothing=e), batch_of(classes=SEVERAL)
    smoothed = torch.tensor([[0, 0, 1], [1, 1, 0], [0, 0, 0], [0, 1, 0]]) * (1 - e) + e / 2
    found = model.probabilities(batch)
    terms = torch.tensor(weights) * smoothed * found.log() + (1 - smoothed) * (1 - found).log()
    assert model.loss(batch).objective.item() == pytest.approx(-terms.sum().item(), rel=1e-5)


@every_kind
def test_all_parameters_get_gradients(multi_label):
    model = model_of(pooling="attention", multi_label=multi_label).train()
    model.loss(batch_of(classes=SEVERAL if multi_label else ONE)).objective.backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


def test_a_batch_without_a_target_has_no_loss_and_no_gradient():
    for batch in (batch_of(order=[-1]), batch_of([["a"]], [["new"]])):
        model = model_of()
        loss = model.loss(batch)
        loss.objective.backward()
        assert loss.nll.item() == 0.0
        assert all(parameter.grad is None or not parameter.grad.any() for parameter in model.parameters())
