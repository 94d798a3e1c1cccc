"""Labelled rows as bulk work: words and labels in the columns that training reads (see rnnlm.data.labelled)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from rnnlm.bulk.plan import CostModel
from rnnlm.bulk.work import ERROR, Device, Processed, Processor, WorkConfig
from rnnlm.config import config
from rnnlm.data.labelled import LABELS, WORDS, LabelledColumns, LabelsOf, labels_metadata
from rnnlm.data.labels.entities import STRINGS
from rnnlm.data.tokenizers.labels import UNKNOWN_LABEL, LabelTokenizer
from rnnlm.data.tokens import tokens_metadata
from rnnlm.errors import ConfigError
from rnnlm.inference.tokenize_work import loaded_tokenizer

SECONDS_PER_BYTE = 2e-7  # of one core, for estimates


@config
class TokenizeLabelsWork(WorkConfig):
    """Brings words and labels of every row into the form of a labelled table; rows without are error rows."""

    tokenizer: str
    "Folder of the vocabulary."
    words_column: str
    "Column of words, or of text that is split into words."
    labels_column: str
    "Column of a label a word, or of the class of the row."
    labels_of: LabelsOf = "auto"
    "What labels are of; auto: a string is the class of a row, a list has one a word. rows: a list of classes."
    keep_columns: list[str] = Field(default_factory=list)
    "Input columns that go along."

    @property
    def job(self) -> str:
        return "tokenize_corpus"

    @property
    def needs_text(self) -> bool:
        return False

    def new_fields(self) -> list[pa.Field]:
        return [
            pa.field(WORDS, STRINGS),
            pa.field(LABELS, STRINGS),
            pa.field("num_unknown_labels", pa.int32()),
            pa.field(ERROR, pa.string()),
        ]

    def needed_columns(self) -> list[str]:
        return [self.words_column, self.labels_column]

    def kept_columns(self, names: Sequence[str]) -> list[str]:
        missing = [name for name in self.keep_columns if name not in names]
        if missing:
            raise ConfigError(f"keep_columns: the corpus has no column '{missing[0]}'; it has {', '.join(names)}")
        return self.keep_columns

    def vocabulary(self) -> LabelTokenizer:
        """The vocabulary. Raises ConfigError if the tokenizer is another kind."""
        tokenizer = loaded_tokenizer(self.tokenizer)
        if not isinstance(tokenizer, LabelTokenizer):
            raise ConfigError(
                f"labels_column: the tokenizer is of kind {tokenizer.kind}; train one with "
                "python -m jobs.train_tokenizer tokenizer=labels labels_column=..."
            )
        return tokenizer

    def output_schema(self, schema: pa.Schema, kept: Sequence[str]) -> pa.Schema:
        what_of = self.labels_metadata(schema)  # says what does not fit
        found = super().output_schema(schema, kept)
        return found.with_metadata({**(schema.metadata or {}), **tokens_metadata(self.vocabulary()), **what_of})

    def labels_metadata(self, schema: pa.Schema) -> dict[bytes, bytes]:
        """What the table says its labels are of. Raises DataError if the corpus has not the columns."""
        return labels_metadata(of_rows=self.columns(schema).of_rows)

    def columns(self, schema: pa.Schema) -> LabelledColumns:
        """Where words and labels are."""
        return LabelledColumns(schema, self.words_column, self.labels_column, self.labels_of)

    def cost(self) -> CostModel:
        return CostModel(seconds_per_row=1e-5, seconds_per_byte=SECONDS_PER_BYTE)

    def identity(self) -> dict[str, Any]:
        return {
            "tokenizer": self.vocabulary().fingerprint,
            "words_column": self.words_column,
            "labels_column": self.labels_column,
            "labels_of": self.labels_of,
            "keep_columns": self.keep_columns,
        }

    def build(self, device: Device) -> Processor:  # noqa: ARG002 - nothing to compute on a GPU
        return TokenizeLabelsProcessor(self)


class TokenizeLabelsProcessor(Processor):
    """Checks rows against a vocabulary."""

    def __init__(self, work: TokenizeLabelsWork) -> None:
        self._vocabulary = work.vocabulary()
        self._columns_of = work.columns

    def process(self, table: pa.Table, rows: npt.NDArray[np.int64]) -> Processed:  # noqa: ARG002 - no randomness
        words, labels, errors = self._columns_of(table.schema).rows(table)
        unknown = [None if row is None else self._num_unknown(row) for row in labels]
        columns = {
            WORDS: pa.array(words, STRINGS),
            LABELS: pa.array(labels, STRINGS),
            "num_unknown_labels": pa.array(unknown, pa.int32()),
            ERROR: pa.array(errors, pa.string()),
        }
        return Processed(columns, sum(len(row) for row in words if row is not None))

    def _num_unknown(self, labels: list[str]) -> int:
        return int((self._vocabulary.label_ids(labels) == UNKNOWN_LABEL).sum())
