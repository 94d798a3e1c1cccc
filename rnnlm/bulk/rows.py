"""Bad rows cost themselves and nothing else: what raises is searched for by halving, and marked.

A batch that raises is cut in two until the row that raises stands alone; it gets an error, the others their results.
A batch that does not fit into memory is halved too. Nothing is remembered from one batch to the next: what one worker
has met must not change what it computes for another shard.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rnnlm.bulk.work import ERROR, NULL_TEXT, Processed, Processor
from rnnlm.errors import EnvironmentFailure, TerminatedError

HOPELESS_ROWS = 64  # so many bad rows and not one good one: it is not the rows
MESSAGE_CHARS = 300


class RowGuard:
    """Stands between a shard and a processor."""

    def __init__(self, processor: Processor, new_fields: Sequence[pa.Field]) -> None:
        self._processor = processor
        self._fields = new_fields
        self._marks_rows = any(field.name == ERROR for field in new_fields)
        self.bad_rows = self.good_rows = self.halved = 0

    def process(self, table: pa.Table, rows: npt.NDArray[np.int64]) -> Processed:
        """As Processor.process, but an exception that belongs to a row becomes the error of that row."""
        try:
            found = self._processor.process(table, rows)
        except (EnvironmentFailure, TerminatedError):
            raise  # the next row would meet the same
        except Exception as error:
            if not self._marks_rows or table.num_rows == 0:
                raise
            problem = error
        else:
            self.good_rows += table.num_rows
            return found
        out_of_memory = is_out_of_memory(problem)
        if out_of_memory:
            problem.__traceback__ = None  # its frames hold the very memory that was missing
            self._processor.release_memory()
        if table.num_rows == 1:
            return self._bad_row(problem, out_of_memory=out_of_memory)
        del problem
        self.halved += out_of_memory
        half = table.num_rows // 2
        first = self.process(table.slice(0, half), rows[:half])
        second = self.process(table.slice(half), rows[half:])
        return concat_processed([first, second], self._fields)

    def _bad_row(self, error: Exception, *, out_of_memory: bool) -> Processed:
        self.bad_rows += 1
        if self.bad_rows >= HOPELESS_ROWS and self.good_rows == 0:
            raise error
        code = "out_of_memory" if out_of_memory else "failed"
        what = f"{type(error).__name__}: {' '.join(str(error).split())}"[:MESSAGE_CHARS]
        columns: dict[str, Any] = {field.name: pa.nulls(1, field.type) for field in self._fields}
        columns[ERROR] = pa.array([f"{code}: {what}"], pa.string())
        return Processed(columns, 0)


def concat_processed(parts: Sequence[Processed], fields: Sequence[pa.Field]) -> Processed:
    """Results of consecutive rows as one."""
    columns: dict[str, Any] = {
        field.name: pa.concat_arrays([_array(part.columns[field.name]).cast(field.type) for part in parts])
        for field in fields
    }
    return Processed(columns, sum(part.num_tokens for part in parts))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of the machine or of a GPU; told by name, so that no framework is imported for it."""
    text = str(error)
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "can't allocate memory" in text
        or "out of memory" in text
    )


def count_errors(column: pa.ChunkedArray) -> Counter[str]:
    """How many rows have which code, the word before the colon."""
    found: Counter[str] = Counter()
    for entry in pc.value_counts(column.drop_null()).to_pylist():
        found[entry["values"].partition(":")[0]] += entry["counts"]
    return found


def is_retryable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """True where a row has an error that another attempt might mend: any but a null text."""
    return pc.fill_null(pc.not_equal(column, NULL_TEXT), False)


def _array(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
