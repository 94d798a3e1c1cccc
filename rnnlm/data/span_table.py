"""Words with the spans among them, which may nest: rows of words and of spans, as Parquet on disk and as flat arrays in
memory.

On disk: `words: list<string>`, `spans: list<struct<start_word, end_word, type>>` (ends exclusive), and in the schema's
metadata the fingerprint of the vocabulary, whose labels are the types. A row that cannot be used has nulls in both and
is left out in memory; a row without any span has an empty list and is as much to learn from as any other.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from rnnlm.data.column_types import is_list, plain
from rnnlm.data.files import expand_paths
from rnnlm.data.labelled import EMPTY_WORD, LABELS_OF_KEY, NO_WORDS, WORDS, LabelledTable, check_vocabulary
from rnnlm.data.labels.schemes import Span
from rnnlm.data.tokenizers.labels import UNKNOWN_LABEL, LabelTokenizer
from rnnlm.errors import DataError, Place
from rnnlm.storage import open_location

SPANS = "spans"
SPANS_TYPE = pa.list_(pa.struct([("start_word", pa.int32()), ("end_word", pa.int32()), ("type", pa.string())]))
OF_SPANS = {LABELS_OF_KEY: b"spans"}
NULL_SPANS = "null: words or spans are null, or there is a null in them"
EMPTY_SPAN = "empty_span: a span holds no word"
SPAN_OUTSIDE = "span_outside: a span does not lie within the words"


@dataclass(frozen=True, kw_only=True)
class SpanTable(LabelledTable):
    """Words without labels of their own; row r has the spans `span_offsets[r]` to `span_offsets[r + 1]`.

    Span s is words `starts[s]` to `ends[s]` (exclusive) of its row, `types[s]` the id of what it is, UNKNOWN_LABEL
    where the vocabulary lacks it. Spans of a row are distinct, in the order of (start, end, type).
    """

    starts: npt.NDArray[np.int32]
    ends: npt.NDArray[np.int32]
    types: npt.NDArray[np.int32]
    span_offsets: npt.NDArray[np.int64]

    @property
    def num_targets(self) -> int:
        """Words: so that losses of tables can be compared, whatever spans they have."""
        return len(self.words)

    @property
    def num_unknown(self) -> int:
        """Spans of types that the vocabulary lacks; no model can predict them."""
        return int((self.types == UNKNOWN_LABEL).sum())

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over all of it."""
        digest = hashlib.sha256(super().fingerprint.encode())
        for ids in (self.starts, self.ends, self.types):
            digest.update(np.ascontiguousarray(ids, dtype="<i4").data)
        digest.update(np.ascontiguousarray(self.span_offsets, dtype="<i8").data)
        return digest.hexdigest()

    def __str__(self) -> str:
        unknown = f", {self.num_unknown:,} of unknown types" if self.num_unknown else ""
        return f"{self.num_rows:,} rows, {len(self.words):,} words, {len(self.types):,} spans{unknown}"

    @staticmethod
    def from_spans(
        words: Sequence[Sequence[str]], spans: Sequence[Collection[Span]], tokenizer: LabelTokenizer
    ) -> "SpanTable":
        """From the words of each row and its spans. Raises ValueError if a span is empty or beyond the words."""
        for row_words, row_spans in zip(words, spans, strict=True):
            error = span_error(row_spans, len(row_words))
            if error is not None:
                raise ValueError(error)
        ordered = [sorted(set(row)) for row in spans]
        flat = [span for row in ordered for span in row]
        rows = LabelledTable.from_rows(words, None, tokenizer)
        return SpanTable(
            words=rows.words,
            spelling=rows.spelling,
            offsets=rows.offsets,
            spellings=rows.spellings,
            labels=rows.labels,
            label_offsets=rows.label_offsets,
            starts=np.array([span.start_word for span in flat], dtype=np.int32),
            ends=np.array([span.end_word for span in flat], dtype=np.int32),
            types=tokenizer.label_ids(span.type for span in flat),
            span_offsets=np.cumsum([0, *map(len, ordered)], dtype=np.int64),
        )


class SpanColumns:
    """Where a corpus keeps words, a list of strings, and the spans among them (`rnnlm.data.labels.entities`)."""

    def __init__(self, schema: pa.Schema, words: str, spans: str) -> None:
        """Raises DataError if there are no such words."""
        self.words, self.spans = words, spans
        assert holds_spans(schema, spans)
        found = schema.field(words).type if words in schema.names else None
        if found is None or not (is_list(found) and pa.types.is_string(plain(found.value_type))):
            raise DataError(
                f"the column '{words}' "
                + ("is not there" if found is None else f"has type {found}")
                + f"; a list of words is needed, of which '{spans}' gives the places",
                todo="set words_column",
            )

    def rows(self, table: pa.Table) -> tuple[list[list[str] | None], list[list[Span] | None], list[str | None]]:
        """Words and spans of each row, both None where the third says what is wrong with it."""
        found_words: list[list[str] | None] = []
        found_spans: list[list[Span] | None] = []
        errors: list[str | None] = []
        rows = zip(table.column(self.words).to_pylist(), table.column(self.spans).to_pylist(), strict=True)
        for words, entities in rows:
            error = _row_error(words, entities)
            errors.append(error)
            found_words.append(None if error else words)
            found_spans.append(None if error else _spans(entities))
        return found_words, found_spans, errors


def holds_spans(schema: pa.Schema, name: str) -> bool:
    """Whether a column is one of spans of words."""
    if name not in schema.names or not is_list(schema.field(name).type):
        return False
    inner = schema.field(name).type.value_type
    return bool(pa.types.is_struct(inner)) and {"start_word", "end_word", "type"} <= {field.name for field in inner}


def span_error(spans: Collection[Span], num_words: int) -> str | None:
    """What is wrong with the spans of a row, if anything is."""
    for start, end, _ in spans:
        if start == end:
            return f"{EMPTY_SPAN} ({start}-{end})"
        if not 0 <= start < end <= num_words:
            return f"{SPAN_OUTSIDE} ({start}-{end} of {num_words})"
    return None


def read_span_table(path: str, tokenizer: LabelTokenizer) -> SpanTable:
    """Read the rows at `path` (a folder or a file), in file order, checked against `tokenizer`. Raises DataError."""
    words: list[list[str]] = []
    spans: list[list[Span]] = []
    for file in expand_paths(path, (".parquet",)):
        with open_location(file).open_input() as opened:
            parquet = pq.ParquetFile(opened)
            check_vocabulary(parquet.schema_arrow, tokenizer, file)
            if not holds_spans(parquet.schema_arrow, SPANS):
                raise DataError(
                    "the table holds labels and no spans",
                    where=Place(file=file),
                    todo="make it again with python -m jobs.tokenize_corpus labels_column=entities",
                )
            table = parquet.read([WORDS, SPANS])
        for row_words, row_spans in zip(table.column(WORDS).to_pylist(), table.column(SPANS).to_pylist(), strict=True):
            if row_words is not None and row_spans is not None:
                words.append(row_words)
                spans.append(_spans(row_spans))
    if not words:
        raise DataError("there is no row with words and spans", where=Place(file=path))
    try:
        return SpanTable.from_spans(words, spans, tokenizer)
    except ValueError as error:
        raise DataError(str(error), where=Place(file=path)) from None


def _row_error(words: Sequence[str | None] | None, entities: Sequence[dict[str, Any] | None] | None) -> str | None:
    if words is None or entities is None or None in words:
        return NULL_SPANS
    if not words:
        return NO_WORDS
    if "" in words:
        return EMPTY_WORD
    given = [one for one in entities if one is not None]
    if len(given) < len(entities) or any(one[name] is None for one in given for name in Span._fields):
        return NULL_SPANS
    return span_error(_spans(given), len(words))


def _spans(entities: Sequence[dict[str, Any]]) -> list[Span]:
    return sorted({Span(one["start_word"], one["end_word"], one["type"]) for one in entities})
