"""Running a bulk job: plan, skip what is done, hand shards to whoever works, account for every row.

`run_shard` is the whole life of a shard and the same on the driver and on a worker; a pool is any function that turns
pending shards into outcomes, in any order.
"""

import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from rnnlm.bulk.output import DoneRecord, OutputFolder
from rnnlm.bulk.plan import Shard, plan_shards
from rnnlm.bulk.work import ERROR, Processor, WorkConfig
from rnnlm.data.formats.base import CorpusConfig, check_text_column
from rnnlm.data.listing import Listing
from rnnlm.errors import ConfigError, EnvironmentFailure, FailuresError, TerminatedError
from rnnlm.storage import open_location

FORMAT_VERSION = 1


@dataclass(frozen=True)
class BulkRun:
    """A bulk job ready to start: plain data, so it can be sent to workers."""

    work: WorkConfig
    corpus: CorpusConfig
    output: str
    listing: Listing
    schema: pa.Schema  # of the output
    provenance: dict[str, str]

    def __getstate__(self) -> dict[str, Any]:
        # Arrow's own pickling forgets names inside a fixed-size list; its IPC format keeps a schema as it is.
        return {**self.__dict__, "schema": self.schema.serialize().to_pybytes()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, schema=pa.ipc.read_schema(pa.py_buffer(state["schema"])))

    def folder(self) -> OutputFolder:
        return OutputFolder(open_location(self.output))


@dataclass(frozen=True)
class Failure:
    """A shard that could not be done, and why."""

    shard: int
    message: str


@dataclass(frozen=True)
class Totals:
    """What a finished run has to say; rows = ok + error."""

    job: str
    shards: int
    rows: int
    ok: int
    error: int
    tokens: int
    num_bytes: int
    seconds: float  # of work, summed over workers
    wall_seconds: float
    resumed_shards: int


Outcome = DoneRecord | Failure
Pool = Callable[[BulkRun, Sequence[Shard]], Iterator[Outcome]]
Observer = Callable[[DoneRecord], None]


def prepare(
    work: WorkConfig, corpus: CorpusConfig, output: str, *, target_seconds: float
) -> tuple[BulkRun, list[Shard], dict[str, Any]]:
    """List the corpus, check everything that can be checked, and plan. Nothing is written yet."""
    listing = corpus.list_units()
    check_text_column(listing, corpus.text_column)
    schema = work.output_schema(listing.schema)
    _check_apart(output, corpus, listing)
    shards = plan_shards(listing.units, work.cost(), target_seconds=target_seconds)
    identity = {
        "format_version": FORMAT_VERSION,
        "job": work.job,
        "work": work.identity(),
        "corpus": {
            **corpus.identity(),
            "files": {file.path: f"{file.size} bytes, changed {file.mtime_ns}" for file in listing.files},
        },
        "target_seconds": target_seconds,
        "pyarrow": pa.__version__,
    }
    location = open_location(output)
    run = BulkRun(
        work=work,
        corpus=corpus,
        output=location.address,
        listing=listing,
        # As it will be once it has travelled to a worker: Arrow rewrites some types (map) the first time, and the
        # schema that a part stores must not depend on whether it travelled.
        schema=pa.ipc.read_schema(pa.BufferReader(schema.serialize())),
        provenance={"job": work.job, **work.provenance()},
    )
    return run, shards, identity


def execute(
    run: BulkRun, shards: Sequence[Shard], identity: dict[str, Any], pool: Pool, *, on_done: Observer
) -> Totals:
    """Do all shards that are not done yet. Raises FailuresError at the end if some could not be done."""
    began = time.perf_counter()
    folder = run.folder()
    folder.begin(identity, shards)
    done = folder.done()
    resumed = len(done)
    folder.clear_failures()
    for record in done.values():
        on_done(record)
    pending = [shard for shard in shards if shard.index not in done]
    failures: list[Failure] = []
    for outcome in pool(run, pending) if pending else ():
        if isinstance(outcome, Failure):
            failures.append(outcome)
        else:
            done[outcome.shard] = outcome
            on_done(outcome)
    if failures:
        raise FailuresError(
            f"{len(failures)} of {len(shards)} shards failed; the first: {failures[0].message}",
            todo=f"see {run.output}/_run/failed, mend the cause and run the command again",
        )
    totals = _totals(run.work.job, shards, done.values(), time.perf_counter() - began, resumed)
    assert totals.rows == run.listing.rows, "every row of the corpus is in exactly one shard"
    if not folder.finished:
        folder.finish({"rows": totals.rows, "ok": totals.ok, "error": totals.error, "shards": totals.shards})
    return totals


def run_here(run: BulkRun, shards: Sequence[Shard]) -> Iterator[Outcome]:
    """The pool of one: this very process."""
    processor = run.work.build()
    for shard in shards:
        yield run_shard(run, shard, processor, worker="driver")


def run_shard(run: BulkRun, shard: Shard, processor: Processor, *, worker: str) -> Outcome:
    """Read, process, write, commit. A failure is noted and returned, so that other shards go on."""
    began = time.perf_counter()
    try:
        table = read_shard(run, shard)
        processed = processor.process(table, shard.first_row)
        result = table.select(run.work.kept_columns(table.schema))
        for field in run.work.new_fields():
            result = result.append_column(field, processed.columns[field.name])
        assert result.num_rows == shard.rows, "a row was lost or doubled"
        errors = result.num_rows - result.column(ERROR).null_count
        counts = {
            "ok": result.num_rows - errors,
            "error": errors,
            "tokens": processed.num_tokens,
            "num_bytes": _text_bytes(table.column(run.corpus.text_column)),
            "seconds": round(time.perf_counter() - began, 6),
            "worker": worker,
        }
        return run.folder().commit(shard, result.cast(run.schema), run.provenance, counts)
    except (EnvironmentFailure, TerminatedError):
        raise  # the next shard would meet the same
    except Exception as error:  # noqa: BLE001 - one bad shard must not cost the others
        run.folder().fail(shard, f"{type(error).__name__}: {error}", traceback.format_exc())
        return Failure(shard.index, str(error))


def read_shard(run: BulkRun, shard: Shard) -> pa.Table:
    """The input rows of a shard, in order."""
    parts = [
        run.corpus.read_unit(piece.unit, run.listing.schema).slice(piece.start, piece.stop - piece.start)
        for piece in shard.pieces
    ]
    return pa.concat_tables(parts)


def _check_apart(output: str, corpus: CorpusConfig, listing: Listing) -> None:
    """Refuse an output that would be taken for corpus when the command is run again, and the other way round."""
    location = open_location(output)
    inside = [file.path for file in listing.files if file.path.startswith(location.path.rstrip("/") + "/")]
    if inside:
        raise ConfigError(f"output: the corpus file {inside[0]} lies in the output folder; choose another folder")
    if corpus.would_read(location.join("data", "part-000000.parquet")):
        raise ConfigError(
            f"output: {output} lies in the corpus, its parts would be read as corpus; choose another folder"
        )


def _text_bytes(column: pa.ChunkedArray) -> int:
    total = pc.sum(pc.binary_length(column.cast(pa.large_string()))).as_py()
    return int(total or 0)


def _totals(job: str, shards: Sequence[Shard], done: Iterable[DoneRecord], wall: float, resumed: int) -> Totals:
    records = list(done)
    return Totals(
        job=job,
        shards=len(shards),
        rows=sum(record.rows for record in records),
        ok=sum(record.ok for record in records),
        error=sum(record.error for record in records),
        tokens=sum(record.tokens for record in records),
        num_bytes=sum(record.num_bytes for record in records),
        seconds=sum(record.seconds for record in records),
        wall_seconds=wall,
        resumed_shards=resumed,
    )
