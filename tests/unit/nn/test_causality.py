"""No layer sees more of a sequence than it says, and every layer sees what it should: by gradients."""

import pytest
import torch

from rnnlm.nn.causality import inputs_seen, later_inputs_seen
from rnnlm.nn.dropout import Dropout
from rnnlm.nn.layer import Layer, PositionLayer
from rnnlm.nn.layers.residual import Residual
from rnnlm.nn.stack import Stack
from tests.layers import AHEAD, CAUSAL, CELL_CONFIGS, CONFIGS, SIZE

STEPS = 8
READERS = {**{name: CONFIGS[name] for name in CAUSAL}, **CELL_CONFIGS}
REACH = {  # positions seen, the own counted; all others see everything before
    "attention-short": 3,
    "attention-least": 2,
    "residual-of-attention": 3,
    "convolution": 4,
    "convolution-full": 3,
    "convolution-pair": 2,
    "sequence-of-one": 4,
    "feed_forward": 1,
    "feed_forward-narrow": 1,
    "highway-of-feed_forward": 1,
    "layer_norm": 1,
    "projection": 1,
}
AROUND = {"attention_both_ways-short": (1, 1), "convolution_both_ways": (2, 2), "convolution_both_ways-even": (0, 1)}


@pytest.mark.parametrize("name", READERS)
def test_a_layer_that_reads_from_left_to_right_sees_what_came_before_and_nothing_else(name):
    layer = READERS[name].build(SIZE)
    expected = torch.ones(STEPS, STEPS, dtype=torch.bool).tril().triu(1 - REACH.get(name, STEPS))
    # Several sequences: a single one may meet a rectifier's zero.
    seen = torch.stack([inputs_seen(layer, steps=STEPS, seed=seed) for seed in range(4)]).any(0)
    assert torch.equal(seen, expected)
    assert later_inputs_seen(layer, steps=STEPS) == []


@pytest.mark.parametrize("name", AHEAD)
def test_a_layer_that_says_it_sees_later_inputs_does(name):
    layer = CONFIGS[name].build(SIZE)
    seen = inputs_seen(layer, steps=STEPS)
    assert later_inputs_seen(layer, steps=STEPS)
    if name in AROUND:
        before, after = AROUND[name]
        assert torch.equal(seen, torch.ones(STEPS, STEPS, dtype=torch.bool).tril(after).triu(-before))
    elif name.startswith(("bidirectional", "sequence", "attention")) and "middle_out" not in name:
        assert seen.all()


def test_a_backward_layer_sees_what_comes_and_a_middle_out_layer_what_it_read_before():
    assert torch.equal(inputs_seen(CONFIGS["backward"].build(SIZE), steps=5), torch.ones(5, 5, dtype=torch.bool).triu())
    order, expected = [2, 3, 1, 4, 0], torch.zeros(5, 5, dtype=torch.bool)
    for index, position in enumerate(order):
        expected[position, order[: index + 1]] = True
    assert torch.equal(inputs_seen(CONFIGS["middle_out"].build(SIZE), steps=5), expected)


class Liar(PositionLayer):
    """Says that it looks at each position alone, and adds the next one by a way of its own."""

    def __init__(self, path):
        super().__init__(SIZE, SIZE)
        self.path = path

    def _peek(self, inputs):
        return inputs + torch.nn.functional.pad(inputs[:, 1:], (0, 0, 0, 1))

    def forward(self, inputs, state):
        return (self._peek(inputs) if self.path == "forward" else inputs), state

    def read(self, inputs, lengths):
        return self._peek(inputs) if self.path == "read" else inputs


@pytest.mark.parametrize("path", ["forward", "read"])
@pytest.mark.parametrize("inside", [False, True])
def test_a_layer_that_lies_is_found_out_even_inside_others(path, inside):
    layer: Layer = Liar(path)
    if inside:
        layer = Stack(
            [CELL_CONFIGS["gru"].build(SIZE), Residual(layer, pre_norm=True, dropout=0.0)],
            Dropout(0.0, variational=False),
        )
    assert not layer.sees_future
    assert later_inputs_seen(layer, steps=4) == [(0, 1), (1, 2), (2, 3)]


def test_looking_changes_neither_the_layer_nor_random_numbers():
    layer = CONFIGS["residual-of-layers"].build(SIZE).train()
    before, numbers = [p.clone() for p in layer.parameters()], torch.get_rng_state()
    later_inputs_seen(layer)
    assert layer.training
    assert torch.equal(torch.get_rng_state(), numbers)
    assert all(p.grad is None and p.dtype == torch.float32 for p in layer.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, layer.parameters(), strict=True))
