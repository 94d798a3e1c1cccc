"""Running a bulk job: plan, skip what is done, hand shards to whoever works, account for every row.

A pool is any function that turns pending shards into outcomes, in any order, and tells of progress on the way:
`rnnlm.bulk.shard.run_shard` is the whole life of a shard, and the same on the driver and on a worker.
"""

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from itertools import zip_longest
from typing import Any

import pyarrow as pa

from rnnlm.bulk.output import DATA, FAILED, DoneRecord, OutputFolder
from rnnlm.bulk.plan import Shard, ShardKind, plan_digest, plan_shards
from rnnlm.bulk.shard import (
    NULL_CODE,
    BulkRun,
    Failure,
    Outcome,
    Progress,
    Reader,
    needed_columns,
    run_shard,
)
from rnnlm.bulk.work import WorkConfig
from rnnlm.config import to_dict
from rnnlm.data.formats.base import CorpusConfig, check_text_column
from rnnlm.data.listing import Listing
from rnnlm.errors import ConfigError, FailuresError, StalledError
from rnnlm.storage import open_location

FORMAT_VERSION = 2
BUDGET_FROM_ROWS = 1000  # a share of fewer rows says nothing
ANNOUNCE_SECONDS = 30.0
NOT_KEPT = ("seconds", "hardware")  # of the totals: they differ from run to run, `_SUCCESS` must not


@dataclass(frozen=True)
class Resumed:
    """What an earlier run has done."""

    records: tuple[DoneRecord, ...]


Event = Resumed | Progress | Outcome
Observer = Callable[[Event], None]
Outcomes = Generator[Outcome, None, None]
Pool = Callable[[BulkRun, Sequence[Shard], Observer], Outcomes]


@dataclass(frozen=True)
class Plan:
    """A job that is ready to start: everything that can be checked is checked, nothing is written."""

    run: BulkRun
    shards: list[Shard]
    listing: Listing
    identity: dict[str, Any]
    recipe: dict[str, Any]

    @property
    def seconds(self) -> float:
        """Estimated work of one core; for choosing who works, not for promises."""
        return sum(shard.seconds for shard in self.shards)

    @property
    def rows(self) -> int:
        return sum(shard.rows for shard in self.shards)


@dataclass(frozen=True)
class Totals:
    """What a finished run has to say. Of the `planned` rows `skipped` were not selected; rows = ok + null + error."""

    job: str
    shards: int = 0
    planned: int = 0
    skipped: int = 0
    rows: int = 0
    ok: int = 0
    null: int = 0
    error: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    dropped: int = 0
    tokens: int = 0
    num_bytes: int = 0
    part_bytes: int = 0
    halved: int = 0
    hardware: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0  # of work, summed over workers


@dataclass(frozen=True)
class Finished:
    """Totals of the whole output, and what of it this command did."""

    totals: Totals
    wall_seconds: float
    resumed_shards: int


def prepare(
    work: WorkConfig,
    corpus: CorpusConfig,
    output: str,
    *,
    target_seconds: float,
    kind: ShardKind = "auto",
    listing: Listing | None = None,
) -> Plan:
    """List the corpus (unless its `listing` is given), check everything that can be checked, and plan. Nothing is
    written yet."""
    location = open_location(output)
    listing = listing or corpus.list_units(OutputFolder(location).known_listing())
    units = work.weigh(listing).units
    if work.needs_text:
        check_text_column(listing, corpus.text_column)
    kept, read = needed_columns(work, corpus, listing.schema)
    schema = work.output_schema(listing.schema, kept)
    _check_apart(output, corpus, listing)
    shards = plan_shards(units, work.cost(), target_seconds=target_seconds, kind=kind, limit=corpus.limit)
    identity = {
        "format_version": FORMAT_VERSION,
        "job": work.job,
        "work": work.identity(),
        "corpus": {**corpus.identity(), "files": {file.path: str(file) for file in listing.files}},
        "plan": plan_digest(shards),
        "pyarrow": pa.__version__,
    }
    run = BulkRun(
        work=work,
        corpus=corpus,
        output=location.address,
        read_schema=_settled(pa.schema([listing.schema.field(name) for name in read])),
        schema=_settled(schema),
        provenance={"job": work.job, **work.provenance()},
    )
    recipe = {"work": to_dict(work), "corpus": to_dict(corpus), "target_seconds": target_seconds, "shards": kind}
    return Plan(run, shards, listing, identity, recipe)


def execute(
    plan: Plan,
    pool: Pool,
    *,
    on_event: Observer,
    error_budget: float = 1.0,
    retry_errors: bool = False,
    warn: Callable[[str], None] = lambda _: None,
) -> Finished:
    """Do all shards that are not done yet.

    `error_budget` is the largest share of rows that may carry an error (null texts apart). With `retry_errors`, rows
    with an error in shards that are done are tried again. Raises FailuresError if shards could not be done or the
    budget is spent.
    """
    began = time.perf_counter()
    run, folder = plan.run, plan.run.folder()
    folder.begin(plan.identity, plan.recipe, plan.listing)
    success = folder.success()
    if success is not None and not (retry_errors and success["error"]):
        totals = Totals(**success)
        _check_budget(totals, error_budget, run.output)
        return Finished(totals, time.perf_counter() - began, totals.shards)
    warning = folder.announce()
    if warning:
        warn(warning)
    done = folder.done()
    if retry_errors:
        run = replace(run, retry=frozenset(index for index, record in done.items() if record.error))
        folder.reopen()
        done = {index: record for index, record in done.items() if index not in run.retry}
    resumed = len(done)
    folder.clear_failures()
    if done:
        on_event(Resumed(tuple(done.values())))
    pending = [shard for shard in plan.shards if shard.index not in done]
    failures: list[Failure] = []
    rows, errors = sum(record.rows for record in done.values()), sum(record.error for record in done.values())
    announced = time.monotonic()
    with closing(pool(run, pending, on_event)) as outcomes:  # closed at once: it may have workers to let go
        for outcome in outcomes if pending else ():
            if isinstance(outcome, Failure):
                failures.append(outcome)
            else:
                done[outcome.shard] = outcome
                rows, errors = rows + outcome.rows, errors + outcome.error
                if rows >= BUDGET_FROM_ROWS and errors > error_budget * rows:
                    _check_budget(add_up(run.work.job, done.values()), error_budget, run.output)
            on_event(outcome)
            if time.monotonic() - announced > ANNOUNCE_SECONDS:
                folder.announce()
                announced = time.monotonic()
    _check_failures(failures, plan, folder)
    totals = add_up(run.work.job, done.values())
    assert totals.planned == plan.rows, "every row of the corpus is in exactly one shard"
    assert totals.rows == totals.ok + totals.null + totals.error, "every row is accounted for"
    _check_budget(totals, error_budget, run.output)
    folder.check(plan.identity)  # of two drivers with different plans on an object store, one finds out here
    folder.finish({name: value for name, value in asdict(totals).items() if name not in NOT_KEPT})
    return Finished(totals, time.perf_counter() - began, resumed)


def run_here(run: BulkRun, shards: Sequence[Shard], on_progress: Observer) -> Outcomes:
    """The pool of one: this very process."""
    processor = run.work.build("auto")
    reader = Reader(run)
    try:
        for shard, upcoming in zip_longest(shards, shards[1:]):
            yield run_shard(run, shard, processor, reader, worker="driver", upcoming=upcoming, on_progress=on_progress)
    finally:
        reader.close()


def _settled(schema: pa.Schema) -> pa.Schema:
    """A schema as it will be once it has travelled to a worker: Arrow rewrites some types (map) the first time, and
    the schema that a part stores must not depend on whether it travelled."""
    return pa.ipc.read_schema(pa.BufferReader(schema.serialize()))


def _check_apart(output: str, corpus: CorpusConfig, listing: Listing) -> None:
    """Refuse an output that would be taken for corpus when the command is run again, and the other way round."""
    location = open_location(output)
    for file in listing.files:
        if location.holds(file.path):
            raise ConfigError(f"output: the corpus file {file.path} lies in the output folder; choose another folder")
    if corpus.would_read(location.join("data", "part-000000.parquet")):
        raise ConfigError(
            f"output: {output} lies in the corpus, its parts would be read as corpus; choose another folder"
        )


def _check_failures(failures: Sequence[Failure], plan: Plan, folder: OutputFolder) -> None:
    if failures:
        error = StalledError if any(failure.stalled for failure in failures) else FailuresError
        raise error(
            f"{len(failures)} of {len(plan.shards)} shards failed; the first: {failures[0].message}",
            todo=f"see {folder.folder.join(FAILED).uri}, mend the cause and run the command again",
        )


def _check_budget(totals: Totals, budget: float, output: str) -> None:
    if totals.error > budget * totals.rows:
        counts = Counter({code: count for code, count in totals.errors.items() if code != NULL_CODE})
        worst = ", ".join(f"{count:,} {code}" for code, count in counts.most_common(3))
        raise FailuresError(
            f"{totals.error:,} of {totals.rows:,} rows have an error, the budget is {budget:.1%} ({worst})",
            todo=f"look at the column error in {open_location(output).join(DATA).uri}; "
            "a larger error_budget accepts them",
        )


def add_up(job: str, done: Iterable[DoneRecord]) -> Totals:
    """The totals of some shards."""
    records = sorted(done, key=lambda record: record.shard)
    names = ("planned", "skipped", "rows", "ok", "null", "error", "dropped", "tokens", "num_bytes", "halved", "seconds")
    errors: Counter[str] = Counter()
    for record in records:
        errors.update(record.errors)
    return Totals(
        job=job,
        shards=len(records),
        errors=dict(sorted(errors.items())),
        hardware=dict(sorted(Counter(record.hardware for record in records).items())),
        part_bytes=sum(part.num_bytes for record in records for part in record.parts),
        **{name: sum(getattr(record, name) for record in records) for name in names},
    )
