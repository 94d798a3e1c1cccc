"""Rows as a user of Python has them: a list, an Arrow table, a pandas or a polars frame. New columns go behind theirs.

A list holds dicts (a row's columns by name), or one value a row: a text, or a list of words. Such values become rows
of the one column that the caller names. Only the columns that are read are converted; all others stay what they are.
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from rnnlm.errors import DataError, Place

KINDS = "a list of texts, of lists of words or of dicts, an Arrow table, a pandas or a polars data frame"


class Rows(ABC):
    """Rows of one kind."""

    names: list[str]

    @abstractmethod
    def read(self, names: Sequence[str]) -> pa.Table:
        """These columns, which are there."""

    @abstractmethod
    def followed_by(self, new: pa.Table) -> Any:
        """The rows as they were given, with new columns behind their own."""

    def table(self, names: Sequence[str]) -> pa.Table:
        """These columns. Raises DataError if one is missing or of no type that Arrow has."""
        for name in names:
            if name not in self.names:
                raise DataError(f"the rows have no column '{name}'; they have {', '.join(self.names) or 'none'}")
        try:
            found = self.read(list(dict.fromkeys(names)))
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise DataError(f"the columns {', '.join(names)} cannot be read: {str(error).splitlines()[0]}") from error
        nothing = [name for name in found.schema.names if pa.types.is_null(found.schema.field(name).type)]
        for name in nothing:  # nothing says what the column would hold: as empty as one of texts
            place = found.schema.get_field_index(name)
            found = found.set_column(place, name, found.column(name).cast(pa.string()))
        return found

    def check_free(self, names: Sequence[str]) -> None:
        """Raise DataError if a new column has the name of one that is there."""
        taken = [name for name in names if name in self.names]
        if taken:
            raise DataError(f"the rows have a column '{taken[0]}' already, which would be added", todo="rename it")


class ArrowRows(Rows):
    """A pyarrow.Table."""

    def __init__(self, rows: pa.Table) -> None:
        self._rows, self.names = rows, rows.schema.names

    def read(self, names: Sequence[str]) -> pa.Table:
        return self._rows.select(names)

    def followed_by(self, new: pa.Table) -> pa.Table:
        rows = self._rows
        for field, column in zip(new.schema, new.columns, strict=True):
            rows = rows.append_column(field, column)
        return rows


class PandasRows(Rows):
    """A pandas.DataFrame; new columns have its index."""

    def __init__(self, rows: Any) -> None:
        self._rows, self.names = rows, [str(name) for name in rows.columns]

    def read(self, names: Sequence[str]) -> pa.Table:
        return pa.Table.from_pandas(self._rows[list(names)], preserve_index=False)

    def followed_by(self, new: pa.Table) -> Any:
        columns = new.to_pandas()
        columns.index = self._rows.index
        return self._rows.assign(**{name: columns[name] for name in new.schema.names})


class PolarsRows(Rows):
    """A polars.DataFrame."""

    def __init__(self, rows: Any) -> None:
        self._rows, self.names = rows, rows.columns

    def read(self, names: Sequence[str]) -> pa.Table:
        return self._rows.select(list(names)).to_arrow()

    def followed_by(self, new: pa.Table) -> Any:
        return self._rows.hstack(sys.modules["polars"].from_arrow(new))


class ListRows(Rows):
    """A list of dicts; a name that only some have is null in the others."""

    def __init__(self, rows: Sequence[Mapping[str, Any]], names: Sequence[str] = ()) -> None:
        """`names` of columns that are there even if there is no row."""
        self._rows, self.names = rows, list(dict.fromkeys([*names, *(name for row in rows for name in row)]))

    def read(self, names: Sequence[str]) -> pa.Table:
        return pa.table({name: pa.array([row.get(name) for row in self._rows]) for name in names})

    def followed_by(self, new: pa.Table) -> list[dict[str, Any]]:
        return [{**row, **behind} for row, behind in zip(self._rows, new.to_pylist(), strict=True)]


def rows_of(rows: Any, text: str, words: str) -> Rows:
    """Rows of whatever kind; plain values of a list become a column named `text`, or `words` if they are lists.

    Raises DataError at anything else.
    """
    if isinstance(rows, pa.Table):
        return ArrowRows(rows)
    if _is_frame(rows, "pandas"):
        return PandasRows(rows)
    if _is_frame(rows, "polars"):
        return PolarsRows(rows)
    if not isinstance(rows, (list, tuple)):
        raise DataError(f"rows are {KINDS}, not {type(rows).__name__}")
    kinds = {_kind(row, place): place for place, row in reversed(list(enumerate(rows))) if row is not None}
    if len(kinds) > 1:
        places = " and ".join(f"{kind.__name__} (row {place})" for kind, place in kinds.items())
        raise DataError(f"the rows of a list are of one kind, not {places}")
    kind = next(iter(kinds), str)
    if kind is dict:
        return ListRows([row or {} for row in rows])
    name = words if kind is list else text
    return ListRows([{name: row} for row in rows], [name])


def _is_frame(rows: Any, package: str) -> bool:
    """Whether `rows` are a data frame of a package, which is then imported already."""
    module = sys.modules.get(package)
    return module is not None and isinstance(rows, module.DataFrame)


def _kind(row: Any, place: int) -> type:
    """What a row of a list is: a text (str), words (list) or columns (dict)."""
    if isinstance(row, str):
        return str
    if isinstance(row, (list, tuple)):
        return list
    if isinstance(row, Mapping):
        return dict
    raise DataError(f"rows are {KINDS}, not {type(row).__name__}", where=Place("the list of rows", row=place))
