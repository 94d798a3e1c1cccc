"""Packed scoring on a GPU: by cuDNN and our kernel, without either, and against a script and the card's limit.

    python -m benchmarks.bench_gpu [--size small|big] [--rounds 5] [--rows 16384]

In bfloat16, float16 and float32 (without TF32), of the network and the documents of `bench_score`:

    scorer           `Scorer`: all steps of a chunk in one call of cuDNN, log-normalisers by the kernel in triton
    torch softmax    the same with log-normalisers by torch, a tile of the table after another
    step by step     the same with a product and the gates of each step as operations of their own
    script           what one would write: nn.LSTM over a PackedSequence of the same rows, F.cross_entropy of all logits
                     of SCRIPT_POSITIONS at a time

All sides run in turn, over wall time, from token ids in memory to log-probabilities in memory. In float32 they must
agree to 1e-3 nats a token before anything is timed; in the others the change of perplexity is printed. The limit is
what the operations that must be done (the first layer's input product could be a table) would take at the best rate of
a large product in that precision, measured in the same round.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import PackedSequence

import jobs  # noqa: F401 - sets the allocator up as in every job
import rnnlm
from benchmarks.bench_score import BOS, EOS, SIZES, make_documents
from benchmarks.machine import machine
from rnnlm.inference.packed import GPU_BLOCK_ROWS
from rnnlm.inference.precision import Products
from rnnlm.inference.score import Scorer
from rnnlm.nn.cells.base import FusedCell
from rnnlm.nn.language_model import LanguageModel
from rnnlm.nn.softmax import fused

PRECISIONS = ("bfloat16", "float16", "float32")
SCRIPT_POSITIONS = 16_384  # whose logits exist at once: 1 GB in float32 at V = 16,384
PRODUCT_SIZE = 8192
DEVICE = "cuda"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="big")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=16_384)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("bench_gpu measures a GPU, and torch sees no CUDA device here")
    versions = f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    print(f"{torch.cuda.get_device_name()}, {versions}; {machine()}")
    measure(*SIZES[arguments.size], arguments.rows, arguments.rounds)


def measure(vocab: int, embedding: int, hidden: int, rows: int, rounds: int) -> None:
    torch.manual_seed(1)
    torch.backends.cudnn.allow_tf32 = False  # the script's too
    task = rnnlm.LanguageModelConfig(
        cell=rnnlm.LSTMConfig(hidden_size=hidden),
        num_layers=2,
        embedding_size=embedding,
        softmax=rnnlm.FullSoftmaxConfig(tied=False),
    )
    model = task.build_model(vocab).eval().to(DEVICE)
    documents = make_documents(rows, vocab)
    num_tokens = sum(len(document) + 1 for document in documents)
    flops = 2.0 * (4 * hidden * hidden * 3 + vocab * hidden)
    print(f"V {vocab:,}, E {embedding}, H {hidden}: {num_tokens:,} tokens, wall time, {rounds} rounds")
    for precision in PRECISIONS:
        sides = ways(model, precision, documents)
        truth = sides["script"]()
        for name, side in sides.items():
            found = side()
            worst, change = np.abs(found - truth).max(), np.expm1((truth.sum() - found.sum()) / num_tokens)
            print(f"{precision}, {name}: a row differs by {worst:.1e} nats at most, perplexity by {change:+.5%}")
            assert precision != "float32" or abs(found.sum() - truth.sum()) < 1e-3 * num_tokens, "the sides differ"
        table: dict[str, list[float]] = {}
        for _ in range(rounds):
            limit = product_rate(precision)
            rates = {name: num_tokens / seconds(side) for name, side in sides.items()}
            for name, rate in rates.items():
                table.setdefault(f"{name}, tokens/s", []).append(rate)
                table.setdefault(f"{name}, % of the limit", []).append(100.0 * rate * flops / limit)
                table.setdefault(f"{name}, times the script", []).append(rate / rates["script"])
            table.setdefault("product, TFLOP/s", []).append(limit * 1e-12)
        for name, values in table.items():
            spread = f"{min(values):,.1f} to {max(values):,.1f}"
            print(f"| {precision}, {name} | {statistics.median(values):,.1f} | {spread} |")


def ways(model: LanguageModel, precision: str, documents: list[np.ndarray]) -> dict[str, Callable[[], np.ndarray]]:
    """The sides of the comparison; each gives log P of every document."""
    no_kernel = patch.object(fused, "has_kernel", lambda _: False)
    no_library = patch.object(FusedCell, "prefers_inputs", False)
    settings = {"scorer": [], "torch softmax": [no_kernel], "step by step": [no_library]}
    checkpoint = SimpleNamespace(model=model, tokenizer=SimpleNamespace(bos_id=BOS, eos_id=EOS))
    sides: dict[str, Callable[[], np.ndarray]] = {}
    for name, patches in settings.items():
        with ExitStack() as stack:
            for one in patches:
                stack.enter_context(one)
            scorer = Scorer(checkpoint, products=Products(precision=precision))

        def score(scorer: Scorer = scorer, patches: list = patches) -> np.ndarray:
            with ExitStack() as stack:
                for one in patches:
                    stack.enter_context(one)
                return scorer.score_tokens(documents).logprob

        sides[name] = score
    plain = copy.deepcopy(model).to(getattr(torch, precision))
    sides["script"] = lambda: script(plain, documents)
    return sides


@torch.inference_mode()
def script(model: LanguageModel, documents: list[np.ndarray]) -> np.ndarray:
    """The longest rows first, GPU_BLOCK_ROWS at a time, as `Scorer` has them."""
    order = np.argsort([-len(document) for document in documents], kind="stable")
    result = np.zeros(len(documents))
    for start in range(0, len(order), GPU_BLOCK_ROWS):
        rows = order[start : start + GPU_BLOCK_ROWS]
        lengths = np.array([len(documents[row]) + 1 for row in rows])
        alive = np.array([np.searchsorted(-lengths, -time) for time in range(lengths[0])])
        framed = np.concatenate([np.concatenate([[BOS], documents[row], [EOS]]) for row in rows])
        begins = np.concatenate([[0], np.cumsum(lengths + 1)[:-1]])
        place = np.concatenate([np.arange(count) for count in alive])
        source = begins[place] + np.repeat(np.arange(len(alive)), alive)
        inputs, targets = (torch.from_numpy(framed[at]).to(DEVICE) for at in (source, source + 1))
        packed = PackedSequence(model.embedding(inputs), torch.from_numpy(alive))
        for cell in model.stack.cells():
            packed, _ = cell.fused(packed)
        losses = [
            F.cross_entropy(
                F.linear(hidden, model.softmax.weight, model.softmax.bias).float(), target, reduction="none"
            )
            for hidden, target in zip(packed.data.split(SCRIPT_POSITIONS), targets.split(SCRIPT_POSITIONS), strict=True)
        ]
        result += np.bincount(rows[place], weights=-torch.cat(losses).cpu().numpy(), minlength=len(documents))
    return result


def seconds(work: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    began = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - began


def product_rate(precision: str) -> float:
    """Operations a second (two a multiplication) of a large product, the best of five."""
    left = torch.randn(PRODUCT_SIZE, PRODUCT_SIZE, device=DEVICE, dtype=getattr(torch, precision))
    _ = left @ left
    best = min(seconds(lambda: [left @ left for _ in range(4)]) for _ in range(5))
    return 4 * 2.0 * PRODUCT_SIZE**3 / best


if __name__ == "__main__":
    main()
