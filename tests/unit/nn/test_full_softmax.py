"""The fused softmax: the same numbers and gradients as torch's cross-entropy, without a matrix of all logits."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from rnnlm.nn.softmax import full as module
from rnnlm.nn.softmax.base import CHUNK
from rnnlm.nn.softmax.full import FullSoftmax, FullSoftmaxConfig

HIDDEN, VOCAB = 6, 11

FLOAT32_SUMS = 2e-5  # relative; a sum of some hundred float32 terms in another order
FLOAT64_SUMS = 1e-12  # the same in float64


def example(count, *, bias=True, dtype=torch.float32, vocab_size=VOCAB):
    layer = FullSoftmax(HIDDEN, vocab_size, tied_weight=None, bias=bias).to(dtype)
    if layer.bias is not None:
        nn.init.normal_(layer.bias)
    hidden = torch.randn(count, HIDDEN, dtype=dtype, requires_grad=True)
    return layer, hidden, torch.randint(vocab_size, (count,))


def reference(layer, hidden, targets):
    return F.cross_entropy(F.linear(hidden, layer.weight, layer.bias), targets, reduction="sum")


def gradients(loss, layer, hidden):
    parameters = [p for p in (hidden, layer.weight, layer.bias) if p is not None]
    return torch.autograd.grad(loss, parameters)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("count", [1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 37])
@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_the_sum_and_its_gradients_are_those_of_cross_entropy(count, bias, precision):
    layer, hidden, targets = example(count, bias=bias, dtype=precision)
    expected, found = reference(layer, hidden, targets), layer.objective(hidden, targets)
    tolerance = FLOAT32_SUMS if precision == torch.float32 else FLOAT64_SUMS
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected.double(), rtol=tolerance, atol=0)
    for one, other in zip(gradients(found, layer, hidden), gradients(expected, layer, hidden), strict=True):
        assert one.dtype == precision
        torch.testing.assert_close(one, other, rtol=tolerance, atol=10 * tolerance)


@pytest.mark.parametrize("bias", [True, False])
def test_gradients_are_those_of_finite_differences_over_several_chunks(bias, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 3)
    layer, hidden, targets = example(7, bias=bias, dtype=torch.float64)

    def run(*tensors):
        names = ["weight", "bias"][: len(tensors) - 1]
        return torch.func.functional_call(
            _Nll(layer), {f"layer.{n}": t for n, t in zip(names, tensors[1:], strict=True)}, (tensors[0], targets)
        )

    parameters = [p.detach().clone().requires_grad_() for p in layer.parameters()]
    assert torch.autograd.gradcheck(run, (hidden, *parameters))


class _Nll(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, hidden, targets):
        return self.layer.objective(hidden, targets)


def test_a_scaled_loss_scales_its_gradients():
    layer, hidden, targets = example(5)
    whole = gradients(layer.objective(hidden, targets), layer, hidden)
    third = gradients(layer.objective(hidden, targets) / 3, layer, hidden)
    for one, other in zip(whole, third, strict=True):
        torch.testing.assert_close(one / 3, other)


def test_hidden_states_that_do_not_lie_in_order_make_no_difference():
    layer, hidden, targets = example(8)
    crossed = hidden.detach().t().contiguous().t().requires_grad_()
    found, expected = layer.objective(crossed, targets), layer.objective(hidden, targets)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        gradients(found, layer, crossed)[0], gradients(expected, layer, hidden)[0], rtol=FLOAT32_SUMS, atol=FLOAT32_SUMS
    )


@pytest.mark.parametrize("count", [1, CHUNK + 1])
@pytest.mark.parametrize("bias", [True, False])
def test_logprobs_are_those_of_log_softmax(count, bias):
    layer, hidden, targets = example(count, bias=bias)
    expected = F.linear(hidden, layer.weight, layer.bias).log_softmax(1).gather(1, targets[:, None])[:, 0]
    found = layer.logprobs(hidden, targets)
    assert not found.requires_grad
    torch.testing.assert_close(found, expected.detach(), rtol=FLOAT32_SUMS, atol=FLOAT32_SUMS)
    total = -layer.objective(hidden, targets).detach()
    torch.testing.assert_close(found.double().sum(), total, rtol=FLOAT32_SUMS, atol=0)


def test_the_probabilities_of_all_tokens_add_up_to_one():
    layer, hidden, _ = example(1)
    every = layer.logprobs(hidden.expand(VOCAB, -1), torch.arange(VOCAB))
    assert every.double().exp().sum().item() == pytest.approx(1, abs=FLOAT32_SUMS)
    torch.testing.assert_close(layer.logits(hidden).log_softmax(1)[0], every, rtol=FLOAT32_SUMS, atol=FLOAT32_SUMS)


def test_very_large_logits_stay_finite():
    layer, hidden, targets = example(4)
    loss = layer.objective(hidden * 1e4, targets)
    assert torch.isfinite(loss)
    assert all(torch.isfinite(g).all() for g in gradients(loss, layer, hidden))


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


@pytest.mark.parametrize("use", ["training", "validation", "scoring"])
def test_a_matrix_of_all_positions_by_the_vocabulary_never_exists(use):
    count, vocab_size = 10 * CHUNK, 2000
    layer, hidden, targets = example(count, vocab_size=vocab_size)
    with _LargestTensor() as watch:
        if use == "scoring":
            layer.logprobs(hidden, targets)
        elif use == "validation":
            layer.objective(hidden.detach(), targets)
        else:
            layer.objective(hidden, targets).backward()
    assert CHUNK * vocab_size <= watch.elements  # the watch sees the chunks
    assert watch.elements < count * vocab_size / 5
    with _LargestTensor() as watch:
        reference(layer, hidden, targets)
    assert watch.elements >= count * vocab_size  # and would see the whole


def test_the_config_builds_what_it_says():
    embedding = nn.Embedding(VOCAB, HIDDEN)
    tied = FullSoftmaxConfig(tied=True, bias=False).build(HIDDEN, embedding)
    assert tied.weight.data_ptr() == embedding.weight.data_ptr()
    assert tied.bias is None
    untied = FullSoftmaxConfig(tied=False).build(HIDDEN + 1, embedding)
    assert untied.weight.shape == (VOCAB, HIDDEN + 1)
    assert untied.bias.tolist() == [0.0] * VOCAB
