"""What the bulk engine costs beside the model: overhead, resume, planning, memory.

    python -m benchmarks.bench_bulk overhead|start|dispatch|resume|plan|memory

overhead   400,000 rows in 8 files through the engine without a model, against the shortest pyarrow loop that reads the
           same rows and writes the same columns, in turn; CPU seconds of one process.
start      seconds of a command on one row in a Ray cluster that is up, against the same command in one process.
dispatch   2,000 shards of four rows on two Ray workers: how many shards a second a driver can hand out.
resume     a finished run of 10,000 shards is started again: seconds, and how many data files were opened.
plan       1,000,000 row groups from a kept listing: seconds, and driver memory a shard.
memory     peak memory of a worker on one row group of 1 GB, without a model and with a tokenizer.
"""

import argparse
import gc
import os
import random
import statistics
import string
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import rnnlm.data.formats.parquet as parquet_format
from benchmarks.noop_work import NoopWork
from jobs.distributed.cluster import connect
from jobs.distributed.shard_pool import run_on_ray
from jobs.schemas import ClusterConfig
from rnnlm.bulk.engine import Observer, Outcomes, Pool, execute, prepare, run_here
from rnnlm.bulk.plan import Shard, plan_digest, plan_shards
from rnnlm.bulk.shard import BulkRun
from rnnlm.bulk.work import WorkConfig
from rnnlm.data.files import FileStamp
from rnnlm.data.formats.parquet import ParquetCorpus
from rnnlm.data.listing import Listing, Unit
from rnnlm.inference.tokenize_work import TokenizeWork

ROWS, FILES, ROUNDS = 400_000, 8, 5
SHARDS = 10_000
DISPATCHED = 2000
UNITS = 1_000_000
GIGABYTE = 1_000_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["overhead", "start", "dispatch", "resume", "plan", "memory", "memory-of"])
    parser.add_argument("--tokenizer", help="folder of a tokenizer, for memory")
    parser.add_argument("--corpus", help="for memory-of")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        if arguments.what == "overhead":
            overhead(Path(folder))
        elif arguments.what == "start":
            start(Path(folder))
        elif arguments.what == "dispatch":
            dispatch(Path(folder))
        elif arguments.what == "resume":
            resume(Path(folder))
        elif arguments.what == "plan":
            plan()
        elif arguments.what == "memory":
            memory(Path(folder), arguments.tokenizer)
        else:
            memory_of(arguments.corpus, Path(folder), arguments.tokenizer)


def run(work: WorkConfig, corpus: Path, output: Path, *, pool: Pool = run_here, **options: object) -> float:
    """Seconds of wall time of a run."""
    began = time.perf_counter()
    plan = prepare(work, ParquetCorpus(path=str(corpus)), str(output), target_seconds=30.0, **options)  # type: ignore[arg-type]
    execute(plan, pool, on_event=lambda _: None)
    return time.perf_counter() - began


def overhead(folder: Path) -> None:
    corpus = folder / "corpus"
    make_corpus(corpus, ROWS, FILES, groups=5)
    size = sum(file.stat().st_size for file in corpus.iterdir())
    ratios, ours, theirs = [], [], []
    for number in range(ROUNDS):
        theirs.append(cpu_seconds(lambda number=number: plain(corpus, folder / f"plain-{number}")))
        ours.append(cpu_seconds(lambda number=number: run(NoopWork(), corpus, folder / f"engine-{number}")))
        ratios.append(ours[-1] / theirs[-1])
    engine = pq.read_table(folder / "engine-0/data")
    assert engine.equals(pq.read_table(folder / "plain-0")), "both must write the same"
    print(f"{ROWS:,} rows, {FILES} files, {size / 1e6:.0f} MB; CPU seconds of one process, {ROUNDS} rounds")
    print(f"plain loop {spread(theirs)}, engine {spread(ours)}, ratio {spread(ratios)}")


def plain(corpus: Path, output: Path) -> None:
    """What anybody would write: row group in, two columns more, row group out."""
    output.mkdir()
    first = 0
    for file in sorted(corpus.iterdir()):
        source = pq.ParquetFile(file)
        fields = [*source.schema_arrow, pa.field("row", pa.int64()), pa.field("error", pa.string())]
        with pq.ParquetWriter(output / file.name, pa.schema(fields), compression="zstd") as writer:
            for group in range(source.num_row_groups):
                table = source.read_row_group(group, use_threads=False)
                rows = np.arange(first, first + table.num_rows)
                first += table.num_rows
                table = table.append_column("row", pa.array(rows))
                writer.write_table(table.append_column("error", pa.nulls(table.num_rows, pa.string())))


def start(folder: Path) -> None:
    make_corpus(folder / "corpus", 1, 1, groups=1)
    connect()
    here, there = [], []
    for number in range(ROUNDS):
        here.append(run(NoopWork(), folder / "corpus", folder / f"here-{number}"))
        there.append(run(NoopWork(), folder / "corpus", folder / f"ray-{number}", pool=two_workers))
    print(f"one row: in this process {spread(here)} s, on a Ray cluster that is up {spread(there)} s; {ROUNDS} rounds")


def dispatch(folder: Path) -> None:
    make_corpus(folder / "corpus", DISPATCHED * 4, 2, groups=DISPATCHED // 2)
    connect()
    run(NoopWork(), folder / "corpus", folder / "first", pool=two_workers, kind="file")  # Ray has its processes ready
    cpu = time.process_time()
    seconds = run(NoopWork(), folder / "corpus", folder / "out", pool=two_workers, kind="row_group")
    cpu = time.process_time() - cpu
    print(
        f"{DISPATCHED:,} shards of four rows on two workers: {seconds:.1f} s, {DISPATCHED / seconds:.0f} a second; "
        f"{1e3 * cpu / DISPATCHED:.2f} ms of the driver's processor a shard"
    )


def two_workers(run: BulkRun, shards: Sequence[Shard], on_progress: Observer) -> Outcomes:
    return run_on_ray(run, shards, ClusterConfig(workers=2), on_progress=on_progress, say=print)


def resume(folder: Path) -> None:
    make_corpus(folder / "corpus", SHARDS * 4, 10, groups=SHARDS // 10)
    seconds = run(NoopWork(), folder / "corpus", folder / "out", kind="row_group")
    assert len(list((folder / "out/data").iterdir())) == SHARDS
    opened = []
    whole = parquet_format._open
    parquet_format._open = lambda file: opened.append(file) or whole(file)  # type: ignore[func-returns-value]
    finished = run(NoopWork(), folder / "corpus", folder / "out", kind="row_group")
    (folder / "out/_SUCCESS").unlink()
    unfinished = run(NoopWork(), folder / "corpus", folder / "out", kind="row_group")
    print(
        f"{SHARDS:,} shards: first run {seconds:.1f} s; started again {finished:.2f} s; started again without its mark "
        f"of success, so that all records are read, {unfinished:.2f} s; data files opened: {len(opened)}"
    )


def plan() -> None:
    files = [FileStamp(f"/corpus/part-{number:05d}.parquet", 1 << 30, number) for number in range(1000)]
    generator = random.Random(1)
    units = tuple(
        Unit(files[number // 1000], number % 1000, 5000, generator.randrange(1 << 20, 8 << 20))
        for number in range(UNITS)
    )
    kept = Listing(tuple(files), units, pa.schema([("text", pa.string())])).to_bytes()
    del units
    gc.collect()
    cost = NoopWork().cost()
    for kind, target in (("row_group", 30.0), ("auto", 30.0)):
        began = time.perf_counter()
        shards = plan_shards(Listing.from_bytes(kept).units, cost, target_seconds=target, kind=kind)  # type: ignore[arg-type]
        plan_digest(shards)
        seconds = time.perf_counter() - began
        count = len(shards)
        del shards
        gc.collect()
        tracemalloc.start()
        listing = Listing.from_bytes(kept)
        held = plan_shards(listing.units, cost, target_seconds=target, kind=kind)  # type: ignore[arg-type]
        used = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        print(
            f"{UNITS:,} row groups, shards={kind}: {count:,} shards in {seconds:.1f} s, {used / 1e6:,.0f} MB with the "
            f"listing, {used / count:,.0f} bytes a shard; the kept listing has {len(kept) / 1e6:.0f} MB"
        )
        del listing, held


def memory(folder: Path, tokenizer: str | None) -> None:
    path = folder / "one.parquet"
    generator = random.Random(2)
    words = ["".join(generator.choices(string.ascii_lowercase, k=generator.randrange(2, 9))) for _ in range(5000)]
    texts = [" ".join(generator.choices(words, k=170)) for _ in range(2000)]
    rows = GIGABYTE // (sum(map(len, texts)) // len(texts))
    order = np.random.default_rng(3).integers(len(texts), size=rows)
    table = pa.table({"id": pa.array(np.arange(rows)), "text": pa.array(texts).take(pa.array(order))})
    pq.write_table(table, path, row_group_size=rows, use_dictionary=False)
    group = pq.ParquetFile(path).metadata.row_group(0)
    print(f"one row group: {rows:,} rows, {group.total_byte_size / 1e9:.2f} GB uncompressed")
    del table
    for name in ["nothing", *([tokenizer] if tokenizer else [])]:
        command = [sys.executable, "-m", "benchmarks.bench_bulk", "memory-of", "--corpus", str(path)]
        subprocess.run([*command, *(["--tokenizer", name] if name != "nothing" else [])], check=True)


def memory_of(corpus: str, folder: Path, tokenizer: str | None) -> None:
    work = TokenizeWork(tokenizer=tokenizer) if tokenizer else NoopWork()
    plan = prepare(work, ParquetCorpus(path=corpus), str(folder / "out"), target_seconds=1e9)
    assert len(plan.shards) == 1
    before = peak_memory(reset=True)
    began = time.perf_counter()
    execute(plan, run_here, on_event=lambda _: None)
    peak = peak_memory()
    print(
        f"{plan.run.work.job}: one shard of all rows in {time.perf_counter() - began:.0f} s; "
        f"peak memory {peak:.2f} GB, {before:.2f} GB before"
    )


def peak_memory(*, reset: bool = False) -> float:
    """Gigabytes that this process had resident at most since the last reset (a new process inherits its parent's)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024 / 1e9


def make_corpus(folder: Path, rows: int, files: int, *, groups: int) -> None:
    """Texts of log-normal length, ids, a number; zstd."""
    folder.mkdir()
    generator = np.random.default_rng(1)
    words = np.array(["the", "of", "and", "recurrent", "network", "a", "in", "to", "probability", "sequence"])
    each = rows // files
    for number in range(files):
        lengths = np.clip(generator.lognormal(4.0, 0.7, each), 3, 1000).astype(int)
        pool = words[generator.integers(len(words), size=lengths.sum())]
        ends = np.cumsum(lengths)
        texts = [" ".join(pool[end - length : end]) for end, length in zip(ends, lengths, strict=True)]
        table = pa.table({"id": pa.array(np.arange(each)), "score": generator.random(each), "text": texts})
        pq.write_table(
            table, folder / f"{number:03d}.parquet", row_group_size=max(1, each // groups), compression="zstd"
        )


def cpu_seconds(action: Callable[[], object]) -> float:
    began = time.process_time()
    action()
    return time.process_time() - began


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


if __name__ == "__main__":
    main()
