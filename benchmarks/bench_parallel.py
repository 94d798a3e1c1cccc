"""Data-parallel training on this machine: one process against two, each with one thread and a batch of one size.

    python -m benchmarks.bench_parallel [--lanes 32] [--window 70] [--steps 8] [--rounds 5] [--sharding]

Two processes with gloo live through all rounds. In each round the first trains alone while the second waits, then both
train, through the same loop as `jobs.train`; start, validation, checkpoints and the first step do not count. Others may
be at work on this machine, so beside the clock stands what does not depend on them:

    by CPU time    2 x (CPU seconds a target alone) / (CPU seconds a target of both processes together): what two cores
                   of their own would give if waiting for one another cost nothing
    others         cores' worth of CPU time that all other processes used meanwhile

On a quiet machine the ratio by the clock is the figure. Communication is the share of a step's time in collectives;
it holds the wait for the slower process, so it grows with what others do.
"""

import argparse
import datetime as dt
import json
import os
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing

import jobs  # noqa: F401 - sets the allocator up as in every job
import rnnlm
from benchmarks.bench_ray import busy_seconds
from benchmarks.machine import machine
from rnnlm.data.tokenizers.words import WordsTokenizer
from rnnlm.tasks.batching import LanesConfig
from rnnlm.training.loop import train
from rnnlm.training.metrics import Row
from rnnlm.training.settings import Hooks, LoopConfig, TrainingConfig, TrainingData
from rnnlm.world import SingleWorld, TorchWorld, World

WORKERS = 2


@dataclass
class Cost:
    """What the steps of a round, the first apart, took one process."""

    seconds: float
    cpu: float  # seconds
    busy: float  # CPU seconds of all processes of this machine
    communication: float  # share of the time; known to the first process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocab", type=int, default=8192)
    parser.add_argument("--embedding", type=int, default=256)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--lanes", type=int, default=32, help="of each process")
    parser.add_argument("--window", type=int, default=70)
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--sharding", action="store_true", help="each process keeps its part of the optimizer's state")
    parser.add_argument("--steps", type=int, default=8, help="of a round")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print(f"{machine()}; load {os.getloadavg()[0]:.1f}; {arguments}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        torch.multiprocessing.spawn(one_process, args=(arguments, name), nprocs=WORKERS)
        alone, first, second = (read(name, side) for side in ("alone-0", "both-0", "both-1"))
    report(alone, first, second, arguments)


def one_process(rank: int, arguments: argparse.Namespace, name: str) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    meeting = f"file://{name}/meeting"
    dist.init_process_group("gloo", meeting, dt.timedelta(minutes=30), rank=rank, world_size=WORKERS)
    world, data = TorchWorld(), data_of(arguments)
    steps(f"{name}/warm-up", arguments, data, world)
    for number in range(arguments.rounds):
        if rank == 0:
            keep(name, "alone-0", steps(f"{name}/alone-{number}", arguments, data, SingleWorld()))
        world.barrier()
        keep(name, f"both-{rank}", steps(f"{name}/both-{number}", arguments, data, world))
        world.barrier()
    dist.destroy_process_group()


def steps(folder: str, arguments: argparse.Namespace, data: TrainingData, world: World) -> Cost:
    """Train a few steps; what they took."""
    rows: list[Row] = []
    marks: list[tuple[float, float, float]] = []

    def mark() -> bool:  # asked at the beginning of each step
        marks.append((time.perf_counter(), time.process_time(), busy_seconds()))
        return False

    settings = TrainingConfig(
        task=rnnlm.LanguageModelConfig(
            cell=rnnlm.LSTMConfig(hidden_size=arguments.hidden),
            num_layers=2,
            embedding_size=arguments.embedding,
            softmax=rnnlm.FullSoftmaxConfig(tied=False),
        ),
        batching=LanesConfig(num_lanes=arguments.lanes * world.size, window=arguments.window),
        loop=LoopConfig(
            max_steps=arguments.steps,
            log_every_steps=arguments.steps,
            accumulate=arguments.accumulate,
            precision=arguments.precision,
        ),
    )
    hooks = Hooks(on_row=lambda row, _: rows.append(row), should_stop=mark)
    train(settings, data, folder, world=world, optimizer_sharding=arguments.sharding, hooks=hooks)
    seconds, cpu, busy = (end - begin for begin, end in zip(marks[1], marks[-1], strict=True))
    return Cost(seconds, cpu, busy, sum(row.get("communication_share", 0.0) for row in rows))


def data_of(arguments: argparse.Namespace) -> TrainingData:
    """Random words, enough for a round, and hardly anything to validate on."""
    words = ["<eos>", "<unk>", *(f"w{number:x}" for number in range(arguments.vocab - 2))]
    generator = np.random.default_rng(1)
    count = WORKERS * arguments.lanes * arguments.window * (arguments.steps * arguments.accumulate + 1)
    documents = [generator.integers(2, arguments.vocab, 49) for _ in range(count // 50)]
    table = rnnlm.TokenTable.from_documents(documents)
    return TrainingData(table, rnnlm.TokenTable.from_documents(documents[:2]), WordsTokenizer(words))


def report(alone: list[Cost], first: list[Cost], second: list[Cost], arguments: argparse.Namespace) -> None:
    """Medians of the rounds, with the smallest and the largest."""
    count = arguments.lanes * arguments.window * arguments.accumulate * (arguments.steps - 1)  # of one process
    pairs = list(zip(alone, first, second, strict=True))
    figures = {
        "one process, targets/s": [count / one.seconds for one, _, _ in pairs],
        "two processes, targets/s": [2 * count / two.seconds for _, two, _ in pairs],
        "ratio by the clock": [2 * one.seconds / two.seconds for one, two, _ in pairs],
        "ratio by CPU time": [4 * one.cpu / (two.cpu + other.cpu) for one, two, other in pairs],
        "share of communication": [two.communication for _, two, _ in pairs],
        "others while one trains, cores": [(one.busy - one.cpu) / one.seconds for one, _, _ in pairs],
        "others while two train, cores": [(two.busy - two.cpu - other.cpu) / two.seconds for _, two, other in pairs],
    }
    print("| | median | spread |\n|---|---|---|")
    for name, values in figures.items():
        print(f"| {name} | {statistics.median(values):,.2f} | {min(values):,.2f} to {max(values):,.2f} |")


def read(name: str, side: str) -> list[Cost]:
    return [Cost(**json.loads(line)) for line in Path(f"{name}/{side}.jsonl").read_text(encoding="utf-8").splitlines()]


def keep(name: str, side: str, cost: Cost) -> None:
    with Path(f"{name}/{side}.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(asdict(cost)) + "\n")


if __name__ == "__main__":
    main()
