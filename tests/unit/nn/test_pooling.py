"""Pooling by hand: padding never counts, `last` are the final states of the cells, gradients are right."""

import pytest
import torch

from rnnlm.nn.cells.gru import GRUConfig
from rnnlm.nn.cells.lstm import LSTMConfig
from rnnlm.nn.layers.bidirectional import BidirectionalConfig
from rnnlm.nn.pooling import AttentionPooling, build_pooling

KINDS = ["last", "mean", "max", "attention"]
LENGTHS = torch.tensor([5, 1, 3])
every_kind = pytest.mark.parametrize("kind", KINDS)


def pooling_of(kind):
    torch.manual_seed(1)
    return build_pooling(kind, 6, 4).double()


def outputs_of(padding=0.0):
    outputs = torch.randn(3, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    for row, length in enumerate(LENGTHS):
        outputs[row, length:] = padding
    return outputs


@every_kind
@pytest.mark.parametrize("padding", [1e9, float("inf"), float("nan")])
def test_padding_never_counts(kind, padding):
    pooling = pooling_of(kind)
    found = pooling(outputs_of(padding), LENGTHS)
    assert torch.equal(found, pooling(outputs_of(), LENGTHS))
    for row, length in enumerate(LENGTHS):
        alone = pooling(outputs_of()[row : row + 1, :length], length[None])
        torch.testing.assert_close(found[row], alone[0], rtol=0, atol=1e-12)


def test_each_kind_is_what_it_says():
    outputs = outputs_of()
    for row, length in enumerate(LENGTHS):
        words = outputs[row, :length]
        assert torch.equal(pooling_of("max")(outputs, LENGTHS)[row], words.max(0).values)
        torch.testing.assert_close(pooling_of("mean")(outputs, LENGTHS)[row], words.mean(0))
        assert torch.equal(pooling_of("last")(outputs, LENGTHS)[row], torch.cat([words[-1, :4], words[0, 4:]]))
        attention = pooling_of("attention")
        scores = (words @ attention.to_keys.weight.T + attention.to_keys.bias).tanh() @ attention.query.weight[0]
        torch.testing.assert_close(attention(outputs, LENGTHS)[row], scores.softmax(0) @ words)


def test_attention_is_a_distribution_over_the_words():
    attention = pooling_of("attention")
    assert isinstance(attention, AttentionPooling)
    weights = attention.weights(outputs_of(), LENGTHS)
    torch.testing.assert_close(weights.sum(1), torch.ones(3, dtype=torch.float64))
    assert (weights > 0).sum(1).tolist() == LENGTHS.tolist()


@pytest.mark.parametrize("cell", [LSTMConfig(hidden_size=4), GRUConfig(hidden_size=4)], ids=["lstm", "gru"])
def test_last_are_the_final_states_of_the_two_cells(cell):
    layer = BidirectionalConfig(forward=cell).build(3).eval()
    inputs = torch.randn(3, 5, 3)
    found = build_pooling("last", 8, 4)(layer.read(inputs, LENGTHS), LENGTHS)
    for row, length in enumerate(LENGTHS):
        words = inputs[row : row + 1, :length]
        for one, order, part in (
            (layer.ahead, words, found[row, :4]),
            (layer.back.inner, words.flip(1), found[row, 4:]),
        ):
            _, state = one(order, one.initial_state(1))
            torch.testing.assert_close(part, state[0][0], rtol=0, atol=1e-6)


@every_kind
def test_gradients(kind):
    pooling = pooling_of(kind)
    outputs = outputs_of().requires_grad_()
    assert torch.autograd.gradcheck(lambda one: pooling(one, LENGTHS), [outputs])
    pooling(outputs, LENGTHS).sum().backward()
    assert all((outputs.grad[row, length:] == 0).all() for row, length in enumerate(LENGTHS))
