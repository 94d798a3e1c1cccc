"""One-hot inputs: what F.one_hot into the first layer gives, without a matrix of all positions by the vocabulary."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from rnnlm.errors import ConfigError
from rnnlm.nn.cells.base import FusedCell
from rnnlm.nn.dropout import Dropout
from rnnlm.nn.embedding import OneHot
from rnnlm.nn.layer import Layer
from rnnlm.nn.layers.residual import ResidualConfig
from rnnlm.nn.softmax.full import FullSoftmaxConfig
from rnnlm.tasks.language_model import LanguageModelConfig
from tests.layers import CELL_CONFIGS, SIZE

ROWS, STEPS, VOCAB = 3, 6, 11
FLOAT64_ROUNDING = 1e-12
SHARE = 0.06  # of five thousand draws


def task_of(cell="lstm", **fields):
    return LanguageModelConfig(
        layers=[CELL_CONFIGS[cell], ResidualConfig(inner=CELL_CONFIGS["gru"])],
        one_hot_input=True,
        softmax=FullSoftmaxConfig(tied=False),
        **fields,
    )


def dense(model, tokens, state):
    """The same with the vectors written out."""
    vectors = F.one_hot(tokens, VOCAB).double()
    return model.stack(vectors, state)


@pytest.mark.parametrize("cell", CELL_CONFIGS)
def test_outputs_state_and_gradients_are_those_of_dense_vectors(cell):
    model = task_of(cell).build_model(VOCAB).double()
    tokens, state = torch.randint(VOCAB, (ROWS, STEPS)), model.initial_state(ROWS)
    found, expected = model(tokens, state), dense(model, tokens, state)
    weights = list(model.stack.parameters())
    for one, other in zip([found[0], *found[1]], [expected[0], *expected[1]], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=FLOAT64_ROUNDING)
    for one, other in zip(
        torch.autograd.grad(found[0].square().sum(), weights),
        torch.autograd.grad(expected[0].square().sum(), weights),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=FLOAT64_ROUNDING)


@pytest.mark.parametrize("cell", CELL_CONFIGS)
def test_a_step_is_a_sequence_of_one(cell):
    model = task_of(cell).build_model(VOCAB).double()
    tokens, state = torch.randint(VOCAB, (ROWS, 1)), model.initial_state(ROWS)
    hidden, after = model(tokens, state)
    logits, stepped = model.step(tokens[:, 0], state)
    torch.testing.assert_close(logits, model.softmax.logits(hidden[:, 0]), rtol=0, atol=FLOAT64_ROUNDING)
    for one, other in zip(after, stepped, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=FLOAT64_ROUNDING)


def test_there_is_no_embedding_matrix():
    model = task_of().build_model(VOCAB)
    assert not [name for name, _ in model.named_parameters() if name.startswith("embedding")]
    assert model.vocab_size == VOCAB
    assert model.softmax.weight.shape == (VOCAB, SIZE)
    assert model.stack.input_size == VOCAB


class _LargestTensor(TorchDispatchMode):
    """Notes the most elements that any operation's result has."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, kinds, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        for one in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(one, torch.Tensor):
                self.elements = max(self.elements, one.numel())
        return result


def test_no_matrix_of_all_positions_by_the_vocabulary_is_made():
    vocab_size, tokens = 5000, torch.randint(5000, (32, 16))
    task = LanguageModelConfig(
        cell=CELL_CONFIGS["lstm"], one_hot_input=True, softmax=FullSoftmaxConfig(tied=False), word_dropout=0.1
    )
    model = task.build_model(vocab_size).train()
    with _LargestTensor() as watch:
        hidden, _ = model(tokens, model.initial_state(32))
        hidden.sum().backward()
    assert watch.elements < tokens.numel() * vocab_size / 20
    with _LargestTensor() as watch:
        F.one_hot(tokens, vocab_size)
    assert watch.elements == tokens.numel() * vocab_size  # and would see it


def test_dropout_leaves_out_the_one_and_scales_up():
    tokens, like = torch.randint(VOCAB, (50, 100)), torch.zeros(())
    one_hot = OneHot(VOCAB)
    options = {"word_dropout": 0.0, "dropout": Dropout(0.4, variational=False)}
    assert one_hot.eval()(tokens, like, **options).unique().tolist() == [1.0]
    scales = one_hot.train()(tokens, like, **options)
    torch.testing.assert_close(scales.unique(), torch.tensor([0.0, 1 / 0.6]))
    assert (scales == 0).float().mean().item() == pytest.approx(0.4, abs=SHARE)


@pytest.mark.parametrize("kind", ["words", "variational"])
def test_dropout_of_words_is_the_same_wherever_the_word_stands(kind):
    tokens = torch.randint(VOCAB, (400, 30))
    words = 0.4 if kind == "words" else 0.0
    dropout = Dropout(0.0 if words else 0.4, variational=not words)
    scales = OneHot(VOCAB).train()(tokens, torch.zeros(()), word_dropout=words, dropout=dropout)
    rows = range(1) if words else range(len(tokens))
    for row in rows:
        given, found = (tokens, scales) if words else (tokens[row], scales[row])
        for word in range(VOCAB):
            assert len(found[given == word].unique()) <= 1
    if not words:  # each row draws its own
        assert (scales == 0).float().mean().item() == pytest.approx(0.4, abs=SHARE)
        assert len({tuple(row.tolist()) for row in scales[:, :3]}) > 2


def test_a_cell_that_needs_the_vectors_themselves_has_a_limit(monkeypatch):
    monkeypatch.setattr(FusedCell, "most_one_hot", Layer.most_one_hot)
    task_of().build_model(10_000)
    with pytest.raises(
        ConfigError, match=r"task.layers\[0\]: LSTMConfig makes one-hot .* at most 10,000 .* has 10,001"
    ):
        task_of().build_model(10_001)
