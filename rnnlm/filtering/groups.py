"""A distribution of scores a group of rows, all from one pass, and the rows without a score."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rnnlm.errors import DataError
from rnnlm.filtering.quantiles import RELATIVE_ERROR, Floats, QuantileSketch

ALL = "all"  # the one group where rows are in no groups
NULL = "null"  # the group of rows whose group is null, as in a report of jobs.evaluate
SEPARATOR = " / "
MAX_GROUPS = 10_000
PENDING_ROWS = 1 << 18  # sorted by group together; many groups in small batches cost a sort each otherwise

Codes = npt.NDArray[np.int64]


def scores_of(values: pa.Array | pa.ChunkedArray) -> Floats:
    """Scores as float64, NaN for null and for what is not finite. Raises DataError if they are not numbers."""
    kind = values.type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind)):
        raise DataError(f"scores have type {kind}, numbers are needed", todo="name the column that holds the score")
    found = np.array(pc.cast(values, pa.float64(), safe=False).to_numpy(zero_copy_only=False), dtype=np.float64)
    found[~np.isfinite(found)] = np.nan
    return found


def join_groups(columns: Sequence[pa.Array | pa.ChunkedArray]) -> pa.Array | pa.ChunkedArray:
    """One column of groups from several, say language and source: "en / wiki"; a null is named "null"."""
    names = [_as_text(column) for column in columns]
    return pc.binary_join_element_wise(*names, SEPARATOR, null_handling="replace", null_replacement=NULL)


def encode_groups(groups: pa.Array | pa.ChunkedArray | None, rows: int) -> tuple[list[str], Codes]:
    """The names of the groups that occur in `rows` rows, each once and sorted, and for each row the place of its own.

    Values of any type that can be written as text name a group; a null is in the group "null". Without `groups` all
    rows are in the group "all". Raises DataError for other types.
    """
    if groups is None:
        return ([ALL] if rows else []), np.zeros(rows, np.int64)
    if len(groups) != rows:
        raise ValueError(f"{len(groups)} groups for {rows} scores")
    column = groups.combine_chunks() if isinstance(groups, pa.ChunkedArray) else groups
    try:
        encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    except pa.ArrowNotImplementedError as error:
        raise _unnameable(column.type) from error
    names = [NULL if name is None else name for name in _as_text(encoded.dictionary).to_pylist()] + [NULL]
    codes = pc.fill_null(pc.cast(encoded.indices, pa.int64()), len(names) - 1).to_numpy(zero_copy_only=False)
    # A dictionary may hold a name twice, or names that no row has.
    used, codes = np.unique(codes, return_inverse=True)
    found, places = np.unique(np.array([names[code] for code in used], dtype=object), return_inverse=True)
    return found.tolist(), places.astype(np.int64)[codes] if rows else np.zeros(0, np.int64)


class GroupedSketch:
    """A `QuantileSketch` a group, and how many rows of each group had no score.

    Raises DataError once there are more than `max_groups`: each keeps tens of kilobytes.
    """

    def __init__(self, relative_error: float = RELATIVE_ERROR, max_groups: int = MAX_GROUPS) -> None:
        self.relative_error, self.max_groups = relative_error, max_groups
        self._places: dict[str, int] = {}  # of a group in the two lists
        self._sketches: list[QuantileSketch] = []
        self._unscored: list[int] = []
        self._pending: list[tuple[Codes, Floats]] = []  # groups by place, finite scores
        self._pending_rows = 0

    def add(self, values: pa.Array | pa.ChunkedArray, groups: pa.Array | pa.ChunkedArray | None = None) -> None:
        """Count a batch: scores, of which null and non-finite ones count as no score, and the group of each row."""
        scores = scores_of(values)
        names, codes = encode_groups(groups, len(scores))
        codes = np.array([self._place(name) for name in names], np.int64)[codes]
        scored = ~np.isnan(scores)
        for place, rows in zip(*np.unique(codes[~scored], return_counts=True), strict=True):
            self._unscored[place] += int(rows)
        self._pending.append((codes[scored], scores[scored]))
        self._pending_rows += len(scores)
        if self._pending_rows >= PENDING_ROWS:
            self._flush()

    def merge(self, *others: "GroupedSketch") -> None:
        """Count what the others have counted. Raises ValueError if a relative error is another."""
        for other in others:
            sketches, unscored = other.sketches, other.unscored
            for name, sketch in sketches.items():
                place = self._place(name)
                self._sketches[place].merge(sketch)
                self._unscored[place] += unscored[name]

    @property
    def sketches(self) -> dict[str, QuantileSketch]:
        """The distribution of each group by its name, sorted; empty for a group without any score."""
        self._flush()
        return {name: self._sketches[place] for name, place in sorted(self._places.items())}

    @property
    def unscored(self) -> dict[str, int]:
        """Rows without a score of each group, sorted by name."""
        return {name: self._unscored[place] for name, place in sorted(self._places.items())}

    def total(self) -> QuantileSketch:
        """The distribution of all rows."""
        sketch = QuantileSketch(self.relative_error)
        sketch.merge(*self.sketches.values())
        return sketch

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON. `max_groups` is a setting of the machine that counts, and stays out."""
        return {
            "relative_error": self.relative_error,
            "groups": {name: sketch.to_dict() for name, sketch in self.sketches.items()},
            "unscored": self.unscored,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], max_groups: int = MAX_GROUPS) -> "GroupedSketch":
        """The inverse of `to_dict`. Raises DataError if `data` did not come from there."""
        try:
            grouped = cls(data["relative_error"], max_groups)
            for name, content in data["groups"].items():
                place = grouped._place(name)
                grouped._sketches[place].merge(QuantileSketch.from_dict(content))
                grouped._unscored[place] = int(data["unscored"][name])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"this is not a sketch of groups: {error!r}", todo="count the scores again") from error
        return grouped

    def _place(self, name: str) -> int:
        if name not in self._places:
            if len(self._places) == self.max_groups:
                raise DataError(
                    f"there are more than {self.max_groups:,} groups, '{name[:80]}' among them",
                    todo="group by a column with fewer values, such as the language, or allow more groups",
                )
            self._places[name] = len(self._sketches)
            self._sketches.append(QuantileSketch(self.relative_error))
            self._unscored.append(0)
        return self._places[name]

    def _flush(self) -> None:
        if not self._pending:
            return
        codes, scores = (np.concatenate(parts) for parts in zip(*self._pending, strict=True))
        self._pending, self._pending_rows = [], 0
        if len(self._sketches) > 1:
            order = np.argsort(codes, kind="stable")
            codes, scores = codes[order], scores[order]
        places, starts = np.unique(codes, return_index=True)
        for place, part in zip(places, np.split(scores, starts[1:]), strict=bool(len(places))):
            self._sketches[place].add(part)


def _as_text(column: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    try:
        return pc.cast(column, pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise _unnameable(column.type) from error


def _unnameable(kind: pa.DataType) -> DataError:
    return DataError(f"groups have type {kind}, which cannot be written as text", todo="group by another column")
