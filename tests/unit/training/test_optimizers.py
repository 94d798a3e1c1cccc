"""Each optimizer beside a slow truth."""

import math

import pytest
import torch
from torch import nn

from rnnlm.nn.layer import Layer
from rnnlm.training.optimizers.adafactor import AdafactorConfig
from rnnlm.training.optimizers.adamw import AdamWConfig
from rnnlm.training.optimizers.base import set_learning_rate
from rnnlm.training.optimizers.muon import MuonConfig, hidden_matrices, orthogonal
from rnnlm.training.optimizers.sgd import SGDConfig
from tests.corpora import CELLS, tiny_task

FLOAT = 1e-12  # float64 arithmetic of a few operations
FLOAT32_SUMS = 1e-5  # relative; a handful of float32 products in another order
HIDDEN, INPUT = 16, 12
SINGULAR = (0.6, 1.3)  # where five quintic steps move singular values that are not tiny (Jordan et al. 2024, figure)


@pytest.mark.parametrize(
    ("config", "plain"),
    [
        (
            AdamWConfig(learning_rate=0.1, beta1=0.8, beta2=0.9, epsilon=1e-3),
            lambda p: torch.optim.AdamW(p, lr=0.1, betas=(0.8, 0.9), eps=1e-3, weight_decay=0.0, foreach=False),
        ),
        (
            SGDConfig(learning_rate=0.1, momentum=0.7),
            lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.7, foreach=False),
        ),
    ],
)
def test_the_fused_update_is_the_plain_one(config, plain):
    def trained(build):
        torch.manual_seed(3)
        model = tiny_task().build_model(10).double()
        optimizer = build(model)
        for step in range(4):
            optimizer.zero_grad()
            hidden, _ = model(torch.tensor([[1, 2, step]]), model.initial_state(1))
            model.softmax.objective(hidden[0], torch.tensor([2, 3, 4])).objective.backward()
            optimizer.step()
        return list(model.parameters())

    for one, other in zip(trained(config.build), trained(lambda m: plain(m.parameters())), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=FLOAT)


def test_adafactor_is_that_of_its_docstring():
    config = AdafactorConfig(
        learning_rate=0.3, beta2_decay=-0.7, clip_threshold=1.1, scale_floor=0.02, weight_decay=0.1
    )
    linear = nn.Linear(5, 4).double()
    optimizer = config.build(linear)
    weight, bias = linear.weight.detach().clone(), linear.bias.detach().clone()
    rows, columns, squares = torch.zeros(4, 1), torch.zeros(1, 5), torch.zeros(4)
    for step in range(1, 15):
        linear.weight.grad, linear.bias.grad = torch.randn(4, 5).double(), torch.randn(4).double()
        beta = 1 - step**-0.7
        rows = beta * rows + (1 - beta) * (linear.weight.grad**2).mean(1, keepdim=True)
        columns = beta * columns + (1 - beta) * (linear.weight.grad**2).mean(0, keepdim=True)
        squares = beta * squares + (1 - beta) * linear.bias.grad**2
        for parameter, gradient, second, decay in (
            (weight, linear.weight.grad, rows @ columns / rows.mean(), 0.1),
            (bias, linear.bias.grad, squares, 0.0),
        ):
            update = gradient / second.sqrt()
            update /= max(1, rms(update) / 1.1)
            size = max(0.02, rms(parameter))
            parameter *= 1 - 0.3 * decay
            parameter -= size * min(0.3, step**-0.5) * update
        optimizer.step()
    torch.testing.assert_close(linear.weight.detach(), weight, rtol=0, atol=FLOAT)
    torch.testing.assert_close(linear.bias.detach(), bias, rtol=0, atol=FLOAT)


def rms(tensor):
    return tensor.square().mean().sqrt().item()


# ----- sparse gradients


def lazy_adam(weight, gradients, config):
    """Rows one by one, in Python: `gradients` are dicts of row -> gradient, one a step."""
    mean, square = torch.zeros_like(weight), torch.zeros_like(weight)
    for step, rows in enumerate(gradients, start=1):
        for row, gradient in rows.items():
            mean[row] = config.beta1 * mean[row] + (1 - config.beta1) * gradient
            square[row] = config.beta2 * square[row] + (1 - config.beta2) * gradient**2
            direction = mean[row] / (1 - config.beta1**step)
            direction = direction / ((square[row] / (1 - config.beta2**step)).sqrt() + config.epsilon)
            weight[row] = weight[row] * (1 - config.learning_rate * config.weight_decay)
            weight[row] = weight[row] - config.learning_rate * direction
    return weight, mean, square


def lookups(embedding, steps=6):
    """Sparse gradients of some rows, one of them read twice; and the same as dicts."""
    for step in range(steps):
        tokens = torch.tensor([step % 3, 7, 7, 5 + step % 2])
        factors = torch.randn(4, embedding.embedding_dim, dtype=torch.float64)
        embedding.weight.grad = None
        (embedding(tokens) * factors).sum().backward()
        assert embedding.weight.grad.is_sparse
        rows = {}
        for token, factor in zip(tokens.tolist(), factors, strict=True):
            rows[token] = rows.get(token, 0) + factor
        yield rows


def test_a_sparse_gradient_updates_its_rows_by_lazy_adam_and_leaves_the_others_to_the_bit():
    config = AdamWConfig(learning_rate=0.1, weight_decay=0.2, beta1=0.7, beta2=0.8, epsilon=1e-3)
    embedding = nn.Embedding(12, 5, sparse=True).double()
    before = embedding.weight.detach().clone()
    optimizer = config.build(embedding)
    gradients = []
    for rows in lookups(embedding):
        gradients.append(rows)
        optimizer.step()
        assert embedding.weight.grad.is_sparse  # left for the loop to look at
    weight, mean, square = lazy_adam(before.clone(), gradients, config)
    torch.testing.assert_close(embedding.weight.detach(), weight, rtol=0, atol=FLOAT)
    state = optimizer.state[embedding.weight]
    torch.testing.assert_close(state["exp_avg"], mean, rtol=0, atol=FLOAT)
    torch.testing.assert_close(state["exp_avg_sq"], square, rtol=0, atol=FLOAT)
    untouched = [row for row in range(12) if row not in {row for rows in gradients for row in rows}]
    assert untouched == [3, 4, 8, 9, 10, 11]
    assert torch.equal(embedding.weight.detach()[untouched], before[untouched])


def test_sparse_and_dense_gradients_side_by_side_and_in_turn():
    config = AdamWConfig(learning_rate=0.1)
    model = nn.ModuleDict({"table": nn.Embedding(4, 3, sparse=True), "linear": nn.Linear(3, 2)}).double()
    twin = nn.ModuleDict({"table": nn.Embedding(4, 3), "linear": nn.Linear(3, 2)}).double()
    twin.load_state_dict(model.state_dict())
    tokens = torch.tensor([0, 1, 2, 3, 3])  # all rows, so that lazy and dense are the same
    for one, optimizer in ((model, config.build(model)), (twin, config.build(twin))):
        for step in range(4):
            one.table.sparse = one is model and step % 2 == 0
            optimizer.zero_grad()
            one.linear(one.table(tokens)).square().sum().backward()
            optimizer.step()
    for first, second in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=FLOAT)


# ----- muon


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("cell", CELLS)
def test_the_update_of_each_gate_is_nearly_orthogonal(cell, precision):
    layer = CELLS[cell](hidden_size=HIDDEN).build(INPUT)
    before = {name: parameter.detach().clone() for name, parameter in layer.named_parameters()}
    optimizer = MuonConfig(learning_rate=0.5, precision=precision).build(layer)
    for number, parameter in enumerate(layer.parameters()):
        parameter.grad = torch.randn_like(parameter) * 10.0**number  # the size of a gradient is of no consequence
    optimizer.step()
    for name, size in (("fused.weight_ih_l0", INPUT), ("fused.weight_hh_l0", HIDDEN)):
        update = (before[name] - layer.get_parameter(name).detach()) / 0.5 / math.sqrt(max(1.0, HIDDEN / size))
        blocks = update.reshape(-1, HIDDEN, size)
        values = torch.linalg.svdvals(blocks)
        assert values.max() < SINGULAR[1]
        assert values.median() > SINGULAR[0]
        # The gradient's own singular directions: U V^T is what remains.
        for block, gradient in zip(blocks, layer.get_parameter(name).grad.reshape(blocks.shape), strict=True):
            left, _, right = torch.linalg.svd(gradient, full_matrices=False)
            inside = (left.T @ block @ right.T).diagonal()
            assert inside.min() > 0
            assert inside.median() > SINGULAR[0]


def test_without_split_gates_it_is_the_whole_matrix_that_is_orthogonal():
    layer = CELLS["lstm"](hidden_size=HIDDEN).build(INPUT)
    before = layer.fused.weight_hh_l0.detach().clone()
    layer.fused.weight_hh_l0.grad = torch.randn_like(before)
    MuonConfig(learning_rate=1.0, split_gates=False, precision="float32").build(layer).step()
    update = (before - layer.fused.weight_hh_l0.detach()) / math.sqrt(4)
    values = torch.linalg.svdvals(update)
    assert values.shape == (HIDDEN,)
    assert SINGULAR[0] < values.min() <= values.max() < SINGULAR[1]
    gates = torch.linalg.svdvals(update.reshape(4, HIDDEN, HIDDEN))
    assert gates.max() < 1.0
    assert gates.min() < SINGULAR[0] / 2  # the gates on their own are not


def test_muon_is_torchs_where_that_can_be_compared():
    # One matrix, one gate; torch iterates in bfloat16, and so do we. Momentum, decay and scale are in it.
    layer = CELLS["elman"](hidden_size=HIDDEN).build(INPUT)
    twin = nn.Parameter(layer.fused.weight_ih_l0.detach().clone())
    ours = MuonConfig(learning_rate=0.1, momentum=0.8, weight_decay=0.3).build(layer)
    theirs = torch.optim.Muon([twin], lr=0.1, momentum=0.8, weight_decay=0.3)
    for _ in range(5):
        layer.fused.weight_ih_l0.grad = torch.randn_like(twin)
        twin.grad = layer.fused.weight_ih_l0.grad.clone()
        ours.step()
        theirs.step()
    torch.testing.assert_close(layer.fused.weight_ih_l0.detach(), twin.detach(), rtol=0, atol=BFLOAT16_UPDATES)


BFLOAT16_UPDATES = 5 * 0.1 * 2**-6  # five updates of 0.1 times numbers below 1 with 8 bits, rounded in another order


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("tied", [True, False])
def test_muon_takes_the_matrices_of_the_layers_and_adamw_the_rest(cell, tied):
    model = tiny_task(cell, tied=tied, num_layers=2).build_model(10)
    heights = hidden_matrices(model, split_gates=True)
    names = {name for name, parameter in model.named_parameters() if parameter in heights}
    assert names == {f"stack.layers.{index}.fused.weight_{kind}_l0" for index in (0, 1) for kind in ("ih", "hh")}
    assert set(heights.values()) == {8}

    config = MuonConfig(learning_rate=0.5, adamw_learning_rate=0.01)
    optimizer = config.build(model)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    plain = {name: nn.Parameter(value.clone()) for name, value in before.items()}
    adamw = torch.optim.AdamW(plain.values(), lr=0.01 / 4, betas=(0.9, 0.99), weight_decay=0.0)
    for name, parameter in model.named_parameters():
        plain[name].grad = parameter.grad = torch.randn_like(parameter)
    set_learning_rate(optimizer, 0.5 / 4)
    optimizer.step()
    adamw.step()
    for name, parameter in model.named_parameters():
        state = set(optimizer.state[parameter])
        if name in names:
            assert state == {"momentum_buffer"}
            assert not torch.allclose(parameter, plain[name], rtol=0, atol=1e-3)
        else:
            assert state == {"step", "exp_avg", "exp_avg_sq"}
            torch.testing.assert_close(parameter.detach(), plain[name].detach(), rtol=FLOAT32_SUMS, atol=1e-7)


class Feedforward(Layer):
    """A layer without gates that holds a table, a wide matrix and a single row, around a cell."""

    def __init__(self):
        super().__init__(HIDDEN, HIDDEN)
        self.table = nn.Embedding(5, HIDDEN)
        self.wide = nn.Linear(HIDDEN, 4 * HIDDEN)
        self.row = nn.Parameter(torch.zeros(1, HIDDEN))
        self.inner = CELLS["gru"](hidden_size=HIDDEN // 2).build(HIDDEN)


def test_only_cells_have_gates_and_tables_and_single_rows_are_no_hidden_matrices():
    layer = Feedforward()
    found = hidden_matrices(layer, split_gates=True)
    assert found == {
        layer.wide.weight: 4 * HIDDEN,
        layer.inner.fused.weight_ih_l0: HIDDEN // 2,
        layer.inner.fused.weight_hh_l0: HIDDEN // 2,
    }
    whole = hidden_matrices(layer, split_gates=False)
    assert whole[layer.inner.fused.weight_hh_l0] == 3 * HIDDEN // 2


def test_a_model_without_layers_gets_adamw():
    linear = nn.Linear(3, 2)
    optimizer = MuonConfig(learning_rate=0.5, adamw_learning_rate=0.01).build(linear)
    assert [(group["lr"], len(group["params"])) for group in optimizer.param_groups] == [(0.01, 1), (0.01, 1)]


def test_zeros_stay_zeros_and_a_gate_does_not_see_the_others():
    blocks = torch.randn(3, 5, 7)
    blocks[1] = 0.0
    found = orthogonal(blocks, 5)
    assert not found[1].any()
    alone = orthogonal(blocks[2:], 5)
    torch.testing.assert_close(found[2:], alone, rtol=FLOAT32_SUMS, atol=FLOAT32_SUMS)
