"""Cells that torch does not have, against their papers' equations, one row and one step at a time, in float64; and the
special cases in which one cell is another."""

import numpy as np
import pytest
import torch
from torch import nn

from rnnlm.config import TARGET, from_dict, to_dict
from rnnlm.errors import ConfigError
from rnnlm.nn.cells.base import CellConfig
from rnnlm.nn.cells.elman import ElmanConfig
from rnnlm.nn.cells.jordan import JordanConfig
from rnnlm.nn.cells.layer_norm_lstm import LayerNormLSTMConfig
from rnnlm.nn.cells.lstm import LSTM, LSTMConfig, PeepholeLSTM
from rnnlm.nn.cells.mogrifier import MogrifierConfig
from rnnlm.nn.cells.multiplicative_lstm import MultiplicativeLSTMConfig

ROWS, STEPS, INPUT, HIDDEN = 2, 6, 4, 5
FLOAT64_ROUNDING = 1e-12  # the same numbers added up in another order
EPSILON = 1e-5  # what torch adds to the variance in a layer norm
SCALED_EPSILON = 1e-6  # what is left of that beside a variance above 100


def sigmoid(values):
    return 1.0 / (1.0 + np.exp(-values))


def weights_of(cell):
    return {name: parameter.detach().numpy() for name, parameter in cell.named_parameters()}


def perturbed(cell):
    """In float64, every weight random: gains and shifts too, which start at 1 and 0."""
    cell = cell.double()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return cell


def assert_follows(cell, slow):
    """`slow(weights, x, state)` gives output and state of one step of one row."""
    inputs = torch.randn(ROWS, STEPS, INPUT, dtype=torch.float64)
    state = tuple(torch.randn(ROWS, size, dtype=torch.float64) for size in cell.state_sizes)
    with torch.no_grad():
        outputs, final = cell(inputs, state)
    weights = weights_of(cell)
    for row in range(ROWS):
        now = tuple(tensor[row].numpy() for tensor in state)
        for time in range(STEPS):
            output, now = slow(weights, inputs[row, time].numpy(), now)
            np.testing.assert_allclose(outputs[row, time].numpy(), output, rtol=0, atol=FLOAT64_ROUNDING)
        for found, expected in zip(final, now, strict=True):
            np.testing.assert_allclose(found[row].numpy(), expected, rtol=0, atol=FLOAT64_ROUNDING)


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
@pytest.mark.parametrize("output_nonlinearity", ["sigmoid", "tanh", "identity"])
def test_jordan(nonlinearity, output_nonlinearity):
    functions = {"tanh": np.tanh, "relu": lambda z: np.maximum(z, 0), "sigmoid": sigmoid, "identity": lambda z: z}

    def slow(w, x, state):
        h = functions[nonlinearity](w["input_weight"] @ x + w["recurrent_weight"] @ state[0] + w["bias"])
        y = functions[output_nonlinearity](w["output_weight"] @ h + w["output_bias"])
        return y, (y,)

    options = JordanConfig(hidden_size=HIDDEN, nonlinearity=nonlinearity, output_nonlinearity=output_nonlinearity)
    assert_follows(perturbed(options.build(INPUT)), slow)


@pytest.mark.parametrize(("peepholes", "coupled"), [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("projection", [None, 3])
def test_lstm_with_options(peepholes, coupled, projection):
    def slow(w, x, state):
        h, c = state
        block = {
            gate: w["input_weight"][at : at + HIDDEN] @ x
            + w["recurrent_weight"][at : at + HIDDEN] @ h
            + w["bias"][at : at + HIDDEN]
            for gate, at in zip("fgo" if coupled else "ifgo", range(0, 4 * HIDDEN, HIDDEN), strict=False)
        }
        p_f, p_o, p_i = [*w["peepholes"], None][:3] if peepholes else np.zeros((3, HIDDEN))
        f = sigmoid(block["f"] + p_f * c)
        i = 1 - f if coupled else sigmoid(block["i"] + p_i * c)
        c = f * c + i * np.tanh(block["g"])
        h = sigmoid(block["o"] + p_o * c) * np.tanh(c)
        if projection:
            h = w["projection"] @ h
        return h, (h, c)

    options = LSTMConfig(hidden_size=HIDDEN, peepholes=peepholes, coupled_gates=coupled, projection_size=projection)
    cell = perturbed(options.build(INPUT))
    assert cell.state_sizes == (projection or HIDDEN, HIDDEN)
    assert cell.output_size == options.output_size(INPUT) == (projection or HIDDEN)
    assert_follows(cell, slow)


def lstm_step(gates, c):
    i, f, g, o = np.split(gates, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def test_layer_norm_lstm():
    def normal(z):
        mean = sum(z) / len(z)
        variance = sum((z - mean) ** 2) / len(z)
        return (z - mean) / np.sqrt(variance + EPSILON)

    def slow(w, x, state):
        h, c = state
        recurrent = w["recurrent_gain"] * normal(w["recurrent_weight"] @ h)
        i, f, g, o = np.split(recurrent + w["input_gain"] * normal(w["input_weight"] @ x) + w["bias"], 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(w["memory_gain"] * normal(c) + w["memory_shift"])
        return h, (h, c)

    assert_follows(perturbed(LayerNormLSTMConfig(hidden_size=HIDDEN).build(INPUT)), slow)


@pytest.mark.parametrize("rounds", [0, 1, 2, 5])
@pytest.mark.parametrize("rank", [None, 2])
def test_mogrifier(rounds, rank):
    def slow(w, x, state):
        h, c = state
        for number in range(1, rounds + 1):
            matrix = [value for name, value in w.items() if name.startswith(f"scaling.{number - 1}.")]
            assert len(matrix) == (1 if rank is None else 2)
            matrix = matrix[0] if rank is None else matrix[1] @ matrix[0]  # k columns times k rows
            if number in {1, 3, 5}:
                x = 2 * sigmoid(matrix @ h) * x
            else:
                h = 2 * sigmoid(matrix @ x) * h
        h, c = lstm_step(w["input_weight"] @ x + w["recurrent_weight"] @ h + w["bias"], c)
        return h, (h, c)

    assert_follows(perturbed(MogrifierConfig(hidden_size=HIDDEN, rounds=rounds, rank=rank).build(INPUT)), slow)


def test_multiplicative_lstm():
    def slow(w, x, state):
        h, c = state
        m = (w["factor_input_weight"] @ x) * (w["factor_recurrent_weight"] @ h)
        h, c = lstm_step(w["input_weight"] @ x + w["recurrent_weight"] @ m + w["bias"], c)
        return h, (h, c)

    assert_follows(perturbed(MultiplicativeLSTMConfig(hidden_size=HIDDEN).build(INPUT)), slow)


def as_torch(cell, projection=0):
    """torch.nn.LSTM with the cell's W, U, b."""
    lstm = nn.LSTM(INPUT, HIDDEN, batch_first=True, proj_size=projection).double()
    weights = {
        "weight_ih_l0": cell.input_weight,
        "weight_hh_l0": cell.recurrent_weight,
        "bias_ih_l0": cell.bias,
        "bias_hh_l0": torch.zeros_like(cell.bias),
    }
    if projection:
        weights["weight_hr_l0"] = cell.projection
    lstm.load_state_dict(weights)
    return lstm


def assert_same_outputs(cell, module):
    inputs = torch.randn(ROWS, STEPS, INPUT, dtype=torch.float64)
    with torch.no_grad():
        found, expected = cell(inputs, cell.initial_state(ROWS))[0], module(inputs)[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=FLOAT64_ROUNDING)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("projection", [None, 3])
def test_peepholes_of_zero_are_none(projection):
    cell = perturbed(LSTMConfig(hidden_size=HIDDEN, peepholes=True, projection_size=projection).build(INPUT))
    with torch.no_grad():
        cell.peepholes.zero_()
    assert_same_outputs(cell, as_torch(cell, projection or 0))


def test_a_mogrifier_without_rounds_is_an_lstm():
    cell = perturbed(MogrifierConfig(hidden_size=HIDDEN, rounds=0).build(INPUT))
    assert_same_outputs(cell, as_torch(cell))


def test_a_mogrifier_that_scales_by_one_is_an_lstm():
    cell = perturbed(MogrifierConfig(hidden_size=HIDDEN).build(INPUT))
    with torch.no_grad():
        for matrix in cell.scaling.parameters():
            matrix.zero_()  # 2 sigmoid(0) = 1
    assert_same_outputs(cell, as_torch(cell))


def test_a_multiplicative_lstm_with_one_transition_is_an_lstm():
    """With m_t = h_{t-1}: U_m the identity, and W_m that sums an input whose elements sum to 1."""
    cell = perturbed(MultiplicativeLSTMConfig(hidden_size=HIDDEN).build(INPUT))
    with torch.no_grad():
        cell.factor_input_weight.fill_(1.0)
        cell.factor_recurrent_weight.copy_(torch.eye(HIDDEN))
    inputs = torch.rand(ROWS, STEPS, INPUT, dtype=torch.float64).softmax(-1)
    with torch.no_grad():
        found, expected = cell(inputs, cell.initial_state(ROWS))[0], as_torch(cell)(inputs)[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=FLOAT64_ROUNDING)


def test_a_jordan_network_that_says_what_it_thinks_is_an_elman_network():
    cell = perturbed(JordanConfig(hidden_size=HIDDEN, output_nonlinearity="identity").build(INPUT))
    elman = ElmanConfig(hidden_size=HIDDEN).build(INPUT).double()
    with torch.no_grad():
        cell.output_weight.copy_(torch.eye(HIDDEN))
        cell.output_bias.zero_()
    weights = [cell.input_weight, cell.recurrent_weight, cell.bias, torch.zeros_like(cell.bias)]
    names = ["fused.weight_ih_l0", "fused.weight_hh_l0", "fused.bias_ih_l0", "fused.bias_hh_l0"]
    elman.load_state_dict(dict(zip(names, weights, strict=True)))
    assert_same_outputs(cell, lambda inputs: elman(inputs, elman.initial_state(ROWS)))


@pytest.mark.parametrize("name", ["input_weight", "recurrent_weight"])
def test_layer_norm_hides_the_scale_of_a_matrix(name):
    """Table 1 of Ba et al. 2016: outputs do not change when a weight matrix is scaled as a whole."""
    cell = perturbed(LayerNormLSTMConfig(hidden_size=HIDDEN).build(INPUT))
    inputs = torch.randn(ROWS, STEPS, INPUT, dtype=torch.float64)
    state = tuple(torch.randn(ROWS, size, dtype=torch.float64) for size in cell.state_sizes)
    with torch.no_grad():
        cell.get_parameter(name).mul_(30.0)
        before, _ = cell(inputs, state)
        cell.get_parameter(name).mul_(7.0)
        after, _ = cell(inputs, state)
        cell.get_parameter(name)[:HIDDEN].mul_(7.0)  # the mean is over all gates, so the scale of one of them shows
        other, _ = cell(inputs, state)
    torch.testing.assert_close(after, before, rtol=0, atol=SCALED_EPSILON)
    assert (other - before).abs().max() > 1e-3


def test_plain_and_projected_lstms_hold_the_weights_of_torch():
    assert isinstance(LSTMConfig().build(INPUT), LSTM)
    assert isinstance(LSTMConfig(projection_size=3).build(INPUT), LSTM)
    assert isinstance(LSTMConfig(coupled_gates=True).build(INPUT), PeepholeLSTM)


def test_coupled_gates_have_a_quarter_fewer_weights():
    def count(**options):
        cell = LSTMConfig(hidden_size=HIDDEN, peepholes=True, **options).build(INPUT)
        return sum(parameter.numel() for parameter in cell.parameters())

    assert count() == 4 * HIDDEN * (INPUT + HIDDEN + 1) + 3 * HIDDEN
    assert count(coupled_gates=True) == 3 * HIDDEN * (INPUT + HIDDEN + 1) + 2 * HIDDEN


def problems(cls, **values):
    with pytest.raises(ConfigError) as caught:
        from_dict(CellConfig, {TARGET: f"{cls.__module__}.{cls.__name__}", **values})
    return caught.value.problems


@pytest.mark.parametrize("size", [8, 9])
def test_a_projection_that_does_not_shrink_is_refused(size):
    (found,) = problems(LSTMConfig, hidden_size=8, projection_size=size)
    assert f"projection_size ({size}) must be smaller than hidden_size (8)" in found
    assert LSTMConfig(hidden_size=8, projection_size=7).output_size(3) == 7


def test_a_rank_that_does_not_shrink_is_refused():
    (found,) = problems(MogrifierConfig, hidden_size=8, rank=8)
    assert "rank (8) must be smaller than hidden_size (8)" in found
    options = MogrifierConfig(hidden_size=8, rank=6)
    assert options.output_size(7) == 8
    with pytest.raises(ValueError, match=r"rank \(6\) must be smaller than the input's size \(6\)"):
        options.output_size(6)
    with pytest.raises(ValueError, match="input's size"):
        options.build(6)


@pytest.mark.parametrize(
    ("cls", "field", "value"),
    [(LSTMConfig, "projection_size", 0), (MogrifierConfig, "rounds", -1), (MogrifierConfig, "rank", 0)],
)
def test_values_out_of_range_are_named(cls, field, value):
    (found,) = problems(cls, **{field: value})
    assert found.startswith(f"{field}: ")
    assert f"got {value}" in found


def test_an_unknown_function_of_a_jordan_network_is_refused():
    (found,) = problems(JordanConfig, output_nonlinearity="relu")
    assert found.startswith("output_nonlinearity: ")
    assert "'sigmoid', 'tanh' or 'identity'" in found


def test_the_config_of_an_older_lstm_is_still_read():
    """Checkpoints that know nothing of the options."""
    plain = to_dict(LSTMConfig(hidden_size=8))
    for name in ("peepholes", "coupled_gates", "projection_size"):
        del plain[name]
    assert from_dict(CellConfig, plain) == LSTMConfig(hidden_size=8)
