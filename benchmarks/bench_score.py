"""Scoring rate against a plain padded script, interleaved, one thread, CPU time.

    python -m benchmarks.bench_score [--size small|big] [--rounds 5]

Both sides score the same rows with the same weights; their log-probabilities must agree to 1e-3 nats before anything is
timed. The limit is what the floating-point operations that must be done would take at the sgemm rate measured in the
same round. Rows have log-normal lengths (median 22 tokens, sigma 0.7, 5 to 200).
"""

import argparse
import platform
import statistics
import time

import numpy as np
import torch
import torch.nn.functional as F

import rnnlm
from rnnlm.inference.packed import PackedRunner
from rnnlm.nn.language_model import LanguageModel
from rnnlm.nn.products import linear

SIZES = {"small": (8192, 256, 512), "big": (16384, 512, 1024)}  # vocabulary, embedding, hidden; two layers
BOS, EOS = 1, 2
PLAIN_BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=512)
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
    with torch.inference_mode():
        runner = PackedRunner(model, bos_id=BOS, eos_id=EOS)
        worst = float(np.abs(packed(model, runner, documents) - plain(model, documents)).max())
        assert worst < 1e-3, f"the two sides differ by {worst} nats"
        rounds = []
        for _ in range(arguments.rounds):
            sgemm = sgemm_rate()
            ours = num_tokens / cpu_seconds(lambda: packed(model, runner, documents))
            theirs = num_tokens / cpu_seconds(lambda: plain(model, documents))
            rounds.append((ours, theirs, ours / theirs, ours * flops / sgemm, sgemm))
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, size {arguments.size}")
    print(
        f"{num_tokens:,} tokens, one thread, CPU time, {arguments.rounds} rounds; largest difference {worst:.1e} nats"
    )
    for name, column, scale, unit in (
        ("packed", 0, 1.0, "tokens/s"),
        ("plain script", 1, 1.0, "tokens/s"),
        ("ratio", 2, 1.0, "times"),
        ("share of the sgemm limit", 3, 100.0, "%"),
        ("sgemm", 4, 1e-9, "GF/s"),
    ):
        values = [row[column] * scale for row in rounds]
        spread = f"{min(values):,.1f} to {max(values):,.1f}"
        print(f"| {name} | {statistics.median(values):,.1f} | {spread} | {unit} |")


def make_documents(rows: int, vocab: int) -> list[np.ndarray]:
    generator = np.random.default_rng(1)
    lengths = np.clip(np.exp(generator.normal(np.log(22), 0.7, rows)).astype(int), 5, 200)
    return [generator.integers(3, vocab, length) for length in lengths]


def packed(model: LanguageModel, runner: PackedRunner, documents: list[np.ndarray]) -> np.ndarray:
    result = np.zeros(len(documents))
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


def cpu_seconds(work: object) -> float:
    assert callable(work)
    began = time.process_time()
    work()
    return time.process_time() - began


def sgemm_rate() -> float:
    """Floating-point operations a second of a large product, best of five in the faster of MKL and oneDNN."""
    left, right = torch.randn(512, 1024), torch.randn(4096, 1024)
    seconds = []
    for product in (F.linear, linear):
        product(left, right)
        seconds += [cpu_seconds(lambda: [product(left, right) for _ in range(8)]) for _ in range(5)]  # noqa: B023
    return 8 * 2.0 * 512 * 1024 * 4096 / min(seconds)


if __name__ == "__main__":
    main()
