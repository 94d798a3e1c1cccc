"""What `hydra/launcher=ray` adds to a trial: a sweep of tiny trainings on a warm cluster beside the trainings alone.

    python -m benchmarks.bench_sweep [--trials 20] [--steps 2] [--rounds 3]

A cluster of two CPUs is started first and stays. A round is a command with one trial and a command with all of them;
what the second takes longer, divided by the further trials, is the wall time a trial costs the command. From it goes
the time that trials worked, by their own records, over the two that run at a time: the rest is overhead. Composing
the configurations and writing records and leaderboard are part of it.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

import jobs.distributed  # noqa: F401 - settles what Ray reads from the environment, before it is imported
from benchmarks.machine import machine

CPUS = 2
WORDS = ["the", "cat", "saw", "a", "dog", "that", "ran", "from", "house", "to", "sea", "and", "back", "again"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings = prepare(folder, arguments.steps)
        start_cluster()
        walls, works, overheads = [], [], []
        for number in range(arguments.rounds):
            one, _ = sweep(settings, 1, folder / f"one-{number}")
            all_of_them, worked = sweep(settings, arguments.trials, folder / f"all-{number}")
            walls.append((all_of_them - one) / (arguments.trials - 1))
            works.append(worked / arguments.trials)
            overheads.append(walls[-1] - works[-1] / CPUS)
    what = f"{arguments.trials} trials of {arguments.steps} steps, {CPUS} at a time"
    print(f"{machine()}; {what}; {arguments.rounds} rounds")
    for title, values in (
        ("wall time a further trial", walls),
        ("work of a trial", works),
        ("overhead of a trial", overheads),
    ):
        print(f"| {title} | {statistics.median(values):.2f} | {min(values):.2f} to {max(values):.2f} | s |")


def start_cluster() -> None:
    """One that lives as long as this process, and that the commands join."""
    import ray  # noqa: PLC0415 - after jobs.distributed

    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - Ray spells it so; its 15 starves workers on a busy machine
    context = ray.init(address="local", num_cpus=CPUS, include_dashboard=False, log_to_driver=False)
    os.environ["RAY_ADDRESS"] = context.address_info["address"]


def prepare(folder: Path, steps: int) -> list[str]:
    """Corpus, tokenizer and tokens for the smallest of trainings; its arguments."""
    texts = [" ".join(WORDS[row % 7 :]) for row in range(200)]
    pq.write_table(pa.table({"text": texts}), folder / "corpus.parquet")
    source = ["corpus=parquet", f"corpus.path={folder / 'corpus.parquet'}"]
    tokenizer, tokens = folder / "tokenizer", folder / "tokens"
    command("train_tokenizer", *source, "tokenizer.vocab_size=280", f"output={tokenizer}")
    command("tokenize_corpus", *source, f"tokenizer_path={tokenizer}", "cluster=here", f"output={tokens}")
    return [
        f"tokenizer_path={tokenizer}", f"train_tokens={tokens}", f"valid_tokens={tokens}", "task.embedding_size=16",
        "cell.hidden_size=16", "batching.num_lanes=4", "batching.window=16", "tracker=none", f"loop.max_steps={steps}",
    ]  # fmt: skip


def sweep(settings: list[str], trials: int, output: Path) -> tuple[float, float]:
    """Seconds of the command, and the sum of its trials' own seconds."""
    began = time.perf_counter()
    command("train", "-m", "hydra/launcher=ray", *settings, f"seed=range({trials})", f"output={output}")
    seconds = time.perf_counter() - began
    records = [json.loads(path.read_text()) for path in (output / "_sweep" / "trials").iterdir()]
    assert [record["state"] for record in records] == ["finished"] * trials
    return seconds, sum(record["seconds"] for record in records)


def command(job: str, *arguments: str) -> None:
    """Run a job to its end; it must succeed."""
    subprocess.run([sys.executable, "-m", f"jobs.{job}", *arguments], check=True, capture_output=True)


if __name__ == "__main__":
    main()
