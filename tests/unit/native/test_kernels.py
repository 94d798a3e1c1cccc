"""Our own kernels against the same in float64 by torch; and what happens where they cannot be compiled."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from rnnlm.native import kernels
from rnnlm.native.kernels import LogSums
from rnnlm.native.library import library

NONLINEARITY = 3e-7  # absolute; the polynomial and float32
LOG_SUM = 1e-6  # relative, of a sum of float32 numbers
ROUNDED = 0.5001  # of a level: to the nearest

pytestmark = pytest.mark.skipif(library() is None, reason="no C compiler")


@pytest.mark.parametrize("rows", [1, 2, 33])
@pytest.mark.parametrize("size", [1, 7, 16, 100])
def test_rows_are_rounded_to_levels_of_their_own(rows, size):
    values = torch.randn(rows, size) * torch.logspace(-6, 6, rows).unsqueeze(1)
    found, scale = kernels.quantise(values, 1.0)
    expected = values.abs().amax(1) / 127
    torch.testing.assert_close(scale.squeeze(1), expected, rtol=1e-6, atol=0)
    assert ((found.double() - 128) * scale.double() - values.double()).abs().le(ROUNDED * scale.double()).all()
    assert (found.double() - 128).abs().amax(1).eq(127).all()


def test_a_row_of_zeros_is_zeros_and_one_that_is_not_finite_spoils_itself_alone():
    values = torch.tensor([[0.0, 0.0], [1.0, float("nan")], [float("inf"), 1.0], [3.0, -1.0]])
    found, scale = kernels.quantise(values, 1.0)
    assert found[0].tolist() == [128, 128]
    assert scale.squeeze(1).isfinite().tolist() == [True, False, False, True]
    assert found[3].tolist() == [255, 86]


def test_rows_of_a_wider_table_are_read_where_they_are():
    table = torch.randn(5, 40)
    part = table[:, 8:24]
    assert kernels.quantise(part, 2.0)[0].equal(kernels.quantise(part.contiguous(), 2.0)[0])
    doubled = kernels.quantise(part, 2.0)[1]
    assert doubled.equal(2.0 * kernels.quantise(part, 1.0)[1])


@pytest.mark.parametrize("offset", ["none", "row", "matrix", "slice"])
def test_rescaling(offset):
    product, scale = torch.randn(6, 19), torch.rand(6, 1)
    added = {"none": None, "row": torch.randn(19), "matrix": torch.randn(6, 19), "slice": torch.randn(6, 50)[:, 3:22]}
    expected = product.double() * scale.double() + (0.0 if added[offset] is None else added[offset].double())
    found = kernels.rescale(product.clone(), scale, added[offset])
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", [1, 5, 16, 33])
def test_the_gates_of_an_lstm(size):
    gates, memory = torch.randn(9, 4 * size) * 8, torch.randn(9, size)
    write, keep, candidate, read = gates.double().chunk(4, dim=1)
    cell = keep.sigmoid() * memory.double() + write.sigmoid() * candidate.tanh()
    hidden, new = kernels.lstm_gates(gates, memory)
    torch.testing.assert_close(new.double(), cell, rtol=1e-6, atol=NONLINEARITY)
    torch.testing.assert_close(hidden.double(), read.sigmoid() * cell.tanh(), rtol=1e-6, atol=NONLINEARITY)


def test_gates_at_their_ends_and_what_is_no_number():
    gates = torch.tensor([[1e30, 1e30, 1e30, 1e30], [-1e30] * 4, [float("nan"), 0.0, 0.0, 0.0]])
    hidden, cell = kernels.lstm_gates(gates, torch.full((3, 1), 2.0))
    assert cell.squeeze(1).tolist()[:2] == [3.0, pytest.approx(0.0, abs=1e-30)]
    assert hidden[0, 0].item() == pytest.approx(np.tanh(3.0), abs=NONLINEARITY)
    assert cell[2].isnan().all()
    assert hidden[2].isnan().all()


@pytest.mark.parametrize("sizes", [[5], [16, 16], [7, 1, 40]])
@pytest.mark.parametrize("spread", [1.0, 60.0])
def test_log_sums_over_tiles(sizes, spread):
    rows, size = 11, sum(sizes)
    logits, bias = torch.randn(rows, size) * spread, torch.randn(size)
    scale, targets = torch.rand(rows, 1) + 0.5, torch.randint(size, (rows,))
    whole = logits.double() * scale.double() + bias.double()
    sums = LogSums(torch.full((rows,), -1e30), torch.zeros(rows), torch.zeros(rows))
    first = 0
    for width in sizes:
        tile = slice(first, first + width)
        kernels.log_sum_exp(logits[:, tile].contiguous(), scale, bias[tile].contiguous(), targets, first, sums)
        first += width
    found = sums.top.double() + sums.total.double().log2()
    expected = (whole * np.log(2)).logsumexp(1) / np.log(2)
    torch.testing.assert_close(found, expected, rtol=LOG_SUM, atol=LOG_SUM)
    torch.testing.assert_close(sums.found.double(), whole.gather(1, targets[:, None]).squeeze(1), rtol=1e-6, atol=1e-5)


def test_a_logit_that_is_no_number_spoils_its_row_alone():
    logits = torch.zeros(2, 20)
    logits[0, 13] = float("nan")
    sums = LogSums(torch.full((2,), -1e30), torch.zeros(2), torch.zeros(2))
    kernels.log_sum_exp(logits, None, None, torch.zeros(2, dtype=torch.int64), 0, sums)
    assert sums.total.isnan().tolist() == [True, False]


@pytest.mark.parametrize("environment", [{"RNNLM_NATIVE": "0"}, {"CC": "no-such-compiler"}, {"CC": "false"}])
def test_without_a_compiler_torch_does_the_work(environment, tmp_path):
    program = "from rnnlm.native.library import kind; print(kind('float32'))"
    paths = {"PATH": "/usr/bin:/bin", "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env={**paths, **environment}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "torch"


def test_the_library_is_compiled_once_and_kept(tmp_path):
    program = "from rnnlm.native.library import kind; print(kind('float32'))"
    environment = {"PATH": "/usr/bin:/bin", "XDG_CACHE_HOME": str(tmp_path)}
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() in {"native", "avx512"}
    files = list((tmp_path / "rnnlm").iterdir())
    assert [file.suffix for file in files] == [".so"]
    assert (tmp_path / "rnnlm").stat().st_mode & 0o077 == 0
