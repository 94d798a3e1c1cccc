"""Reading scored data batch by batch: the output of jobs.score, or any Parquet with `logprob` and `num_tokens`."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from rnnlm.data.column_types import is_list, is_text, plain
from rnnlm.data.files import expand_paths
from rnnlm.errors import DataError, Place
from rnnlm.storage import open_location

BATCH_ROWS = 8192
ERROR = "error"  # optional: the text of what went wrong in a row
WORDS = "words"  # optional: places of words and their log-probabilities, as jobs.score words=true adds them


@dataclass(frozen=True)
class ScoredColumns:
    """Names of the columns that are looked at; null for what is not there."""

    text: str | None = "text"
    group: str | None = None
    id: str | None = None


@dataclass(frozen=True)
class Need:
    """What a column must be to be of use."""

    what: str
    fits: Callable[[pa.DataType], bool]
    todo: str


def text_need(todo: str) -> Need:
    """A column of text, in any of Arrow's layouts."""
    return Need("text", _is_text, todo)


def words_need() -> Need:
    """A column of scored words."""
    todo = "give files that were all scored with words=true, or all without"
    return Need("a list of start_char, end_char, logprob", _is_scored_words, todo)


def has_words(file: str) -> bool:
    """Whether a file has a column of scored words; one of that name that holds something else is none."""
    with open_location(file).open_input() as stream:
        schema = pq.read_schema(stream)
    return WORDS in schema.names and _is_scored_words(schema.field(WORDS).type)


def open_scored(path: str, columns: ScoredColumns) -> tuple[list[str], dict[str, Need]]:
    """The files of a scored data set and the columns to read. Raises DataError if a column is missing or of no use."""
    files = expand_paths(path, (".parquet",))
    todo = "score the data with jobs.score"
    needs = {
        "logprob": Need("floating point", pa.types.is_floating, todo),
        "num_tokens": Need("an integer", pa.types.is_integer, todo),
    }
    if columns.text is not None:
        needs[columns.text] = text_need("set text_column, or null to do without")
    for field, name in (("group_by", columns.group), ("id_column", columns.id)):
        if name is not None:
            needs.setdefault(name, Need("anything", lambda _: True, f"set {field}, or null to do without"))
    # The first file now, so that a wrong name costs no time; each other file when its turn comes.
    location = open_location(files[0])
    try:
        with location.open_input() as stream:
            _check(pq.read_schema(stream), files[0], needs)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(files[0], error) from error
    return files, needs


def read_batches(files: list[str], needs: Mapping[str, Need]) -> Iterator[pa.RecordBatch]:
    """All rows in order, a few thousand at a time: the needed columns, and `error` from the files that have it.

    Raises DataError at the first file that cannot be read or lacks a column.
    """
    for file in files:
        location = open_location(file)
        try:
            with location.open_input() as stream:
                parquet = pq.ParquetFile(stream)
                _check(parquet.schema_arrow, file, needs)
                names = [*needs, *({ERROR} & set(parquet.schema_arrow.names) - set(needs))]
                for batch in parquet.iter_batches(batch_size=BATCH_ROWS, columns=names):
                    batch.validate(full=True)  # Parquet does not promise that text is UTF-8
                    yield batch
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(file, error) from error


def _check(schema: pa.Schema, file: str, needs: Mapping[str, Need]) -> None:
    for name, need in needs.items():
        place = Place(file, column=name)
        if name not in schema.names:
            raise DataError(f"there is no column '{name}' among {_some(schema.names)}", where=place, todo=need.todo)
        found = schema.field(name).type
        if not need.fits(found):
            raise DataError(f"the column has type {found}, {need.what} is needed", where=place, todo=need.todo)


def _is_text(found: pa.DataType) -> bool:
    return is_text(plain(found))


def _is_scored_words(found: pa.DataType) -> bool:
    if not is_list(found) or not pa.types.is_struct(found.value_type):
        return False
    fields = {field.name: field.type for field in found.value_type}
    places = all(pa.types.is_integer(fields.get(name, pa.null())) for name in ("start_char", "end_char"))
    return places and pa.types.is_floating(fields.get("logprob", pa.null()))


def _some(names: list[str]) -> str:
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "")


def _unreadable(file: str, error: Exception) -> DataError:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return DataError(f"not readable as Parquet: {reason}", where=Place(file), todo="write the file again, or remove it")
