"""How scoring scales from one worker to two, and whether what the job says beforehand and on the way is true.

    python -m benchmarks.bench_workers --checkpoint MODEL --corpus DOCUMENTS [--limit 20000] [--rounds 3]

Each round scores the same rows with one worker and with two, each of one thread, on a Ray cluster that is up. Tokens a
second count from the first progress (models are loaded) to the last outcome. The time left that the progress line would
show is noted at every event; it is compared with the truth after a tenth of the tokens and after a half. The dry run's
estimate is made once and compared with every run.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from jobs.bulk import SAMPLE_SECONDS, Display
from jobs.distributed.cluster import connect
from jobs.distributed.shard_pool import run_on_ray
from jobs.progress import ProgressLine
from jobs.schemas import ClusterConfig
from rnnlm.bulk.engine import Event, Plan, execute, prepare
from rnnlm.bulk.estimate import Estimate, estimate_run
from rnnlm.data.formats.parquet import ParquetCorpus
from rnnlm.inference.score_work import ScoreWork


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--limit", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shard-seconds", type=float, default=5.0)
    arguments = parser.parse_args()
    corpus = ParquetCorpus(path=arguments.corpus, limit=arguments.limit)
    work = ScoreWork(checkpoint=str(Path(arguments.checkpoint).resolve()))
    connect()
    speeds: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        plan = prepare(work, corpus, f"{folder}/estimate", target_seconds=arguments.shard_seconds)
        estimate = estimate_run(plan.run, plan.shards, sample_seconds=SAMPLE_SECONDS)
        print(f"{plan.rows:,} rows in {len(plan.shards)} shards; estimate: {estimate}")
        for number in range(arguments.rounds):
            for workers, found in speeds.items():
                plan = prepare(work, corpus, f"{folder}/{number}-{workers}", target_seconds=arguments.shard_seconds)
                found.append(measure(plan, workers, estimate))
    ratios = [two / one for one, two in zip(speeds[1], speeds[2], strict=True)]
    print(f"one worker {spread(speeds[1], 0)} tokens/s, two {spread(speeds[2], 0)}, ratio {spread(ratios, 2)}")


def measure(plan: Plan, workers: int, estimate: Estimate) -> float:
    """Tokens a second of one run; prints how true its promises were."""
    times: list[float] = []
    said: list[tuple[float, float, float]] = []  # when, how many tokens were done, how many seconds were left
    line = ProgressLine("score", plan.seconds, lambda _text, _share: None, print)
    display = Display(line, plan)

    def watch(event: Event) -> None:
        times.append(time.perf_counter())
        display.show(event)
        left = line.seconds_left(display.seconds_done)
        if left is not None:
            said.append((times[-1], display.seconds_done / plan.seconds, left))

    began = time.perf_counter()
    finished = execute(
        plan,
        lambda run, shards, on_progress: run_on_ray(
            run, shards, ClusterConfig(workers=workers), on_progress=on_progress, say=print
        ),
        on_event=watch,
    )
    end = times[-1]
    totals = finished.totals
    wall = time.perf_counter() - began
    promises = []
    for share in (0.1, 0.5):
        when, done, left = next(entry for entry in said if entry[1] >= share)
        promises.append(f"after {done:.0%} said {left:.0f} s, were {end - when:.0f} ({left / (end - when) - 1:+.0%})")
    expected = estimate.wall_seconds(workers, fixed=6.0)
    print(
        f"{workers} workers: {totals.tokens:,} tokens, {end - times[0]:.1f} s of work, {wall:.1f} s in all; "
        f"ETA {', '.join(promises)}; dry run said {expected:.0f} s ({expected / wall - 1:+.0%}), "
        f"{estimate.tokens / totals.tokens - 1:+.1%} tokens, {estimate.part_bytes / totals.part_bytes - 1:+.1%} bytes"
    )
    return totals.tokens / (end - times[0])


def spread(values: list[float], digits: int) -> str:
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f} to {max(values):,.{digits}f})"


if __name__ == "__main__":
    main()
