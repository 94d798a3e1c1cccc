"""Checking a bulk output against its records, its plan, and a recomputed sample of its shards."""

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rnnlm.bulk.engine import NOT_KEPT, Plan, add_up, prepare
from rnnlm.bulk.output import DATA, DoneRecord, OutputFolder
from rnnlm.bulk.part import Part
from rnnlm.bulk.shard import Failure, Reader, run_shard
from rnnlm.bulk.work import Processor, WorkConfig
from rnnlm.config import differences, from_dict
from rnnlm.data.formats.base import CorpusConfig
from rnnlm.errors import DataError, RnnlmError
from rnnlm.storage import Location, open_location

CHUNK_BYTES = 4 << 20
READ_THREADS = 8


@dataclass
class Findings:
    """What was checked, and what is wrong."""

    parts: int = 0
    num_bytes: int = 0
    rows: int = 0
    recomputed: list[int] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def verify_output(
    output: str, *, sample: int, seed: int, on_part: Callable[[int, int], None] = lambda _done, _all: None
) -> Findings:
    """Check everything that can be checked; raises DataError if there is no run at all.

    Every part is read and hashed, every row accounted for, and `sample` random shards are computed again from the
    corpus and the model that the plan names. `on_part` is told how many parts of how many are hashed.
    """
    folder = OutputFolder(open_location(output))
    if not folder.started:
        raise DataError(f"{output} is not the output of a bulk job (it has no plan)", todo="give its output folder")
    findings = Findings()
    done = folder.done()
    _check_records(folder, done, findings)
    _check_parts(folder, done, findings, on_part)
    _check_plan(output, folder, done, sample, seed, findings)
    return findings


def _check_records(folder: OutputFolder, done: dict[int, DoneRecord], findings: Findings) -> None:
    for record in done.values():
        in_parts = sum(part.rows for part in record.parts)
        if record.rows != record.ok + record.null + record.error or record.planned != record.rows + record.skipped:
            findings.problems.append(f"shard {record.shard}: the counts of rows do not add up: {record.rows} rows")
        if in_parts + record.dropped != record.rows:
            findings.problems.append(f"shard {record.shard}: {record.rows} rows, but {in_parts} in its parts")
        findings.rows += record.rows
    success, job = folder.success(), folder.plan()["identity"]["job"]
    if success is None:
        findings.problems.append("the run is not finished: there is no _SUCCESS")
        return
    totals = {name: value for name, value in asdict(add_up(job, done.values())).items() if name not in NOT_KEPT}
    findings.problems += [f"_SUCCESS and the records differ: {line}" for line in differences(success, totals)]


def _check_parts(
    folder: OutputFolder, done: dict[int, DoneRecord], findings: Findings, on_part: Callable[[int, int], None]
) -> None:
    parts = [part for record in done.values() for part in record.parts]
    expected = {part.name for part in parts}
    foreign = [name for name in folder.folder.join(DATA).list_files() if name not in expected]
    findings.problems += [f"{DATA}/{name} belongs to no record" for name in foreign]
    with ThreadPoolExecutor(READ_THREADS) as pool:
        for index, problem in enumerate(pool.map(lambda part: _check_part(folder, part), parts)):
            findings.problems += problem
            findings.parts += 1
            findings.num_bytes += parts[index].num_bytes
            on_part(index + 1, len(parts))


def _check_part(folder: OutputFolder, part: Part) -> list[str]:
    target, name = folder.part_target(part.name), f"{DATA}/{part.name}"
    try:
        digest, size = _digest(target)
        if size != part.num_bytes:
            return [f"{name} has {size:,} bytes, {part.num_bytes:,} were written"]
        if digest != part.sha256:
            return [f"{name} has other content than was written (SHA-256 {digest[:12]}, not {part.sha256[:12]})"]
        with target.filesystem.open_input_file(target.path) as stream:
            rows = pq.ParquetFile(stream).metadata.num_rows
    except FileNotFoundError:
        return [f"{name} is missing"]
    except (OSError, pa.ArrowException, RnnlmError) as error:
        return [f"{name} cannot be read: {str(error).splitlines()[0]}"]
    return [] if rows == part.rows else [f"{name} has {rows} rows, {part.rows} were written"]


def _digest(target: Location) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    with target.filesystem.open_input_stream(target.path, compression=None) as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
            size += len(chunk)
    return digest.hexdigest(), size


def _check_plan(
    output: str, folder: OutputFolder, done: dict[int, DoneRecord], sample: int, seed: int, findings: Findings
) -> None:
    """Plan again from the recipe; compare; compute some shards again."""
    recorded = folder.plan()
    recipe = recorded["recipe"]
    try:
        plan = prepare(
            from_dict(WorkConfig, recipe["work"]),
            from_dict(CorpusConfig, recipe["corpus"]),
            output,
            target_seconds=recipe["target_seconds"],
            kind=recipe["shards"],
        )
    except RnnlmError as error:
        findings.notes.append(f"no shard was computed again, since the run cannot be planned: {error}")
        return
    changed = differences(recorded["identity"], plan.identity)
    if changed:
        findings.notes.append(f"no shard was computed again, since something has changed: {'; '.join(changed[:3])}")
        return
    missing = [shard.index for shard in plan.shards if shard.index not in done]
    if missing:
        findings.problems.append(
            f"{len(missing):,} of {len(plan.shards):,} shards are not done, {missing[0]} the first"
        )
    planned = [shard for shard in plan.shards if shard.index in done and shard.rows != done[shard.index].planned]
    findings.problems += [f"shard {shard.index} covers other rows than planned" for shard in planned]
    chosen = np.random.default_rng(seed).choice(sorted(done), min(sample, len(done)), replace=False).tolist()
    if chosen:
        with tempfile.TemporaryDirectory() as scratch:
            processor = plan.run.work.build("auto")
            for index in sorted(chosen):
                findings.problems += _compute_again(plan, folder, done[index], processor, scratch)
                findings.recomputed.append(index)


def _compute_again(
    plan: Plan, folder: OutputFolder, record: DoneRecord, processor: Processor, scratch: str
) -> Iterator[str]:
    run = replace(plan.run, output=scratch)
    reader = Reader(run)
    outcome = run_shard(run, plan.shards[record.shard], processor, reader, worker="verify")
    reader.close()
    if isinstance(outcome, Failure):
        yield f"shard {record.shard} cannot be computed again: {outcome.message}"
        return
    if [part.name for part in outcome.parts] != [part.name for part in record.parts]:
        yield f"shard {record.shard} gives other parts now"
        return
    for old, new in zip(record.parts, outcome.parts, strict=True):
        if old.sha256 != new.sha256:
            target = folder.part_target(old.name)
            theirs = pq.read_table(target.path, filesystem=target.filesystem)
            ours = pq.read_table(Path(scratch, DATA, new.name))
            yield (
                f"{DATA}/{old.name}, computed again, is another: {_difference(theirs, ours)} "
                f"(then on {record.hardware}, now on {processor.hardware})"
            )


def _difference(old: pa.Table, new: pa.Table) -> str:
    """Where two tables differ, and by how much if it is numbers."""
    for name in old.column_names:
        theirs, ours = old.column(name), new.column(name)
        if theirs.equals(ours):
            continue
        if pa.types.is_floating(theirs.type) and theirs.null_count == ours.null_count:
            both = (np.nan_to_num(column.to_numpy()) for column in (theirs, ours))
            return f"column '{name}' by at most {np.abs(np.subtract(*both)).max():.1e}"
        return f"column '{name}'"
    return "the same values in other bytes"
