"""Layers against their formulas, written out position by position; stacks of them; and sizes that do not fit."""

import math

import pytest
import torch

from rnnlm.config import from_dict, to_dict
from rnnlm.errors import ConfigError
from rnnlm.nn.cells.elman import ElmanConfig
from rnnlm.nn.cells.gru import GRUConfig
from rnnlm.nn.cells.lstm import LSTMConfig
from rnnlm.nn.dropout import Dropout
from rnnlm.nn.layers.attention import AttentionConfig
from rnnlm.nn.layers.bidirectional import BidirectionalConfig
from rnnlm.nn.layers.convolution import ConvolutionConfig
from rnnlm.nn.layers.feed_forward import FeedForwardConfig
from rnnlm.nn.layers.highway import HighwayConfig
from rnnlm.nn.layers.layer_norm import LayerNormConfig
from rnnlm.nn.layers.reading_order import ReadingOrderConfig
from rnnlm.nn.layers.residual import ResidualConfig
from rnnlm.nn.layers.sequence import SequenceConfig
from rnnlm.nn.packing import Packing
from rnnlm.nn.softmax.full import FullSoftmaxConfig
from rnnlm.nn.stack import build_stack
from rnnlm.tasks.base import TaskConfig
from rnnlm.tasks.language_model import LanguageModelConfig

D, T, VOCAB = 6, 9, 13
FLOAT32_ROUNDING = 3e-6
LENGTHS = torch.tensor([9, 4, 1])


def inputs_of(rows=3, size=D):
    return torch.randn(rows, T, size)


def equal(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=FLOAT32_ROUNDING)


# ----- each layer against its formula


@pytest.mark.parametrize(
    ("window", "size", "causal"), [(3, None, True), (64, 4, True), (2, 4, False), (None, 4, False)]
)
def test_attention_is_its_formula(window, size, causal):
    heads = 2
    layer = AttentionConfig(num_heads=heads, window=window, size=size, causal=causal).build(D)
    inputs, size = inputs_of(), size or D
    found, share = layer.read(inputs, LENGTHS), size // heads
    weight, bias = layer.to_parts.weight, layer.to_parts.bias
    for row, length in enumerate(LENGTHS.tolist()):
        query, key, value = ((inputs[row] @ weight.t() + bias)[:, n * size : (n + 1) * size] for n in range(3))
        for t in range(length):
            seen = [s for s in range(length) if (s <= t or not causal) and (window is None or abs(t - s) < window)]
            mixed = []
            for head in range(heads):
                part, slope = slice(head * share, (head + 1) * share), 2.0 ** (-8 * (head + 1) / heads)
                scores = [(query[t, part] @ key[s, part]).item() / math.sqrt(share) - slope * abs(t - s) for s in seen]
                weights = torch.tensor(scores).softmax(0)
                mixed.append(sum(w * value[s, part] for w, s in zip(weights, seen, strict=True)))
            equal(found[row, t], layer.to_outputs(torch.cat(mixed)))


@pytest.mark.parametrize("depthwise", [True, False])
@pytest.mark.parametrize(("width", "causal"), [(3, True), (2, False), (4, False), (5, False)])
def test_convolution_is_its_formula(width, depthwise, causal):
    size = None if depthwise else 5
    layer = ConvolutionConfig(width=width, depthwise=depthwise, size=size, activation="tanh", causal=causal).build(D)
    inputs = inputs_of()
    found, ahead = layer.read(inputs, LENGTHS), 0 if causal else width // 2
    weight, bias = layer.filters.weight, layer.filters.bias
    for row, length in enumerate(LENGTHS.tolist()):
        for t in range(length):
            total = bias.clone()
            for k in range(width):
                if 0 <= t + ahead - k < length:
                    x, matrix = inputs[row, t + ahead - k], weight[:, :, width - 1 - k]
                    total = total + (matrix[:, 0] * x if depthwise else matrix @ x)
            equal(found[row, t], total.tanh())


@pytest.mark.parametrize("kind", [LSTMConfig, GRUConfig, ElmanConfig])
def test_bidirectional_concat_is_that_of_torch(kind):
    layer = BidirectionalConfig(forward=kind(hidden_size=5)).build(D)
    oracle = type(layer.ahead.fused)(D, 5, batch_first=True, bidirectional=True)
    weights = dict(layer.ahead.fused.named_parameters())
    backward = {f"{name}_reverse": weight for name, weight in layer.back.inner.fused.named_parameters()}
    oracle.load_state_dict({**weights, **backward})
    inputs = inputs_of()
    packed = torch.nn.utils.rnn.pack_padded_sequence(inputs, LENGTHS, batch_first=True)
    expected, _ = torch.nn.utils.rnn.pad_packed_sequence(oracle(packed)[0], batch_first=True)
    found = layer.read(inputs, LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        equal(found[row, :length], expected[row, :length])


def test_the_ways_to_combine_two_directions():
    layers = {
        combine: BidirectionalConfig(forward=GRUConfig(hidden_size=5), combine=combine).build(D)
        for combine in ("concat", "sum", "product", "gate")
    }
    for layer in layers.values():
        layer.load_state_dict(layers["concat"].state_dict(), strict=False)
    inputs = inputs_of()
    found = {combine: layer.read(inputs, LENGTHS) for combine, layer in layers.items()}
    ahead, back = found["concat"].split(5, dim=2)
    equal(found["sum"], ahead + back)
    equal(found["product"], ahead * back)
    gate = layers["gate"].gate
    z = torch.sigmoid(found["concat"] @ gate.weight.t() + gate.bias)
    equal(found["gate"], z * ahead + (1 - z) * back)
    assert {name: layer.output_size for name, layer in layers.items()} == {
        "concat": 10,
        "sum": 5,
        "product": 5,
        "gate": 5,
    }


ORDERS = {
    "backward": {0: [], 1: [0], 2: [1, 0], 5: [4, 3, 2, 1, 0]},
    "middle_out": {0: [], 1: [0], 2: [0, 1], 3: [1, 2, 0], 4: [1, 2, 0, 3], 5: [2, 3, 1, 4, 0], 6: [2, 3, 1, 4, 0, 5]},
}


@pytest.mark.parametrize("order", ORDERS)
def test_a_reading_order_is_the_one_it_says(order):
    layer = ReadingOrderConfig(inner=LSTMConfig(hidden_size=5), order=order).build(D)
    for length, positions in ORDERS[order].items():
        inputs = inputs_of(rows=1)
        found = layer.read(inputs, torch.tensor([length]))
        state = layer.inner.initial_state(1)
        for position in positions:
            output, state = layer.inner.step(inputs[:, position], state)
            equal(found[:, position], output)
        assert sorted(positions) == list(range(length))


def test_residual_highway_and_feed_forward_are_their_formulas():
    inputs, inner = inputs_of(), FeedForwardConfig(inner_size=7, activation="relu")
    lengths = torch.tensor([T] * 3)

    def fed(layer, x):
        return torch.relu(x @ layer.widen.weight.t() + layer.widen.bias) @ layer.narrow.weight.t() + layer.narrow.bias

    layer = inner.build(D)
    equal(layer.read(inputs, lengths), fed(layer, inputs))
    plain = ResidualConfig(inner=inner, pre_norm=False).build(D)
    equal(plain.read(inputs, lengths), inputs + fed(plain.inner, inputs))
    normed = ResidualConfig(inner=inner).build(D)
    torch.nn.init.normal_(normed.norm.weight)
    x = (inputs - inputs.mean(2, keepdim=True)) / (inputs.var(2, keepdim=True, correction=0) + 1e-5).sqrt()
    equal(normed.read(inputs, lengths), inputs + fed(normed.inner, x * normed.norm.weight))
    highway = HighwayConfig(inner=inner, gate_bias=-2.0).build(D)
    assert highway.gate.bias.tolist() == [-2.0] * D
    t = torch.sigmoid(inputs @ highway.gate.weight.t() - 2.0)
    equal(highway.read(inputs, lengths), t * fed(highway.inner, inputs) + (1 - t) * inputs)
    norm = LayerNormConfig().build(D)
    equal(norm.read(inputs, lengths), x)


@pytest.mark.parametrize(
    "config",
    [
        FeedForwardConfig(inner_size=50, dropout=0.5),
        ResidualConfig(inner=LSTMConfig(hidden_size=D), dropout=0.5),
        AttentionConfig(num_heads=2, dropout=0.5),
        SequenceConfig(layers=[GRUConfig(hidden_size=D), GRUConfig(hidden_size=D)], dropout=0.5),
        ResidualConfig(inner=GRUConfig(hidden_size=D, weight_drop=0.5)),
    ],
    ids=lambda config: type(config).__name__,
)
def test_dropout_inside_a_layer_falls_in_training_only(config):
    layer, inputs = config.build(D), inputs_of()
    state = layer.initial_state(3)
    assert not torch.equal(layer.train()(inputs, state)[0], layer(inputs, state)[0])
    assert torch.equal(layer.eval()(inputs, state)[0], layer(inputs, state)[0])


def test_a_stack_reads_through_every_layer_in_order_and_back_and_forth():
    configs = [LSTMConfig(hidden_size=5), BidirectionalConfig(forward=GRUConfig(hidden_size=4)), LayerNormConfig()]
    stack = build_stack(configs, D, Dropout(0.0, variational=False))
    inputs = inputs_of()
    expected = inputs
    for layer in stack.cells():
        expected = layer.read(expected, LENGTHS)
    equal(stack.read(inputs, LENGTHS), expected)
    assert stack.sees_future
    assert stack.state_sizes == ()
    assert stack.output_size == 8


@pytest.mark.parametrize("path", ["forward", "step", "read", "packed"])
def test_the_dropout_of_a_stack_falls_on_every_path(path):
    stack = build_stack([LayerNormConfig(), LayerNormConfig()], D, Dropout(0.5, variational=False)).train()
    inputs, packing = inputs_of(), Packing([3] * T)
    run = {
        "forward": lambda: stack(inputs, ())[0],
        "step": lambda: stack.step(inputs[:, 0], ())[0],
        "read": lambda: stack.read(inputs, LENGTHS),
        "packed": lambda: stack.advance_packed(stack.project(packing.pack(inputs)), packing, ())[0],
    }[path]
    assert not torch.equal(run(), run())
    stack.eval()
    assert torch.equal(run(), run())


@pytest.mark.parametrize("window", [None, 2])
def test_no_query_is_left_without_a_key(window, monkeypatch):
    layer, shown = AttentionConfig(num_heads=2, window=window, causal=False).build(D), []
    attend = layer.attend
    monkeypatch.setattr(layer, "attend", lambda *given: shown.append(given[-1]) or attend(*given))
    layer.read(inputs_of(), torch.tensor([9, 2, 0]))
    (seen,) = shown
    assert seen.any(-1).all()


# ----- sizes and directions, checked when the config is read


def task(layers, *, tied=True, **fields):
    return {
        "_target_": "rnnlm.tasks.language_model.LanguageModelConfig",
        "layers": layers and [to_dict(layer) for layer in layers],
        "embedding_size": D,
        "softmax": to_dict(FullSoftmaxConfig(tied=tied)),
        **fields,
    }


def problem(data):
    with pytest.raises(ConfigError) as caught:
        from_dict(TaskConfig, data)
    (found,) = caught.value.problems
    return found


LSTM, WIDE = LSTMConfig(hidden_size=D), LSTMConfig(hidden_size=8)


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        (
            [LSTM, LSTM, ResidualConfig(inner=WIDE)],
            (
                "layers[2]: ResidualConfig adds x (size 6) and the outputs of inner (size 8), which must be of one size; "
                "let LSTMConfig give 6, or put a layer of 8 before"
            ),
        ),
        (
            [WIDE, HighwayConfig(inner=LSTM)],
            "layers[1]: HighwayConfig adds x (size 8) and the outputs of inner (size 6)",
        ),
        (
            [ResidualConfig(inner=SequenceConfig(layers=[WIDE, ResidualConfig(inner=LSTM)]))],
            "layers[0].inner.layers[1]: ResidualConfig adds x (size 8)",
        ),
        ([AttentionConfig(num_heads=4)], "layers[0]: num_heads=4 cannot share out inputs of 6 evenly; set another"),
        ([WIDE, AttentionConfig(num_heads=4, size=6)], "layers[1]: num_heads=4 cannot share out size=6 evenly"),
        (
            [ConvolutionConfig(size=7)],
            "layers[0]: a depthwise convolution of inputs of 6 cannot give size=7; set size=null or depthwise=false",
        ),
        (
            [LSTM, FeedForwardConfig(size=9)],
            (
                "a tied softmax needs the stack's outputs (9) = task.embedding_size (6); "
                "make them equal or set softmax.tied=false"
            ),
        ),
    ],
)
def test_sizes_that_do_not_fit_are_said_with_place_and_numbers(layers, words):
    assert problem(task(layers)).startswith(words)


def test_the_path_goes_on_from_where_the_task_stands():
    from rnnlm.training.loop import TrainingConfig

    with pytest.raises(ConfigError, match=r"^task\.layers\[0\]: ResidualConfig adds x \(size 6\)"):
        from_dict(TrainingConfig, {"task": task([ResidualConfig(inner=WIDE)])})


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        (
            [LSTM, ResidualConfig(inner=BidirectionalConfig(forward=LSTM, combine="sum"))],
            (
                "layers[1].inner: BidirectionalConfig reads the sequence from its end too; a language model predicts each "
                "token from those before it"
            ),
        ),
        (
            [ReadingOrderConfig(inner=LSTM)],
            "layers[0]: ReadingOrderConfig reads the sequence in another order (backward)",
        ),
        (
            [AttentionConfig(num_heads=2, causal=False)],
            "layers[0]: AttentionConfig with causal=false sees later positions",
        ),
        (
            [SequenceConfig(layers=[LSTM, ConvolutionConfig(width=5, causal=False)])],
            "layers[0].layers[1]: ConvolutionConfig with causal=false sees 2 positions ahead",
        ),
    ],
)
def test_a_language_model_refuses_to_see_what_it_predicts(layers, words):
    assert problem(task(layers)).startswith(words)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (task([LSTM], num_layers=2), "num_layers: 2 has no meaning where task.layers is set; leave it at 1"),
        (task([]), "layers: list should have at least 1 item"),
        (task([LSTM], one_hot_input=True), "one_hot_input: there is no embedding matrix that a tied softmax could use"),
        (
            task([LSTM], one_hot_input=True, tied=False, pretrained_vectors="a.txt"),
            "one_hot_input: there is no embedding matrix for task.pretrained_vectors",
        ),
        (
            task([FeedForwardConfig()], one_hot_input=True, tied=False),
            "layers[0]: one_hot_input needs a cell as the first layer, whose W reads the token, not FeedForwardConfig",
        ),
    ],
)
def test_fields_that_do_not_go_together(data, words):
    assert problem(data).startswith(words)


def test_combinations_that_a_layer_itself_refuses():
    assert problem({**task([LSTM]), "layers": [{**to_dict(AttentionConfig()), "window": None}]}).startswith(
        "layers[0]: causal attention remembers window - 1 positions; give a window, or set causal=false"
    )
    with pytest.raises(ValueError, match="forward gives 6 and backward 8; make them equal or set combine=concat"):
        BidirectionalConfig(forward=LSTM, backward=WIDE, combine="gate").output_size(D)
    unknown = problem(
        {**task([LSTM]), "layers": [{**to_dict(ResidualConfig(inner=LSTM)), "inner": {"hidden_size": 3}}]}
    )
    assert unknown == "layers[0].inner: choose one kind of LayerConfig (its group, or _target_)"


def test_layers_take_the_place_of_cells():
    layers = [LSTM, ResidualConfig(inner=GRUConfig(hidden_size=D))]
    model = from_dict(TaskConfig, task(layers)).build_model(VOCAB)
    assert [type(layer).__name__ for layer in model.stack.cells()] == ["LSTM", "Residual"]
    same = LanguageModelConfig(cell=LSTM, num_layers=2, embedding_size=D)
    listed = LanguageModelConfig(layers=[LSTM, LSTM], embedding_size=D)
    torch.manual_seed(1)
    first = same.build_model(VOCAB)
    torch.manual_seed(1)
    second = listed.build_model(VOCAB)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)
