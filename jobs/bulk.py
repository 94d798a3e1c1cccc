"""What the bulk jobs share: prepare, choose who works, show progress, write the report; or only estimate."""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

import yaml

from jobs.progress import ProgressLine, duration, progress_line
from jobs.schemas import BulkJob, ClusterConfig
from jobs.stall import stall_watch
from rnnlm.bulk.engine import Event, Finished, Observer, Outcomes, Plan, Pool, Resumed, execute, prepare, run_here
from rnnlm.bulk.estimate import estimate_run
from rnnlm.bulk.output import CONFIG, ESTIMATE, REPORT, DoneRecord
from rnnlm.bulk.plan import Shard
from rnnlm.bulk.shard import BulkRun, Progress
from rnnlm.bulk.work import WorkConfig
from rnnlm.config import to_dict
from rnnlm.data.listing import Listing

SAMPLE_SECONDS = 15.0  # of a dry run
RAY_START_SECONDS = 6.0  # until the first worker loads its model


def run_bulk(
    work: WorkConfig, job: BulkJob, *, listing: Listing | None = None, settings: Any = None
) -> Finished | None:
    """Run `work` over the corpus of `job`, or only say how long that would take.

    `listing` is the corpus as it was found before, if it was; `settings` (default: `job`) are kept with the output.
    """
    plan = prepare(work, job.corpus, job.output, target_seconds=job.shard_seconds, kind=job.shards, listing=listing)
    if job.dry_run:
        _estimate(plan, job)
        return None
    finished_before = plan.run.folder().success() is not None and not job.retry_errors
    team = Team(0, job.cluster) if finished_before else _choose_team(job.cluster, plan)
    with progress_line(work.job, plan.seconds) as line:
        display = Display(line, plan)
        finished = execute(
            plan,
            team.pool(line.say),
            on_event=display.show,
            error_budget=job.error_budget,
            retry_errors=job.retry_errors,
            warn=line.say,
        )
    _write_report(plan, settings or job, finished, team)
    _summarize(finished, job.output, team)
    return finished


@dataclass(frozen=True)
class Team:
    """Who works: so many Ray workers, or with 0 this process."""

    workers: int
    cluster: ClusterConfig

    def __str__(self) -> str:
        return f"{self.workers} Ray workers" if self.workers else "this process"

    def pool(self, say: Callable[[str], None]) -> Pool:
        """The pool of the engine."""
        if not self.workers:
            return self._here

        def on_ray(run: BulkRun, shards: Sequence[Shard], on_progress: Observer) -> Outcomes:
            from jobs.distributed.shard_pool import run_on_ray  # noqa: PLC0415 - importing Ray is slow

            return run_on_ray(run, shards, self.cluster, on_progress=on_progress, say=say)

        return on_ray

    def _here(self, run: BulkRun, shards: Sequence[Shard], on_progress: Observer) -> Outcomes:
        with stall_watch(self.cluster.stall_seconds) as touch:

            def watched(event: Event) -> None:
                touch()
                on_progress(event)

            with closing(run_here(run, shards, watched)) as outcomes:
                for outcome in outcomes:
                    touch()
                    yield outcome


def _choose_team(cluster: ClusterConfig, plan: Plan) -> Team:
    """Who works, known to fit the cluster before anything is written."""
    small = cluster.workers is None and plan.seconds < cluster.ray_from_seconds
    if not cluster.gpu_workers and (cluster.workers == 0 or small):
        return Team(0, cluster)
    from jobs.distributed.cluster import capacity, check_feasible, connect  # noqa: PLC0415 - importing Ray is slow
    from jobs.distributed.shard_pool import kinds_of  # noqa: PLC0415

    connect(cluster.address)
    workers = 0
    for kind in kinds_of(cluster):
        check_feasible(kind.wanted or 1, kind.needs, autoscaling=cluster.autoscaling)
        workers += capacity(kind.needs) if kind.wanted is None else kind.wanted
    return Team(max(1, min(len(plan.shards), workers)), cluster)


class Display:
    """Adds up what is done for the progress line; a shard in work counts by its rows."""

    def __init__(self, line: ProgressLine, plan: Plan) -> None:
        self._line, self._all_rows = line, plan.rows
        self._shards = {shard.index: shard for shard in plan.shards}
        self._rows = self._tokens = 0
        self._resumed_rows = 0
        self._seconds = 0.0  # estimated, of the shards that are done
        self._in_work: dict[int, Progress] = {}
        self._began: float | None = None

    def show(self, event: Event) -> None:
        """An event of the engine."""
        if isinstance(event, Resumed):
            self._rows = self._resumed_rows = sum(record.planned for record in event.records)
            self._line.skip(sum(self._shards[record.shard].seconds for record in event.records))
            return
        if self._began is None:  # models are loaded: what came before says nothing about the speed
            self._began = time.perf_counter()
            self._line.start()
        if isinstance(event, Progress):
            self._in_work[event.shard] = event
        else:
            self._in_work.pop(event.shard, None)
            self._seconds += self._shards[event.shard].seconds
            if isinstance(event, DoneRecord):
                self._rows, self._tokens = self._rows + event.planned, self._tokens + event.tokens
        parts = self._in_work.values()
        rows = self._rows + sum(progress.rows for progress in parts)
        tokens = self._tokens + sum(progress.tokens for progress in parts)
        done, unit = (tokens, "tokens") if tokens else (rows - self._resumed_rows, "rows")
        speed = f", {done / (time.perf_counter() - self._began):,.0f} {unit}/s" if done else ""
        self._line.update(self.seconds_done, f"{rows:,} of {self._all_rows:,} rows{speed}")

    @property
    def seconds_done(self) -> float:
        """Estimated seconds of what this run has done; the unit in which progress grows evenly."""
        parts = (self._shards[p.shard].seconds * p.rows / self._shards[p.shard].rows for p in self._in_work.values())
        return self._seconds + sum(parts)


def _estimate(plan: Plan, job: BulkJob) -> None:
    """Say, and note beside the output, what the run would be; refuse what the run would refuse."""
    if plan.run.folder().started:
        plan.run.folder().check(plan.identity)
    print(f"{plan.run.work.job}: taking a sample of about {SAMPLE_SECONDS:.0f} s", file=sys.stderr)
    estimate = estimate_run(plan.run, plan.shards, sample_seconds=SAMPLE_SECONDS)
    team = _choose_team(job.cluster, plan)
    wall = estimate.wall_seconds(team.workers, RAY_START_SECONDS if team.workers else 0.0)
    plan.run.folder().folder.join(ESTIMATE).write_json(
        {**asdict(estimate), "wall_seconds": wall, "workers": team.workers}
    )
    errors = estimate.sampled_errors / max(1, estimate.sampled_rows)
    print(
        f"{plan.run.work.job}, estimated from {estimate.sampled_rows:,} of {estimate.rows:,} rows:\n"
        f"  rows      {estimate.selected_rows:,} in {len(plan.shards):,} shards, {errors:.2%} with an error\n"
        f"  tokens    {estimate.tokens:,}, {estimate.padding:.1%} of the computation is padding\n"
        f"  time      {duration(wall)} by {team} ({duration(estimate.seconds)} of one worker)\n"
        f"  output    {estimate.part_bytes / 1e6:,.1f} MB"
    )


def _write_report(plan: Plan, settings: Any, finished: Finished, team: Team) -> None:
    totals, folder = finished.totals, plan.run.folder().folder
    if finished.resumed_shards == totals.shards and folder.join(REPORT).exists():
        return
    estimate = folder.join(ESTIMATE)
    report: dict[str, Any] = {
        **asdict(totals),
        "rows": {name: getattr(totals, name) for name in ("planned", "skipped", "rows", "ok", "null", "error")},
        "tokens_per_second": round(totals.tokens / max(1e-9, totals.seconds), 1),
        "wall_seconds": round(finished.wall_seconds, 3),
        "resumed_shards": finished.resumed_shards,
        "workers": team.workers,
        "corpus": plan.run.corpus.card(),
        **plan.run.work.card(),
    }
    if estimate.exists():
        expected = estimate.read_json()
        truth = {
            "rows": totals.planned,
            "selected_rows": totals.rows,
            "tokens": totals.tokens,
            "seconds": totals.seconds,
            "part_bytes": totals.part_bytes,
        }
        # A part of the work was done before: its wall time is not known.
        truth |= {"wall_seconds": finished.wall_seconds} if not finished.resumed_shards else {}
        report["estimate"] = {
            name: {"estimated": expected[name], "true": value, "ratio": expected[name] / value if value else None}
            for name, value in truth.items()
        }
    folder.join(CONFIG).write_text(yaml.safe_dump(to_dict(settings), sort_keys=False))
    folder.join(REPORT).write_text(json.dumps(report, indent=2) + "\n")


def _summarize(finished: Finished, output: str, team: Team) -> None:
    totals, resumed = finished.totals, finished.resumed_shards
    before = f", {resumed} of {totals.shards} shards were done before" if resumed else ""
    null = f", {totals.null:,} null" if totals.null else ""
    left_out = f" of {totals.planned:,}" if totals.skipped else ""
    print(
        f"{totals.job}: {totals.rows:,} rows{left_out} ({totals.ok:,} ok{null}, {totals.error:,} with an error), "
        f"{totals.tokens:,} tokens in {finished.wall_seconds:.1f} s by {team}{before}\n"
        f"output: {output}{os.sep}data"
    )
    worst = sorted(totals.errors.items(), key=lambda item: -item[1])[:5]
    if totals.error:
        print(f"errors: {', '.join(f'{count:,} {code}' for code, count in worst)}; see the column error")
