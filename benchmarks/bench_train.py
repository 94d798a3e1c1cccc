"""Training rate and memory against a plain nn.LSTM script with full cross-entropy and Adam.

    python -m benchmarks.bench_train rate --vocab 33278 --hidden 200 --lanes 20 --window 35 --softmax sampled
    python -m benchmarks.bench_train memory --vocab 33278

`rate` runs both in turn on one thread and measures CPU time. Both sides start from the same weights and see the same
windows; with the exact softmax in float32 their first losses must agree to 1e-3 nats before anything is timed. `memory`
gives each side processes of its own and takes the peak, in MiB, of what they hold beyond the imports.
"""

import argparse
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

import jobs  # noqa: F401 - sets the allocator up as in every job
import rnnlm
from benchmarks.machine import machine
from rnnlm.data.stream import LaneStream, Window
from rnnlm.nn.language_model import LanguageModel
from rnnlm.nn.softmax.base import SoftmaxConfig
from rnnlm.nn.softmax.sampled import SampledSoftmaxConfig

STEPS = 3  # of a round
MEBIBYTE = 2**20

Steps = Callable[[list[Window]], float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["rate", "memory"])
    parser.add_argument("--vocab", type=int, default=8192)
    parser.add_argument("--embedding", type=int, default=256)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--lanes", type=int, default=64)
    parser.add_argument("--window", type=int, default=70)
    parser.add_argument("--softmax", choices=["full", "sampled"], default="full")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print(f"{machine()}; one thread")
    print(
        f"two LSTM layers of {arguments.hidden}, vocabulary {arguments.vocab:,}, {arguments.lanes} lanes of "
        f"{arguments.window} steps; ours with the {arguments.softmax} softmax in {arguments.precision}"
    )
    if arguments.what == "rate":
        measure_rate(arguments)
    else:
        measure_memory(arguments)


def measure_rate(arguments: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    windows = windows_of(arguments, STEPS)
    ours, theirs = our_side(arguments), their_side(arguments)
    first = ours(windows[:1]), theirs(windows[:1])
    if (arguments.softmax, arguments.precision) == ("full", "float32"):
        assert abs(first[0] - first[1]) < 1e-3, f"the first losses differ: {first}"
    targets = sum(window.targets.numel() for window in windows)
    rounds = []
    for _ in range(arguments.rounds):
        began = time.process_time()
        ours(windows)
        middle = time.process_time()
        theirs(windows)
        end = time.process_time()
        rounds.append((targets / (middle - began), targets / (end - middle), (end - middle) / (middle - began)))
    for column, name in enumerate(("rnnlm, targets/s", "plain script, targets/s", "ratio")):
        values = [row[column] for row in rounds]
        print(f"| {name} | {statistics.median(values):,.2f} | {min(values):,.2f} to {max(values):,.2f} |")


def measure_memory(arguments: argparse.Namespace) -> None:
    context = multiprocessing.get_context("spawn")
    sides = {"rnnlm": our_side, "plain script": their_side}
    peaks: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(arguments.rounds):  # where freed blocks lie differs from run to run, by hundreds of megabytes
        for name, side in sides.items():
            with context.Pool(1) as pool:
                peaks[name].append(pool.apply(peak_of, (side, arguments)) / MEBIBYTE)
    peaks_of_rounds = zip(*peaks.values(), strict=True)
    for name, values in {**peaks, "ratio": [theirs / ours for ours, theirs in peaks_of_rounds]}.items():
        print(f"| {name} | {statistics.median(values):,.2f} | {min(values):,.2f} to {max(values):,.2f} |")


def peak_of(side: Callable[[argparse.Namespace], Steps], arguments: argparse.Namespace) -> float:
    """Bytes that two steps hold at most, beyond what the imports and the data take."""
    torch.set_num_threads(1)
    windows = windows_of(arguments, 2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    side(arguments)(windows)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024.0


def windows_of(arguments: argparse.Namespace, count: int) -> list[Window]:
    generator = np.random.default_rng(1)
    total = arguments.lanes * arguments.window * (count + 1)
    documents = [generator.integers(3, arguments.vocab, 50) for _ in range(total // 50)]
    stream = LaneStream(
        rnnlm.TokenTable.from_documents(documents),
        num_lanes=arguments.lanes,
        window=arguments.window,
        bos_id=1,
        eos_id=2,
    )
    return [stream.next() for _ in range(count)]


def task_of(arguments: argparse.Namespace, softmax: SoftmaxConfig) -> rnnlm.LanguageModelConfig:
    return rnnlm.LanguageModelConfig(
        cell=rnnlm.LSTMConfig(hidden_size=arguments.hidden),
        num_layers=2,
        embedding_size=arguments.embedding,
        softmax=softmax,
    )


def our_side(arguments: argparse.Namespace) -> Steps:
    softmax = SampledSoftmaxConfig if arguments.softmax == "sampled" else rnnlm.FullSoftmaxConfig
    task = task_of(arguments, softmax(tied=False))
    torch.manual_seed(1)
    model = task.build_model(arguments.vocab)
    optimizer = rnnlm.AdamWConfig(learning_rate=1e-4).build(model)

    def steps(windows: list[Window]) -> float:
        state, mean = model.initial_state(arguments.lanes), 0.0
        for window in windows:
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=arguments.precision == "bfloat16"):
                loss, state = task.loss(model, window, state)
            assert loss.objective is not None
            (loss.objective / loss.num_targets).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            mean = loss.nll.item() / loss.num_targets
        return mean

    return steps


def their_side(arguments: argparse.Namespace) -> Steps:
    """The same network trained as a plain script does it: all logits, F.cross_entropy, Adam as it comes."""
    torch.manual_seed(1)
    model: LanguageModel = task_of(arguments, rnnlm.FullSoftmaxConfig(tied=False)).build_model(arguments.vocab)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

    def steps(windows: list[Window]) -> float:
        state, mean = model.initial_state(arguments.lanes), 0.0
        for window in windows:
            optimizer.zero_grad()
            hidden, state = model(window.inputs, tuple(tensor.detach() for tensor in state))
            logits = F.linear(hidden, model.softmax.weight, model.softmax.bias)
            loss = F.cross_entropy(logits.flatten(0, 1), window.targets.flatten())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            mean = loss.item()
        return mean

    return steps


if __name__ == "__main__":
    main()
