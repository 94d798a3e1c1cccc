"""Scoring rate, in float32 and int8, against a plain padded script and against the machine's limit.

    python -m benchmarks.bench_score [--size small|big] [--rounds 5] [--kernels avx512|native|torch]

All sides score the same rows with the same weights, in turn, on one thread; CPU time. In float32 log-probabilities must
agree to 1e-3 nats with those of the script before anything is timed; in int8 the change of perplexity is printed. The
limit of a precision is what the operations that must be done (the first layer's input product is a table) would take at
the best rate of a large product in that precision, measured in the same round. Rows have log-normal lengths (median 22
tokens, sigma 0.7, 5 to 200).

For the small size there is also fairseq's `eval_lm`, which runs beside this torch only after patches by hand: its rate
as measured once on another machine, times the rate of a large float32 product here, divided by that there.
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

import jobs  # noqa: F401 - sets the allocator up as in every job
import rnnlm
from benchmarks.machine import machine
from rnnlm.inference.packed import PackedRunner
from rnnlm.inference.precision import Products
from rnnlm.nn.language_model import LanguageModel
from rnnlm.nn.prepared import PreparedWeights

SIZES = {"small": (8192, 256, 512), "big": (16384, 512, 1024)}  # vocabulary, embedding, hidden; two layers
PRECISIONS = ("float32", "int8")
BOS, EOS = 1, 2
PLAIN_BATCH = 64
# fairseq 0.12.2, lstm_lm of the small size, --max-tokens 2048: tokens/s of a core; the product's rate on that machine
FAIRSEQ_RATE, FAIRSEQ_PRODUCT = 4680.0, 142e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--kernels", choices=["avx512", "native", "torch"], default=None)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    vocab, embedding, hidden = SIZES[arguments.size]
    task = rnnlm.LanguageModelConfig(
        cell=rnnlm.LSTMConfig(hidden_size=hidden),
        num_layers=2,
        embedding_size=embedding,
        softmax=rnnlm.FullSoftmaxConfig(tied=False),
    )
    model = task.build_model(vocab).eval()
    documents = make_documents(arguments.rows, vocab)
    num_tokens = sum(len(document) + 1 for document in documents)
    flops = 2.0 * (4 * hidden * hidden * 3 + vocab * hidden)  # the first layer's input product is a table
    print(machine())
    with torch.inference_mode():
        runner = PackedRunner(model, bos_id=BOS, eos_id=EOS)
        prepared = {
            name: Products(precision=name, kernels=arguments.kernels).prepare(model.device) for name in PRECISIONS
        }
        truth = plain(model, documents)
        for name, weights in prepared.items():
            found = packed(model, runner, documents, weights)
            worst, change = np.abs(found - truth).max(), np.expm1((truth.sum() - found.sum()) / num_tokens)
            print(f"{name}: a row differs by {worst:.1e} nats at most, perplexity by {change:+.5%}")
            assert name != "float32" or worst < 1e-3, "the two sides differ"
        rows: dict[str, list[float]] = {}
        for _ in range(arguments.rounds):
            script = num_tokens / cpu_seconds(lambda: plain(model, documents))
            rows.setdefault("plain script, tokens/s", []).append(script)
            for name, weights in prepared.items():
                rate = num_tokens / cpu_seconds(lambda: packed(model, runner, documents, weights))  # noqa: B023
                limit = product_rate(weights)
                rows.setdefault(f"{name}, tokens/s", []).append(rate)
                rows.setdefault(f"{name}, times the script", []).append(rate / script)
                rows.setdefault(f"{name}, % of the limit", []).append(100.0 * rate * flops / limit)
                rows.setdefault(f"{name}, product, GOP/s", []).append(limit * 1e-9)
                if name == "float32":
                    fairseq = FAIRSEQ_RATE * limit / FAIRSEQ_PRODUCT
                if arguments.size == "small":
                    rows.setdefault(f"{name}, times fairseq, from its rate elsewhere", []).append(rate / fairseq)
    print(f"size {arguments.size}: {num_tokens:,} tokens, one thread, CPU time, {arguments.rounds} rounds")
    for name, values in rows.items():
        print(f"| {name} | {statistics.median(values):,.1f} | {min(values):,.1f} to {max(values):,.1f} |")


def make_documents(rows: int, vocab: int) -> list[np.ndarray]:
    generator = np.random.default_rng(1)
    lengths = np.clip(np.exp(generator.normal(np.log(22), 0.7, rows)).astype(int), 5, 200)
    return [generator.integers(3, vocab, length) for length in lengths]


def packed(
    model: LanguageModel, runner: PackedRunner, documents: list[np.ndarray], weights: PreparedWeights
) -> np.ndarray:
    result = np.zeros(len(documents))
    with weights.active():
        for block in runner.blocks(documents):
            for chunk in runner.run(documents, block):
                values = model.softmax.logprobs(chunk.hidden, chunk.targets).numpy()
                result += np.bincount(chunk.rows, weights=values, minlength=len(documents))
    return result


def plain(model: LanguageModel, documents: list[np.ndarray]) -> np.ndarray:
    """What one would write: batches of 64 in file order, padded, log_softmax over everything."""
    result = np.zeros(len(documents))
    for start in range(0, len(documents), PLAIN_BATCH):
        rows = documents[start : start + PLAIN_BATCH]
        longest = max(len(row) for row in rows) + 1
        inputs = torch.zeros(len(rows), longest, dtype=torch.long)
        targets = torch.zeros_like(inputs)
        mask = torch.zeros(len(rows), longest)
        for index, row in enumerate(rows):
            inputs[index, : len(row) + 1] = torch.from_numpy(np.concatenate([[BOS], row]))
            targets[index, : len(row) + 1] = torch.from_numpy(np.concatenate([row, [EOS]]))
            mask[index, : len(row) + 1] = 1.0
        hidden, _ = model(inputs, model.initial_state(len(rows)))
        logprobs = torch.log_softmax(model.softmax.logits(hidden.flatten(0, 1)), -1).view(*inputs.shape, -1)
        chosen = logprobs.gather(2, targets.unsqueeze(2)).squeeze(2) * mask
        result[start : start + len(rows)] = chosen.sum(1).numpy()
    return result


def cpu_seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def product_rate(weights: PreparedWeights) -> float:
    """Operations a second (two a multiplication) of a large product, the best of five by whoever is fastest: ours,
    oneDNN or, in float32, MKL."""
    left, right = torch.randn(512, 1024), torch.nn.Parameter(torch.randn(4096, 1024))
    products: list[Callable[[], object]] = []
    for ours in (weights, PreparedWeights(weights.precision, left.device, products=False)):
        weight = ours.of(right)
        if weight is not None:
            products.append(functools.partial(weight.unscaled, weight.operand(left)))
    if weights.precision == "float32":
        products.append(lambda: F.linear(left, right))
    seconds = []
    for product in products:
        product()
        seconds += [cpu_seconds(lambda: [product() for _ in range(4)]) for _ in range(5)]  # noqa: B023
    return 4 * 2.0 * 512 * 1024 * 4096 / min(seconds)


if __name__ == "__main__":
    main()
