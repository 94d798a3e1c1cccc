"""Scoring under Ray, Parquet to Parquet by two workers, against a plain Ray Data script and against the kernel alone.

    python -m benchmarks.bench_ray [--size small|big] [--rounds 3] [--scale 1.0]

Each side is a whole command in processes of its own with a Ray cluster of its own: `jobs.score` in int8 and in float32
with `cluster.workers=2`, and `benchmarks/peers/ray_data_score.py` (batches of 64 in file order, padded, log_softmax
over everything, float32) with two actors. All have one thread a worker, the same weights and the same rows;
log-probabilities must agree to 1e-3 nats in float32. Rows are words of a vocabulary of the model's size, of log-normal
length (median 22, sigma 0.7, 5 to 200).

A command scores a small and a large corpus in turn, and what the large one takes more is the steady state; the rest is
the start. Others may be at work on this machine, so a command is charged with the core seconds that were at its
disposal: all cores' time from its beginning to its end, less what other processes used of it. On a quiet machine that
is wall time times cores; on a busy one others use what it leaves idle. The kernel alone is `Scorer.score_tokens` on the
same rows in one process, one thread, CPU time, measured in every round; twice its rate is the limit. Beside it stands a
worker alone: the same rows from Parquet to Parquet by the engine in one process, without Ray. On a busy machine a
command takes more or less to start, and this is the steadier figure. `--alone` measures nothing else.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

import jobs  # noqa: F401 - sets the allocator up as in every job
import rnnlm
from benchmarks.bench_generate import Plain
from benchmarks.bench_score import SIZES, cpu_seconds
from benchmarks.machine import machine
from rnnlm.bulk.engine import execute, prepare, run_here
from rnnlm.checkpoint import load_checkpoint, save_checkpoint
from rnnlm.data.formats.parquet import ParquetCorpus
from rnnlm.data.tokenizers.words import WordsTokenizer
from rnnlm.inference.precision import Products
from rnnlm.inference.score import Scorer
from rnnlm.inference.score_work import ScoreWork
from rnnlm.storage import open_location

WORKERS = 2
FILES = 8
KERNEL_ROWS = 3000
SHARD_SECONDS = 30.0  # as the job has it; the estimate is that of a slow core in float32
TICK = os.sysconf("SC_CLK_TCK")
MARK = "RNNLM_BENCHMARK"  # in the environment of all processes of a command
# A cluster of the command's own, whose workers do not give way to whoever else is at work here.
ENVIRONMENT = {"RAY_ADDRESS": "local", "RAY_worker_niceness": "0", "OMP_NUM_THREADS": "1"}
# Rows of the large corpus at --scale 1, for some twenty seconds of two workers; the small one has a fifth of them.
ROWS = {
    "small": {"int8": 60_000, "float32": 24_000, "plain": 4_000},
    "big": {"int8": 20_000, "float32": 7_000, "plain": 1_000},
}
SMALL_PART = 5


@dataclass(frozen=True)
class Cost:
    """What a command took."""

    wall: float
    disposal: float  # core seconds that no other process used
    cpu: float  # of its own processes

    def __sub__(self, other: "Cost") -> "Cost":
        return Cost(self.wall - other.wall, self.disposal - other.disposal, self.cpu - other.cpu)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="of the corpora")
    parser.add_argument("--alone", action="store_true", help="a worker and its kernel only, without Ray")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{machine()}; size {arguments.size}, {WORKERS} workers of one thread, {arguments.rounds} rounds", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_models(folder, *SIZES[arguments.size])
        rows = {side: int(count * arguments.scale) for side, count in ROWS[arguments.size].items()}
        tokens: dict[tuple[str, str], int] = {}
        for side, count in rows.items():
            for part, size in (("small", count // SMALL_PART), ("large", count)):
                tokens[side, part] = write_corpus(folder / f"{side}-{part}", size, SIZES[arguments.size][0])
        if not arguments.alone:
            check(folder)
        found = measure_alone if arguments.alone else measure
        rounds = [found(folder, tokens, str(number)) for number in range(arguments.rounds)]
    report(rounds)


def measure(folder: Path, tokens: dict[tuple[str, str], int], name: str) -> dict[str, float]:
    """Figures of one round."""
    found: dict[str, float] = {}
    for side in ("int8", "float32", "plain"):
        costs = {}
        for part in ("small", "large"):
            costs[part] = cost_of(command(folder, side, f"{side}-{part}", f"out-{name}-{side}-{part}"))
        steady, count = costs["large"] - costs["small"], tokens[side, "large"] - tokens[side, "small"]
        start = costs["small"].wall - steady.wall * tokens[side, "small"] / count
        found[f"{side}: tokens/s"] = WORKERS * count / steady.disposal
        found[f"{side}: tokens a CPU second of all its processes"] = count / steady.cpu
        found[f"{side}: start, s by the clock"] = start
    found |= measure_alone(folder, tokens, name)
    for side in ("int8", "float32"):
        kernel = found[f"{side}: the kernel alone, tokens/s of a core"]
        found[f"{side}: times the plain script"] = found[f"{side}: tokens/s"] / found["plain: tokens/s"]
        found[f"{side}: % of {WORKERS} x kernel"] = 100 * found[f"{side}: tokens/s"] / (WORKERS * kernel)
        used = found[f"{side}: tokens a CPU second of all its processes"]
        found[f"{side}: % of the kernel's rate a CPU second"] = 100 * used / kernel
    print(f"round {name}: " + ", ".join(f"{key} {value:,.1f}" for key, value in found.items()), flush=True)
    return found


def measure_alone(folder: Path, tokens: dict[tuple[str, str], int], name: str) -> dict[str, float]:
    """Figures of a round that need no Ray."""
    found: dict[str, float] = {}
    for side in ("int8", "float32"):
        products = Products(precision=cast(Any, side)).settled(1)
        kernel = kernel_rate(folder, products)
        work = ScoreWork(checkpoint=str(folder / "model"), products=products)
        corpus = ParquetCorpus(path=str(folder / f"{side}-small"))
        plan = prepare(work, corpus, str(folder / f"alone-{name}-{side}"), target_seconds=SHARD_SECONDS)
        work.build("cpu")
        seconds = cpu_seconds(lambda: execute(plan, run_here, on_event=lambda _: None))  # noqa: B023 - called at once
        found[f"{side}: the kernel alone, tokens/s of a core"] = kernel
        found[f"{side}: a worker alone, % of its kernel"] = 100 * tokens[side, "small"] / seconds / kernel
    return found


def report(rounds: list[dict[str, float]]) -> None:
    print("| | median | spread |\n|---|---|---|")
    for name in sorted(rounds[0]):
        values = [found[name] for found in rounds]
        print(f"| {name} | {statistics.median(values):,.1f} | {min(values):,.1f} to {max(values):,.1f} |")


def command(folder: Path, side: str, corpus: str, output: str) -> list[str]:
    source, target = str(folder / corpus), str(folder / output)
    if side == "plain":
        script = [sys.executable, "-m", "benchmarks.peers.ray_data_score", str(folder / "plain.pt"), source, target]
        return [*script, "--workers", str(WORKERS)]
    job = [sys.executable, "-m", "jobs.score", f"checkpoint={folder / 'model'}", "corpus=parquet", f"precision={side}"]
    settings = [f"corpus.path={source}", f"output={target}", f"cluster.workers={WORKERS}"]
    return [*job, *settings, f"shard_seconds={SHARD_SECONDS}"]


def cost_of(words: list[str]) -> Cost:
    """Run a command and see what it takes."""
    mark = uuid.uuid4().hex
    environment = {**os.environ, **ENVIRONMENT, MARK: mark}
    seconds: dict[int, float] = {}
    ended = threading.Event()
    watcher = threading.Thread(target=watch, args=(f"{MARK}={mark}".encode(), seconds, ended))
    before, began = busy_seconds(), time.perf_counter()
    watcher.start()
    done = subprocess.run(words, check=False, env=environment, capture_output=True, text=True)
    wall, busy = time.perf_counter() - began, busy_seconds() - before
    ended.set()
    watcher.join()
    assert done.returncode == 0, f"{words} failed:\n{done.stdout}\n{done.stderr}"
    own = sum(seconds.values())
    cost = Cost(wall, (os.cpu_count() or 1) * wall - max(0.0, busy - own), own)
    print(f"  {words[2]} {Path(words[-2]).name if 'peers' in words[2] else ''}: {cost}", file=sys.stderr, flush=True)
    return cost


def watch(mark: bytes, seconds: dict[int, float], ended: threading.Event) -> None:
    """Note the CPU seconds of all processes that have a mark in their environment, as long as they are there."""
    known: dict[int, bool] = {}
    while not ended.wait(0.1):
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            number = int(entry.name)
            try:
                if number not in known:
                    known[number] = mark in (entry / "environ").read_bytes().split(b"\0")
                if known[number]:
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                    seconds[number] = (int(fields[11]) + int(fields[12])) / TICK
            except OSError:  # it has ended
                continue


def busy_seconds() -> float:
    """CPU seconds of all processes since the machine began, what its host took from it included."""
    fields = [int(value) for value in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields
    return (user + nice + system + irq + softirq + steal) / TICK


def kernel_rate(folder: Path, products: Products) -> float:
    """Tokens a CPU second of one thread that scores token ids in memory."""
    checkpoint = load_checkpoint(str(folder / "model"))
    texts = pq.read_table(folder / "int8-large").column("text").slice(0, KERNEL_ROWS).to_pylist()
    documents = checkpoint.tokenizer.encode(texts)
    scorer = Scorer(checkpoint, products=products)
    scorer.score_tokens(documents[:600])
    work: Callable[[], object] = lambda: scorer.score_tokens(documents)  # noqa: E731
    return sum(len(ids) + 1 for ids in documents) / min(cpu_seconds(work) for _ in range(2))


def check(folder: Path) -> None:
    """Both sides must say the same of the same rows."""
    found = {}
    for side in ("float32", "plain", "int8"):
        cost_of(command(folder, side, "plain-small", f"check-{side}"))
        output = folder / f"check-{side}"
        table = pq.read_table(output / "data" if (output / "data").exists() else output)
        found[side] = table.sort_by("id").column("logprob").to_numpy()
    worst = np.abs(found["float32"] - found["plain"]).max()
    print(f"a row differs by {worst:.1e} nats at most; in int8 by {np.abs(found['int8'] - found['plain']).max():.1e}")
    assert worst < 1e-3, "the two sides differ"


def make_models(folder: Path, vocab: int, embedding: int, hidden: int) -> None:
    """The same random weights as a checkpoint and as the plain script reads them."""
    torch.manual_seed(1)
    words = ["<eos>", "<unk>", *vocabulary(vocab)]
    task = rnnlm.LanguageModelConfig(
        cell=rnnlm.LSTMConfig(hidden_size=hidden),
        num_layers=2,
        embedding_size=embedding,
        softmax=rnnlm.FullSoftmaxConfig(tied=False),
    )
    model = task.build_model(vocab)
    location = open_location(str(folder / "model"))
    save_checkpoint(location, task=task, model=model, tokenizer=WordsTokenizer(words), trained={})
    plain = Plain(cast(Any, model))
    torch.save(
        {
            "words": words,
            "embedding": {"weight": cast(Any, plain.embedding).weight.data},
            "lstm": plain.lstm.state_dict(),
            "output": {"weight": plain.output.weight.data, "bias": plain.output.bias.data},
        },
        folder / "plain.pt",
    )


def vocabulary(vocab: int) -> list[str]:
    return [f"w{number:x}" for number in range(vocab - 2)]


def write_corpus(folder: Path, rows: int, vocab: int) -> int:
    """Files of random words; returns the number of predictions."""
    folder.mkdir()
    generator = np.random.default_rng(1)
    words = np.array(vocabulary(vocab))
    lengths = np.clip(np.exp(generator.normal(np.log(22), 0.7, rows)).astype(int), 5, 200)
    texts = [" ".join(words[generator.integers(0, len(words), length)]) for length in lengths]
    table = pa.table({"id": np.arange(rows), "text": texts})
    each = -(-rows // FILES)
    for number in range(FILES):
        pq.write_table(table.slice(number * each, each), folder / f"{number}.parquet", compression="zstd")
    return int(lengths.sum()) + rows


if __name__ == "__main__":
    main()
