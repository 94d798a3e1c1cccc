"""What processors of words have in common: words are given or split from a text, and a row may be unfit."""

from abc import abstractmethod
from dataclasses import dataclass

import pyarrow as pa

from rnnlm.bulk.work import NULL_TEXT, Device, Processor
from rnnlm.checkpoint import Checkpoint, loaded
from rnnlm.data.labelled import EMPTY_WORD, NO_WORDS
from rnnlm.data.labels.words import Words, split_words
from rnnlm.inference.devices import cpu_name, put_on_device, release_cached_memory
from rnnlm.inference.predict.model import Predictor
from rnnlm.inference.predict.options import PredictOptions
from rnnlm.inference.score_work import seconds_per_token

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

    def __init__(self, options: PredictOptions, predictor: Predictor, device: Device) -> None:
        self._options = options
        self.hardware = put_on_device(predictor, device) if isinstance(predictor, Checkpoint) else cpu_name()

    @staticmethod
    @abstractmethod
    def fields(options: PredictOptions) -> list[pa.Field]:
        """The new columns without prefix and `error`. Raises ConfigError if the model has not what is asked for."""

    @staticmethod
    def seconds_per_word(options: PredictOptions) -> float:
        """Estimated, of one core."""
        return seconds_per_token(loaded(options.checkpoint))

    def release_memory(self) -> None:
        release_cached_memory()

    def given_rows(self, table: pa.Table) -> list[GivenRow]:
        """The words of each row."""
        values = table.column(self._options.words_column).to_pylist()
        return [self._given(value) for value in values]

    def _given(self, value: str | list[str | None] | None) -> GivenRow:
        row, most = read_words(value), self._options.max_words
        if most is not None and len(row.words) > most:
            return GivenRow([], error=f"long_row: {len(row.words):,} words, more than max_words={most:,}")
        return row

    def texts(self, table: pa.Table) -> list[str | None]:
        """The text of each row in which its given words may have their places."""
        if self._options.text_column is None:
            return [None] * table.num_rows
        texts: list[str | None] = table.column(self._options.text_column).to_pylist()
        return texts


def read_words(value: str | list[str | None] | None) -> GivenRow:
    """One value of a column of words, or of text that is split into words."""
    if value is None:
        return GivenRow([], error=NULL_TEXT)
    if isinstance(value, str):
        places = split_words(value)
        words = list(places)
        return GivenRow(words, places) if words else GivenRow([], error=NO_WORDS)
    words = [word for word in value if word is not None]
    if len(words) < len(value):
        return GivenRow([], error=NULL_WORD)
    if not words or "" in words:
        return GivenRow([], error=EMPTY_WORD if words else NO_WORDS)
    return GivenRow(words)
