"""The kernel against torch: on a GPU as it is, elsewhere by triton's interpreter, and compiled for GPUs that are not here.

The interpreter has no bfloat16; there float16 stands for both.
"""
# ruff: noqa: E402 - the interpreter is asked for before triton is imported

import os
import subprocess
import sys

import pytest
import torch

ON_GPU = torch.cuda.is_available()
if not ON_GPU:
    os.environ["TRITON_INTERPRET"] = "1"
triton = pytest.importorskip("triton", reason="triton is not installed; make test-gpu installs it")
if not ON_GPU and not triton.knobs.runtime.interpret:
    pytest.skip("triton was imported before its interpreter was asked for", allow_module_level=True)

from rnnlm.nn.prepared import PreparedWeights
from rnnlm.nn.softmax import fused
from rnnlm.nn.softmax.adaptive import AdaptiveSoftmaxConfig
from rnnlm.nn.softmax.full import FullSoftmaxConfig
from rnnlm.nn.softmax.log_normaliser_triton import TritonTable
from rnnlm.nn.softmax.mixture import MixtureSoftmaxConfig

DEVICE = torch.device("cuda" if ON_GPU else "cpu")
SHAPES = [(rows, vocab, size) for rows in (1, 5, 130) for vocab, size in ((1000, 48), (2050, 256))]
HALVES = [torch.float16, torch.bfloat16] if ON_GPU else [torch.float16]
FLOAT32_ROUNDING = 1e-5


def made(rows, vocab, size, *, bias=True):
    weight = torch.randn(vocab, size) * size**-0.5
    targets = torch.linspace(0, vocab - 1, rows).long()  # the first and the last among them
    parts = torch.randn(rows, size), weight, torch.randn(vocab) if bias else None, targets
    return tuple(None if part is None else part.to(DEVICE) for part in parts)


def expected(hidden, weight, bias, targets):
    logits = hidden.double() @ weight.double().t()
    if bias is not None:
        logits += bias
    return logits.logsumexp(1).float(), logits.gather(1, targets.unsqueeze(1)).squeeze(1).float()


def assert_close(found, wanted, *, relative=0.0, absolute=FLOAT32_ROUNDING):
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=relative, atol=absolute, equal_nan=True)


@pytest.mark.parametrize("parts", [None, 1, 3, 1000])
@pytest.mark.parametrize(("rows", "vocab", "size"), SHAPES)
def test_float32(rows, vocab, size, parts):
    hidden, weight, bias, targets = made(rows, vocab, size)
    found = TritonTable(weight, bias, torch.float32).read(hidden, targets, parts)
    assert_close(found, expected(hidden, weight, bias, targets))


@pytest.mark.parametrize("precision", HALVES, ids=str)
@pytest.mark.parametrize(("rows", "vocab", "size"), SHAPES)
def test_half_precision_is_exact_for_rounded_numbers(rows, vocab, size, precision):
    hidden, weight, bias, targets = made(rows, vocab, size)
    found = TritonTable(weight, bias, precision).read(hidden, targets)
    assert_close(found, expected(hidden.to(precision), weight.to(precision), bias, targets))
    assert_close(found, expected(hidden, weight, bias, targets), absolute=5e-2)


def test_without_bias_and_without_rows():
    hidden, weight, _, targets = made(7, 300, 20, bias=False)
    table = TritonTable(weight, None, torch.float32)
    assert_close(table.read(hidden, targets), expected(hidden, weight, None, targets))
    assert [len(part) for part in table.read(hidden[:0], targets[:0])] == [0, 0]


def test_the_logit_of_a_target_in_any_part():
    hidden, weight, bias, _ = made(200, 200, 16)
    targets = torch.randperm(200).to(DEVICE)
    found = TritonTable(weight, bias, torch.float32).read(hidden, targets, 4)
    assert_close(found, expected(hidden, weight, bias, targets))


@pytest.mark.parametrize("scale", [1e-4, 100.0, 1e4])
def test_extreme_logits(scale):
    hidden, weight, bias, targets = made(9, 700, 32)
    hidden = hidden * scale
    found = TritonTable(weight, bias, torch.float32).read(hidden, targets, 3)
    assert_close(found, expected(hidden, weight, bias, targets), relative=1e-5)


def test_absent_outputs_have_no_weight():
    hidden, weight, bias, targets = made(9, 700, 32)
    bias[128:256] = -torch.inf  # whole tiles of the kernel
    bias[5] = -torch.inf
    targets[3] = 5
    found = TritonTable(weight, bias, torch.float32).read(hidden, targets, 3)
    assert_close(found, expected(hidden, weight, bias, targets))
    assert found[1][3] == -torch.inf


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, in the interpreter
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_stays_in_its_row(value):
    hidden, weight, bias, targets = made(9, 700, 32)
    wanted = expected(hidden, weight, bias, targets)[0]
    hidden[4, 7] = value
    found = TritonTable(weight, bias, torch.float32).read(hidden, targets, 3)[0]
    assert not found[4].isfinite()
    others = torch.arange(9) != 4
    torch.testing.assert_close(found[others], wanted[others], rtol=0, atol=FLOAT32_ROUNDING)


@pytest.mark.parametrize("config", [FullSoftmaxConfig, AdaptiveSoftmaxConfig, MixtureSoftmaxConfig])
@pytest.mark.parametrize("precision", [None, "float32", "float16"])
def test_softmaxes_read_their_tables_by_it(config, precision, monkeypatch):
    options = {"cutoffs": [40]} if config is AdaptiveSoftmaxConfig else {}
    softmax = config(tied=False, **options).build(24, torch.nn.Embedding(300, 24)).to(DEVICE).eval()
    hidden, targets = torch.randn(11, 24, device=DEVICE), torch.arange(0, 300, 28, device=DEVICE)
    read, original = [], TritonTable.read
    monkeypatch.setattr(TritonTable, "read", lambda *given: read.append(given) or original(*given))
    with torch.inference_mode():
        monkeypatch.setattr(fused, "has_kernel", lambda weight: False)
        wanted = softmax.logprobs(hidden, targets)
        assert not read
        monkeypatch.setattr(fused, "has_kernel", lambda weight: weight.dtype == torch.float32)
        if precision is None:
            found = softmax.logprobs(hidden, targets)
        else:
            with PreparedWeights(precision, DEVICE).active():
                found = softmax.logprobs(hidden, targets)
    assert read
    tolerance = 1e-2 if precision == "float16" else FLOAT32_ROUNDING
    torch.testing.assert_close(found, wanted, rtol=0, atol=tolerance)


def test_gradients_take_the_other_way(monkeypatch):
    monkeypatch.setattr(fused, "has_kernel", lambda weight: True)
    hidden, weight, bias, targets = made(3, 50, 8)
    monkeypatch.setattr(TritonTable, "read", lambda *_: pytest.fail("the kernel has no gradient"))
    loss = fused.fused_loss(hidden.requires_grad_(), weight, bias, targets, fused.Kind())
    loss.objective.backward()
    assert hidden.grad is not None


COMPILE = """
import torch
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from rnnlm.nn.softmax import log_normaliser_triton as module

kernel = module._read_part
for capability, limit in ((75, 64), (80, 163), (86, 99), (90, 227), (100, 227)):  # KiB of shared memory a program may have
    for dtype, blocks in (("fp16", module.HALF_BLOCKS), ("bf16", module.HALF_BLOCKS), ("fp32", module.FLOAT_BLOCKS)):
        if (capability, dtype) == (75, "bf16"):
            continue
        types = {"hidden": "*" + dtype, "weight": "*" + dtype, "bias": "*fp32", "targets": "*i64"}
        types |= dict.fromkeys(("top_of", "total_of", "found_of"), "*fp32")
        constants = {"BELOW_ALL": module.BELOW_ALL, "LOG2_E": module.LOG2_E}
        constants |= {"BLOCK_M": blocks.rows, "BLOCK_N": blocks.outputs, "BLOCK_K": blocks.features}
        types |= dict.fromkeys(constants, "constexpr")
        signature = {name: types.get(name, "i32") for name in kernel.arg_names}
        aligned = ("hidden", "weight", "bias", "targets", "size")
        attrs = {(kernel.arg_names.index(name),): [["tt.divisibility", 16]] for name in aligned}
        source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attrs)
        options = {"num_warps": blocks.warps, "num_stages": blocks.stages}
        made = compile(source, target=GPUTarget("cuda", capability, 32), options=options)
        assert made.metadata.shared <= limit * 1024, (capability, dtype, made.metadata.shared)
        assert "tf32" not in made.asm["ptx"]
        assert dtype == "fp32" or capability == 75 or "mma" in made.asm["ptx"], "no matrix unit is used"
print("compiled")
"""


@pytest.mark.slow
def test_it_compiles_for_gpus_of_five_generations(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    done = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "compiled", done.stderr
