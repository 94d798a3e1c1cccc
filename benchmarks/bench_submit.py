"""From `ray job submit` to the first row scored, on a cluster that is up, and where the seconds go.

    python -m benchmarks.bench_submit [--model outputs/demo/model] [--rounds 3]

A head of this machine with two CPUs. Each round submits `jobs.score` with two workers on 300 documents in small shards,
after one round that does not count. What is noted, on one clock:

    started      the job's driver runs: `ray job submit` was imported, the code was uploaded, a supervisor came up
    planned      `_run/plan.json` is there: Python, imports, the corpus listed, the model's size known
    workers      the first worker's process was started by Ray
    first row    the first record of a shard is there: the worker imported torch and loaded the model
    written      all rows are there, and `_SUCCESS`
    done         `ray job submit` came back

Seconds by the clock: on a busy machine all of them grow, and the load is printed for that reason.
"""

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.local_head import RAY, Head, local_head
from benchmarks.machine import machine
from benchmarks.submit_demo import ROOT, score_command

STEPS = ("started", "planned", "workers", "first row", "written", "done")
POLL_SECONDS = 0.05
TIMEOUT_SECONDS = 300.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="outputs/demo/model")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    model = Path(arguments.model).resolve()
    with tempfile.TemporaryDirectory() as name, local_head(num_cpus=2) as head:
        submit(head, model, Path(name) / "warm-up")
        rounds = [submit(head, model, Path(name) / str(number)) for number in range(arguments.rounds)]
    print(f"{machine()}; load {os.getloadavg()[0]:.1f}; seconds since the command began, {len(rounds)} rounds")
    print("| | median | spread |\n|---|---|---|")
    for step in STEPS:
        values = [times[step] for times in rounds]
        print(f"| {step} | {statistics.median(values):.1f} | {min(values):.1f} to {max(values):.1f} |")


def submit(head: Head, model: Path, output: Path) -> dict[str, float]:
    """When each step was reached, in seconds."""
    command = [RAY, "job", "submit", f"--address={head.dashboard}", "--working-dir=.", "--"]
    began, times = time.monotonic(), {}
    with subprocess.Popen(
        [*command, *score_command(model, output)],
        cwd=ROOT,
        env=head.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        signs: dict[str, Callable[[], bool]] = {
            "started": lambda: running(head, f"output={output}"),
            "planned": (output / "_run/plan.json").exists,
            "workers": lambda: running(head, "ray::ShardWorker"),
            "first row": lambda: any((output / "_run/done").glob("*.json")),
            "written": (output / "_SUCCESS").exists,
            "done": lambda: process.poll() is not None,
        }
        for step, reached in signs.items():
            while not reached() and time.monotonic() - began < TIMEOUT_SECONDS:
                time.sleep(POLL_SECONDS)
            times[step] = time.monotonic() - began
        assert process.stdout is not None
        said = process.stdout.read()
    assert process.returncode == 0, said
    print(", ".join(f"{step} {seconds:.1f} s" for step, seconds in times.items()), flush=True)
    return times


def running(head: Head, text: str) -> bool:
    """Whether the cluster has a process with `text` in its command line."""
    for pid in head.processes():
        try:
            if text.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                return True
        except OSError:
            continue  # it has ended
    return False


if __name__ == "__main__":
    main()
