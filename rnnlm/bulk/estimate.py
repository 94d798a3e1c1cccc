"""How long a planned run would take and how large its output would be: from footers and a timed sample.

Some thousand rows, taken in equal pieces from all over the corpus, go through everything that a shard goes through.
What they took is scaled by the text they had: the footers know how much there is of it.
"""

import io
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from rnnlm.bulk.plan import CostModel, Piece, Shard
from rnnlm.bulk.rows import RowGuard, count_errors
from rnnlm.bulk.shard import NULL_CODE, BulkRun, read_windows
from rnnlm.bulk.work import ERROR, Processor

PROBE_ROWS = 64
PIECES = 16
MAX_ROWS = 16_384


@dataclass(frozen=True)
class Estimate:
    """What a run is expected to be. Seconds of one worker; `part_bytes` as compressed Parquet."""

    rows: int
    selected_rows: int
    tokens: int
    padding: float  # share of computed positions that belong to no token
    seconds: float
    part_bytes: int
    start_seconds: float  # to load the model
    sampled_rows: int
    sampled_errors: int

    def wall_seconds(self, workers: int, fixed: float = 0.0) -> float:
        """On so many equal workers, with `fixed` seconds before the first one starts."""
        return fixed + self.start_seconds + self.seconds / max(1, workers)


@dataclass(frozen=True)
class _Sample:
    """Sums over some rows."""

    planned: int
    weight: float  # estimated seconds by the cost model, which the plan has for all rows
    selected: int
    tokens: int
    padding: int
    errors: int
    seconds: float
    part_bytes: int


def estimate_run(run: BulkRun, shards: Sequence[Shard], *, sample_seconds: float) -> Estimate:
    """Take a sample of about `sample_seconds` of work; writes nothing."""
    began = time.perf_counter()
    processor = run.work.build("auto")
    start_seconds = time.perf_counter() - began
    total, rows = sum(shard.seconds for shard in shards), sum(shard.rows for shard in shards)
    _take(run, shards, PROBE_ROWS, processor)  # the first calls are slow
    probe = _take(run, shards, PROBE_ROWS, processor)
    affordable = sample_seconds / max(1e-9, probe.seconds) * probe.planned
    sample = _take(run, shards, int(min(MAX_ROWS, max(PROBE_ROWS, affordable))), processor)
    scale = total / sample.weight
    computed = sample.tokens + sample.padding
    return Estimate(
        rows=rows,
        selected_rows=round(rows * sample.selected / sample.planned),
        tokens=round(sample.tokens * scale),
        padding=sample.padding / computed if computed else 0.0,
        seconds=sample.seconds * scale,
        part_bytes=round(sample.part_bytes * scale),
        start_seconds=start_seconds,
        sampled_rows=sample.planned,
        sampled_errors=sample.errors,
    )


def sample_rows(run: BulkRun, shards: Sequence[Shard], rows: int) -> pa.Table:
    """About `rows` rows of the corpus, in equal pieces from all over it; always the same."""
    return _read(run, _spread(shards, rows, run.work.cost()))[0]


def _read(run: BulkRun, shards: Sequence[Shard]) -> tuple[pa.Table, npt.NDArray[np.int64]]:
    """The selected rows of shards, and their numbers in the corpus."""
    windows = [window for shard in shards for window in read_windows(run, shard)]
    return pa.concat_tables([window.table for window in windows]), np.concatenate([window.rows for window in windows])


def _take(run: BulkRun, shards: Sequence[Shard], rows: int, processor: Processor) -> _Sample:
    """Read, process and write about `rows` rows."""
    chosen = _spread(shards, rows, run.work.cost())
    began = time.perf_counter()
    table, numbers = _read(run, chosen)
    fields = run.work.new_fields()
    found = RowGuard(processor, fields).process(table, numbers)
    result = table.select(run.schema.names[: -len(fields) or None])
    for field in fields:
        result = result.append_column(field, found.columns[field.name])
    sink = io.BytesIO()
    pq.write_table(result.cast(run.schema), sink, compression="zstd")
    seconds = time.perf_counter() - began
    errors = count_errors(result.column(ERROR)) if ERROR in found.columns else {}
    return _Sample(
        planned=sum(shard.rows for shard in chosen),
        weight=sum(shard.seconds for shard in chosen),
        selected=table.num_rows,
        tokens=found.num_tokens,
        padding=found.num_padding,
        errors=sum(count for code, count in errors.items() if code != NULL_CODE),
        seconds=seconds,
        part_bytes=sink.tell(),
    )


def _spread(shards: Sequence[Shard], rows: int, cost: CostModel) -> list[Shard]:
    """Up to PIECES runs of rows, at equal distances over the corpus."""
    starts = np.array([shard.first_row for shard in shards])
    total = shards[-1].first_row + shards[-1].rows
    pieces = min(PIECES, total)
    chosen = []
    for place in range(pieces):
        row, following = place * total // pieces, (place + 1) * total // pieces
        shard = shards[int(np.searchsorted(starts, row, side="right")) - 1]
        chosen.append(_cut(shard, row - shard.first_row, min(math.ceil(rows / pieces), following - row), cost))
    return chosen


def _cut(shard: Shard, start: int, rows: int, cost: CostModel) -> Shard:
    """Some rows of the piece that holds row `start` of a shard."""
    first_row = shard.first_row
    for piece in shard.pieces:
        if start < piece.rows:
            break
        start, first_row = start - piece.rows, first_row + piece.rows
    stop = min(piece.rows, start + rows)
    taken = Piece(piece.unit, piece.start + start, piece.start + stop)
    seconds = cost.seconds(taken.rows, taken.num_bytes)
    return replace(shard, first_row=first_row + start, rows=taken.rows, seconds=seconds, pieces=(taken,))
