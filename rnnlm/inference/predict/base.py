"""What processors of words have in common: words are given or split from a text, and a row may be unfit."""

from abc import abstractmethod
from dataclasses import dataclass

import pyarrow as pa

from rnnlm.bulk.work import NULL_TEXT, Device, Processor
from rnnlm.checkpoint import Checkpoint
from rnnlm.data.labelled import EMPTY_WORD, NO_WORDS
from rnnlm.data.labels.words import Words, split_words
from rnnlm.inference.devices import put_on_device, release_cached_memory
from rnnlm.inference.predict.options import PredictOptions

NULL_WORD = "null_word: a word is null"


@dataclass(frozen=True)
class GivenRow:
    """The words of a row, where they are in the text they were split from, and what is wrong: then there are no
    words."""

    words: list[str]
    places: Words | None = None
    error: str | None = None


class PredictProcessor(Processor):
    """A loaded model that says something of words. For another kind of model make a subclass and put it into
    PROCESSORS."""

    def __init__(self, options: PredictOptions, checkpoint: Checkpoint, device: Device) -> None:
        self._options = options
        self.hardware = put_on_device(checkpoint, device)

    @staticmethod
    @abstractmethod
    def fields(options: PredictOptions) -> list[pa.Field]:
        """The new columns without prefix and `error`. Raises ConfigError if the model has not what is asked for."""

    def release_memory(self) -> None:
        release_cached_memory()

    def given_rows(self, table: pa.Table) -> list[GivenRow]:
        """The words of each row."""
        values = table.column(self._options.words_column).to_pylist()
        return [self._given(value) for value in values]

    def _given(self, value: str | list[str | None] | None) -> GivenRow:
        if value is None:
            return GivenRow([], error=NULL_TEXT)
        places = split_words(value) if isinstance(value, str) else None
        words = [word for word in (places if places is not None else value) if word is not None]
        most = self._options.max_words
        if not isinstance(value, str) and len(words) < len(value):
            return GivenRow([], error=NULL_WORD)
        if not words:
            return GivenRow([], error=NO_WORDS)
        if "" in words:
            return GivenRow([], error=EMPTY_WORD)
        if most is not None and len(words) > most:
            return GivenRow([], error=f"long_row: {len(words):,} words, more than max_words={most:,}")
        return GivenRow(words, places)

    def texts(self, table: pa.Table) -> list[str | None]:
        """The text of each row in which its given words may have their places."""
        if self._options.text_column is None:
            return [None] * table.num_rows
        texts: list[str | None] = table.column(self._options.text_column).to_pylist()
        return texts
