"""The language model's loss and validation: sums over targets, exact, whatever the layout in lanes."""

import pytest
import torch

from rnnlm.data.tokens import TokenTable
from rnnlm.tasks import language_model
from rnnlm.tasks.batching import LanesConfig
from tests.corpora import CELLS, sentences, tiny_task, token_table, words_tokenizer
from tests.reference import logprobs_naively, stream_positions

TOKENIZER = words_tokenizer()
FLOAT32_SUM = 1e-6  # relative; a few hundred float32 terms
FLOAT64_SUM = 1e-12


@pytest.fixture(scope="module")
def table():
    return token_table(["", *sentences(30), ""])


def model_of(task, **options):
    model = task.build_model(TOKENIZER.vocab_size)
    return model.to(**options) if options else model


def documents_of(table: TokenTable):
    return [table.tokens[a:b].tolist() for a, b in zip(table.offsets, table.offsets[1:], strict=False)]


def open_stream(task, table, **options):
    batching = LanesConfig(**options)
    stream = task.open_stream(table, TOKENIZER, batching, seed=3, rank=0, world_size=1)
    return batching, stream


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("num_layers", [1, 2])
def test_validation_in_one_lane_is_the_naive_sum_over_the_whole_stream(cell, num_layers, table):
    task = tiny_task(cell, num_layers=num_layers, dropout=0.5)
    model = model_of(task).train()
    inputs, targets = stream_positions(documents_of(table), TOKENIZER.bos_id, TOKENIZER.eos_id)
    expected = -logprobs_naively(model.eval(), inputs, targets).sum()
    model.train()
    loss = task.validate(model, table, TOKENIZER, num_lanes=1)
    assert loss.num_targets == table.num_targets == len(targets)
    assert loss.nll.item() == pytest.approx(expected, rel=FLOAT32_SUM)
    assert model.training  # as it was before


@pytest.mark.parametrize("num_lanes", [1, 2, 3, 7, 10_000])
@pytest.mark.parametrize("window", [1, 5, 128])
def test_validation_counts_every_target_once_for_any_lanes_and_windows(num_lanes, window, table, monkeypatch):
    monkeypatch.setattr(language_model, "VALIDATION_WINDOW", window)
    task = tiny_task()
    model = model_of(task, dtype=torch.float64)
    loss = task.validate(model, table, TOKENIZER, num_lanes=num_lanes)
    assert loss.num_targets == table.num_targets
    whole = task.validate(model, table, TOKENIZER, num_lanes=num_lanes)
    monkeypatch.setattr(language_model, "VALIDATION_WINDOW", 64)
    other = task.validate(model, table, TOKENIZER, num_lanes=num_lanes)
    assert whole.nll.item() == pytest.approx(other.nll.item(), rel=FLOAT64_SUM)


@pytest.mark.parametrize("world_size", [2, 4])
def test_the_validation_of_all_ranks_adds_up_to_that_of_one(world_size, table):
    task = tiny_task()
    model = model_of(task, dtype=torch.float64)
    alone = task.validate(model, table, TOKENIZER, num_lanes=8)
    parts = [
        task.validate(model, table, TOKENIZER, num_lanes=8, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    assert sum(part.num_targets for part in parts) == alone.num_targets
    assert sum(part.nll.item() for part in parts) == pytest.approx(alone.nll.item(), rel=FLOAT64_SUM)


def test_validation_moves_no_random_number_and_no_weight(table):
    task = tiny_task(dropout=0.5)
    model = model_of(task).train()
    before, weights = torch.get_rng_state(), [p.clone() for p in model.parameters()]
    task.validate(model, table, TOKENIZER, num_lanes=4)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))


def test_the_loss_is_a_sum_over_lanes(table):
    task = tiny_task()
    model = model_of(task, dtype=torch.float64)
    batching, stream = open_stream(task, table, num_lanes=4, window=6)
    batch = stream.next()
    state = task.initial_state(model, batching, 1)
    whole, carried = task.loss(model, batch, state)
    assert whole.num_targets == 24
    total, count = 0.0, 0
    for lane in range(4):
        part = language_model.Window(
            *(getattr(batch, n)[lane : lane + 1] for n in ("inputs", "targets", "mask", "fresh"))
        )
        loss, state_of_lane = task.loss(model, part, tuple(tensor[lane : lane + 1] for tensor in state))
        total, count = total + loss.nll.item(), count + loss.num_targets
        for one, other in zip(state_of_lane, carried, strict=True):
            torch.testing.assert_close(one[0], other[lane], rtol=0, atol=FLOAT64_SUM)
    assert (total, count) == (pytest.approx(whole.nll.item(), rel=FLOAT64_SUM), whole.num_targets)


def test_the_state_is_carried_from_window_to_window_without_gradient(table):
    task = tiny_task()
    model = model_of(task, dtype=torch.float64)
    inputs, targets = stream_positions(documents_of(table), TOKENIZER.bos_id, TOKENIZER.eos_id)
    batching, stream = open_stream(task, table, num_lanes=1, window=4, shuffle=False, fresh_state_at_documents=False)
    state, total = task.initial_state(model, batching, 1), 0.0
    for _ in range(5):
        loss, state = task.loss(model, stream.next(), state)
        assert not any(tensor.requires_grad for tensor in state)
        total += loss.nll.item()
    expected = -logprobs_naively(model, inputs[:20], targets[:20]).sum()
    assert total == pytest.approx(expected, rel=FLOAT64_SUM)


def test_a_fresh_lane_begins_with_the_initial_state(table):
    task = tiny_task()
    model = model_of(task, dtype=torch.float64)
    batching, stream = open_stream(task, table, num_lanes=3, window=4)
    batch = stream.next()
    batch.fresh[:] = torch.tensor([True, False, True])
    carried = tuple(torch.randn_like(tensor) for tensor in task.initial_state(model, batching, 1))
    reset = tuple(tensor * torch.tensor([[0.0], [1.0], [0.0]]) for tensor in carried)
    found, _ = task.loss(model, batch, carried)
    batch.fresh[:] = False
    expected, _ = task.loss(model, batch, reset)
    other, _ = task.loss(model, batch, carried)
    assert found.nll.item() == expected.nll.item() != other.nll.item()


def test_lanes_are_dealt_evenly_or_not_at_all():
    assert LanesConfig(num_lanes=6).problems(3) == []
    assert LanesConfig(num_lanes=6).problems(4) == [
        "batching.num_lanes: 6 lanes cannot be dealt evenly to 4 workers",
    ]
