"""The contract of every output layer in conf/softmax: one distribution, however it is computed, and a loss that is its
negative log-likelihood or, for the sampled one, a stated estimate of it."""

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from rnnlm.config import from_dict
from rnnlm.errors import ConfigError
from rnnlm.nn.softmax import log_normaliser
from rnnlm.nn.softmax.base import SoftmaxConfig
from rnnlm.nn.softmax.sampled import SampledSoftmax
from tests.reference import softmax_naively

CONF = Path(__file__).resolve().parents[2] / "conf" / "softmax"
YAMLS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(CONF.glob("*.yaml"))}
SMALL = {"adaptive": {"cutoffs": [4, 11]}, "sampled": {"num_samples": 9}, "mixture": {"num_experts": 3}}
HIDDEN, VOCAB, COUNT = 6, 23, 17
COUNTS = (1000 / np.arange(1, VOCAB + 1)).astype(np.int64)[np.random.default_rng(0).permutation(VOCAB)]
COUNTS[5] = 0  # a token that was never seen

FLOAT64_SUMS = 1e-11  # relative; sums in another order
FLOAT32_SUMS = 2e-5  # the same in float32, absolute for log-probabilities below 20
BFLOAT16_LOSS = 2e-4  # relative; roundings of single logits (2^-9) nearly cancel in a sum
BFLOAT16_LOGPROB = 0.05  # absolute; a logit below 10 rounded in 64 products
BFLOAT16_GRADIENT = 0.02  # relative to the norm; a rounding of 2^-9 a factor, three to five factors
SAMPLED_BIAS = 0.02  # relative; the log of an unbiased estimate is biased by half its relative variance
STANDARD_ERRORS = 5  # of a mean over draws; a false alarm once in a million numbers

every_kind = pytest.mark.parametrize("name", YAMLS)
both_ties = pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])


def config_of(name, **fields):
    return from_dict(SoftmaxConfig, {**YAMLS[name], **SMALL.get(name, {}), **fields})


def layer_of(name, *, vocab_size=VOCAB, dtype=torch.float64, **fields):
    """A layer that knows its counts, with biases far enough from anything regular that mistakes show."""
    embedding = nn.Embedding(vocab_size, HIDDEN)
    layer = config_of(name, **fields).build(HIDDEN, embedding).to(dtype)
    if vocab_size == VOCAB:
        layer.prepare(COUNTS)
    for parameter in layer.parameters():
        if parameter.dim() == 1:
            parameter.data.add_(torch.randn_like(parameter))
    return layer


def example(count=COUNT, *, vocab_size=VOCAB, dtype=torch.float64):
    return torch.randn(count, HIDDEN, dtype=dtype, requires_grad=True), torch.randint(vocab_size, (count,))


def naive_loss(layer, hidden, targets, seed=0):
    """The sum that `objective` stands for, by autograd over all logits."""
    if not isinstance(layer, SampledSoftmax):
        return -softmax_naively(layer, hidden)[torch.arange(len(targets)), targets].sum()
    torch.manual_seed(seed)
    sample = layer.draw()
    logits = F.linear(hidden, layer.weight, layer.bias)
    total = 0.0
    for row, target in enumerate(targets.tolist()):
        estimate = logits[row, target].exp()
        for token, log_inclusion in zip(sample.tokens.tolist(), sample.log_inclusion, strict=True):
            if token != target:
                estimate = estimate + logits[row, token].exp() / log_inclusion.exp()
        total = total + estimate.log() - logits[row, target]
    return total


def objective(layer, hidden, targets, seed=0):
    torch.manual_seed(seed)
    return layer.objective(hidden, targets)


def gradients(loss, layer, hidden):
    return torch.autograd.grad(loss, [hidden, *layer.parameters()])


def assert_same_gradients(found, expected, tolerance=FLOAT64_SUMS):
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@every_kind
@both_ties
@pytest.mark.parametrize("bias", [True, False])
def test_the_distribution_is_that_of_the_formulas(name, tied, bias):
    layer, (hidden, targets) = layer_of(name, tied=tied, bias=bias), example()
    expected = softmax_naively(layer, hidden).detach()
    torch.testing.assert_close(layer.logits(hidden).detach().log_softmax(1), expected)
    found = layer.logprobs(hidden, targets)
    assert not found.requires_grad
    torch.testing.assert_close(found, expected.gather(1, targets[:, None])[:, 0], rtol=FLOAT64_SUMS, atol=FLOAT64_SUMS)
    every = layer.logprobs(hidden[:1].expand(VOCAB, -1), torch.arange(VOCAB))
    assert every.exp().sum().item() == pytest.approx(1, abs=FLOAT64_SUMS)


@every_kind
@both_ties
@pytest.mark.parametrize("bias", [True, False])
def test_the_loss_and_its_gradients_are_those_of_the_formulas(name, tied, bias):
    layer, (hidden, targets) = layer_of(name, tied=tied, bias=bias), example()
    found, expected = objective(layer, hidden, targets), naive_loss(layer, hidden, targets)
    assert found.objective.dtype == found.nll.dtype == torch.float64
    assert not found.nll.requires_grad
    torch.testing.assert_close(found.objective, expected)
    torch.testing.assert_close(found.nll, expected.detach())
    if name != "sampled":
        torch.testing.assert_close(found.nll, -layer.logprobs(hidden, targets).sum())
    # A loss that is divided by the number of targets scales its gradients.
    third = gradients(found.objective / 3, layer, hidden)
    assert_same_gradients([3 * one for one in third], gradients(expected, layer, hidden))


class _Again(torch.autograd.Function):
    """An objective whose gradient can be asked for more than once, as gradcheck does."""

    @staticmethod
    def forward(ctx, run, *tensors):
        with torch.enable_grad():
            inputs = [tensor.detach().requires_grad_() for tensor in tensors]
            loss = run(*inputs)
            ctx.save_for_backward(*torch.autograd.grad(loss, inputs))
        return loss.detach()

    @staticmethod
    def backward(ctx, scale):
        return None, *(scale * gradient for gradient in ctx.saved_tensors)


class _Objective(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, hidden, targets):
        return objective(self.layer, hidden, targets).objective


@every_kind
@both_ties
def test_gradients_are_those_of_finite_differences_over_several_chunks_and_tiles(name, tied, monkeypatch):
    monkeypatch.setattr(log_normaliser, "CHUNK", 3)
    monkeypatch.setattr(log_normaliser, "TILE", 5)
    layer, (hidden, targets) = layer_of(name, tied=tied), example(4)
    names = [f"layer.{name}" for name, _ in layer.named_parameters()]

    def run(hidden, *values):
        replaced = dict(zip(names, values, strict=True))
        return torch.func.functional_call(_Objective(layer), replaced, (hidden, targets))

    inputs = [hidden, *(p.detach().clone().requires_grad_() for p in layer.parameters())]
    assert torch.autograd.gradcheck(lambda *tensors: _Again.apply(run, *tensors), inputs)


@every_kind
@pytest.mark.parametrize(("chunk", "tile"), [(1, 1), (4, 7), (100, 3), (5, 100)])
def test_any_chunk_and_tile_give_the_same(name, chunk, tile, monkeypatch):
    layer, (hidden, targets) = layer_of(name), example()
    expected = objective(layer, hidden, targets)
    expected_gradients, expected_logprobs = (
        gradients(expected.objective, layer, hidden),
        layer.logprobs(hidden, targets),
    )
    monkeypatch.setattr(log_normaliser, "CHUNK", chunk)
    monkeypatch.setattr(log_normaliser, "TILE", tile)
    found = objective(layer, hidden, targets)
    torch.testing.assert_close(found.nll, expected.nll)
    assert_same_gradients(gradients(found.objective, layer, hidden), expected_gradients)
    torch.testing.assert_close(layer.logprobs(hidden, targets), expected_logprobs)


@every_kind
@pytest.mark.parametrize("count", [0, 1, 700])
def test_any_number_of_positions_in_float32(name, count):
    layer, (hidden, targets) = layer_of(name, dtype=torch.float32), example(count, dtype=torch.float32)
    found, exact = objective(layer, hidden, targets), naive_loss(layer, hidden, targets) if count else torch.zeros(())
    torch.testing.assert_close(found.nll, exact.double(), rtol=FLOAT32_SUMS, atol=0)
    made = gradients(found.objective, layer, hidden)  # of every parameter, also of a cluster that no target falls into
    assert all(torch.isfinite(one).all() for one in made)
    expected = softmax_naively(layer, hidden)[torch.arange(count), targets].detach()
    torch.testing.assert_close(layer.logprobs(hidden, targets), expected, rtol=FLOAT32_SUMS, atol=FLOAT32_SUMS)
    assert (layer.logprobs(hidden * 30, targets) <= 0).all()


@every_kind
def test_very_large_logits_stay_finite(name):
    layer, (hidden, targets) = layer_of(name, dtype=torch.float32), example(dtype=torch.float32)
    loss = objective(layer, hidden * 1e4, targets)
    assert torch.isfinite(loss.objective)
    assert all(torch.isfinite(g).all() for g in gradients(loss.objective, layer, hidden))


@every_kind
def test_a_gradient_is_given_once(name):
    layer, (hidden, targets) = layer_of(name), example()
    loss = objective(layer, hidden, targets).objective
    torch.autograd.grad(loss, hidden, retain_graph=True)
    with pytest.raises(RuntimeError, match="can be asked for once"):
        torch.autograd.grad(loss, hidden)


class _LargestTensor(TorchDispatchMode):
    """Notes the most elements that any operation's result has."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, kinds, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        for one in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(one, torch.Tensor):
                self.elements = max(self.elements, one.untyped_storage().nbytes() // one.element_size())
        return result


@every_kind
@pytest.mark.parametrize("use", ["training", "training in bfloat16", "validation", "scoring"])
def test_a_matrix_of_all_positions_by_the_vocabulary_never_exists(name, use, monkeypatch):
    monkeypatch.setattr(log_normaliser, "CHUNK", 60)
    count, vocab_size = 600, 2000
    layer = layer_of(
        name, vocab_size=vocab_size, dtype=torch.float32, **({"cutoffs": None} if name == "adaptive" else {})
    )
    hidden, targets = example(count, vocab_size=vocab_size, dtype=torch.float32)
    with _LargestTensor() as watch, torch.autocast("cpu", torch.bfloat16, enabled="bfloat16" in use):
        if use == "scoring":
            layer.logprobs(hidden, targets)
        elif use == "validation":
            layer.objective(hidden.detach(), targets)
        else:
            layer.objective(hidden, targets).objective.backward()
    assert vocab_size <= watch.elements  # the watch sees something
    assert watch.elements < count * vocab_size / 5
    with _LargestTensor() as watch:
        layer.logits(hidden)
    assert watch.elements >= count * vocab_size  # and would see the whole


@every_kind
def test_tied_is_the_embedding_itself(name):
    embedding = nn.Embedding(VOCAB, HIDDEN)
    for tied in (True, False):
        layer = config_of(name, tied=tied).build(HIDDEN, embedding)
        assert any(parameter is embedding.weight for parameter in layer.parameters()) == tied
        hidden, targets = example(dtype=torch.float32)
        embedding.weight.grad = None
        objective(layer, hidden, targets).objective.backward()
        assert (embedding.weight.grad is not None) == tied
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in layer.parameters())


@every_kind
@both_ties
def test_everything_comes_back_from_a_state_dict(name, tied):
    layer, (hidden, targets) = layer_of(name, tied=tied), example()
    other = config_of(name, tied=tied).build(HIDDEN, nn.Embedding(VOCAB, HIDDEN)).double()
    assert not torch.equal(other.logprobs(hidden, targets), layer.logprobs(hidden, targets))
    other.load_state_dict({name: tensor.clone() for name, tensor in layer.state_dict().items()})
    assert torch.equal(other.logprobs(hidden, targets), layer.logprobs(hidden, targets))
    assert torch.equal(objective(other, hidden, targets).nll, objective(layer, hidden, targets).nll)


@every_kind
@both_ties
def test_prepared_it_begins_with_the_frequencies_of_the_training_data(name, tied):
    layer = config_of(name, tied=tied).build(HIDDEN, nn.Embedding(VOCAB, HIDDEN)).double()
    layer.prepare(COUNTS)
    if name == "mixture":
        layer.latent.bias.data.zero_()
    found = layer.logprobs(torch.zeros(VOCAB, HIDDEN, dtype=torch.float64), torch.arange(VOCAB))
    expected = (COUNTS + 1) / (COUNTS.sum() + VOCAB)
    np.testing.assert_allclose(found.exp().numpy(), expected, rtol=1e-9)
    config_of(name, tied=tied, bias=False).build(HIDDEN, nn.Embedding(VOCAB, HIDDEN)).prepare(COUNTS)


@pytest.mark.parametrize("name", ["full", "sampled"])
@pytest.mark.parametrize("bias", [True, False])
def test_label_smoothing_is_that_of_torch_and_leaves_the_nll_alone(name, bias):
    layer = layer_of(name, bias=bias, label_smoothing=0.2, **({"num_samples": VOCAB} if name == "sampled" else {}))
    hidden, targets = example()
    found, logits = objective(layer, hidden, targets), F.linear(hidden, layer.weight, layer.bias)
    expected = F.cross_entropy(logits, targets, reduction="sum", label_smoothing=0.2)
    torch.testing.assert_close(found.objective, expected)
    torch.testing.assert_close(found.nll, F.cross_entropy(logits, targets, reduction="sum").detach())
    assert_same_gradients(gradients(found.objective, layer, hidden), gradients(expected, layer, hidden))


@every_kind
def test_bfloat16_products_are_near_those_of_float32(name):
    vocab_size, count = 3000, 256
    fields = {"adaptive": {"cutoffs": [300, 1000]}, "sampled": {"num_samples": 1000}}.get(name, {})
    embedding = nn.Embedding(vocab_size, 64)
    nn.init.normal_(embedding.weight, std=64**-0.5)
    layer = config_of(name, **fields).build(64, embedding)
    layer.prepare((1e6 / np.arange(1, vocab_size + 1)).astype(np.int64))
    hidden, targets = torch.randn(count, 64, requires_grad=True), torch.randint(vocab_size, (count,))
    exact = objective(layer, hidden, targets)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = objective(layer, hidden, targets)
        scored = layer.logprobs(hidden, targets)
    assert scored.dtype == torch.float32
    assert (scored - layer.logprobs(hidden, targets)).abs().max() < BFLOAT16_LOGPROB
    assert rounded.nll != exact.nll  # bfloat16 was used
    assert rounded.nll.item() == pytest.approx(exact.nll.item(), rel=BFLOAT16_LOSS)
    pairs = zip(gradients(rounded.objective, layer, hidden), gradients(exact.objective, layer, hidden), strict=True)
    for one, other in pairs:
        assert one.dtype == torch.float32
        assert (one - other).norm() <= BFLOAT16_GRADIENT * other.norm()


# ----- the sampled one


def test_a_sample_of_all_tokens_gives_the_exact_loss():
    for num_samples in (VOCAB, VOCAB + 1, 1 << 20):
        layer, (hidden, targets) = layer_of("sampled", num_samples=num_samples), example()
        found, expected = (
            objective(layer, hidden, targets),
            -softmax_naively(layer, hidden)[range(COUNT), targets].sum(),
        )
        torch.testing.assert_close(found.objective, expected)
        assert_same_gradients(gradients(found.objective, layer, hidden), gradients(expected, layer, hidden))


def test_a_sample_that_holds_nothing_but_the_target_teaches_nothing():
    layer = layer_of("sampled", num_samples=1)
    torch.manual_seed(0)
    only = layer.draw().tokens
    hidden, _ = example(1)
    loss = objective(layer, hidden, only)
    assert loss.nll == 0
    assert not any(gradient.any() for gradient in gradients(loss.objective, layer, hidden))


def test_a_sample_has_distinct_tokens_and_every_token_stands_for_those_left_out():
    layer, draws = layer_of("sampled"), 4000
    weights = torch.zeros(draws, VOCAB, dtype=torch.float64)
    for row in weights:
        sample = layer.draw()
        assert len(set(sample.tokens.tolist())) == len(sample.tokens) == 9
        row[sample.tokens] = (-sample.log_inclusion).exp()
    error = weights.std(0) / draws**0.5
    assert ((weights.mean(0) - 1).abs() <= STANDARD_ERRORS * error + 1e-12).all()
    drawn = (weights > 0).double().mean(0)
    assert drawn[int(COUNTS.argmax())] > 2 * drawn[5]  # frequent tokens more often, and one never seen now and then
    assert drawn[5] > 0


def test_the_estimated_normaliser_is_right_on_average():
    layer, (hidden, targets) = layer_of("sampled"), example(3)
    # exp(nll) of one row is the estimate of Z over the target's exp(logit), so its mean is 1 / P(target).
    expected = (-softmax_naively(layer, hidden)[range(3), targets]).exp().detach()
    for row in range(3):
        found = torch.stack(
            [objective(layer, hidden[row : row + 1], targets[row : row + 1], seed).nll.exp() for seed in range(500)]
        )
        assert (found.mean() - expected[row]).abs() < STANDARD_ERRORS * found.std() / len(found) ** 0.5
        assert found.std() > 0.1 * expected[row]  # it is an estimate


def test_the_mean_gradient_comes_to_the_exact_one_as_the_sample_grows():
    vocab_size, draws = 200, 150
    exact = layer_of("full", vocab_size=vocab_size)
    hidden, targets = example(vocab_size=vocab_size)
    expected = torch.cat([g.flatten() for g in gradients(objective(exact, hidden, targets).objective, exact, hidden)])
    errors = []
    for num_samples in (20, 60, 180):
        layer = layer_of("sampled", vocab_size=vocab_size, num_samples=num_samples)
        layer.load_state_dict({**exact.state_dict(), "rate": layer.rate})
        made = (gradients(objective(layer, hidden, targets, seed).objective, layer, hidden) for seed in range(draws))
        found = torch.stack([torch.cat([gradient.flatten() for gradient in one]) for one in made])
        errors.append(((found.mean(0) - expected).norm() / expected.norm()).item())
        assert (found[0] - expected).norm() / expected.norm() > errors[-1]  # a single draw is further off
    assert errors[0] > 1.5 * errors[1] > 4 * errors[2]
    assert errors[2] < SAMPLED_BIAS


# ----- learning


def learnt(name, hidden_size=12, contexts=40, vocab_size=300, steps=250):
    """Mean exact nll after learning which tokens follow which context, each context its own law of ranks."""
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    laws = np.stack([1.0 / (1 + generator.permutation(vocab_size)) ** 1.5 for _ in range(contexts)])
    laws *= 1.0 / np.arange(1, vocab_size + 1)
    laws = torch.tensor(laws / laws.sum(1, keepdims=True))
    fields = {"sampled": {"num_samples": 60}, "adaptive": {"cutoffs": [60, 150], "div_value": 2.0}}.get(name, {})
    embedding = nn.Embedding(vocab_size, hidden_size)
    nn.init.normal_(embedding.weight, std=hidden_size**-0.5)
    layer = config_of(name, **fields).build(hidden_size, embedding)
    layer.prepare((laws.sum(0) * 1000).long().numpy())
    states = nn.Parameter(torch.randn(contexts, hidden_size) * 0.1)
    optimizer = torch.optim.Adam([states, *layer.parameters()], lr=0.03)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 0.03 * (1 - step / steps)
        context = torch.randint(contexts, (256,))
        targets = torch.multinomial(laws[context], 1).squeeze(1)
        optimizer.zero_grad()
        (layer.objective(states[context], targets).objective / len(targets)).backward()
        optimizer.step()
    with torch.no_grad():
        return -(laws * layer.logits(states).log_softmax(1)).sum(1).mean().item(), laws


@functools.cache
def learnt_by_the_full_softmax():
    return learnt("full")


@pytest.mark.parametrize("name", [name for name in YAMLS if name != "full"])
def test_each_learns_nearly_what_the_full_softmax_learns(name):
    full, laws = learnt_by_the_full_softmax()
    found, _ = learnt(name)
    unigram = -(laws * laws.mean(0).log()).sum(1).mean().item()
    assert full < unigram - 0.5  # there was something to learn
    assert found < full + 0.1 * (unigram - full)  # and nearly all of it was


# ----- what is refused


@pytest.mark.parametrize(
    ("name", "fields", "said"),
    [
        ("sampled", {"num_samples": 0}, "num_samples"),
        ("sampled", {"num_samples": 10**8}, "num_samples"),
        ("sampled", {"distortion": 1.5}, "distortion"),
        ("adaptive", {"cutoffs": [5, 5]}, r"cutoffs \[5, 5\] must be at least 1 and rise"),
        ("adaptive", {"cutoffs": [0, 5]}, "must be at least 1 and rise"),
        ("adaptive", {"div_value": 0.5}, "div_value"),
        ("adaptive", {"label_smoothing": 0.1}, "set label_smoothing=0.0"),
        ("mixture", {"label_smoothing": 0.1}, "set label_smoothing=0.0"),
        ("mixture", {"num_experts": 0}, "num_experts"),
        ("mixture", {"latent_size": 0}, "latent_size"),
        ("full", {"label_smoothing": 1.0}, "label_smoothing"),
    ],
)
def test_what_makes_no_sense_is_a_config_error(name, fields, said):
    with pytest.raises(ConfigError, match=said):
        config_of(name, **fields)


@pytest.mark.parametrize("cutoffs", [[VOCAB], [4, VOCAB + 7]])
def test_cutoffs_beyond_the_vocabulary_are_a_config_error(cutoffs):
    with pytest.raises(ConfigError, match=f"must lie below the size of the vocabulary, {VOCAB} tokens"):
        config_of("adaptive", cutoffs=cutoffs).build(HIDDEN, nn.Embedding(VOCAB, HIDDEN))


@every_kind
def test_sizes_that_cannot_be_tied_are_refused_where_there_is_no_map_between_them(name):
    if name == "mixture":
        config_of(name).check_sizes(7, 9, "cell.hidden_size")
        config_of(name, latent_size=9).check_sizes(7, 9, "cell.hidden_size")
        config_of(name, latent_size=8, tied=False).check_sizes(7, 9, "cell.hidden_size")
        with pytest.raises(ValueError, match=r"latent_size \(8\) = task.embedding_size \(9\)"):
            config_of(name, latent_size=8).check_sizes(7, 9, "cell.hidden_size")
        layer = config_of(name).build(HIDDEN + 1, nn.Embedding(VOCAB, HIDDEN))
        assert layer.logits(torch.zeros(1, HIDDEN + 1)).shape == (1, VOCAB)
    else:
        config_of(name, tied=False).check_sizes(7, 9, "cell.hidden_size")
        with pytest.raises(ValueError, match=r"hidden_size \(7\) = task.embedding_size \(9\)"):
            config_of(name).check_sizes(7, 9, "cell.hidden_size")
