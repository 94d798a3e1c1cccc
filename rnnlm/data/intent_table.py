"""Utterances with their intents and slots: rows of words, a label for each word and some classes for the row, as
Parquet on disk and as flat arrays in memory.

On disk: `words: list<string>`, `labels: list<string>` (of slots, in a scheme of spans), `intents: list<string>`, and in
the schema's metadata the fingerprint of the vocabulary. A row that cannot be used has nulls in all three and is left
out in memory.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from rnnlm.data.column_types import is_list, is_text, plain
from rnnlm.data.files import expand_paths
from rnnlm.data.labelled import LABELS, LABELS_OF_KEY, WORDS, LabelledColumns, LabelledTable, check_vocabulary
from rnnlm.data.tokenizers.labels import UNKNOWN_LABEL, LabelTokenizer
from rnnlm.errors import DataError, Place
from rnnlm.storage import open_location

INTENTS = "intents"
OF_INTENTS = {LABELS_OF_KEY: b"words and intents"}
NO_INTENT = "no_intent: the intent is null"


@dataclass(frozen=True, kw_only=True)
class IntentTable(LabelledTable):
    """Row r has the intents `intents[intent_offsets[r]:intent_offsets[r + 1]]`, ids, UNKNOWN_LABEL for those that the
    vocabulary lacks; `labels` are one a word."""

    intents: npt.NDArray[np.int32]
    intent_offsets: npt.NDArray[np.int64]

    @property
    def classes(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        return self.intents, self.intent_offsets

    @property
    def num_unknown(self) -> int:
        """Labels and intents that the vocabulary lacks; no model can predict them."""
        return super().num_unknown + int((self.intents == UNKNOWN_LABEL).sum())

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over all of it."""
        digest = hashlib.sha256(super().fingerprint.encode())
        digest.update(np.ascontiguousarray(self.intents, dtype="<i4").data)
        digest.update(np.ascontiguousarray(self.intent_offsets, dtype="<i8").data)
        return digest.hexdigest()

    def __str__(self) -> str:
        return f"{super().__str__()}, {len(self.intents):,} intents"

    @staticmethod
    def from_utterances(
        words: Sequence[Sequence[str]],
        labels: Sequence[Sequence[str]],
        intents: Sequence[Sequence[str]],
        tokenizer: LabelTokenizer,
    ) -> "IntentTable":
        """From the words of each row, a label for each of them, and its intents."""
        rows = LabelledTable.from_rows(words, labels, tokenizer)
        return IntentTable(
            **{field.name: getattr(rows, field.name) for field in fields(rows)},
            intents=tokenizer.intent_ids(intent for row in intents for intent in row),
            intent_offsets=np.cumsum([0, *map(len, intents)], dtype=np.int64),
        )


class IntentColumns:
    """Where a corpus keeps words, their labels (`rnnlm.data.labelled`) and intents: a string, or a list of several."""

    def __init__(self, schema: pa.Schema, words: str, labels: str, intents: str) -> None:
        """Raises DataError if a column is not there or holds something else."""
        self._labelled = LabelledColumns(schema, words, labels, "words")
        self.names = [words, labels, intents]
        found = plain(schema.field(intents).type) if intents in schema.names else None
        self._intents = intents
        self._single = found is not None and is_text(found)
        if found is None or not (self._single or (is_list(found) and is_text(plain(found.value_type)))):
            raise DataError(
                f"the column '{intents}' "
                + (f"is not among {', '.join(schema.names)}" if found is None else f"has type {found}")
                + "; text or a list of texts is needed",
                todo="set intents_column",
            )

    def rows(
        self, table: pa.Table
    ) -> tuple[list[list[str] | None], list[list[str] | None], list[list[str] | None], list[str | None]]:
        """Words, labels and intents of each row, all None where the fourth says what is wrong with it."""
        words, labels, errors = self._labelled.rows(table)
        intents = table.column(self._intents).to_pylist()
        if self._single:
            intents = [None if intent is None else [intent] for intent in intents]
        errors = [
            error or (NO_INTENT if found is None or None in found else None)
            for error, found in zip(errors, intents, strict=True)
        ]
        for values in (words, labels, intents):
            values[:] = [None if error else value for value, error in zip(values, errors, strict=True)]
        return words, labels, intents, errors


def read_intent_table(path: str, tokenizer: LabelTokenizer) -> IntentTable:
    """Read the rows at `path` (a folder or a file), in file order, checked against `tokenizer`. Raises DataError."""
    columns: tuple[list[list[str]], list[list[str]], list[list[str]]] = ([], [], [])
    for file in expand_paths(path, (".parquet",)):
        with open_location(file).open_input() as opened:
            parquet = pq.ParquetFile(opened)
            check_vocabulary(parquet.schema_arrow, tokenizer, file)
            if INTENTS not in parquet.schema_arrow.names:
                raise DataError(
                    "the table has no intents",
                    where=Place(file=file),
                    todo="make it again with python -m jobs.tokenize_corpus intents_column=...",
                )
            table = parquet.read([WORDS, LABELS, INTENTS])
        for row in zip(*(table.column(name).to_pylist() for name in (WORDS, LABELS, INTENTS)), strict=True):
            if None not in row:
                for column, value in zip(columns, row, strict=True):
                    column.append(value)
    if not columns[0]:
        raise DataError("there is no row with words, labels and intents", where=Place(file=path))
    return IntentTable.from_utterances(*columns, tokenizer)
