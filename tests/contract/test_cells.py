"""The contract of every cell in conf/cell: one recurrence, however it is cut, batched, stored or computed.

A cell of tests/toy_cell.py is held to it too: what is asked of a newcomer is no more than a class and a YAML.
"""

import pytest
import torch
import yaml

from rnnlm.checkpoint import load_checkpoint, save_checkpoint
from rnnlm.config import from_dict, to_dict
from rnnlm.inference.packed import PackedRunner
from rnnlm.nn.cells.base import FusedCell
from rnnlm.nn.cells.gated import GatedCell
from rnnlm.nn.softmax.full import FullSoftmaxConfig
from rnnlm.storage import open_location
from rnnlm.tasks.base import TaskConfig
from rnnlm.tasks.language_model import LanguageModelConfig
from tests.cells import (
    CASES,
    CELLS,
    DENSE,
    FLOAT32_ROUNDING,
    GATED,
    HIDDEN,
    INPUT,
    OPTIONS,
    ROWS,
    STEPS,
    TRUSTED,
    assert_equal,
    config_of,
    inputs_of,
    random_state,
    stepped,
)
from tests.corpora import random_documents, words_tokenizer
from tests.reference import torch_module
from tests.toy_cell import TOY_YAML


@pytest.fixture(params=CASES)
def case(request):
    return request.param


@pytest.fixture
def cell(case):
    return config_of(case).build(INPUT)


def test_initial_state_is_zero_batch_first_and_follows_the_weights(cell):
    for precision in (torch.float32, torch.float64):
        state = cell.to(precision).initial_state(ROWS)
        assert [tensor.shape for tensor in state] == [(ROWS, size) for size in cell.state_sizes]
        assert all(tensor.dtype == precision and not tensor.any() for tensor in state)
    assert cell.initial_state(0)[0].shape[0] == 0


def test_shapes(cell, case):
    outputs, state = cell(inputs_of(), cell.initial_state(ROWS))
    assert outputs.shape == (ROWS, STEPS, cell.output_size)
    assert config_of(case).output_size(INPUT) == cell.output_size
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


def test_weights_come_back_from_a_state_dict(cell, case):
    inputs, state = inputs_of(), random_state(cell)
    other = config_of(case).build(INPUT)
    assert not torch.equal(other(inputs, state)[0], cell(inputs, state)[0])
    other.load_state_dict({name: tensor.clone() for name, tensor in cell.state_dict().items()})
    assert torch.equal(other(inputs, state)[0], cell(inputs, state)[0])


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
def test_the_recurrence_is_that_of_torch(cell):
    if not isinstance(cell, FusedCell):
        pytest.skip("not one of torch's recurrences")
    inputs = inputs_of()
    expected, final = torch_module(cell)(inputs)
    final = final if isinstance(final, tuple) else (final,)
    assert_equal(stepped(cell, inputs, cell.initial_state(ROWS)), (expected, tuple(tensor[0] for tensor in final)))


@pytest.mark.parametrize("case", [case for case in GATED if config_of(case).memory_steps is None])
@pytest.mark.parametrize("bias", [1.0, -0.5])
def test_the_forget_gate_begins_where_it_is_told(case, bias):
    cell = config_of(case, forget_bias=bias).build(INPUT)
    found = cell.bias if isinstance(cell, GatedCell) else sum(cell.weights()[2:])
    forget = found.unflatten(0, (-1, HIDDEN))[-3]  # (i), f, g, o
    assert forget.tolist() == [bias] * HIDDEN
    assert not (found == bias).view(-1, HIDDEN)[-2:].any()


@pytest.mark.parametrize("case", GATED)
def test_memory_is_spread_up_to_its_steps(case):
    cell = config_of(case, hidden_size=400, memory_steps=50).build(INPUT)
    blocks = (cell.bias if isinstance(cell, GatedCell) else sum(cell.weights()[2:])).unflatten(0, (-1, 400))
    constants = blocks[-3].exp()  # a memory lasts 1 / (1 - sigmoid(b)) = 1 + exp(b) steps
    assert 1.0 <= constants.min() < 4.0
    assert 46.0 < constants.max() <= 49.0
    assert constants.mean().item() == pytest.approx(25.0, abs=2.5)  # uniform; 0.7 is a standard deviation
    if len(blocks) == 4:
        assert torch.equal(blocks[0], -blocks[1])


@pytest.mark.parametrize("case", DENSE)
def test_weights_begin_as_those_of_torch(case):
    cell = config_of(case, hidden_size=64).build(16)
    for name in [*cell.recurrent_names, "fused.weight_ih_l0" if isinstance(cell, FusedCell) else "input_weight"]:
        weight = cell.get_parameter(name)
        assert 0.95 * 64**-0.5 < weight.abs().max() <= 64**-0.5, name
        assert weight.std().item() == pytest.approx(64**-0.5 / 3**0.5, rel=0.1), name


def language_model(cell):
    """Two layers, so that one reads the other's outputs."""
    return LanguageModelConfig(cell=cell, num_layers=2, embedding_size=4, softmax=FullSoftmaxConfig(tied=False))


@pytest.mark.parametrize("case", [*CELLS, *OPTIONS])  # a checkpoint of a cell outside the library is not trusted
def test_a_model_comes_back_from_its_checkpoint(case, tmp_path):
    task, tokenizer = language_model(config_of(case)), words_tokenizer()
    model = task.build_model(tokenizer.vocab_size).eval()
    save_checkpoint(open_location(str(tmp_path)), task=task, model=model, tokenizer=tokenizer, trained={})
    found = load_checkpoint(str(tmp_path))
    assert found.task == task
    tokens = torch.randint(tokenizer.vocab_size, (ROWS, STEPS))
    state = model.initial_state(ROWS)
    assert torch.equal(found.model(tokens, state)[0], model(tokens, state)[0])


def test_packed_rows_get_the_outputs_of_the_plain_model(case):
    model = language_model(config_of(case)).build_model(vocab_size=11).eval()
    documents = random_documents([5, 0, 9, 5], 11)
    runner = PackedRunner(model, bos_id=1, eos_id=2)
    (block,) = runner.blocks(documents)
    for chunk in runner.run(documents, block):
        for row, document in enumerate(documents):
            tokens = torch.tensor([[1, *document.tolist()]])
            expected, _ = model(tokens, model.initial_state(1))
            found = chunk.hidden[torch.from_numpy(chunk.rows == row)]
            torch.testing.assert_close(found, expected[0], rtol=0, atol=FLOAT32_ROUNDING)


def test_a_new_cell_is_a_class_and_a_yaml(tmp_path):
    file = tmp_path / "toy.yaml"
    file.write_text(TOY_YAML)
    plain = {**to_dict(language_model(config_of("elman"))), "cell": yaml.safe_load(file.read_text())}
    task = from_dict(TaskConfig, plain, trusted=TRUSTED)
    model = task.build_model(vocab_size=11)
    tokens, state = torch.randint(11, (ROWS, STEPS)), model.initial_state(ROWS)
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=0.05), []
    for _ in range(20):
        hidden, _ = model(tokens[:, :-1], state)
        loss = model.softmax.objective(hidden.flatten(0, 1), tokens[:, 1:].flatten()).objective
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    hidden, _ = model(tokens, state)
    for time in range(STEPS):
        logits, state = model.step(tokens[:, time], state)
        torch.testing.assert_close(logits, model.softmax.logits(hidden[:, time]), rtol=0, atol=1e-5)  # logits reach 10
