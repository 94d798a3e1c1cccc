"""One batch of rows: what is right, what was predicted, and which rows count.

Whatever the layout of the file is, both are lists: of texts, or of structs (start_word, end_word, type, score). A row
without a reference is left out; one with an error or without a prediction has failed, and is scored as wrong.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rnnlm.data.column_types import is_list
from rnnlm.errors import DataError, Place
from rnnlm.evaluation.labelled.columns import Columns, PairColumns, type_field
from rnnlm.evaluation.labelled.mistakes import Context
from rnnlm.evaluation.scored import ERROR

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]

STRUCTURE_SEPARATOR = "#"  # of several intents in one text, as ATIS has them


@dataclass(frozen=True)
class Pair:
    """`first` is the number of the batch's first row; arrays have an entry a row of the batch."""

    path: str
    first: int
    columns: PairColumns
    reference: pa.ListArray
    predicted: pa.ListArray
    confidence: pa.ListArray | None
    probabilities: pa.Array | None
    given: Mask
    failed: Mask
    context: Context

    @property
    def scored(self) -> npt.NDArray[np.int64]:
        """The rows with a reference and a prediction."""
        return np.flatnonzero(self.given & ~self.failed)

    def place(self, row: int, column: str | None) -> Place:
        """Where a row of the batch is."""
        return Place(self.path, row=self.first + row, column=column)

    def check_lengths(
        self, lists: pa.ListArray, of: pa.ListArray, rows: npt.NDArray[np.int64], name: str | None
    ) -> None:
        """Refuse lists of these rows that are not as long as those of the reference, or of the prediction."""
        lengths, others = (list_lengths(one.take(pa.array(rows))) for one in (of, lists))
        if (different := np.flatnonzero(lengths != others)).size:
            at = int(different[0])
            compared = self.columns.reference if of is self.reference else self.columns.predicted
            raise DataError(
                f"{max(0, int(others[at])):,} values, but {int(lengths[at]):,} in '{compared}'",
                where=self.place(int(rows[at]), name),
                todo="compare labels of the same words, or set labels_of=rows if they are classes of rows"
                if self.columns.predicted_kind == "labels"
                else "give the output of jobs.predict",
            )


def pair_of(batch: pa.RecordBatch, columns: PairColumns, found: Columns, path: str, first: int) -> Pair:
    """Read one pair of columns. Raises DataError if a list holds a null."""
    is_intent = columns is found.intent
    reference = as_lists(batch.column(columns.reference), split=is_intent and columns.predicted_kind == "classes")
    predicted = as_lists(batch.column(columns.predicted))
    given = as_mask(reference.is_valid())
    if columns.reference_kind in ("labels", "label"):
        given &= list_lengths(reference) > 0
    failed = ~as_mask(predicted.is_valid())
    if ERROR in batch.schema.names:
        failed |= as_mask(batch.column(ERROR).is_valid())
    pair = Pair(
        path=path,
        first=first,
        columns=columns,
        reference=reference,
        predicted=predicted,
        confidence=as_lists(batch.column(columns.confidence)) if columns.confidence is not None else None,
        probabilities=batch.column(columns.probabilities) if columns.probabilities is not None else None,
        given=given,
        failed=failed,
        context=Context(batch, found),
    )
    _check_values(pair, reference, columns.reference, given)
    _check_values(pair, predicted, columns.predicted, ~failed)
    if pair.confidence is not None and columns.confidence is not None:
        _check_values(pair, pair.confidence, columns.confidence, given & ~failed)
    return pair


def as_lists(column: pa.Array, *, split: bool = False) -> pa.ListArray:
    """Lists in one layout; each value of a column of values is a list of one, or with `split` of what it joins."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if not is_list(kind):
        values = column.cast(pa.string()) if not pa.types.is_floating(kind) else column
        if split:
            return pc.split_pattern(values, STRUCTURE_SEPARATOR)
        offsets = pa.array(np.arange(len(column) + 1, dtype=np.int32))
        return pa.ListArray.from_arrays(offsets, values, mask=column.is_null())
    if pa.types.is_struct(kind.value_type):
        return _as_spans(column.cast(pa.list_(kind.value_type)))
    return column.cast(pa.list_(kind.value_type if pa.types.is_floating(kind.value_type) else pa.string()))


def as_mask(values: Any) -> Mask:
    """Of an Arrow array of booleans."""
    return np.array(values.to_numpy(zero_copy_only=False), dtype=np.bool_)


def list_lengths(lists: pa.ListArray) -> npt.NDArray[np.int64]:
    """One a row, -1 for null."""
    lengths = pc.fill_null(pc.list_value_length(lists), -1)
    return np.array(lengths.to_numpy(zero_copy_only=False), dtype=np.int64)


def _as_spans(column: pa.ListArray) -> pa.ListArray:
    """Structs of start_word, end_word, type and, if there is one, score."""
    name = type_field(column.type)
    structs = column.flatten()
    fields = {"start_word": pa.int64(), "end_word": pa.int64(), name: pa.string(), "score": pa.float64()}
    kept = {field: kind for field, kind in fields.items() if column.type.value_type.get_field_index(field) >= 0}
    values = pa.StructArray.from_arrays(
        [pc.struct_field(structs, field).cast(kind) for field, kind in kept.items()],
        ["type" if field == name else field for field in kept],
    )
    lengths = list_lengths(column)
    offsets = pa.array(np.concatenate([[0], np.cumsum(np.maximum(lengths, 0))]).astype(np.int32))
    return pa.ListArray.from_arrays(offsets, values, mask=column.is_null())


def _check_values(pair: Pair, lists: pa.ListArray, name: str, rows: Mask) -> None:
    """Refuse nulls within lists."""
    values = lists.flatten()
    is_span = pa.types.is_struct(values.type)
    parts = [pc.struct_field(values, one) for one in ("start_word", "end_word", "type")] if is_span else [values]
    if not any(part.null_count for part in parts):
        return
    is_null = np.any([as_mask(part.is_null()) for part in parts], axis=0)
    row_of = np.repeat(np.arange(len(lists)), np.maximum(list_lengths(lists), 0))
    wrong = row_of[is_null & rows[row_of]]
    if wrong.size:
        place = pair.place(int(wrong[0]), name)
        raise DataError("a value is null", where=place, todo="leave such rows out: corpus.where")
