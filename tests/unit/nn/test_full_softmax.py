"""The full softmax beside torch's cross-entropy, at the sizes of its real chunks and tiles; the rest of what it promises
is in the contract of all output layers."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rnnlm.nn.products import times_transposed
from rnnlm.nn.softmax.full import FullSoftmaxConfig
from rnnlm.nn.softmax.log_normaliser import CHUNK, TILE, chunks

HIDDEN = 6

FLOAT32_SUMS = 2e-5  # relative; a sum of some hundred float32 terms in another order
FLOAT64_SUMS = 1e-12  # the same in float64


def example(count, *, bias=True, dtype=torch.float32, vocab_size=11):
    layer = FullSoftmaxConfig(tied=False, bias=bias).build(HIDDEN, nn.Embedding(vocab_size, HIDDEN)).to(dtype)
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
@pytest.mark.parametrize(
    ("count", "vocab_size"),
    [(1, 11), (CHUNK, TILE), (CHUNK - 1, 11), (CHUNK + 1, 11), (2 * CHUNK + 37, 11), (37, TILE + 1), (5, 2 * TILE - 1)],
)
@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_the_sum_and_its_gradients_are_those_of_cross_entropy(count, vocab_size, bias, precision):
    layer, hidden, targets = example(count, bias=bias, dtype=precision, vocab_size=vocab_size)
    expected, found = reference(layer, hidden, targets), layer.objective(hidden, targets).objective
    tolerance = FLOAT32_SUMS if precision == torch.float32 else FLOAT64_SUMS
    torch.testing.assert_close(found, expected.double(), rtol=tolerance, atol=0)
    for one, other in zip(gradients(found, layer, hidden), gradients(expected, layer, hidden), strict=True):
        assert one.dtype == precision
        torch.testing.assert_close(one, other, rtol=tolerance, atol=10 * tolerance)


def test_hidden_states_that_do_not_lie_in_order_make_no_difference():
    layer, hidden, targets = example(8)
    crossed = hidden.detach().t().contiguous().t().requires_grad_()
    found, expected = layer.objective(crossed, targets).objective, layer.objective(hidden, targets).objective
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        gradients(found, layer, crossed)[0], gradients(expected, layer, hidden)[0], rtol=FLOAT32_SUMS, atol=FLOAT32_SUMS
    )


@pytest.mark.parametrize(("count", "group"), [(0, 1), (1, 1), (CHUNK, 1), (1120, 1), (3 * CHUNK, 3), (12000, 3000)])
def test_chunks_are_even_and_cut_no_group(count, group):
    parts = list(chunks(count, group))
    assert [row for part in parts for row in range(part.start, part.stop)] == list(range(count))
    lengths = [part.stop - part.start for part in parts]
    assert all(length % group == 0 and length <= max(group, CHUNK) for length in lengths)
    assert max(lengths, default=0) - min(lengths, default=0) <= max(group, len(parts))


@pytest.mark.parametrize("shape", [(1, 3, 5), (0, 3, 5), (7, 64, 33)])
@pytest.mark.parametrize("precision", [torch.float32, torch.float64, torch.bfloat16])
def test_a_product_is_that_of_torch_in_any_layout(shape, precision):
    rows, inner, columns = shape
    left, right, bias = (torch.randn(size).to(precision) for size in [(rows, inner), (columns, inner), (columns,)])
    tolerance = {torch.float32: FLOAT32_SUMS, torch.float64: FLOAT64_SUMS, torch.bfloat16: 2**-6}[precision]
    expected = left @ right.t()
    for one in (left, left.t().contiguous().t()):
        for other in (right, right.t().contiguous().t()):
            torch.testing.assert_close(times_transposed(one, other), expected, rtol=tolerance, atol=tolerance)
            found = times_transposed(one, other, bias)
            torch.testing.assert_close(found, expected + bias, rtol=tolerance, atol=tolerance)


def test_the_config_builds_what_it_says():
    embedding = nn.Embedding(11, HIDDEN)
    tied = FullSoftmaxConfig(tied=True, bias=False).build(HIDDEN, embedding)
    assert tied.weight is embedding.weight
    assert tied.bias is None
    untied = FullSoftmaxConfig(tied=False).build(HIDDEN + 1, embedding)
    assert untied.weight.shape == (11, HIDDEN + 1)
    assert untied.bias.tolist() == [0.0] * 11
