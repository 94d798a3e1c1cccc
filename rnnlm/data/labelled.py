"""Labelled words: rows of words, a label for each word or some for the row, as Parquet on disk and as flat arrays in
memory.

On disk: `words: list<string>`, `labels: list<string>`, and in the schema's metadata the fingerprint of the vocabulary
and whether labels are of words or of rows: a row can have as many classes as words by chance. A row that cannot be used
has nulls in both and is left out in memory.

In memory each distinct spelling is stored once, so that what a network makes of characters, or of pieces of words, is
made once a batch. Words are only cut into pieces when somebody asks for them.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from rnnlm.data.column_types import is_list, is_text, plain
from rnnlm.data.files import expand_paths
from rnnlm.data.labels.words import split_words
from rnnlm.data.tokenizers.base import joined
from rnnlm.data.tokenizers.labels import PADDING, UNKNOWN_LABEL, LabelTokenizer
from rnnlm.data.tokenizers.sentencepiece import SentencePieceTokenizer
from rnnlm.data.tokens import TOKENIZER_KEY
from rnnlm.errors import DataError, Place
from rnnlm.storage import open_location

LabelsOf = Literal["auto", "words", "rows"]
Unit = Literal["characters", "pieces"]

WORDS, LABELS = "words", "labels"
LABELS_OF_KEY = b"rnnlm.labels.of"
NULL_ROW = "null: words or labels are null"
NO_WORDS = "no_words: there is nothing to label"
EMPTY_WORD = "empty_word: a word is an empty string"
OTHER_LENGTH = "other_length: words and labels are not of one number"


@dataclass(frozen=True)
class Parts:
    """What each of some words consists of: word w of them has `ids[offsets[w]:offsets[w + 1]]`."""

    ids: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]

    @cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        lengths: npt.NDArray[np.int64] = np.diff(self.offsets)
        return lengths

    def padded(self, words: npt.NDArray[np.integer]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """U P and U: the parts of U > 0 words, and how many they are; a word of no parts has one of padding."""
        lengths = self.lengths[words]
        step = np.arange(max(1, lengths.max()))
        real = step < lengths[:, None]
        found = np.full(real.shape, PADDING, dtype=np.int64)
        found[real] = self.ids[(self.offsets[words][:, None] + step)[real]]
        return found, np.maximum(lengths, 1)


@dataclass(frozen=True)
class Spellings:
    """Distinct words, as `characters` and as `pieces`; `subwords` is what cuts them."""

    characters: Parts
    words: Sequence[str]
    subwords: SentencePieceTokenizer | None

    @cached_property
    def pieces(self) -> Parts:
        """For a vocabulary with subwords."""
        assert self.subwords is not None
        pieces, lengths = joined(self.subwords.encode(self.words), np.int32)
        return Parts(pieces.astype(np.int32, copy=False), _offsets(lengths.tolist()))

    def of(self, unit: Unit) -> Parts:
        """What the words consist of."""
        return self.characters if unit == "characters" else self.pieces


@dataclass(frozen=True)
class LabelledTable:
    """Row r is words `offsets[r]` to `offsets[r + 1]`, each with its id in the vocabulary and its place in `spellings`.

    `labels` are ids, UNKNOWN_LABEL for those that the vocabulary lacks: one a word with `label_offsets` equal to
    `offsets`, or (`of_rows`) the classes of the rows, row r's being `labels[label_offsets[r]:label_offsets[r + 1]]`.
    """

    words: npt.NDArray[np.int32]
    spelling: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    spellings: Spellings
    labels: npt.NDArray[np.int32]
    label_offsets: npt.NDArray[np.int64]
    of_rows: bool = False

    @property
    def num_rows(self) -> int:
        return len(self.offsets) - 1

    @property
    def num_targets(self) -> int:
        """Labels of words, or classes of rows, to be predicted."""
        return self.num_rows if self.of_rows else int((self.labels != UNKNOWN_LABEL).sum())

    @property
    def classes(self) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """The classes of rows and where those of each row begin; none if labels are of words."""
        return (self.labels, self.label_offsets) if self.of_rows else (_NONE, np.zeros_like(self.offsets))

    @property
    def num_unknown(self) -> int:
        """Labels that the vocabulary lacks; no model can predict them."""
        return int((self.labels == UNKNOWN_LABEL).sum())

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over all of it."""
        digest = hashlib.sha256()
        for ids in (self.words, self.spelling, self.spellings.characters.ids, self.labels):
            digest.update(np.ascontiguousarray(ids, dtype="<i4").data)
        for offsets in (self.offsets, self.spellings.characters.offsets, self.label_offsets):
            digest.update(np.ascontiguousarray(offsets, dtype="<i8").data)
        if self.of_rows:
            digest.update(b"rows")
        return digest.hexdigest()

    def __str__(self) -> str:
        unknown = f", {self.num_unknown:,} unknown" if self.num_unknown else ""
        return f"{self.num_rows:,} rows, {len(self.words):,} words, {len(self.labels):,} labels{unknown}"

    def first_words(self, most: int) -> "LabelledTable":
        """The same rows with their classes, and of the words of each only the first `most`."""
        assert self.of_rows, "labels of words would be lost"
        lengths = np.diff(self.offsets)
        kept = np.arange(len(self.words)) - np.repeat(self.offsets[:-1], lengths) < most
        offsets = _offsets(np.minimum(lengths, most).tolist())
        return replace(self, words=self.words[kept], spelling=self.spelling[kept], offsets=offsets)

    @staticmethod
    def from_rows(
        words: Sequence[Sequence[str]],
        labels: Sequence[Sequence[str]] | None,
        tokenizer: LabelTokenizer,
        *,
        of_rows: bool = False,
    ) -> "LabelledTable":
        """From the words of each row and its labels, if they are known: those of its words, or its classes."""
        flat = [word for row in words for word in row]
        distinct: dict[str, int] = {}
        spelling = np.fromiter((distinct.setdefault(word, len(distinct)) for word in flat), np.int32, len(flat))
        spelled = [tokenizer.spelling(word) for word in distinct]
        given = [tokenizer.label_ids(row) for row in labels] if labels is not None else [_NONE] * len(words)
        return LabelledTable(
            words=tokenizer.word_ids(distinct)[spelling] if flat else _NONE,
            spelling=spelling,
            offsets=_offsets(map(len, words)),
            spellings=Spellings(
                Parts(np.concatenate([_NONE, *spelled]), _offsets(map(len, spelled))),
                list(distinct),
                tokenizer.subwords,
            ),
            labels=np.concatenate([_NONE, *given]),
            label_offsets=_offsets(map(len, given)),
            of_rows=of_rows,
        )


_NONE = np.zeros(0, dtype=np.int32)


class LabelledColumns:
    """Where a corpus keeps words and labels: `words` is a list of strings, or a text that is split by the rule of
    `rnnlm.data.labels.words`; `labels` a list of strings, one a word, or a string, the class of the row.

    With `labels_of="rows"` a list holds the classes of the row, any number of them.
    """

    def __init__(self, schema: pa.Schema, words: str, labels: str, labels_of: LabelsOf = "auto") -> None:
        """Raises DataError if a column is not there or holds something else."""
        self.words, self.labels = words, labels
        self.splits = is_text(_type(schema, words))
        self._one_class = is_text(_type(schema, labels))
        self.of_rows = labels_of == "rows" or self._one_class
        for name in (words, labels):
            found = _type(schema, name)
            if not is_text(found) and not (is_list(found) and is_text(plain(found.value_type))):
                raise DataError(
                    f"the column '{name}' has type {found}; text or a list of texts is needed",
                    todo="set words_column and labels_column",
                )
        if labels_of == "words" and self._one_class:
            raise DataError(
                f"the column '{labels}' holds one label a row, and labels_of=words needs a list of one a word",
                todo="set labels_of=rows, or labels_column",
            )

    def rows(self, table: pa.Table) -> tuple[list[list[str] | None], list[list[str] | None], list[str | None]]:
        """Words and labels of each row, both None where the third says what is wrong with it."""
        words = table.column(self.words).to_pylist()
        labels = table.column(self.labels).to_pylist()
        if self.splits:
            words = [None if text is None else list(split_words(text)) for text in words]
        if self._one_class:
            labels = [None if label is None else [label] for label in labels]
        errors = [self._error(*row) for row in zip(words, labels, strict=True)]
        for values in (words, labels):
            values[:] = [None if error else value for value, error in zip(values, errors, strict=True)]
        return words, labels, errors

    def _error(self, words: Sequence[str | None] | None, labels: Sequence[str | None] | None) -> str | None:
        if words is None or labels is None or None in words or None in labels:
            return NULL_ROW
        if not words:
            return NO_WORDS
        if "" in words:
            return EMPTY_WORD
        if not self.of_rows and len(words) != len(labels):
            return f"{OTHER_LENGTH} ({len(words)} and {len(labels)})"
        return None


def _type(schema: pa.Schema, name: str) -> pa.DataType:
    if name not in schema.names:
        raise DataError(
            f"there is no column '{name}' among {', '.join(schema.names)}", todo="set words_column and labels_column"
        )
    return plain(schema.field(name).type)


class LabelledRows(NamedTuple):
    """A labelled table as it is on disk: the words of each row, and its labels: those of its words, or its classes."""

    words: list[list[str]]
    labels: list[list[str]]
    of_rows: bool

    def table(self, tokenizer: LabelTokenizer) -> LabelledTable:
        """The same as ids."""
        return LabelledTable.from_rows(self.words, self.labels, tokenizer, of_rows=self.of_rows)


def read_labelled_table(path: str, tokenizer: LabelTokenizer) -> LabelledTable:
    """Read the rows at `path` (a folder or a file), in file order, checked against `tokenizer`. Raises DataError."""
    return read_labelled_rows(path, tokenizer).table(tokenizer)


def read_labelled_rows(path: str, tokenizer: LabelTokenizer) -> LabelledRows:
    """What `read_labelled_table` reads, with words and labels as strings."""
    words: list[list[str]] = []
    labels: list[list[str]] = []
    kinds: set[bytes] = set()
    for file in expand_paths(path, (".parquet",)):
        location = open_location(file)
        with location.open_input() as opened:
            parquet = pq.ParquetFile(opened)
            check_vocabulary(parquet.schema_arrow, tokenizer, file)
            if LABELS not in parquet.schema_arrow.names:
                raise DataError(
                    "the table has no labels; one of spans is for task=entities",
                    where=Place(file=file),
                    todo="make it with labels_column=... of labels",
                )
            kinds.add((parquet.schema_arrow.metadata or {}).get(LABELS_OF_KEY, b"words"))
            table = parquet.read([WORDS, LABELS])
        for row_words, row_labels in zip(
            table.column(WORDS).to_pylist(), table.column(LABELS).to_pylist(), strict=True
        ):
            if row_words is not None and row_labels is not None:
                words.append(row_words)
                labels.append(row_labels)
    if not words:
        raise DataError("there is no row with words and labels", where=Place(file=path))
    if len(kinds) > 1:
        raise DataError("some files hold labels of words, others of rows", where=Place(file=path))
    return LabelledRows(words, labels, of_rows=kinds == {b"rows"})


def check_vocabulary(schema: pa.Schema, tokenizer: LabelTokenizer, file: str) -> None:
    """Raise DataError unless the table was made with this vocabulary."""
    found = (schema.metadata or {}).get(TOKENIZER_KEY, b"").decode()
    if found != tokenizer.fingerprint:
        raise DataError(
            f"the table was made with {f'vocabulary {found[:12]}' if found else 'no vocabulary of labels'}, "
            f"this is {tokenizer.fingerprint[:12]}",
            where=Place(file=file),
            todo="make it again with python -m jobs.tokenize_corpus and this tokenizer_path",
        )


def labels_metadata(*, of_rows: bool) -> dict[bytes, bytes]:
    """What the schema of a labelled table says of its labels."""
    return {LABELS_OF_KEY: b"rows" if of_rows else b"words"}


def _offsets(lengths: Iterable[int]) -> npt.NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(np.fromiter(lengths, dtype=np.int64))]).astype(np.int64)
