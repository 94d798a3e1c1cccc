"""Rows of words and spans as bulk work: the columns that training reads (see rnnlm.data.span_table)."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rnnlm.bulk.work import ERROR, Device, Processed, Processor
from rnnlm.config import config
from rnnlm.data.labelled import WORDS
from rnnlm.data.labels.entities import STRINGS
from rnnlm.data.labels.schemes import Span
from rnnlm.data.span_table import OF_SPANS, SPANS, SPANS_TYPE, SpanColumns
from rnnlm.data.tokenizers.labels import UNKNOWN_LABEL
from rnnlm.errors import ConfigError
from rnnlm.inference.tokenize_labels_work import TokenizeLabelsWork


@config
class TokenizeSpansWork(TokenizeLabelsWork):
    """Brings words and spans of every row into the form of a table of spans; rows without are error rows.

    `labels_column` is one of spans, and the vocabulary's labels are their types.
    """

    def new_fields(self) -> list[pa.Field]:
        return [
            pa.field(WORDS, STRINGS),
            pa.field(SPANS, SPANS_TYPE),
            pa.field("num_unknown_labels", pa.int32()),
            pa.field(ERROR, pa.string()),
        ]

    def labels_metadata(self, schema: pa.Schema) -> dict[bytes, bytes]:
        self.span_columns(schema)
        return OF_SPANS

    def span_columns(self, schema: pa.Schema) -> SpanColumns:
        """Where words and spans are. Raises DataError if they are not there."""
        if self.labels_of != "auto":
            raise ConfigError(
                f"labels_of: '{self.labels_column}' holds spans, no labels of {self.labels_of}; leave it out"
            )
        return SpanColumns(schema, self.words_column, self.labels_column)

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "labels_of": "spans"}

    def build(self, device: Device) -> Processor:  # noqa: ARG002 - nothing to compute on a GPU
        return TokenizeSpansProcessor(self)


class TokenizeSpansProcessor(Processor):
    """Checks rows against a vocabulary."""

    def __init__(self, work: TokenizeSpansWork) -> None:
        self._work, self._vocabulary = work, work.vocabulary()

    def process(self, table: pa.Table, rows: npt.NDArray[np.int64]) -> Processed:  # noqa: ARG002 - no randomness
        words, spans, errors = self._work.span_columns(table.schema).rows(table)
        written = [None if row is None else [span._asdict() for span in row] for row in spans]
        unknown = [None if row is None else self._num_unknown(row) for row in spans]
        columns = {
            WORDS: pa.array(words, STRINGS),
            SPANS: pa.array(written, SPANS_TYPE),
            "num_unknown_labels": pa.array(unknown, pa.int32()),
            ERROR: pa.array(errors, pa.string()),
        }
        return Processed(columns, sum(len(row) for row in words if row is not None))

    def _num_unknown(self, spans: list[Span]) -> int:
        return int((self._vocabulary.label_ids(span.type for span in spans) == UNKNOWN_LABEL).sum())
