"""Effective memory, the effect of one token, passages and horizons: what is known of models that cannot look back, and
of one that looks back by a known number of tokens."""

import dataclasses

import numpy as np
import pytest
import torch

from rnnlm.data.stream import LaneStream
from rnnlm.data.tokens import TokenTable
from rnnlm.diagnosis.context import context_lengths, context_losses, effective_context
from rnnlm.diagnosis.diagnose import diagnose, passage_steps
from rnnlm.diagnosis.horizon import horizon
from rnnlm.diagnosis.passages import Passages, draw_passages
from rnnlm.diagnosis.replacement import draw_others, replacement_effects, replacement_lags
from rnnlm.errors import ConfigError, DataError, NonFiniteError
from rnnlm.nn.cells.qrnn import QRNNConfig
from rnnlm.nn.layers.layer_norm import LayerNormConfig
from tests.corpora import random_documents, tiny_task, words_tokenizer

VOCAB, MAX_LAG = 13, 8


def passages_of(rows=5, steps=2 * MAX_LAG):
    return Passages(torch.randint(VOCAB, (rows, steps)), torch.randint(VOCAB, (rows,)))


def built(task):
    return task.build_model(VOCAB).double().eval()


def without_memory():
    """An Elman network with U = 0."""
    model = built(tiny_task("elman", tied=False))
    with torch.no_grad():
        next(model.stack.cells()).recurrent_weight().zero_()
    return model


def two_tokens_back():
    """A QRNN whose forget gate is shut sees this token and, by its convolution, the one before."""
    model = built(dataclasses.replace(tiny_task(tied=False), cell=QRNNConfig(hidden_size=8, window=2)))
    (cell,) = model.stack.cells()
    with torch.no_grad():
        cell.weight[8:16] = cell.weight[32:40] = 0.0
        cell.bias[8:16] = -1e4
    return model


def test_a_model_that_cannot_look_back_is_flat():
    model, passages = without_memory(), passages_of()
    lengths = context_lengths(2 * MAX_LAG)
    losses = context_losses(model, passages, lengths)
    torch.testing.assert_close(losses, losses[:, -1:].expand_as(losses), rtol=0, atol=1e-12)
    lags = replacement_lags(MAX_LAG)
    effect = replacement_effects(model, passages, lags, draw_others(passages, lags, 1))
    assert (effect.kl[:, 0] > 1e-6).all()
    assert (effect.kl[:, 1:].abs() < 1e-12).all()
    found = diagnose(model, passages, max_lag=MAX_LAG, seed=1)
    assert (found.context.effective, found.replacement.horizon, found.gradients[0].horizon) == (1, 1, 1)


def test_one_that_sees_two_tokens_needs_two():
    model, passages = two_tokens_back(), passages_of(40)
    found = diagnose(model, passages, max_lag=MAX_LAG, seed=1)
    assert found.context.effective == found.replacement.horizon == found.gradients[0].horizon == 2
    assert found.context.nll[1] == pytest.approx(found.context.nll[-1], abs=1e-12)
    assert abs(found.context.nll[0] - found.context.nll[-1]) > 1e-3


def test_the_effect_of_a_token_is_that_of_running_the_changed_passage():
    model, passages = built(tiny_task("gru", tied=False)), passages_of()
    lags = replacement_lags(MAX_LAG)
    others = draw_others(passages, lags, 1)
    effect = replacement_effects(model, passages, lags, others)
    for place, lag in enumerate(lags):
        logs = []
        for inputs in (passages.inputs, passages.inputs.clone()):
            if logs:
                inputs[:, -1 - lag] = others[:, place]
            hidden, _ = model(inputs, model.initial_state(len(inputs)))
            logs.append(model.softmax.logits(hidden[:, -1]).log_softmax(1))
        usual, other = logs
        rows = torch.arange(len(usual))
        expected = torch.nn.functional.kl_div(other, usual, log_target=True, reduction="none").sum(1)
        torch.testing.assert_close(effect.kl[:, place], expected, rtol=0, atol=1e-12)
        rise = (usual - other)[rows, passages.targets]
        torch.testing.assert_close(effect.loss[:, place], rise, rtol=0, atol=1e-12)


def test_other_tokens_are_other_and_come_by_their_frequency():
    rare = Passages(torch.tensor([[4] * 90 + [7] * 9 + [2]]).repeat(300, 1), torch.zeros(300, dtype=torch.long))
    others = draw_others(rare, [0, 99], 1)
    assert not (others[:, 0] == 2).any()
    assert not (others[:, 1] == 4).any()
    assert (others[:, 0] == 4).double().mean().item() == pytest.approx(90 / 99, abs=0.05)
    assert torch.equal(others, draw_others(rare, [0, 99], 1))
    assert not torch.equal(others, draw_others(rare, [0, 99], 2))
    with pytest.raises(DataError, match="one token over and over"):
        draw_others(Passages(torch.full((2, 5), 3), torch.zeros(2, dtype=torch.long)), [0], 1)


def test_grids():
    assert replacement_lags(8) == [0, 1, 2, 3, 4, 6, 8]
    assert replacement_lags(10) == [0, 1, 2, 3, 4, 6, 8, 10]
    assert context_lengths(16) == [1, 2, 4, 8, 16]
    assert context_lengths(20) == [1, 2, 4, 8, 16, 20]


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1.0, 0.5, 0.001, 0.0], 4), ([1.0, 0.001, 0.5, 0.0], 8), ([1.0, 1.0, 1.0, 0.5], None), ([0.0, 0.0, 0.0, 0.0], 0)],
)
def test_horizon(values, expected):
    assert horizon([0, 2, 4, 8], values) == expected


def test_effective_context():
    assert effective_context([1, 2, 4, 8], [3.0, 2.005, 2.1, 2.0]) == 8
    assert effective_context([1, 2, 4, 8], [3.0, 2.005, 1.9, 2.0]) == 2


def test_passages_are_pieces_of_the_stream_and_depend_on_the_seed_alone():
    tokenizer = words_tokenizer()
    table = TokenTable.from_documents(random_documents([9, 4, 20, 1, 7], tokenizer.vocab_size))
    (whole,) = [LaneStream(table, num_lanes=1, window=46, bos_id=tokenizer.bos_id, eos_id=tokenizer.eos_id).next()]
    found = draw_passages(table, tokenizer, count=200, steps=6, seed=3)
    pieces = {
        (tuple(whole.inputs[0, start : start + 6].tolist()), int(whole.targets[0, start + 5])) for start in range(41)
    }
    drawn = {(tuple(inputs.tolist()), int(target)) for inputs, target in zip(*found, strict=True)}
    assert drawn <= pieces
    assert len(drawn) > 0.9 * len(pieces)
    again = draw_passages(table, tokenizer, count=200, steps=6, seed=3)
    assert torch.equal(found.inputs, again.inputs)
    assert not torch.equal(found.inputs, draw_passages(table, tokenizer, count=200, steps=6, seed=4).inputs)
    with pytest.raises(DataError, match="the table has 46 targets, passages of 47 steps are needed"):
        draw_passages(table, tokenizer, count=1, steps=47, seed=1)


def test_a_model_is_measured_batch_by_batch_with_the_same_result():
    model, passages = built(tiny_task("lstm", num_layers=2)), passages_of(130)
    calls = []
    whole = diagnose(model, passages, max_lag=MAX_LAG, seed=1, on_batch=lambda: calls.append(1))
    assert len(calls) == 3
    assert passage_steps(MAX_LAG) == passages.inputs.shape[1]
    losses = context_losses(model, passages, whole.context.lengths)
    assert whole.context.nll == pytest.approx(losses.mean(0).tolist())
    excess = (losses - losses[:, -1:]).numpy()
    assert whole.context.excess_error == pytest.approx((excess.std(0, ddof=1) / np.sqrt(130)).tolist())
    assert [decay.layer for decay in whole.gradients] == [0, 1]
    assert all(
        q["0.1"][k] <= q["0.5"][k] <= q["0.9"][k] for one in whole.gradients for q in [one.quantiles] for k in (0, 4)
    )


def test_a_model_that_diverged_is_refused():
    model = built(tiny_task("gru"))
    with torch.no_grad():
        next(model.stack.cells()).recurrent_weight()[0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match="a gradient of the model is not a finite number; did its training"):
        diagnose(model, passages_of(), max_lag=MAX_LAG, seed=1)


def test_a_model_without_memory_is_refused():
    model = built(dataclasses.replace(tiny_task(tied=False), layers=[LayerNormConfig()]))
    with pytest.raises(ConfigError, match=r"task\.layers: no layer carries a state"):
        diagnose(model, passages_of(), max_lag=MAX_LAG, seed=1)
