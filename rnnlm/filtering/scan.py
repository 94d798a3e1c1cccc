"""One pass over a few columns of a corpus, unit by unit in several threads, without holding it in memory."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

import pyarrow as pa

from rnnlm.data.formats.base import CorpusConfig
from rnnlm.data.listing import Listing, Unit
from rnnlm.errors import DataError, Place
from rnnlm.filtering.groups import join_groups

THREADS = 8  # units wait for storage, not for the processor

ScoresAndGroups = tuple[pa.ChunkedArray, pa.Array | pa.ChunkedArray | None]


def scan_columns(
    corpus: CorpusConfig, listing: Listing, columns: Sequence[str], on_rows: Callable[[int], None] = lambda _: None
) -> Iterator[pa.Table]:
    """The selected rows of a corpus in order, with `columns` alone; `on_rows` is told how many rows were passed."""
    schema = pa.schema([listing.schema.field(name) for name in corpus.needed_columns(listing.schema, columns)])

    def read(unit: Unit, first_row: int, stop: int) -> pa.Table:
        tables = [schema.empty_table()]
        for table in corpus.read_batches(unit, schema, start=0, stop=stop):
            selected, _ = corpus.select_rows(table, first_row)
            first_row += table.num_rows
            tables.append(selected)
        return pa.concat_tables(tables).select(list(columns))

    with ThreadPoolExecutor(THREADS) as pool:
        tasks = _places(listing, corpus.limit)
        waiting: deque[tuple[int, Future[pa.Table]]] = deque()
        try:
            while True:
                for unit, first_row, stop in islice(tasks, 2 * THREADS - len(waiting)):
                    waiting.append((stop, pool.submit(read, unit, first_row, stop)))
                if not waiting:
                    return
                rows, future = waiting.popleft()
                yield future.result()
                on_rows(rows)
        finally:
            for _, future in waiting:
                future.cancel()


def scores_and_groups(table: pa.Table, score_column: str, group_by: Sequence[str]) -> ScoresAndGroups:
    """The scores of a table and the group of each row, None if rows are not grouped."""
    return table.column(score_column), join_groups([table.column(name) for name in group_by]) if group_by else None


def check_score_columns(listing: Listing, score_column: str, group_by: Sequence[str]) -> None:
    """Raise DataError if a column is not there or the scores are not numbers."""
    file = listing.files[0].path if listing.files else ""
    for field, name in [("score_column", score_column), *(("group_by", name) for name in group_by)]:
        if name not in listing.schema.names:
            raise DataError(
                f"there is no column '{name}' among {', '.join(listing.schema.names)}",
                where=Place(file, column=name),
                todo=f"set {field}",
            )
    kind = listing.schema.field(score_column).type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind)):
        raise DataError(
            f"the column has type {kind}, numbers are needed",
            where=Place(file, column=score_column),
            todo="set score_column to the column that holds the score",
        )


def _places(listing: Listing, limit: int | None) -> Iterator[tuple[Unit, int, int]]:
    """Each unit, the number of its first row, and how many of its rows belong to the corpus."""
    first_row, left = 0, listing.rows if limit is None else limit
    for unit in listing.units:
        stop = min(unit.rows, left)
        if stop > 0:
            yield unit, first_row, stop
        first_row, left = first_row + unit.rows, left - stop
