"""Utterances as bulk work: the columns that training reads (see rnnlm.data.intent_table)."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rnnlm.bulk.work import ERROR, Device, Processed, Processor
from rnnlm.config import config
from rnnlm.data.intent_table import INTENTS, OF_INTENTS, IntentColumns
from rnnlm.data.labelled import LABELS, WORDS
from rnnlm.data.labels.entities import STRINGS
from rnnlm.data.tokenizers.labels import UNKNOWN_LABEL
from rnnlm.errors import ConfigError
from rnnlm.inference.tokenize_labels_work import TokenizeLabelsWork


@config
class TokenizeIntentsWork(TokenizeLabelsWork):
    """Brings words, their labels and the intents of every row into the form of a table of intents; rows without are
    error rows."""

    intents_column: str
    "Column of the intent of a row, or of a list of several."

    def new_fields(self) -> list[pa.Field]:
        names = (WORDS, LABELS, INTENTS)
        unknown = pa.field("num_unknown_labels", pa.int32())
        return [*(pa.field(name, STRINGS) for name in names), unknown, pa.field(ERROR, pa.string())]

    def needed_columns(self) -> list[str]:
        return [*super().needed_columns(), self.intents_column]

    def labels_metadata(self, schema: pa.Schema) -> dict[bytes, bytes]:
        self.intent_columns(schema)
        return OF_INTENTS

    def intent_columns(self, schema: pa.Schema) -> IntentColumns:
        """Where words, labels and intents are. Raises DataError if they are not there."""
        if self.labels_of == "rows":
            raise ConfigError("labels_of: with intents_column labels are of words, and the intents those of rows")
        return IntentColumns(schema, self.words_column, self.labels_column, self.intents_column)

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "intents_column": self.intents_column}

    def build(self, device: Device) -> Processor:  # noqa: ARG002 - nothing to compute on a GPU
        return TokenizeIntentsProcessor(self)


class TokenizeIntentsProcessor(Processor):
    """Checks rows against a vocabulary."""

    def __init__(self, work: TokenizeIntentsWork) -> None:
        self._work, self._vocabulary = work, work.vocabulary()

    def process(self, table: pa.Table, rows: npt.NDArray[np.int64]) -> Processed:  # noqa: ARG002 - no randomness
        words, labels, intents, errors = self._work.intent_columns(table.schema).rows(table)
        unknown = [
            None if found is None or row is None else self._num_unknown(row, found)
            for row, found in zip(labels, intents, strict=True)
        ]
        columns = {
            WORDS: pa.array(words, STRINGS),
            LABELS: pa.array(labels, STRINGS),
            INTENTS: pa.array(intents, STRINGS),
            "num_unknown_labels": pa.array(unknown, pa.int32()),
            ERROR: pa.array(errors, pa.string()),
        }
        return Processed(columns, sum(len(row) for row in words if row is not None))

    def _num_unknown(self, labels: list[str], intents: list[str]) -> int:
        ids = [self._vocabulary.label_ids(labels), self._vocabulary.intent_ids(intents)]
        return int((np.concatenate(ids) == UNKNOWN_LABEL).sum())
