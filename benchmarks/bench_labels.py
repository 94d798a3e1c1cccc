"""What taggers are made of: the chain's sums beside pytorch-crf's, and reading with prepared weights and without.

    python -m benchmarks.bench_labels [--rounds 15]

One thread, CPU time, both sides in turn. The chain is 32 rows of up to 40 words with 20 labels and 128 of up to 25 with
60, random scores; losses must agree to 1e-6. Reading is a bidirectional LSTM of 200 each way over 250 features, 64 rows
of 3 to 40 words; outputs must agree to 1e-5.
"""

import argparse
import statistics
from collections.abc import Callable

import torch
import torchcrf

import rnnlm
from benchmarks.bench_score import cpu_seconds
from benchmarks.machine import machine
from rnnlm.nn.crf import ChainCRF
from rnnlm.nn.layers.bidirectional import BidirectionalConfig
from rnnlm.nn.prepared import PreparedWeights

SIZES = ((32, 40, 20), (128, 25, 60))  # rows, words of the longest, labels
FEATURES, HIDDEN, ROWS, LONGEST = 250, 200, 64, 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(1)
    print(f"{machine()}; one thread, CPU time, {arguments.rounds} rounds")
    print("| | ours, ms | the other, ms | times |\n|---|---|---|---|")
    for rows, steps, labels in SIZES:
        measure_chain(rows, steps, labels, arguments.rounds)
    measure_reading(arguments.rounds)


def measure_chain(rows: int, steps: int, num_labels: int, rounds: int) -> None:
    """Loss with gradients, and the best labels, beside pytorch-crf."""
    ours, other = ChainCRF(num_labels), torchcrf.CRF(num_labels, batch_first=True)
    with torch.no_grad():
        other.transitions.copy_(ours.transitions)
        other.start_transitions.copy_(ours.start)
        other.end_transitions.copy_(ours.end)
    emissions = (3.0 * torch.randn(rows, steps, num_labels)).requires_grad_()
    lengths, labels = torch.randint(steps // 3, steps + 1, (rows,)), torch.randint(num_labels, (rows, steps))
    lengths[0] = steps
    mask = torch.arange(steps) < lengths[:, None]
    found, expected = ours.loss(emissions, labels, lengths), -other(emissions, labels, mask=mask)
    assert abs(found.item() / expected.item() - 1.0) < 1e-6, "the two sides differ"
    name, values = f"{rows} x {steps} words, {num_labels} labels", emissions.detach()
    compare(
        f"{name}: loss and gradients",
        lambda: ours.loss(emissions, labels, lengths).backward(),
        lambda: other(emissions, labels, mask=mask).neg().backward(),
        rounds,
    )
    compare(
        f"{name}: best labels", lambda: ours.decode(values, lengths), lambda: other.decode(values, mask=mask), rounds
    )


def measure_reading(rounds: int) -> None:
    """Whole sequences by a bidirectional layer, with prepared weights and without."""
    layer = BidirectionalConfig(forward=rnnlm.LSTMConfig(hidden_size=HIDDEN)).build(FEATURES).eval()
    inputs, lengths = torch.randn(ROWS, LONGEST, FEATURES), torch.randint(3, LONGEST + 1, (ROWS,))
    weights, mask = PreparedWeights("float32", inputs.device), torch.arange(LONGEST) < lengths[:, None]

    def prepared() -> torch.Tensor:
        with weights.active():
            return layer.read(inputs, lengths)

    with torch.inference_mode():
        assert (prepared() - layer.read(inputs, lengths))[mask].abs().max() < 1e-5, "the two sides differ"
        compare("reading, prepared and not", prepared, lambda: layer.read(inputs, lengths), rounds)


def compare(name: str, ours: Callable[[], object], other: Callable[[], object], rounds: int) -> None:
    pairs = [(cpu_seconds(ours), cpu_seconds(other)) for _ in range(rounds + 1)][1:]
    ratios = [slow / fast for fast, slow in pairs]
    fast, slow = (1e3 * statistics.median(times) for times in zip(*pairs, strict=True))
    spread = f"{statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})"
    print(f"| {name} | {fast:.1f} | {slow:.1f} | {spread} |", flush=True)


if __name__ == "__main__":
    main()
