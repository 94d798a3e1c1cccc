"""The life of one shard: read, process, write, commit. The same in one process and on any worker.

A shard goes through memory in windows of some megabytes, so its size does not matter. While one window is computed the
next is read, and at the end of a shard the first window of the next one.
"""

import functools
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rnnlm.bulk.output import DoneRecord, OutputFolder
from rnnlm.bulk.part import Part, PartWriter, part_schema
from rnnlm.bulk.plan import Shard
from rnnlm.bulk.rows import RowGuard, count_errors, is_retryable
from rnnlm.bulk.work import ERROR, NULL_TEXT, Processed, Processor, WorkConfig
from rnnlm.data.formats.base import CorpusConfig
from rnnlm.errors import EnvironmentFailure, TerminatedError
from rnnlm.storage import Location, open_location

WINDOW_BYTES = 32 << 20
WINDOW_ROWS = 1 << 16
NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"  # how Hive, Spark and Arrow name the folder of null
NULL_CODE = NULL_TEXT.partition(":")[0]


@dataclass(frozen=True)
class BulkRun:
    """A bulk job ready to start: plain data, so it can be sent to workers."""

    work: WorkConfig
    corpus: CorpusConfig
    output: str
    read_schema: pa.Schema  # the input columns that are read
    schema: pa.Schema  # of the output
    provenance: dict[str, str]
    retry: frozenset[int] = frozenset()  # shards that are done, but for rows with an error that are tried again

    def __getstate__(self) -> dict[str, Any]:
        # Arrow's own pickling forgets names inside a fixed-size list; its IPC format keeps a schema as it is.
        schemas = {name: getattr(self, name).serialize().to_pybytes() for name in ("read_schema", "schema")}
        return {**self.__dict__, **schemas}

    def __setstate__(self, state: dict[str, Any]) -> None:
        schemas = {name: pa.ipc.read_schema(pa.py_buffer(state[name])) for name in ("read_schema", "schema")}
        self.__dict__.update(state, **schemas)

    def folder(self) -> OutputFolder:
        return OutputFolder(open_location(self.output))


@dataclass(frozen=True)
class Failure:
    """A shard that could not be done, and why."""

    shard: int
    message: str
    stalled: bool = False  # it hung


@dataclass(frozen=True)
class Progress:
    """So many rows of a shard are processed; tokens of whole windows."""

    shard: int
    rows: int
    tokens: int


Outcome = DoneRecord | Failure


@dataclass(frozen=True)
class Window:
    """Some selected rows of a shard with their numbers, and how many rows it took to find them."""

    table: pa.Table
    rows: npt.NDArray[np.int64]
    planned: int


class Reader:
    """Reads shards window by window in a thread of its own, always one window ahead."""

    def __init__(self, run: BulkRun) -> None:
        self._run = run
        self._thread = ThreadPoolExecutor(1)
        self._ahead: tuple[int, Iterator[Window], Future[Window | None]] | None = None

    def windows(self, shard: Shard, upcoming: Shard | None = None) -> Iterator[Window]:
        """The windows of `shard`; when all are read, reading `upcoming` begins."""
        if self._ahead is not None and self._ahead[0] == shard.index:
            _, windows, future = self._ahead
        else:
            windows = read_windows(self._run, shard)
            future = self._thread.submit(next, windows, None)
        self._ahead = None
        while (window := future.result()) is not None:
            future = self._thread.submit(self._next, windows, upcoming)
            yield window

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _next(self, windows: Iterator[Window], upcoming: Shard | None) -> Window | None:
        window = next(windows, None)
        if window is None and upcoming is not None:
            following = read_windows(self._run, upcoming)
            self._ahead = (upcoming.index, following, self._thread.submit(next, following, None))
        return window


def read_windows(run: BulkRun, shard: Shard) -> Iterator[Window]:
    """The selected input rows of a shard in order, some megabytes at a time; a window may be empty."""
    tables: list[pa.Table] = []
    numbers: list[npt.NDArray[np.int64]] = []
    planned = size = 0
    first_row = shard.first_row
    for piece in shard.pieces:
        for table in run.corpus.read_batches(piece.unit, run.read_schema, start=piece.start, stop=piece.stop):
            selected, rows = run.corpus.select_rows(table, first_row)
            first_row += table.num_rows
            planned += table.num_rows
            tables.append(selected)
            numbers.append(rows)
            size += selected.nbytes
            if size >= WINDOW_BYTES or sum(map(len, numbers)) >= WINDOW_ROWS:
                yield Window(pa.concat_tables(tables), np.concatenate(numbers), planned)
                tables, numbers, planned, size = [], [], 0, 0
    assert first_row == shard.first_row + shard.rows, "a row was lost or doubled"
    if tables:
        yield Window(pa.concat_tables(tables), np.concatenate(numbers), planned)


def run_shard(
    run: BulkRun,
    shard: Shard,
    processor: Processor,
    reader: Reader,
    *,
    worker: str,
    upcoming: Shard | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Outcome:
    """Do a shard; a failure is noted and given back, so that the others go on."""
    try:
        with closing(_ShardRun(run, shard, processor, worker, on_progress)) as job:
            for window in reader.windows(shard, upcoming):
                job.add(window)
            return job.commit()
    except (EnvironmentFailure, TerminatedError):
        raise  # the next shard would meet the same
    except Exception as error:  # noqa: BLE001 - one bad shard must not cost the others
        run.folder().fail(shard, f"{type(error).__name__}: {error}", traceback.format_exc())
        return Failure(shard.index, str(error))


class _ShardRun:
    """One attempt at a shard: its open part files and its counts."""

    def __init__(
        self,
        run: BulkRun,
        shard: Shard,
        processor: Processor,
        worker: str,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._run, self._shard, self._worker = run, shard, worker
        self._processor, self._on_progress = processor, on_progress
        self._folder = run.folder()
        self._fields = run.work.new_fields()
        self._guard = RowGuard(processor, self._fields)
        self._writers: dict[str, PartWriter] = {}
        self._stack = ExitStack()
        self._earlier: pa.Table | None = None
        self._began = time.perf_counter()
        self._rows = self._num_bytes = self._dropped = 0
        self._errors: dict[str, int] = {}
        self.planned = self.tokens = self._reported = 0
        if shard.index in run.retry:
            record = self._folder.record(shard.index)
            self._earlier = self._results_of(record)
            self.tokens = record.tokens  # rows with an error had none

    def close(self) -> None:
        """Remove what is unfinished."""
        self._stack.close()

    def add(self, window: Window) -> None:
        """Process a window and write its rows."""
        self._processor.report = functools.partial(self._report, window.planned)
        self._report(window.planned, 0.0)
        processed = self._process(window)
        result = window.table.select(self._run.schema.names[: -len(self._fields) or None])
        for field in self._fields:
            result = result.append_column(field, processed.columns[field.name])
        assert result.num_rows == len(window.rows), "a row was lost or doubled"
        self.planned += window.planned
        self.tokens += processed.num_tokens
        self._rows += result.num_rows
        if self._run.work.needs_text:
            self._num_bytes += text_bytes(window.table.column(self._run.corpus.text_column))
        if ERROR in processed.columns:
            for code, count in count_errors(result.column(ERROR)).items():
                self._errors[code] = self._errors.get(code, 0) + count
        self._write(result.cast(self._run.schema))
        self._report(0, 0.0)

    def commit(self) -> DoneRecord:
        """Put the parts in place, then write the record."""
        if self._run.work.partition_column is None and not self._writers:
            self._write(self._run.schema.empty_table())  # every row was left out; the part says so by being there
        if self._earlier is not None:
            self._folder.retract(self._shard.index)
        parts: list[Part] = [self._writers[name].commit() for name in sorted(self._writers)]
        null = self._errors.get(NULL_CODE, 0)
        error = sum(self._errors.values()) - null
        record = DoneRecord(
            shard=self._shard.index,
            planned=self.planned,
            skipped=self.planned - self._rows,
            rows=self._rows,
            ok=self._rows - null - error,
            null=null,
            error=error,
            errors=dict(sorted(self._errors.items())),
            dropped=self._dropped,
            tokens=self.tokens,
            num_bytes=self._num_bytes,
            halved=self._guard.halved,
            seconds=round(time.perf_counter() - self._began, 6),
            worker=self._worker,
            hardware=self._processor.hardware,
            parts=parts,
        )
        self._folder.commit(record)
        return record

    def _report(self, window_rows: int, share: float) -> None:
        """So much of a window is processed, beside the windows before it. Never fewer rows than said before: a batch
        that is halved begins anew."""
        self._reported = max(self._reported, self.planned + int(share * window_rows))
        self._on_progress(Progress(self._shard.index, self._reported, self.tokens))

    def _process(self, window: Window) -> Processed:
        if self._earlier is None:
            return self._guard.process(window.table, window.rows)
        earlier = self._earlier.slice(self._rows, len(window.rows))
        again = np.asarray(is_retryable(earlier.column(ERROR)))
        if not again.any():
            return Processed({field.name: earlier.column(field.name) for field in self._fields}, 0)
        found = self._guard.process(window.table.filter(pa.array(again)), window.rows[again])
        # The old results and behind them the new ones; `take` puts each row's where it belongs.
        places = np.arange(len(again))
        places[again] = len(again) + np.arange(again.sum())
        columns: dict[str, Any] = {}
        for field in self._fields:
            new = found.columns[field.name]
            both = pa.chunked_array([*earlier.column(field.name).chunks, pa.array(new).cast(field.type)], field.type)
            columns[field.name] = both.take(pa.array(places))
        return Processed(columns, found.num_tokens)

    def _results_of(self, record: DoneRecord) -> pa.Table:
        """The new columns of a shard that is done."""
        names = [field.name for field in self._fields]
        tables = []
        for part in record.parts:
            target = self._folder.part_target(part.name)
            tables.append(target.retrying(partial(_read_columns, target, names)))
        return pa.concat_tables(tables)

    def _write(self, table: pa.Table) -> None:
        column = self._run.work.partition_column
        if column is None:
            self._writer(self._shard.part, table.schema).write(table)
            return
        values = table.column(column)
        wanted = self._run.work.partitions
        for value in pc.unique(values).to_pylist():
            rows = table.filter(pc.is_null(values) if value is None else pc.equal(values, value))
            if wanted is not None and value not in wanted:
                self._dropped += rows.num_rows
                continue
            folder = f"{column}={NULL_PARTITION if value is None else value}"
            rows = rows.drop_columns([column])
            self._writer(f"{folder}/{self._shard.part}", rows.schema).write(rows)

    def _writer(self, name: str, schema: pa.Schema) -> PartWriter:
        if name not in self._writers:
            provenance = {**self._run.provenance, "shard": str(self._shard.index)}
            writer = PartWriter(
                name,
                self._folder.part_target(name),
                self._folder.unfinished,
                part_schema(schema, provenance),
                self._run.work.encodings(),
            )
            self._writers[name] = self._stack.enter_context(closing(writer))
        return self._writers[name]


def _read_columns(file: Location, names: list[str]) -> pa.Table:
    with file.filesystem.open_input_file(file.path) as stream:
        return pq.ParquetFile(stream).read(columns=names)


def text_bytes(column: pa.ChunkedArray) -> int:
    """UTF-8 bytes of a text column."""
    total = pc.sum(pc.binary_length(column.cast(pa.large_string()))).as_py()
    return int(total or 0)


def needed_columns(work: WorkConfig, corpus: CorpusConfig, schema: pa.Schema) -> tuple[list[str], list[str]]:
    """Which columns are kept, and which are read."""
    kept = work.kept_columns([name for name in schema.names if corpus.columns is None or name in corpus.columns])
    others: Sequence[str] = [*kept, *work.needed_columns(), *([corpus.text_column] if work.needs_text else [])]
    return kept, corpus.needed_columns(schema, others)
