"""What the bulk jobs share: prepare, choose who works, show progress, write the report."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import yaml

from jobs.progress import ProgressLine, progress_line
from jobs.schemas import ClusterConfig
from rnnlm.bulk.engine import BulkRun, Outcome, Pool, Totals, execute, prepare, run_here
from rnnlm.bulk.output import DoneRecord
from rnnlm.bulk.plan import Shard
from rnnlm.bulk.work import WorkConfig
from rnnlm.config import to_dict
from rnnlm.data.formats.base import CorpusConfig


def run_bulk(work: WorkConfig, corpus: CorpusConfig, output: str, cluster: ClusterConfig, settings: Any) -> Totals:
    """Run `work` over `corpus` into `output`; `settings` is the job's config, kept with the output."""
    run, shards, identity = prepare(work, corpus, output, target_seconds=cluster.shard_seconds)
    estimate = sum(shard.seconds for shard in shards)
    workers = _choose_workers(cluster, estimate, len(shards))
    by_index = {shard.index: shard for shard in shards}
    began = set(run.folder().done())
    with progress_line(work.job, estimate) as line:
        display = _Display(line, by_index, began, run.listing.rows)
        totals = execute(run, shards, identity, _pool(cluster, workers), on_done=display.on_done)
    report = {
        **asdict(totals),
        "rows": {"all": totals.rows, "ok": totals.ok, "error": totals.error},
        "tokens_per_second": round(totals.tokens / max(1e-9, totals.seconds), 1),
        "workers": workers,
        "estimated_seconds": round(estimate, 1),
        "corpus": corpus.card(),
    }
    folder = run.folder().folder
    folder.join("_run/config.yaml").write_text(yaml.safe_dump(to_dict(settings), sort_keys=False))
    if totals.resumed_shards < totals.shards or not folder.join("_run/report.json").exists():
        folder.join("_run/report.json").write_text(json.dumps(report, indent=2) + "\n")
    _summarize(totals, output, workers)
    return totals


def _choose_workers(cluster: ClusterConfig, estimate: float, num_shards: int) -> int:
    """How many Ray workers, known to fit the cluster before anything is written; 0 means this process."""
    if cluster.workers == 0 or (cluster.workers is None and estimate < cluster.ray_from_seconds):
        return 0
    from jobs.distributed.cluster import check_feasible, cluster_cpus, connect  # noqa: PLC0415 - importing Ray is slow

    connect(cluster.address)
    if cluster.workers is not None:
        check_feasible(cluster.workers, {"CPU": 1.0})
    return min(num_shards, cluster.workers or max(1, cluster_cpus()))


def _pool(cluster: ClusterConfig, workers: int) -> Pool:
    if workers == 0:
        return run_here

    def on_ray(run: BulkRun, shards: Sequence[Shard]) -> Iterator[Outcome]:
        from jobs.distributed.shard_pool import run_on_ray  # noqa: PLC0415 - importing Ray is slow

        return run_on_ray(run, shards, workers=workers, max_attempts=cluster.max_attempts)

    return on_ray


class _Display:
    """Adds up finished shards for the progress line."""

    def __init__(self, line: ProgressLine, shards: dict[int, Shard], earlier: set[int], all_rows: int) -> None:
        self._line, self._shards, self._earlier, self._all_rows = line, shards, earlier, all_rows
        self._rows = self._tokens = 0
        self._seconds = self._estimated = 0.0

    def on_done(self, record: DoneRecord) -> None:
        estimated = self._shards[record.shard].seconds
        self._rows += record.rows
        if record.shard in self._earlier:
            self._line.skip(estimated)
            return
        self._estimated += estimated
        self._tokens += record.tokens
        self._seconds += record.seconds
        speed = self._tokens / max(1e-9, self._seconds)
        self._line.update(self._estimated, f"{self._rows:,} of {self._all_rows:,} rows, {speed:,.0f} tokens/s a worker")


def _summarize(totals: Totals, output: str, workers: int) -> None:
    who = "this process" if workers == 0 else f"{workers} Ray workers"
    resumed = f", {totals.resumed_shards} of {totals.shards} shards were done before" if totals.resumed_shards else ""
    print(
        f"{totals.job}: {totals.rows:,} rows ({totals.ok:,} ok, {totals.error:,} with an error), "
        f"{totals.tokens:,} tokens in {totals.wall_seconds:.1f} s by {who}{resumed}\n"
        f"output: {output}{os.sep}data"
    )
