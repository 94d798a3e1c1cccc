"""Stack and network: layers in order, weights tied in storage, dropout only in training, one step as a sequence of one."""

import jaxtyping
import pytest
import torch

from rnnlm.config import from_dict, to_dict
from rnnlm.errors import ConfigError
from rnnlm.nn.dropout import Dropout
from rnnlm.nn.stack import Stack
from rnnlm.tasks.base import TaskConfig
from tests.corpora import CELLS, tiny_task
from tests.reference import hidden_states

VOCAB, ROWS, STEPS, HIDDEN = 13, 3, 6, 8
FLOAT32_ROUNDING = 1e-6  # products of other shapes add up in another order

CASES = [(cell, layers, tied) for cell in CELLS for layers in (1, 3) for tied in (True, False)]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{case[1]}-{'tied' if case[2] else 'untied'}")
def model(request):
    cell, num_layers, tied = request.param
    return tiny_task(cell, num_layers=num_layers, tied=tied, dropout=0.5, layer_dropout=0.5).build_model(VOCAB).eval()


def tokens_of(rows=ROWS, steps=STEPS):
    return torch.randint(VOCAB, (rows, steps))


def test_a_model_is_its_layers_one_after_the_other(model):
    tokens = tokens_of()
    hidden, _ = model(tokens, model.initial_state(ROWS))
    for row in range(ROWS):
        torch.testing.assert_close(
            hidden[row], hidden_states(model, tokens[row].tolist()), rtol=0, atol=FLOAT32_ROUNDING
        )


def test_a_step_is_a_sequence_of_one(model):
    tokens, state, stepped_state = tokens_of(), model.initial_state(ROWS), model.initial_state(ROWS)
    for time in range(STEPS):
        hidden, state = model(tokens[:, time : time + 1], state)
        logits, stepped_state = model.step(tokens[:, time], stepped_state)
        torch.testing.assert_close(logits, model.softmax.logits(hidden[:, 0]), rtol=0, atol=FLOAT32_ROUNDING)
        for one, other in zip(state, stepped_state, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=FLOAT32_ROUNDING)


def test_the_state_of_a_stack_is_the_states_of_its_layers(model):
    state = model.initial_state(ROWS)
    parts = model.stack.split_state(state)
    assert [tensor for part in parts for tensor in part] == list(state)
    sizes = [cell.state_sizes for cell in model.stack.cells()]
    assert [tuple(t.shape[1] for t in part) for part in parts] == sizes
    assert model.stack.output_size == HIDDEN


def test_tied_weights_share_their_storage_and_count_once(model):
    tied = model.softmax.weight.data_ptr() == model.embedding.weight.data_ptr()
    assert tied == (model.embedding.embedding_dim == HIDDEN)
    names = [name for name, _ in model.named_parameters()]
    assert ("softmax.weight" in names) != tied
    before = model.softmax.weight.clone()
    with torch.no_grad():
        model.embedding.weight.add_(1.0)
    assert torch.equal(model.softmax.weight, before) != tied


def test_the_tie_survives_a_change_of_precision(model):
    tied = model.softmax.weight is model.embedding.weight
    model.double()
    assert (model.softmax.weight is model.embedding.weight) == tied
    assert model.softmax.weight.dtype == torch.float64


def test_both_uses_of_a_tied_matrix_add_to_its_gradient():
    model = tiny_task().build_model(VOCAB)
    hidden, _ = model(torch.tensor([[3]]), model.initial_state(1))
    model.softmax.objective(hidden[0], torch.tensor([5])).objective.backward()
    gradient = model.embedding.weight.grad
    assert gradient.abs().sum(1).gt(0).all()  # every row as output
    output_only = torch.autograd.grad(
        model.softmax.objective(hidden[0].detach(), torch.tensor([5])).objective, model.softmax.weight
    )[0]
    changed = (gradient - output_only).abs().sum(1) > 0
    assert changed.tolist() == [row == 3 for row in range(VOCAB)]  # and the one that was read as input


def test_dropout_falls_in_training_only(model):
    tokens, state = tokens_of(), model.initial_state(ROWS)
    assert torch.equal(model(tokens, state)[0], model(tokens, state)[0])
    model.train()
    first, second = model(tokens, state)[0], model(tokens, state)[0]
    assert not torch.equal(first, second)
    assert 0.2 < (first == 0).float().mean() < 0.8


def test_dropout_between_layers_is_its_own():
    tokens = tokens_of()
    for num_layers, differs in [(1, False), (2, True)]:
        model = tiny_task(num_layers=num_layers, layer_dropout=0.5).build_model(VOCAB).train()
        state = model.initial_state(ROWS)
        assert torch.equal(model(tokens, state)[0], model(tokens, state)[0]) != differs
        assert torch.equal(model.step(tokens[:, 0], state)[0], model.step(tokens[:, 0], state)[0]) != differs


def test_dropout_falls_on_what_the_stack_reads_and_on_what_it_gives():
    model = tiny_task(dropout=0.5).build_model(VOCAB).train()
    seen = {}
    model.stack.register_forward_hook(lambda _, inputs, outputs: seen.update(read=inputs[0], gave=outputs[0]))
    hidden, _ = model(tokens_of(4, 50), model.initial_state(4))
    assert 0.4 < (seen["read"] == 0).float().mean() < 0.6
    assert not (seen["gave"] == 0).any()
    kept = hidden != 0
    assert 0.4 < kept.float().mean() < 0.6
    torch.testing.assert_close(hidden[kept], 2 * seen["gave"][kept])  # so that the mean stays


@pytest.mark.parametrize("sizes", [{"embedding_size": 9}, {"embedding_size": 7}])
def test_sizes_that_cannot_be_tied_are_a_config_error_with_both_ways_out(sizes):
    data = {**to_dict(tiny_task()), **sizes}
    with pytest.raises(ConfigError, match=r"hidden_size \(8\) = .*\([79]\); make them equal or set softmax.tied=false"):
        from_dict(TaskConfig, data)
    untied = {**data, "softmax": {**data["softmax"], "tied": False}}
    assert from_dict(TaskConfig, untied).build_model(VOCAB).softmax.weight.shape == (VOCAB, 8)


def test_the_first_logits_are_near_uniform():
    # At std 1 a tied embedding would begin with logits of std sqrt(H); here they are near 1.
    model = tiny_task(hidden_size=64).build_model(500)
    hidden, _ = model(torch.randint(500, (4, 20)), model.initial_state(4))
    assert model.softmax.logits(hidden.flatten(0, 1)).std() < 1.0


def test_an_empty_stack_is_our_bug():
    with pytest.raises(AssertionError):
        Stack([], Dropout(0.0, variational=False))


def test_shapes_are_checked_in_the_test_run():
    # Every other test relies on it: the annotations of rnnlm are checked at each call.
    model = tiny_task().build_model(VOCAB)
    with pytest.raises(jaxtyping.TypeCheckError):
        model(torch.zeros(3, dtype=torch.int64), model.initial_state(3))
    with pytest.raises(jaxtyping.TypeCheckError):
        model.softmax.objective(torch.zeros(2, 8), torch.zeros(3, dtype=torch.int64))
