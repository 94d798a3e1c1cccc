"""Cells with elementwise recurrences against their papers' equations, number by number in Python floats."""

import math

import numpy as np
import pytest
import torch

from rnnlm.config import from_dict, to_dict
from rnnlm.errors import ConfigError
from rnnlm.inference.packed import PackedRunner
from rnnlm.nn.cells.base import CellConfig
from rnnlm.nn.cells.min_gru import MinGRUConfig
from rnnlm.nn.cells.min_lstm import MinLSTMConfig
from rnnlm.nn.cells.qrnn import QRNNConfig
from rnnlm.nn.cells.rg_lru import RGLRUConfig
from rnnlm.nn.cells.sru import SRUConfig
from rnnlm.nn.linear_scan import CHUNK, choose
from rnnlm.tasks.language_model import LanguageModelConfig

HIDDEN = 6
CONFIGS = {
    "min_gru": MinGRUConfig(hidden_size=HIDDEN),
    "min_gru identity": MinGRUConfig(hidden_size=HIDDEN, candidate="identity"),
    "min_lstm": MinLSTMConfig(hidden_size=HIDDEN),
    "min_lstm identity": MinLSTMConfig(hidden_size=HIDDEN, candidate="identity", forget_bias=-2.0),
    "sru": SRUConfig(hidden_size=HIDDEN),
    "sru bias": SRUConfig(hidden_size=HIDDEN, highway_bias=-1.0),
    "sru peephole": SRUConfig(hidden_size=HIDDEN, peephole=True),
    "qrnn 1": QRNNConfig(hidden_size=HIDDEN, window=1),
    "qrnn 2": QRNNConfig(hidden_size=HIDDEN),
    "qrnn zoneout": QRNNConfig(hidden_size=HIDDEN, zoneout=0.3),
    "rg_lru": RGLRUConfig(hidden_size=HIDDEN),
    "rg_lru blocks": RGLRUConfig(hidden_size=HIDDEN, blocks=3),
}
ONE_OF_EACH = ["min_gru", "min_lstm", "sru", "qrnn 2", "rg_lru"]

FLOAT64_SUMS = 1e-12  # a few thousand float64 operations in another order
FLOAT32_SUMS = 1e-5  # the same for some hundred float32 operations


@pytest.fixture(params=CONFIGS)
def name(request):
    return request.param


@pytest.fixture(params=[4, HIDDEN], ids=["other size", "same size"])
def input_size(request):
    return request.param


def built(name, input_size):
    """In evaluation, in float64, with every weight away from where it starts."""
    cell = CONFIGS[name].build(input_size).double().eval()
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return cell


def random_state(cell, rows):
    return tuple(torch.randn(rows, size, dtype=torch.float64) for size in cell.state_sizes)


# ----- the equations


def sigmoid(x):
    return 1.0 / (1.0 + math.exp(-x))


def g(x, candidate):
    return x if candidate == "identity" else (x + 0.5 if x >= 0 else sigmoid(x))


def dot(matrix, vector):
    return [sum(float(w) * float(x) for w, x in zip(row, vector, strict=True)) for row in matrix]


def thirds(rows):
    """Gates' blocks of HIDDEN rows."""
    return [rows[start : start + HIDDEN] for start in range(0, len(rows), HIDDEN)]


def min_gru(cell, x, state, config):
    update, candidate = thirds(
        [p + float(b) for p, b in zip(dot(cell.products.weight, x), cell.products.bias, strict=True)]
    )
    z = [sigmoid(u) for u in update]
    h = [(1 - z[k]) * state[0][k] + z[k] * g(candidate[k], config.candidate) for k in range(HIDDEN)]
    return h, [h]


def min_lstm(cell, x, state, config):
    forget, write, candidate = thirds(
        [p + float(b) for p, b in zip(dot(cell.products.weight, x), cell.products.bias, strict=True)]
    )
    h = []
    for k in range(HIDDEN):
        f, i = sigmoid(forget[k]), sigmoid(write[k])
        h.append(f / (f + i) * state[0][k] + i / (f + i) * g(candidate[k], config.candidate))
    return h, [h]


def sru(cell, x, state, config):
    forget, read, candidate, *skipped = thirds(dot(cell.weight, x))
    skipped = skipped[0] if skipped else list(x)
    assert (len(x) == HIDDEN) == (len(cell.weight) == 3 * HIDDEN)
    b_f, b_r = thirds(cell.bias.tolist())
    v_f, v_r = cell.peephole.tolist() if config.peephole else ([0.0] * HIDDEN,) * 2
    alpha = math.sqrt(1 + 2 * math.exp(config.highway_bias))
    h, c = [], []
    for k in range(HIDDEN):
        before = state[0][k]
        f = sigmoid(forget[k] + v_f[k] * before + b_f[k])
        r = sigmoid(read[k] + v_r[k] * before + b_r[k])
        c.append(f * before + (1 - f) * candidate[k])
        h.append(r * c[k] + (1 - r) * alpha * skipped[k])
    return h, [c]


def qrnn(cell, x, state, config):
    products = dot(cell.weight, x)
    here, later = products[: 3 * HIDDEN], products[3 * HIDDEN :]
    before = state[1] if config.window == 2 else [0.0] * 3 * HIDDEN
    candidate, forget, read = thirds([p + q + b for p, q, b in zip(here, before, cell.bias.tolist(), strict=True)])
    h, c = [], []
    for k in range(HIDDEN):
        write = (1 - sigmoid(forget[k])) * (1 - config.zoneout)
        c.append((1 - write) * state[0][k] + write * math.tanh(candidate[k]))
        h.append(sigmoid(read[k]) * c[k])
    return h, [c, later] if config.window == 2 else [c]


def rg_lru(cell, x, state, config):
    x = dot(cell.enter.weight, x) if len(x) != HIDDEN else [float(one) for one in x]
    size = HIDDEN // config.blocks
    h = []
    for k in range(HIDDEN):
        block, row = divmod(k, size)
        seen = x[block * size : (block + 1) * size]
        r, i = (
            sigmoid(dot([cell.weight[gate, block, row].tolist()], seen)[0] + cell.bias[gate, k].item())
            for gate in range(2)
        )
        a = sigmoid(cell.decay[k].item()) ** (8 * r)
        h.append(a * state[0][k] + math.sqrt(1 - a * a) * i * x[k])
    return h, [h]


EQUATIONS = {"min_gru": min_gru, "min_lstm": min_lstm, "sru": sru, "qrnn": qrnn, "rg_lru": rg_lru}


@pytest.mark.parametrize("steps", [5, 4 * CHUNK + 1])
def test_it_is_the_equations_of_its_paper(name, input_size, steps):
    cell, equations = built(name, input_size).requires_grad_(False), EQUATIONS[name.split()[0]]
    inputs, state = torch.randn(1, steps, input_size, dtype=torch.float64), random_state(cell, 1)
    outputs, final = cell(inputs, state)
    now = [tensor[0].tolist() for tensor in state]
    for time in range(steps):
        hidden, now = equations(cell, inputs[0, time].tolist(), now, CONFIGS[name])
        np.testing.assert_allclose(outputs[0, time].numpy(), hidden, rtol=0, atol=FLOAT64_SUMS)
    for one, other in zip(final, now, strict=True):
        np.testing.assert_allclose(one[0].numpy(), other, rtol=0, atol=FLOAT64_SUMS)


# ----- what the contract does not see: inputs of the size of the state, long sequences, weights away from the start


@pytest.mark.parametrize("steps", [7, 2 * CHUNK**2 + 3])
def test_forward_is_step_after_step_with_the_same_gradients(name, input_size, steps):
    cell = built(name, input_size)
    inputs = torch.randn(2, steps, input_size, dtype=torch.float64, requires_grad=True)
    state = tuple(tensor.requires_grad_() for tensor in random_state(cell, 2))
    leaves = [inputs, *state, *cell.parameters()]
    outputs, final = cell(inputs, state)
    stepped, now = [], state
    for one in inputs.unbind(1):
        output, now = cell.step(one, now)
        stepped.append(output)
    stepped = torch.stack(stepped, dim=1)
    torch.testing.assert_close(outputs, stepped, rtol=0, atol=FLOAT64_SUMS)
    weights = torch.randn_like(outputs)
    ends = [torch.randn_like(tensor) for tensor in final]
    found = torch.autograd.grad([outputs, *final], leaves, [weights, *ends])
    expected = torch.autograd.grad([stepped, *now], leaves, [weights, *ends])
    for one, other in zip(found, expected, strict=True):
        scale = max(1.0, other.abs().max().item())
        torch.testing.assert_close(one, other, rtol=0, atol=FLOAT64_SUMS * scale)


@pytest.mark.parametrize("steps", [3, 2 * CHUNK + 1])
def test_gradients_are_those_of_finite_differences(name, input_size, steps):
    cell = built(name, input_size)
    inputs = torch.randn(1, steps, input_size, dtype=torch.float64, requires_grad=True)
    state = tuple(tensor.requires_grad_() for tensor in random_state(cell, 1))
    names, parameters = zip(*cell.named_parameters(), strict=True)

    def run(inputs, *rest):
        given, weights = rest[: len(state)], dict(zip(names, rest[len(state) :], strict=True))
        outputs, final = torch.func.functional_call(cell, weights, (inputs, given))
        return outputs, *final

    assert torch.autograd.gradcheck(run, (inputs, *state, *parameters), fast_mode=True)


def test_a_long_sequence_is_scanned_by_chunks_and_cut_anywhere(name, input_size):
    cell = built(name, input_size)
    inputs, state = torch.randn(2, 300, input_size, dtype=torch.float64), random_state(cell, 2)
    assert choose(inputs) == "chunks"
    with torch.no_grad():
        whole, final = cell(inputs, state)
        first, middle = cell(inputs[:, :123], state)
        second, last = cell(inputs[:, 123:], middle)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole, rtol=0, atol=FLOAT64_SUMS)
    for one, other in zip(last, final, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=FLOAT64_SUMS)


def test_a_state_does_not_hold_on_to_the_whole_sequence(name):
    cell = built(name, 4)
    _, state = cell(torch.randn(2, 50, 4, dtype=torch.float64), random_state(cell, 2))
    assert [t.untyped_storage().nbytes() for t in state] == [2 * size * 8 for size in cell.state_sizes]


@pytest.mark.parametrize("kind", ONE_OF_EACH)
def test_a_language_model_scores_packed_rows_as_it_reads_whole_ones(kind):
    size = {"embedding_size": HIDDEN, "num_layers": 2}
    model = LanguageModelConfig(cell=CONFIGS[kind], **size).build_model(11).double().eval()
    documents = [np.arange(length) % 8 + 3 for length in (5, 0, 70, 1)]
    runner = PackedRunner(model, bos_id=1, eos_id=2)
    (block,) = runner.blocks(documents)
    with torch.inference_mode():
        (chunk,) = runner.run(documents, block)
        for row, document in enumerate(documents):
            tokens = torch.tensor([[1, *document]])
            expected, _ = model.run(tokens, model.initial_state(1))
            found = chunk.hidden[torch.from_numpy(chunk.rows == row)]
            torch.testing.assert_close(found, expected[0], rtol=0, atol=FLOAT64_SUMS)


# ----- one by one


@pytest.mark.parametrize("kind", ["min_lstm", "min_lstm identity"])
def test_gates_of_a_min_lstm_that_are_both_shut_are_shared_by_their_ratio(kind):
    cell = CONFIGS[kind].build(1)
    with torch.no_grad():
        cell.products.weight.zero_()
        cell.products.bias[:HIDDEN], cell.products.bias[HIDDEN : 2 * HIDDEN] = -300.0, -301.0
        cell.products.bias[2 * HIDDEN :] = 2.0
    outputs, _ = cell(torch.zeros(1, 1, 1), (torch.zeros(1, HIDDEN),))
    share = 1 - sigmoid(1.0)
    target = share * g(2.0, CONFIGS[kind].candidate)
    torch.testing.assert_close(outputs, torch.full((1, 1, HIDDEN), target), rtol=FLOAT32_SUMS, atol=0)
    outputs.sum().backward()
    assert torch.isfinite(cell.products.bias.grad).all()


def test_biases_start_where_the_config_says():
    assert MinLSTMConfig(hidden_size=2, forget_bias=3.0).build(4).products.bias[:2].tolist() == [3.0, 3.0]
    assert SRUConfig(hidden_size=2, highway_bias=-3.0).build(4).bias.tolist() == [0.0, 0.0, -3.0, -3.0]


@pytest.mark.parametrize("highway_bias", [0.0, -3.0])
def test_an_sru_keeps_the_variance_of_its_inputs_at_the_start(highway_bias):
    cell = SRUConfig(hidden_size=256, highway_bias=highway_bias).build(256)
    inputs = torch.randn(16, 60, 256)
    with torch.no_grad():
        outputs, _ = cell(inputs, cell.initial_state(16))
    assert 0.8 < outputs.var().item() < 1.25  # the paper's estimate is rough; without alpha 0.41 for a bias of 0


def test_a_qrnn_sees_the_input_before_and_zero_before_the_first():
    cell = built("qrnn 2", 4)
    with torch.no_grad():
        cell.weight[: 3 * HIDDEN] = 0.0  # W; what is left is V
    inputs = torch.randn(1, 3, 4, dtype=torch.float64)
    other = inputs.clone()
    other[:, 1] += 1.0
    with torch.no_grad():
        start = cell.initial_state(1)
        nothing, _ = cell(torch.zeros_like(inputs), start)
        found, _ = cell(inputs, start)
        changed, _ = cell(other, start)
    assert torch.equal(found[:, 0], nothing[:, 0])
    assert torch.equal(found[:, :2], changed[:, :2])
    assert not torch.isclose(found[:, 2], changed[:, 2]).any()


@pytest.mark.parametrize("path", ["forward", "step"])
def test_zoneout_copies_elements_of_the_state_in_training_only(path):
    share, rows = 0.3, 2000
    with_zoneout = QRNNConfig(hidden_size=HIDDEN, window=1, zoneout=share).build(4)
    plain = QRNNConfig(hidden_size=HIDDEN, window=1).build(4)
    plain.load_state_dict(with_zoneout.state_dict())
    inputs, state = torch.randn(rows, 1, 4), (torch.randn(rows, HIDDEN),)

    def memory(cell):
        return (cell(inputs, state) if path == "forward" else cell.step(inputs[:, 0], state))[1][0]

    expected, found = memory(plain), memory(with_zoneout)
    copied = found == state[0]
    torch.testing.assert_close(found[~copied], expected[~copied])
    assert copied.float().mean().item() == pytest.approx(share, abs=5 * math.sqrt(share * (1 - share) / copied.numel()))
    mean = memory(with_zoneout.eval())
    torch.testing.assert_close(mean, share * state[0] + (1 - share) * expected, rtol=0, atol=FLOAT32_SUMS)
    assert torch.equal(memory(with_zoneout), mean)


def test_an_rg_lru_starts_with_decays_between_0_9_and_0_999():
    decays = RGLRUConfig(hidden_size=4000).build(4).decay.double().sigmoid() ** 8
    assert 0.8999 < decays.min() < 0.901
    assert 0.998 < decays.max() < 0.99901
    uniform = torch.linspace(0.9, 0.999, 4000).double()
    assert (decays.sort().values - uniform).abs().max() < 0.004  # Kolmogorov and Smirnov: 0.0025 at 1 in 100


@pytest.mark.parametrize("logit", [0.0, -20.0, -60.0, -200.0])
def test_the_scale_of_an_rg_lru_is_exact_where_it_hardly_decays(logit):
    cell = RGLRUConfig(hidden_size=1).build(1)
    with torch.no_grad():
        cell.weight.zero_()
        cell.bias[0] = logit
        cell.decay.fill_(3.0)
    hidden, _ = cell(torch.ones(1, 1, 1), cell.initial_state(1))
    rate = 16 * math.log1p(math.exp(-3.0)) * sigmoid(logit)  # -log a_t^2
    assert hidden.item() == pytest.approx(0.5 * math.sqrt(-math.expm1(-rate)), rel=FLOAT32_SUMS, abs=1e-18)
    hidden.sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in cell.parameters())


def test_the_blocks_of_an_rg_lru_are_those_of_a_full_matrix():
    blocks, full = built("rg_lru blocks", HIDDEN), built("rg_lru", HIDDEN)
    with torch.no_grad():
        for gate in range(2):
            full.weight[gate, 0] = torch.block_diag(*blocks.weight[gate])
        full.bias.copy_(blocks.bias)
        full.decay.copy_(blocks.decay)
    inputs = torch.randn(2, 5, HIDDEN, dtype=torch.float64)
    found, expected = blocks(inputs, blocks.initial_state(2))[0], full(inputs, full.initial_state(2))[0]
    torch.testing.assert_close(found, expected, rtol=0, atol=FLOAT64_SUMS)


def test_blocks_that_do_not_divide_the_state_are_refused():
    with pytest.raises(ConfigError, match="hidden_size \\(6\\) does not divide into blocks \\(4\\)"):
        from_dict(CellConfig, {**to_dict(CONFIGS["rg_lru"]), "blocks": 4})
