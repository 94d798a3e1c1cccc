"""Our own products against the same in float64 by torch, in float32 and int8, with all that is done along with them."""

import numpy as np
import pytest
import torch

from rnnlm.errors import EnvironmentFailure
from rnnlm.inference import precision
from rnnlm.inference.precision import Products
from rnnlm.native import library
from rnnlm.native.library import has_products
from rnnlm.native.products import LANES, PANEL, Panels

FLOAT = 2e-6  # of the largest sum
BYTES = 0.02

pytestmark = pytest.mark.skipif(not has_products("float32"), reason="no C compiler, or no AVX-512")
in_both = pytest.mark.parametrize(
    "in_bytes", [False, pytest.param(True, marks=pytest.mark.skipif(not has_products("int8"), reason="no VNNI"))]
)


def example(rows, outputs, inputs):
    return torch.randn(rows, inputs), torch.randn(outputs, inputs) * inputs**-0.5


@in_both
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 6, 7, 300])
@pytest.mark.parametrize(("outputs", "inputs"), [(1, 1), (PANEL - 1, 7), (PANEL, 16), (2 * PANEL + 17, 130)])
def test_a_product_is_that_of_float64(in_bytes, rows, outputs, inputs):
    values, weight = example(rows, outputs, inputs)
    panels = Panels(weight, in_bytes=in_bytes)
    expected = values.double() @ weight.double().t()
    error = (BYTES if in_bytes else FLOAT) * max(1.0, expected.abs().max())
    assert (panels.times(panels.rows(values)) - expected).abs().max() <= error
    bias, matrix = torch.randn(outputs), torch.randn(rows, outputs + 5)[:, 2:-3]
    for offset in (bias, matrix):
        plain = panels.times(panels.rows(values))
        torch.testing.assert_close(panels.times(panels.rows(values), offset), plain + offset, rtol=0, atol=1e-6)


@in_both
def test_a_row_has_the_same_bits_alone_and_among_others(in_bytes):
    values, weight = example(50, 100, 33)
    panels = Panels(weight, in_bytes=in_bytes)
    together = panels.times(panels.rows(values))
    for start, end in ((0, 1), (3, 9), (11, 50)):
        assert panels.times(panels.rows(values[start:end])).equal(together[start:end])


@in_both
def test_inputs_that_lie_apart_are_read_where_they_are(in_bytes):
    wide, weight = torch.randn(9, 80), torch.randn(40, 24)
    panels = Panels(weight, in_bytes=in_bytes)
    part = wide[:, 8:32]
    assert panels.times(panels.rows(part)).equal(panels.times(panels.rows(part.contiguous())))


@in_both
def test_weights_of_zeros_and_rows_of_zeros_give_zeros(in_bytes):
    values, weight = example(4, 70, 10)
    weight[3], values[2] = 0.0, 0.0
    found = (panels := Panels(weight, in_bytes=in_bytes)).times(panels.rows(values))
    assert found[:, 3].eq(0).all()
    assert found[2].eq(0).all()


@in_both
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_no_number_spoils_its_row_alone(in_bytes, bad):
    values, weight = example(8, 70, 10)
    values[5, 3] = bad
    panels = Panels(weight, in_bytes=in_bytes)
    found = panels.times(panels.rows(values))
    log_sum, _ = panels.log_sum_exp(panels.rows(values), None, torch.zeros(8, dtype=torch.int64))
    others = [row for row in range(8) if row != 5]
    assert not found[5].isfinite().any()
    assert found[others].isfinite().all()
    assert not log_sum[5].isfinite()
    assert log_sum[others].isfinite().all()


@in_both
@pytest.mark.parametrize("size", [1, 3, LANES, 2 * LANES + 5])
@pytest.mark.parametrize("alive", [[1], [9, 9, 7, 7, 3, 1, 1], [300, 2]])
@pytest.mark.parametrize("looked_up", [False, True])
def test_all_steps_of_an_lstm(in_bytes, size, alive, looked_up):
    weight = torch.randn(4 * size, size) * size**-0.5
    panels = Panels(weight, in_bytes=in_bytes, gates=True)
    table, places = torch.randn(20, 4 * size) * 2, torch.randint(20, (sum(alive),))
    state = torch.randn(alive[0], size).tanh(), torch.randn(alive[0], size)
    before = tuple(tensor.clone() for tensor in state)
    if looked_up:
        outputs, last = panels.lstm(alive, table, places, state)
    else:
        outputs, last = panels.lstm(alive, table[places], None, state)
    hidden, memory = (tensor.double() for tensor in state)
    expected, begin = [], 0
    for count in alive:
        gates = table[places[begin : begin + count]].double() + hidden[:count] @ weight.double().t()
        write, keep, candidate, read = gates.chunk(4, dim=1)
        memory[:count] = keep.sigmoid() * memory[:count] + write.sigmoid() * candidate.tanh()
        hidden[:count] = read.sigmoid() * memory[:count].tanh()
        expected.append(hidden[:count].clone())
        begin += count
    error = BYTES if in_bytes else 2e-6
    for found, wanted in zip((outputs, *last), (torch.cat(expected), hidden, memory), strict=True):
        assert (found - wanted).abs().max() <= error
    assert all(tensor.equal(kept) for tensor, kept in zip(state, before, strict=True))  # it is the caller's


@in_both
def test_gates_and_targets_that_lie_apart_are_copied_and_kept(in_bytes):
    size, alive = 24, [5, 5, 4, 2]
    panels = Panels(torch.randn(4 * size, size) * size**-0.5, in_bytes=in_bytes, gates=True)
    apart = torch.randn(sum(alive), 8 * size)[:, ::2]
    state = torch.randn(5, size).tanh(), torch.randn(5, size)
    wanted, _ = panels.lstm(alive, apart.contiguous(), None, state)
    outputs = Panels(torch.randn(40, size), in_bytes=in_bytes)
    rows, targets = outputs.rows(torch.randn(30, size)), torch.randint(40, (30, 2))[:, 0]
    _, right = outputs.log_sum_exp(rows, None, targets.contiguous())
    for _ in range(20):
        assert panels.lstm(alive, apart, None, state)[0].equal(wanted)
        assert outputs.log_sum_exp(rows, None, targets)[1].equal(right)


def test_gates_at_their_ends_and_what_is_no_number():
    panels = Panels(torch.zeros(4, 1), in_bytes=False, gates=True)
    gates = torch.tensor([[1e30, 1e30, 1e30, 1e30], [-1e30] * 4, [float("nan"), 0.0, 0.0, 0.0]])
    hidden, (_, memory) = panels.lstm([3], gates, None, (torch.zeros(3, 1), torch.full((3, 1), 2.0)))
    assert memory.squeeze(1).tolist()[:2] == [pytest.approx(3.0), pytest.approx(0.0, abs=1e-11)]
    assert hidden[0, 0].item() == pytest.approx(np.tanh(3.0), abs=3e-7)
    assert memory[2].isnan().all()
    assert hidden[2].isnan().all()


@in_both
@pytest.mark.parametrize("outputs", [1, 10, PANEL, 3 * PANEL + 1])
@pytest.mark.parametrize("spread", [1.0, 60.0])
def test_log_sums(in_bytes, outputs, spread):
    values, weight = example(250, outputs, 20)
    panels, targets = Panels(weight * spread, in_bytes=in_bytes), torch.randint(outputs, (250,))
    rows, bias = panels.rows(values), torch.randn(outputs)
    for given in (bias, None):
        logits = panels.times(rows, given).double()
        log_sum, found = panels.log_sum_exp(rows, given, targets)
        expected = (logits * np.log(2)).logsumexp(1) / np.log(2)
        torch.testing.assert_close(log_sum.double(), expected, rtol=1e-6, atol=2e-6)
        torch.testing.assert_close(found.double(), logits[torch.arange(250), targets], rtol=0, atol=0)


def test_a_run_begun_with_avx512_is_refused_where_there_is_none(monkeypatch):
    assert Products().settled(threads=1).kernels == "avx512"
    monkeypatch.setattr(precision, "has_products", lambda name: False)
    monkeypatch.setattr(library, "has_products", lambda name: False)
    assert Products().settled(threads=1).kernels == "native"
    with pytest.raises(EnvironmentFailure, match="need AVX-512"):
        Products(kernels="avx512").prepare(torch.device("cpu"))
