"""Products with prepared weights: as exact as their precision allows, and each row by itself."""

import pytest
import torch
from torch import nn

from rnnlm.errors import ConfigError
from rnnlm.native.library import has_products, library
from rnnlm.nn.prepared import LEAST_WORK, PreparedWeights
from rnnlm.nn.products import Linear, linear

CPU = torch.device("cpu")
# Of the largest number in the product, about: rounding of a factor, which averages out over a sum.
ERRORS = {"float32": 1e-6, "int8": 0.02, "bfloat16": 0.01, "float16": 1e-3}

every_precision = pytest.mark.parametrize("precision", ERRORS)
no_compiler = pytest.mark.skipif(library() is None, reason="no C compiler")
all_kernels = pytest.mark.parametrize(
    "kernels",
    [
        pytest.param({}, marks=pytest.mark.skipif(not has_products("int8"), reason="no C compiler, or no AVX-512")),
        pytest.param({"products": False}, marks=no_compiler),
        {"native": False},
    ],
    ids=["avx512", "native", "torch"],
)


def example(rows=300, inputs=64, outputs=128):
    return torch.randn(rows, inputs), nn.Parameter(torch.randn(outputs, inputs) * inputs**-0.5)


@every_precision
@all_kernels
@pytest.mark.parametrize("rows", [1, 3, 300])
@pytest.mark.parametrize("extra", ["nothing", "bias", "added", "both"])
def test_a_product_is_that_of_float64(precision, kernels, rows, extra):
    values, weight = example(rows)
    bias = torch.randn(128) if extra in {"bias", "both"} else None
    added = torch.randn(rows, 128) if extra in {"added", "both"} else None
    expected = values.double() @ weight.double().t()
    expected += (0.0 if bias is None else bias) + (0.0 if added is None else added)
    kept = None if added is None else added.clone()
    with torch.inference_mode(), PreparedWeights(precision, CPU, **kernels).active():
        found = linear(values, weight, bias, added)
        in_three = linear(values.unsqueeze(1), weight, bias, None if added is None else added.unsqueeze(1))
    assert found.dtype == torch.float32
    assert (found - expected).abs().max() <= ERRORS[precision] * expected.abs().max()
    torch.testing.assert_close(in_three.squeeze(1), found, rtol=0, atol=0)
    assert added is None or added.equal(kept)  # what is added belongs to the caller


@every_precision
def test_a_large_product_with_the_ordered_weight(precision):
    values, weight = example(256, 128, 256)
    assert values.numel() * len(weight) > LEAST_WORK
    added = torch.randn(256, 256)
    with torch.inference_mode(), PreparedWeights(precision, CPU).active():
        plain, with_added = linear(values, weight), linear(values, weight, added=added)
    expected = values.double() @ weight.double().t()
    assert (plain - expected).abs().max() <= ERRORS[precision] * expected.abs().max()
    torch.testing.assert_close(with_added, plain + added, rtol=0, atol=1e-5)


@all_kernels
def test_an_int8_row_has_the_same_bits_alone_and_among_others(kernels):
    values, weight = example()
    values[7] *= 1000.0
    with torch.inference_mode(), PreparedWeights("int8", CPU, **kernels).active():
        together = linear(values, weight)
        for row in (0, 7, 299):
            assert linear(values[row : row + 1], weight)[0].equal(together[row])


@every_precision
@all_kernels
def test_a_row_that_is_no_number_stays_one_and_harms_no_other(precision, kernels):
    values, weight = example()
    clean = values.clone()
    values[5, 3], values[9, 0] = float("nan"), float("inf")
    with torch.inference_mode(), PreparedWeights(precision, CPU, **kernels).active():
        found, expected = linear(values, weight), linear(clean, weight)
    assert not found[[5, 9]].isfinite().all(1).any()
    others = [row for row in range(300) if row not in {5, 9}]
    torch.testing.assert_close(found[others], expected[others], rtol=0, atol=1e-6)


def test_all_kernels_round_alike():
    if library() is None:
        pytest.skip("no C compiler")
    values, weight = example()
    with torch.inference_mode():
        found = []
        for kernels in ({}, {"products": False}, {"native": False}):
            with PreparedWeights("int8", CPU, **kernels).active():
                found.append(linear(values, weight))
    for other in found[1:]:
        torch.testing.assert_close(found[0], other, rtol=0, atol=ERRORS["int8"])


def test_weights_are_prepared_once_and_only_parameters():
    values, weight = example()
    prepared = PreparedWeights("int8", CPU)
    with torch.inference_mode(), prepared.active():
        linear(values, weight)
        first = prepared.of(weight)
        linear(values, weight)
    assert prepared.of(weight) is first
    assert prepared.of(weight.detach()) is None  # a passing tensor: its place in memory may be another's next time
    assert PreparedWeights("int8", CPU).of(nn.Parameter(weight.detach().double())) is None


def test_where_a_gradient_is_recorded_weights_are_as_they_are():
    values, weight = example(4)
    with PreparedWeights("int8", CPU).active():
        found = linear(values, weight)
        found.sum().backward()
    assert weight.grad is not None
    assert found.detach().equal(linear(values, weight).detach())


def test_outside_nothing_is_prepared():
    values, weight = example(4)
    with torch.inference_mode():
        plain = linear(values, weight)
        with PreparedWeights("int8", CPU).active():
            rounded = linear(values, weight)
        assert not rounded.equal(plain)
        assert linear(values, weight).equal(plain)


def test_no_rows():
    with torch.inference_mode():
        for precision in ERRORS:
            with PreparedWeights(precision, CPU).active():
                assert Linear(64, 128)(torch.zeros(0, 64)).shape == (0, 128)


def test_int8_is_for_processors():
    with pytest.raises(ConfigError, match=r"precision: int8 is not for a GPU; take bfloat16 or float32"):
        PreparedWeights("int8", torch.device("cuda"))
