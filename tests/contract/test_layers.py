"""The contract of every layer in conf/layer: one function of a sequence, however it is cut, batched, packed or stored."""

import pytest
import torch
import torch.nn.functional as F

from rnnlm.config import from_dict, to_dict
from rnnlm.nn.layer import LayerConfig
from rnnlm.nn.packing import Packing
from rnnlm.nn.prepared import PreparedWeights
from tests import cells
from tests.cells import random_state, stepped
from tests.layers import AHEAD, CAUSAL, CELL_CONFIGS, CONFIGS, FILES, SIZE

ROWS, STEPS = 3, 7
FLOAT32_ROUNDING = 1e-5  # products of other shapes add up in another order; values are around 1, normalisation enlarges
LENGTHS = [7, 7, 5, 4, 4, 1]  # of packed rows


@pytest.fixture(params=[*CAUSAL, *CELL_CONFIGS])
def layer(request):
    return {**CONFIGS, **CELL_CONFIGS}[request.param].build(SIZE).eval()


@pytest.fixture(params=CONFIGS)
def any_layer(request):
    return CONFIGS[request.param].build(SIZE).eval()


def inputs_of(rows=ROWS, steps=STEPS, dtype=torch.float32):
    return torch.randn(rows, steps, SIZE, dtype=dtype)


def assert_equal(found, expected, tolerance=FLOAT32_ROUNDING):
    cells.assert_equal(found, expected, tolerance)


def test_every_yaml_is_read_and_both_kinds_of_layers_are_there():
    assert {path.stem for path in FILES} <= set(CONFIGS)
    assert len(CAUSAL) > 5
    assert len(AHEAD) > 5


def test_a_config_says_which_size_and_which_future_its_layer_has(any_layer, request):
    found = CONFIGS[request.node.callspec.params["any_layer"]]
    assert any_layer.input_size == SIZE
    assert any_layer.output_size == found.output_size(SIZE)
    assert any_layer.sees_future == (found.sees_future() is not None)
    assert from_dict(LayerConfig, to_dict(found)) == found


def test_states_are_zero_at_first_and_follow_the_weights(layer):
    for precision in (torch.float32, torch.float64):
        state = layer.to(precision).initial_state(ROWS)
        assert [tensor.shape for tensor in state] == [(ROWS, size) for size in layer.state_sizes]
        assert all(tensor.dtype == precision and not tensor.any() for tensor in state)


def test_shapes(layer):
    outputs, state = layer(inputs_of(), layer.initial_state(ROWS))
    assert outputs.shape == (ROWS, STEPS, layer.output_size)
    assert [tensor.shape for tensor in state] == [(ROWS, size) for size in layer.state_sizes]


@pytest.mark.parametrize("start", ["zeros", "random"])
def test_forward_is_step_after_step(layer, start):
    inputs = inputs_of()
    state = random_state(layer) if start == "random" else layer.initial_state(ROWS)
    assert_equal(layer(inputs, state), stepped(layer, inputs, state))


def test_forward_is_project_and_advance(layer):
    inputs, state = inputs_of(), random_state(layer)
    projected = layer.project(inputs.flatten(0, 1)).unflatten(0, (ROWS, STEPS))
    assert_equal(layer(inputs, state), layer.advance_sequence(projected, state))


@pytest.mark.parametrize("cuts", [[1], [3], [1, 2, 6]])
def test_whole_is_the_sum_of_its_chunks(layer, cuts):
    inputs, state = inputs_of(), layer.initial_state(ROWS)
    whole, outputs = layer(inputs, state), []
    for start, stop in zip([0, *cuts], [*cuts, STEPS], strict=True):
        output, state = layer(inputs[:, start:stop], state)
        outputs.append(output)
    assert_equal((torch.cat(outputs, dim=1), state), whole)


@pytest.mark.parametrize("steps", [150])
def test_a_long_sequence_is_the_sum_of_its_chunks(layer, steps):
    inputs, state = inputs_of(steps=steps), layer.initial_state(ROWS)
    whole, outputs = layer(inputs, state), []
    for start in range(0, steps, 11):
        output, state = layer(inputs[:, start : start + 11], state)
        outputs.append(output)
    assert_equal((torch.cat(outputs, dim=1), state), whole, tolerance=10 * FLOAT32_ROUNDING)


@pytest.mark.parametrize("cuts", [[], [1], [4], [2, 5]])
def test_packed_rows_are_each_row_alone(layer, cuts):
    inputs = inputs_of(len(LENGTHS))
    state, outputs, final = random_state(layer, len(LENGTHS)), [], {}
    expected = [
        layer(inputs[row : row + 1, :length], tuple(tensor[row : row + 1] for tensor in state))
        for row, length in enumerate(LENGTHS)
    ]
    for start, stop in zip([0, *cuts], [*cuts, STEPS], strict=True):
        packing = Packing([sum(length > time for length in LENGTHS) for time in range(start, stop)])
        packed = torch.cat([inputs[:count, start + step] for step, count in enumerate(packing.alive)])
        output, state = layer.advance_packed(layer.project(packed), packing, state)
        outputs += output.split(packing.alive)
        going_on = sum(length > stop for length in LENGTHS)
        for row in range(going_on, packing.rows):
            final[row] = tuple(tensor[row : row + 1] for tensor in state)
        state = tuple(tensor[:going_on] for tensor in state)
    for row, length in enumerate(LENGTHS):
        found = torch.stack([outputs[time][row] for time in range(length)])
        assert_equal((found[None], final[row]), expected[row])


def test_long_packed_rows_are_each_row_alone(layer):
    lengths = [150, 141, 128, 100, 64, 30, 1]
    inputs, state = inputs_of(len(lengths), 150), layer.initial_state(len(lengths))
    packing = Packing([sum(length > time for length in lengths) for time in range(150)])
    outputs, final = layer.run_packed(packing.pack(inputs), packing, state)
    padded = packing.pad(outputs)
    for row, length in enumerate(lengths):
        expected = layer(inputs[row : row + 1, :length], tuple(tensor[row : row + 1] for tensor in state))
        found = padded[row : row + 1, :length], tuple(tensor[row : row + 1] for tensor in final)
        assert_equal(found, expected, tolerance=10 * FLOAT32_ROUNDING)


def test_what_comes_later_changes_nothing_before(layer):
    inputs, state = inputs_of(), random_state(layer)
    before, _ = layer(inputs[:, :4], state)
    padded = torch.cat([inputs[:, :4], torch.full((ROWS, 5, SIZE), 1e3)], dim=1)
    torch.testing.assert_close(layer(padded, state)[0][:, :4], before, rtol=0, atol=FLOAT32_ROUNDING)


def test_a_row_does_not_see_its_neighbours(layer):
    inputs, state = inputs_of(), random_state(layer)
    outputs, final = layer(inputs, state)
    for row in range(ROWS):
        alone = layer(inputs[row : row + 1], tuple(tensor[row : row + 1] for tensor in state))
        assert_equal(alone, (outputs[row : row + 1], tuple(tensor[row : row + 1] for tensor in final)))


def test_a_lane_set_to_zeros_is_at_the_start(layer):
    inputs = inputs_of()
    _, carried = layer(inputs_of(), layer.initial_state(ROWS))
    outputs, _ = layer(inputs, tuple(tensor * torch.tensor([[1.0], [0.0], [1.0]]) for tensor in carried))
    fresh, _ = layer(inputs, layer.initial_state(ROWS))
    torch.testing.assert_close(outputs[1], fresh[1], rtol=0, atol=FLOAT32_ROUNDING)
    if layer.state_sizes:
        assert not torch.allclose(outputs[0], fresh[0], atol=1e-4)


def test_reordering_the_state_reorders_the_rows(layer):
    order = torch.tensor([2, 0, 0, 1])
    inputs, state = inputs_of(), random_state(layer)
    expected, final = layer(inputs.index_select(0, order), tuple(tensor.index_select(0, order) for tensor in state))
    first, middle = layer(inputs[:, :3], state)
    second, end = layer(inputs[:, 3:].index_select(0, order), tuple(t.index_select(0, order) for t in middle))
    assert_equal((torch.cat([first.index_select(0, order), second], dim=1), end), (expected, final))


def test_the_state_that_was_given_is_left_alone(layer):
    state = random_state(layer)
    before = [tensor.clone() for tensor in state]
    layer(inputs_of(), state)
    layer.step(inputs_of()[:, 0], state)
    assert all(torch.equal(one, other) for one, other in zip(before, state, strict=True))


def test_reading_whole_sequences_is_forward_from_the_start(layer):
    inputs = inputs_of()
    expected, _ = layer(inputs, layer.initial_state(ROWS))
    found = layer.read(inputs, torch.tensor([STEPS, 3, 1]))
    for row, length in enumerate([STEPS, 3, 1]):
        torch.testing.assert_close(found[row, :length], expected[row, :length], rtol=0, atol=FLOAT32_ROUNDING)


def test_prepared_weights_read_the_same(any_layer):
    lengths = torch.tensor([STEPS - 2, STEPS, 1, 0, STEPS - 2])
    inputs = inputs_of(len(lengths))
    with torch.inference_mode():
        expected = any_layer.eval().read(inputs, lengths)
        with PreparedWeights("float32", torch.device("cpu")).active():
            found = any_layer.read(inputs, lengths)
    inside = torch.arange(STEPS) < lengths[:, None]
    torch.testing.assert_close(found[inside], expected[inside], rtol=0, atol=FLOAT32_ROUNDING)


def test_prepared_weights_read_rows_of_one_length_the_same(layer):
    inputs, state = inputs_of(), random_state(layer)
    with torch.inference_mode():
        expected = layer.eval()(inputs, state)
        with PreparedWeights("float32", torch.device("cpu")).active():
            assert_equal(layer(inputs, state), expected, tolerance=10 * FLOAT32_ROUNDING)


def test_padding_on_the_right_changes_nothing_that_is_read(any_layer):
    lengths = [STEPS, 3, 1, 0, 6]
    inputs = inputs_of(len(lengths))
    for row, length in enumerate(lengths):
        inputs[row, length:] = 1e3
    found = any_layer.read(inputs, torch.tensor(lengths))
    assert found.shape == (len(lengths), STEPS, any_layer.output_size)
    assert torch.isfinite(found).all()
    for row, length in enumerate(lengths):
        if length:
            alone = any_layer.read(inputs[row : row + 1, :length], torch.tensor([length]))[0]
            torch.testing.assert_close(found[row, :length], alone, rtol=0, atol=FLOAT32_ROUNDING)


@pytest.mark.parametrize("name", AHEAD)
def test_a_layer_that_sees_the_future_has_no_steps_and_no_state(name):
    layer = CONFIGS[name].build(SIZE)
    assert layer.state_sizes == ()
    assert layer.initial_state(2) == ()
    with pytest.raises(NotImplementedError, match="sees later positions and has no steps"):
        layer(inputs_of(), ())


@pytest.mark.parametrize("path", ["forward", "step"])
def test_gradients_are_those_of_finite_differences(layer, path):
    layer = layer.double()
    parameters = dict(layer.named_parameters())
    inputs = inputs_of(rows=2, steps=3, dtype=torch.float64).requires_grad_()
    state = tuple(tensor.double().requires_grad_() for tensor in random_state(layer, rows=2))

    def run(inputs, *rest):
        given, weights = rest[: len(state)], dict(zip(parameters, rest[len(state) :], strict=True))
        outputs, final = torch.func.functional_call(
            _Path(layer, path), {f"layer.{n}": w for n, w in weights.items()}, (inputs, given)
        )
        return outputs, *final

    assert torch.autograd.gradcheck(run, (inputs, *state, *parameters.values()), fast_mode=True)


@pytest.mark.parametrize("name", AHEAD)
def test_gradients_of_reading_are_those_of_finite_differences(name):
    layer = CONFIGS[name].build(SIZE).double()
    parameters = dict(layer.named_parameters())
    inputs = inputs_of(rows=2, steps=4, dtype=torch.float64).requires_grad_()

    def run(inputs, *weights):
        given = {f"layer.{n}": w for n, w in zip(parameters, weights, strict=True)}
        return torch.func.functional_call(_Path(layer, "read"), given, (inputs, torch.tensor([4, 2])))

    assert torch.autograd.gradcheck(run, (inputs, *parameters.values()), fast_mode=True)


class _Path(torch.nn.Module):
    """The whole sequence by forward, step by step, or read at once."""

    def __init__(self, layer, path):
        super().__init__()
        self.layer, self.path = layer, path

    def forward(self, inputs, given):
        if self.path == "read":
            found = self.layer.read(inputs, given)
            inside = torch.arange(inputs.shape[1]) < given[:, None]
            return found * inside[:, :, None]
        return self.layer(inputs, given) if self.path == "forward" else stepped(self.layer, inputs, given)


def test_one_hot_vectors_are_projected_as_they_are(layer):
    tokens, scales = torch.tensor([2, 0, 2, 3, 1]), torch.tensor([1.0, 0.0, 2.5, 1.0, -1.0])
    vectors = F.one_hot(tokens, SIZE) * scales[:, None]
    found, expected = layer.project_one_hot(tokens, scales), layer.project(vectors)
    torch.testing.assert_close(found, expected, rtol=0, atol=FLOAT32_ROUNDING)


def test_weights_come_back_from_a_state_dict(any_layer, request):
    inputs, lengths = inputs_of(), torch.tensor([STEPS, 3, 5])
    other = CONFIGS[request.node.callspec.params["any_layer"]].build(SIZE).eval()
    for parameter in any_layer.parameters():
        torch.nn.init.normal_(parameter)
    assert not torch.equal(other.read(inputs, lengths), any_layer.read(inputs, lengths))
    other.load_state_dict({name: tensor.clone() for name, tensor in any_layer.state_dict().items()})
    assert torch.equal(other.read(inputs, lengths), any_layer.read(inputs, lengths))
