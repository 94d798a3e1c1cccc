"""The contract of every cell in conf/cell: one recurrence, however it is cut, batched, stored or computed."""

from pathlib import Path

import pytest
import torch
import yaml

from rnnlm.config import from_dict
from rnnlm.nn.cells.base import CellConfig, FusedCell
from tests.reference import torch_module

CONF = Path(__file__).resolve().parents[2] / "conf" / "cell"
CELLS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(CONF.glob("*.yaml"))}
ROWS, STEPS, INPUT, HIDDEN = 3, 7, 4, 5

FLOAT32_ROUNDING = 1e-6  # products of other shapes add up in another order; values are below 1
RELU = {"elman-relu": {**CELLS["elman"], "nonlinearity": "relu"}}  # a choice inside a YAML that changes the recurrence
RELU |= {
    "min_gru-identity": {**CELLS["min_gru"], "candidate": "identity"},
    "min_lstm-identity": {**CELLS["min_lstm"], "candidate": "identity"},
    "qrnn-1": {**CELLS["qrnn"], "window": 1},
    "rg_lru-blocks": {**CELLS["rg_lru"], "blocks": HIDDEN},
    "sru-peephole": {**CELLS["sru"], "peephole": True},
}


@pytest.fixture(params=[*CELLS, *RELU])
def cell(request):
    data = {**CELLS, **RELU}[request.param]
    return from_dict(CellConfig, {**data, "hidden_size": HIDDEN}).build(INPUT)


def inputs_of(rows=ROWS, steps=STEPS, dtype=torch.float32):
    return torch.randn(rows, steps, INPUT, dtype=dtype)


def random_state(cell, rows=ROWS):
    return tuple(torch.randn(rows, size).tanh() for size in cell.state_sizes)


def stepped(cell, inputs, state):
    outputs = []
    for time in range(inputs.shape[1]):
        output, state = cell.step(inputs[:, time], state)
        outputs.append(output)
    return torch.stack(outputs, dim=1), state


def assert_equal(found, expected, tolerance=FLOAT32_ROUNDING):
    (found_outputs, found_state), (expected_outputs, expected_state) = found, expected
    torch.testing.assert_close(found_outputs, expected_outputs, rtol=0, atol=tolerance)
    assert len(found_state) == len(expected_state)
    for one, other in zip(found_state, expected_state, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=tolerance)


def test_initial_state_is_zero_batch_first_and_follows_the_weights(cell):
    for precision in (torch.float32, torch.float64):
        state = cell.to(precision).initial_state(ROWS)
        assert [tensor.shape for tensor in state] == [(ROWS, size) for size in cell.state_sizes]
        assert all(tensor.dtype == precision and not tensor.any() for tensor in state)
    assert cell.initial_state(0)[0].shape[0] == 0


def test_shapes(cell):
    outputs, state = cell(inputs_of(), cell.initial_state(ROWS))
    assert outputs.shape == (ROWS, STEPS, cell.output_size)
    assert [tensor.shape for tensor in state] == [(ROWS, size) for size in cell.state_sizes]


def test_forward_is_step_after_step(cell):
    inputs, state = inputs_of(), random_state(cell)
    assert_equal(cell(inputs, state), stepped(cell, inputs, state))


def test_forward_is_project_and_advance(cell):
    inputs, state = inputs_of(), random_state(cell)
    projected = cell.project(inputs.flatten(0, 1)).unflatten(0, (ROWS, STEPS))
    outputs, now = [], state
    for time in range(STEPS):
        output, now = cell.advance(projected[:, time], now)
        outputs.append(output)
    assert_equal(cell(inputs, state), (torch.stack(outputs, dim=1), now))


@pytest.mark.parametrize("cuts", [[1], [3], [1, 2, 6]])
def test_whole_is_the_sum_of_its_chunks(cell, cuts):
    inputs, state = inputs_of(), random_state(cell)
    whole, outputs = cell(inputs, state), []
    for start, stop in zip([0, *cuts], [*cuts, STEPS], strict=True):
        output, state = cell(inputs[:, start:stop], state)
        outputs.append(output)
    assert_equal((torch.cat(outputs, dim=1), state), whole)


def test_what_comes_later_changes_nothing_before(cell):
    inputs, state = inputs_of(), random_state(cell)
    before, _ = cell(inputs[:, :4], state)
    padded = torch.cat([inputs[:, :4], torch.full((ROWS, 5, INPUT), 1e3)], dim=1)
    torch.testing.assert_close(cell(padded, state)[0][:, :4], before, rtol=0, atol=FLOAT32_ROUNDING)


def test_a_row_does_not_see_its_neighbours(cell):
    inputs, state = inputs_of(), random_state(cell)
    outputs, final = cell(inputs, state)
    for row in range(ROWS):
        alone = cell(inputs[row : row + 1], tuple(tensor[row : row + 1] for tensor in state))
        assert_equal(alone, (outputs[row : row + 1], tuple(tensor[row : row + 1] for tensor in final)))


def test_reordering_the_state_reorders_the_rows(cell):
    order = torch.tensor([2, 0, 0, 1])
    inputs, state = inputs_of(), random_state(cell)
    expected, final = cell(inputs.index_select(0, order), tuple(tensor.index_select(0, order) for tensor in state))
    first, middle = cell(inputs[:, :3], state)
    second, last = cell(inputs[:, 3:].index_select(0, order), tuple(t.index_select(0, order) for t in middle))
    assert_equal((torch.cat([first.index_select(0, order), second], dim=1), last), (expected, final))


def test_the_state_that_was_given_is_left_alone(cell):
    state = random_state(cell)
    before = [tensor.clone() for tensor in state]
    cell(inputs_of(), state)
    cell.step(inputs_of()[:, 0], state)
    assert all(torch.equal(one, other) for one, other in zip(before, state, strict=True))


@pytest.mark.parametrize("path", ["forward", "step"])
def test_gradients_are_those_of_finite_differences(cell, path):
    cell = cell.double()
    parameters = dict(cell.named_parameters())
    inputs = inputs_of(rows=2, steps=3, dtype=torch.float64).requires_grad_()
    state = tuple(tensor.double().requires_grad_() for tensor in random_state(cell, rows=2))

    def run(inputs, *rest):
        given, weights = rest[: len(state)], dict(zip(parameters, rest[len(state) :], strict=True))
        outputs, final = torch.func.functional_call(
            _Path(cell, path), {f"cell.{n}": w for n, w in weights.items()}, (inputs, given)
        )
        return outputs, *final

    assert torch.autograd.gradcheck(run, (inputs, *state, *parameters.values()))


class _Path(torch.nn.Module):
    """The whole sequence by forward, or step by step."""

    def __init__(self, cell, path):
        super().__init__()
        self.cell, self.path = cell, path

    def forward(self, inputs, state):
        return self.cell(inputs, state) if self.path == "forward" else stepped(self.cell, inputs, state)


def test_weights_come_back_from_a_state_dict(cell, request):
    inputs, state = inputs_of(), random_state(cell)
    data = {**CELLS, **RELU}[request.node.callspec.params["cell"]]
    other = from_dict(CellConfig, {**data, "hidden_size": HIDDEN}).build(INPUT)
    assert not torch.equal(other(inputs, state)[0], cell(inputs, state)[0])
    other.load_state_dict({name: tensor.clone() for name, tensor in cell.state_dict().items()})
    assert torch.equal(other(inputs, state)[0], cell(inputs, state)[0])


def test_the_recurrence_is_that_of_torch(cell):
    if not isinstance(cell, FusedCell):
        pytest.skip("not one of torch's recurrences")
    inputs = inputs_of()
    expected, final = torch_module(cell)(inputs)
    final = final if isinstance(final, tuple) else (final,)
    assert_equal(stepped(cell, inputs, cell.initial_state(ROWS)), (expected, tuple(tensor[0] for tensor in final)))


def test_the_forget_gate_of_an_lstm_begins_open():
    for bias in (1.0, -0.5):
        lstm = from_dict(CellConfig, {**CELLS["lstm"], "hidden_size": HIDDEN, "forget_bias": bias}).build(INPUT)
        _, _, input_bias, recurrent_bias = lstm.weights()
        assert (input_bias + recurrent_bias)[HIDDEN : 2 * HIDDEN].tolist() == [bias] * HIDDEN
