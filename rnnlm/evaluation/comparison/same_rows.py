"""Scored data sets read in step: batches of the same rows of all of them, and a refusal where the rows differ."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from rnnlm.data.files import expand_paths
from rnnlm.errors import ConfigError, DataError, Place
from rnnlm.evaluation.scored import ScoredColumns, open_scored, read_batches
from rnnlm.storage import open_location

SHOWN = 60  # characters of a value in an error
TODO = "compare runs that scored the same corpus in the same order"


@dataclass(frozen=True)
class RowColumns:
    """What tells that rows are the same: the column of the scored text of each run, null if one lacks it, and an id."""

    texts: Mapping[str, str | None]
    id: str | None = None

    def of(self, name: str) -> list[str]:
        """The columns of a run that must hold the same."""
        return [column for column in (self.texts[name], self.id) if column is not None]


def row_columns(paths: Mapping[str, str], texts: Mapping[str, str], id_column: str | None) -> RowColumns:
    """`texts` are the columns that the runs scored; they count if all outputs have them.

    Raises ConfigError if nothing is left to compare rows by.
    """
    lacking = [name for name, path in paths.items() if not _has_column(path, texts[name])]
    if lacking and id_column is None:
        raise ConfigError(
            f"id_column: the output of {lacking[0]} has no column '{texts[lacking[0]]}', so nothing tells whether rows "
            "are the same; set id_column=..."
        )
    return RowColumns({name: None if lacking else texts[name] for name in paths}, id_column)


def read_same_rows(paths: Mapping[str, str], columns: RowColumns) -> Iterator[dict[str, pa.RecordBatch]]:
    """By run, batches of the same rows. Raises DataError at the first row that differs from that of the first run."""
    streams = {}
    for name, path in paths.items():
        files, needs = open_scored(path, ScoredColumns(text=columns.texts[name], id=columns.id))
        streams[name] = read_batches(files, needs)
    rows = 0
    for batches in _in_step(paths, streams):
        _check_same(paths, columns, batches, rows)
        yield batches
        rows += next(iter(batches.values())).num_rows


def _in_step(
    paths: Mapping[str, str], streams: Mapping[str, Iterator[pa.RecordBatch]]
) -> Iterator[dict[str, pa.RecordBatch]]:
    """Cut batches, which end where files and row groups do, to the same rows."""
    current: dict[str, pa.RecordBatch] = {}
    rows = 0
    while True:
        for name, stream in streams.items():
            while name not in current or not current[name].num_rows:
                following = next(stream, None)
                if following is None:
                    current.pop(name, None)
                    break
                current[name] = following
        if len(current) < len(streams):
            _check_all_ended(paths, current, rows)
            return
        size = min(batch.num_rows for batch in current.values())
        yield {name: batch.slice(0, size) for name, batch in current.items()}
        current = {name: batch.slice(size) for name, batch in current.items()}
        rows += size


def _check_all_ended(paths: Mapping[str, str], left: Mapping[str, pa.RecordBatch], rows: int) -> None:
    longer, ended = next(iter(left), None), next(name for name in paths if name not in left)
    if longer is not None:
        raise DataError(
            f"{paths[ended]} has {rows:,} rows, {paths[longer]} has more",
            where=Place(paths[longer], row=rows),
            todo=TODO,
        )


def _check_same(
    paths: Mapping[str, str], columns: RowColumns, batches: Mapping[str, pa.RecordBatch], start: int
) -> None:
    first, *others = batches
    for name in others:
        for ours, theirs in zip(columns.of(first), columns.of(name), strict=True):
            one, other = batches[first].column(ours), batches[name].column(theirs)
            if one.equals(other):
                continue
            for row, (our, their) in enumerate(zip(one.to_pylist(), other.to_pylist(), strict=True), start):
                if our != their:  # else only the layouts of the columns differ
                    raise DataError(
                        f"the rows differ: {str(our)[:SHOWN]!r} in {paths[first]}, {str(their)[:SHOWN]!r} here",
                        where=Place(paths[name], row=row, column=theirs),
                        todo=TODO,
                    )


def _has_column(path: str, column: str) -> bool:
    try:
        with open_location(expand_paths(path, (".parquet",))[0]).open_input() as stream:
            return column in pq.read_schema(stream).names
    except (pa.ArrowException, OSError):
        return True  # reading the rows will say what is wrong
