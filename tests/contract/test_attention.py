"""The contract of every attention in conf/attention: weights that are a distribution over the source and nothing else,
and scores by the formulas of the papers."""

from pathlib import Path

import pytest
import torch
import yaml

from rnnlm.config import from_dict
from rnnlm.nn.attending import additive_scores
from rnnlm.nn.attending.base import AttendingConfig

CONF = Path(__file__).resolve().parents[2] / "conf" / "attention"
YAMLS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(CONF.glob("*.yaml"))}
SMALL = {"additive": {"size": 5}, "multi_head": {"size": 6, "num_heads": 2}}
QUERY, MEMORY = 6, 6
EXACT = 1e-12


def config_of(name):
    return from_dict(AttendingConfig, {**YAMLS[name], **SMALL.get(name, {})})


every_kind = pytest.mark.parametrize("name", [name for name in YAMLS if name != "none"])


def built(name):
    return config_of(name).build(QUERY, MEMORY).double()


def example(rows=3, steps=4, places=5):
    known = (torch.arange(places) < torch.tensor([places, 2, 1])[:rows, None]).double()
    return torch.randn(rows, steps, QUERY).double(), torch.randn(rows, places, MEMORY).double(), known


@every_kind
def test_weights_are_a_distribution_over_what_is_known(name):
    attention = built(name)
    queries, memory, known = example()
    contexts, weights = attention(queries, attention.keys(memory), attention.values(memory), known)
    assert contexts.shape == (3, 4, attention.context_size)
    torch.testing.assert_close(weights.sum(2), torch.ones(3, 4), rtol=0, atol=1e-6)
    assert (weights >= 0).all()
    assert weights[1, :, 2:].eq(0).all()
    assert weights[2, :, 0].eq(1).all()


@every_kind
def test_rows_and_what_lies_behind_a_source_change_nothing(name):
    attention = built(name)
    queries, memory, known = example()
    whole, _ = attention(queries, attention.keys(memory), attention.values(memory), known)
    for row, length in enumerate([5, 2, 1]):
        alone = memory[row : row + 1, :length]
        found, _ = attention(
            queries[row : row + 1], attention.keys(alone), attention.values(alone), known[row : row + 1, :length]
        )
        torch.testing.assert_close(found, whole[row : row + 1], rtol=0, atol=1e-6)


@every_kind
def test_gradients_are_right(name):
    attention = built(name)
    queries, memory, known = example(rows=2, steps=2, places=3)

    def scored(queries, memory):
        return attention.scores(queries, attention.keys(memory))

    assert torch.autograd.gradcheck(scored, (queries.requires_grad_(), memory.requires_grad_()))
    assert known.shape == (2, 3)


def test_scores_are_those_of_the_papers():
    queries, memory, _ = example()
    pairs = [(r, t, s) for r in range(3) for t in range(4) for s in range(5)]
    additive = built("additive")
    w, u, b, v = additive.to_query.weight, additive.to_key.weight, additive.to_key.bias, additive.scorer
    general = built("general").double()
    formulas = {
        "additive": (additive, lambda q, m: v @ torch.tanh(w @ q + u @ m + b)),
        "dot": (built("dot"), lambda q, m: q @ m),
        "general": (general, lambda q, m: q @ (general.to_key.weight @ m)),
    }
    for attention, formula in formulas.values():
        found = attention.scores(queries, attention.keys(memory))
        for row, step, place in pairs:
            expected = formula(queries[row, step], memory[row, place])
            assert found[row, step, place].item() == pytest.approx(expected.item(), abs=EXACT)


def test_additive_scores_do_not_depend_on_where_they_are_cut(monkeypatch):
    attention = built("additive")
    queries, memory, _ = example()
    inputs = queries.requires_grad_(), memory.requires_grad_(), attention.scorer
    found = []
    for chunk in (1 << 19, 60, 1):
        monkeypatch.setattr(additive_scores, "CHUNK", chunk)
        scores = attention.scores(queries, attention.keys(memory))
        gradients = torch.autograd.grad(scores.square().sum(), inputs)
        found.append((scores.detach(), *gradients))
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            torch.testing.assert_close(one, two, rtol=0, atol=EXACT)


def test_heads_are_dot_products_of_their_shares():
    attention = built("multi_head")
    queries, memory, known = example()
    contexts, weights = attention(queries, attention.keys(memory), attention.values(memory), known)
    query, key, value = attention.to_query(queries), attention.to_key(memory), attention.to_value(memory)
    mixed, mean = [], 0
    for head in (slice(0, 3), slice(3, 6)):
        scores = (query[..., head] @ key[..., head].transpose(1, 2)) / 3**0.5
        shares = scores.masked_fill(known[:, None] == 0, -torch.inf).softmax(2)
        mean = mean + shares / 2
        mixed.append(shares @ value[..., head])
    torch.testing.assert_close(contexts, attention.to_context(torch.cat(mixed, 2)), rtol=0, atol=1e-6)
    torch.testing.assert_close(weights.double(), mean, rtol=0, atol=1e-6)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="dot attention needs"):
        config_of("dot").check_sizes(4, 6)
    assert config_of("none").build(4, 6) is None
