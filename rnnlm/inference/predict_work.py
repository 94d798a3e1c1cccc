"""Labelling as bulk work: a corpus plus what a model says of its words, and `error`.

Words are given, or split from a text by the rule of `rnnlm.data.labels.words`. A tagger adds

    labels, confidence                a label a word, and its probability
    words, starts, ends               of a text that was split: its words, and where in it they are
    entities                          or, in place of all these, where labels stand for spans: what `conlleval` reads
                                      from them, with a `score`, the lowest confidence of its words (all of them are
                                      right with that probability at the most)

A classifier adds for each row

    label, confidence                 its class, and the probability of it
    labels, confidence                or, where a row may have several, those above a threshold, and their probabilities
    probabilities                     on demand, of all classes, the most probable first

A model of nested spans adds

    entities                          the spans whose probability, the `score`, is above a threshold

Places are in characters, ends exclusive. Those of entities are in the text that was split. Where words were given, they
are in `text_column` if the words are all that it holds but white space, in order; in any other row they are in the
words joined by a blank.
"""

import json
import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from pydantic import Field
from torch import nn

from rnnlm.bulk.plan import CostModel
from rnnlm.bulk.work import ERROR, NULL_TEXT, Device, Processed, Processor, WorkConfig
from rnnlm.checkpoint import Checkpoint, loaded
from rnnlm.config import config
from rnnlm.data.column_types import is_list, is_text, plain
from rnnlm.data.labelled import EMPTY_WORD, NO_WORDS
from rnnlm.data.labels.entities import ENTITIES, STRINGS, entity
from rnnlm.data.labels.schemes import Scheme, Span, scheme_of_names, spans_of
from rnnlm.data.labels.words import Words, join_words, split_words
from rnnlm.data.tokenizers.labels import LabelTokenizer
from rnnlm.errors import ConfigError, DataError
from rnnlm.inference.classify import Classifier, Probabilities
from rnnlm.inference.devices import put_on_device, release_cached_memory
from rnnlm.inference.find_spans import SpanFinder
from rnnlm.inference.precision import Products
from rnnlm.inference.score_work import BYTES_PER_TOKEN, NON_FINITE, seconds_per_token
from rnnlm.inference.tag import Tagged, Tagger
from rnnlm.inference.windows import check_windows
from rnnlm.nn.classification_model import ClassificationModel
from rnnlm.nn.language_model import LanguageModel
from rnnlm.nn.span_model import FoundSpan, SpanModel
from rnnlm.nn.tagging_model import TaggingModel
from rnnlm.nn.translation_model import TranslationModel
from rnnlm.tasks.tagging import TaggingConfig

_BLANKS = re.compile(r"\s*")
NULL_WORD = "null_word: a word is null"
SCORED_ENTITIES = pa.list_(pa.struct([*ENTITIES.value_type, pa.field("score", pa.float32())]))
PROBABILITIES = pa.list_(pa.struct([pa.field("label", pa.string()), pa.field("probability", pa.float32())]))
INSTEAD: dict[type[nn.Module], str] = {
    LanguageModel: "is a language model: use jobs.score or jobs.generate",
    TranslationModel: "is an encoder-decoder: use jobs.generate or jobs.score",
}


@config
class PredictWork(WorkConfig):
    """Labels the words of every row."""

    checkpoint: str
    "Run folder (its best checkpoint is taken) or checkpoint folder."
    words_column: str = "words"
    "Column of words, or of text that is split into words."
    splits: bool = False
    "It is text; see `reads`."
    text_column: str | None = None
    "Where words are given: column of the text in which entities have their places, if it fits."
    max_words: int | None = Field(default=None, ge=1)
    "A longer row is an error row; null for no limit."
    window: int | None = Field(default=None, ge=1)
    "Words read together; longer rows are read in pieces. null reads each row as a whole."
    overlap: int = Field(default=0, ge=0)
    "Words that two pieces share."
    entities: bool | None = None
    "Write spans in place of labels; null: if the labels are O and others with the prefixes of a scheme."
    probabilities: bool = False
    "Of a classifier: write the probability of every class too."
    threshold: float = Field(default=0.5, ge=0.0, le=1.0)
    "Of a classifier of several labels, or of spans that may nest: write those that are as probable."
    flat: bool = False
    "Of spans that may nest: write none that overlaps a more probable one."
    temperature: float = Field(default=1.0, gt=0.0)
    "Of a classifier: divides its logits (`rnnlm.inference.classify.fitted_temperature`)."
    prefix: str = ""
    "Put before the names of new columns, `error` apart."
    threads: int = Field(default=1, ge=1)
    "Threads of a worker; the rounding of a product can depend on it, so it belongs to the run's identity."
    products: Products = Field(default_factory=Products)
    "How the model computes."

    def __post_init__(self) -> None:
        check_windows(self.window, self.overlap)

    @property
    def job(self) -> str:
        return "predict"

    @property
    def needs_text(self) -> bool:
        return False

    def needed_columns(self) -> list[str]:
        return [self.words_column, *([] if self.text_column is None else [self.text_column])]

    def new_fields(self) -> list[pa.Field]:
        own = self._processor().fields(self)
        return [*(field.with_name(self.prefix + field.name) for field in own), pa.field(ERROR, pa.string())]

    def output_schema(self, schema: pa.Schema, kept: Sequence[str]) -> pa.Schema:
        taken = [field.name for field in self.new_fields() if field.name in kept and field.name != ERROR]
        if taken:
            raise ConfigError(
                f"the corpus already has a column '{taken[0]}', which predict would add; name the new ones otherwise "
                "with prefix=predicted_, or leave the old one out with corpus.columns=[...]"
            )
        return super().output_schema(schema, kept)

    def check_model(self) -> None:
        """Raise ConfigError unless the model labels, and in the way that is asked for."""
        self._processor().fields(self)

    def cost(self) -> CostModel:
        per_word = seconds_per_token(loaded(self.checkpoint))
        return CostModel(seconds_per_row=per_word, seconds_per_byte=per_word / BYTES_PER_TOKEN)

    def identity(self) -> dict[str, Any]:
        return {
            "model": loaded(self.checkpoint).fingerprint,
            "words_column": self.words_column,
            "splits": self.splits,
            "text_column": self.text_column,
            "max_words": self.max_words,
            "window": self.window,
            "overlap": self.overlap,
            "entities": self.entities,
            "probabilities": self.probabilities,
            "threshold": self.threshold,
            "flat": self.flat,
            "temperature": self.temperature,
            "prefix": self.prefix,
            "threads": self.threads,
            "products": self.products.card(),
            "torch": torch.__version__,
        }

    def provenance(self) -> dict[str, str]:
        return {"model": loaded(self.checkpoint).fingerprint, "products": json.dumps(self.products.card())}

    def card(self) -> dict[str, Any]:
        return {"products": self.products.card()}

    def build(self, device: Device) -> "PredictProcessor":
        torch.set_num_threads(self.threads)
        return self._processor()(self, loaded(self.checkpoint), device)

    def _processor(self) -> "type[PredictProcessor]":
        """What suits the model; the one place that asks for its class."""
        model = loaded(self.checkpoint).model
        for kind, processor in PROCESSORS.items():
            if isinstance(model, kind):
                return processor
        found = [instead for kind, instead in INSTEAD.items() if isinstance(model, kind)]
        raise ConfigError(f"checkpoint: {self.checkpoint} {found[0] if found else 'does not label words'}")


def reads(schema: pa.Schema, words_column: str, text_column: str) -> tuple[bool, str | None]:
    """Whether a corpus gives its words as text that is to be split; if not, its text column, if it has one.

    Raises DataError if the column is not there or holds something else.
    """
    if words_column not in schema.names:
        raise DataError(
            f"there is no column '{words_column}' among {', '.join(schema.names)}",
            todo="set words_column to a column of words, or of text that is to be split",
        )
    found = plain(schema.field(words_column).type)
    if is_text(found):
        return True, None
    if not (is_list(found) and is_text(plain(found.value_type))):
        raise DataError(
            f"the column '{words_column}' has type {found}; text or a list of texts is needed", todo="set words_column"
        )
    has_text = text_column in schema.names and is_text(plain(schema.field(text_column).type))
    return False, text_column if has_text else None


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

    def __init__(self, work: PredictWork, checkpoint: Checkpoint, device: Device) -> None:
        self._work = work
        self.hardware = put_on_device(checkpoint, device)

    @staticmethod
    @abstractmethod
    def fields(work: PredictWork) -> list[pa.Field]:
        """The new columns without prefix and `error`. Raises ConfigError if the model has not what is asked for."""

    def release_memory(self) -> None:
        release_cached_memory()

    def given_rows(self, table: pa.Table) -> list[GivenRow]:
        """The words of each row."""
        values = table.column(self._work.words_column).to_pylist()
        return [self._given(value) for value in values]

    def _given(self, value: str | list[str | None] | None) -> GivenRow:
        if value is None:
            return GivenRow([], error=NULL_TEXT)
        places = split_words(value) if isinstance(value, str) else None
        words = [word for word in (places if places is not None else value) if word is not None]
        most = self._work.max_words
        if not isinstance(value, str) and len(words) < len(value):
            return GivenRow([], error=NULL_WORD)
        if not words:
            return GivenRow([], error=NO_WORDS)
        if "" in words:
            return GivenRow([], error=EMPTY_WORD)
        if most is not None and len(words) > most:
            return GivenRow([], error=f"long_row: {len(words):,} words, more than max_words={most:,}")
        return GivenRow(words, places)


class TagProcessor(PredictProcessor):
    """A tagger, which gives each word a label."""

    def __init__(self, work: PredictWork, checkpoint: Checkpoint, device: Device) -> None:
        super().__init__(work, checkpoint, device)
        self._tagger = Tagger(checkpoint, products=work.products)
        self._scheme = asked_scheme(checkpoint, work.entities)

    @staticmethod
    def fields(work: PredictWork) -> list[pa.Field]:
        _refuse_changed(
            work, ("probabilities", "threshold", "temperature"), "is about classes of rows; this is a tagger"
        )
        _refuse_changed(work, ("flat",), "is about spans that may nest; this is a tagger")
        if asked_scheme(loaded(work.checkpoint), work.entities) is not None:
            return [pa.field("entities", SCORED_ENTITIES)]
        split = [
            pa.field("words", STRINGS),
            pa.field("starts", pa.list_(pa.int32())),
            pa.field("ends", pa.list_(pa.int32())),
        ]
        new = [pa.field("labels", STRINGS), pa.field("confidence", pa.list_(pa.float32()))]
        return [*(split if work.splits else []), *new]

    def process(self, table: pa.Table, rows: npt.NDArray[np.int64]) -> Processed:  # noqa: ARG002 - no randomness
        work = self._work
        given = self.given_rows(table)
        tagged = self._tagger.tag(
            [row.words for row in given], window=work.window, overlap=work.overlap, report=self.report
        )
        errors = [
            row.error or (None if np.isfinite(found.confidences).all() else NON_FINITE)
            for row, found in zip(given, tagged, strict=True)
        ]
        if self._scheme is not None:
            texts: list[str | None] = [None] * len(given)
            if work.text_column is not None:
                texts = table.column(work.text_column).to_pylist()
            made: dict[str, Sequence[Any]] = {
                "entities": [
                    _entities(found, row.places or places_of(row.words, text), self._scheme)
                    for row, found, text in zip(given, tagged, texts, strict=True)
                ]
            }
        else:
            made = {
                "labels": [found.labels for found in tagged],
                "confidence": [found.confidences for found in tagged],
                "words": [row.words for row in given],
                "starts": [row.places and row.places.starts for row in given],
                "ends": [row.places and row.places.ends for row in given],
            }
        columns = {ERROR: pa.array(errors, pa.string())}
        for field in self.fields(work):
            values = [None if error else value for value, error in zip(made[field.name], errors, strict=True)]
            columns[work.prefix + field.name] = pa.array(values, field.type)
        num_words = sum(len(row.words) for row, error in zip(given, errors, strict=True) if error is None)
        return Processed(columns, num_words, self._tagger.num_padding)


class ClassifyProcessor(PredictProcessor):
    """A classifier, which gives each row its class, or several."""

    def __init__(self, work: PredictWork, checkpoint: Checkpoint, device: Device) -> None:
        super().__init__(work, checkpoint, device)
        self._classifier = Classifier(checkpoint, products=work.products, temperature=work.temperature)

    @staticmethod
    def fields(work: PredictWork) -> list[pa.Field]:
        model = loaded(work.checkpoint).model
        assert isinstance(model, ClassificationModel)
        _refuse_changed(
            work, ("entities", "flat", "window", "overlap"), "is about labels of words; this is a classifier of rows"
        )
        if model.multi_label:
            found = [pa.field("labels", STRINGS), pa.field("confidence", pa.list_(pa.float32()))]
        else:
            _refuse_changed(work, ("threshold",), "is about rows of several labels; these have one each")
            found = [pa.field("label", pa.string()), pa.field("confidence", pa.float32())]
        return [*found, *([pa.field("probabilities", PROBABILITIES)] if work.probabilities else [])]

    def process(self, table: pa.Table, rows: npt.NDArray[np.int64]) -> Processed:  # noqa: ARG002 - no randomness
        work, given = self._work, self.given_rows(table)
        found = self._classifier.classify([row.words for row in given], report=self.report)
        finite = [np.isfinite(one).all() for one in found]
        errors = [row.error or (None if good else NON_FINITE) for row, good in zip(given, finite, strict=True)]
        wrong: npt.NDArray[np.bool_] = np.array([error is not None for error in errors], dtype=bool)
        names = np.array(self._classifier.tokenizer.labels, dtype=object)
        if self._classifier.multi_label:
            chosen = [np.flatnonzero(one >= work.threshold) for one in found]
            made: dict[str, Sequence[Any]] = {
                "labels": [names[some] for some in chosen],
                "confidence": [one[some] for one, some in zip(found, chosen, strict=True)],
            }
        else:
            best = found.argmax(axis=1)
            made = {"label": names[best].tolist(), "confidence": found[np.arange(len(found)), best].tolist()}
        columns = {ERROR: pa.array(errors, pa.string())}
        for field in self.fields(work):
            if field.name == "probabilities":
                column = _probabilities(found, names, wrong)
            else:
                values = made[field.name]
                column = pa.array([None if bad else one for one, bad in zip(values, wrong, strict=True)], field.type)
            columns[work.prefix + field.name] = column
        num_words = sum(len(row.words) for row, error in zip(given, errors, strict=True) if error is None)
        return Processed(columns, num_words, self._classifier.num_padding)


class SpanProcessor(PredictProcessor):
    """A model of spans of words, which may nest."""

    def __init__(self, work: PredictWork, checkpoint: Checkpoint, device: Device) -> None:
        super().__init__(work, checkpoint, device)
        self._finder = SpanFinder(checkpoint, products=work.products, threshold=work.threshold, flat=work.flat)

    @staticmethod
    def fields(work: PredictWork) -> list[pa.Field]:
        _refuse_changed(
            work, ("probabilities", "temperature"), "is about classes of rows; this model finds spans of words"
        )
        _refuse_changed(work, ("window", "overlap"), "spans of words need the whole row; use max_words")
        if work.entities is False:
            raise ConfigError("entities: spans that may nest are all that the model finds; leave entities out")
        return [pa.field("entities", SCORED_ENTITIES)]

    def process(self, table: pa.Table, rows: npt.NDArray[np.int64]) -> Processed:  # noqa: ARG002 - no randomness
        work, given = self._work, self.given_rows(table)
        found = self._finder.find([row.words for row in given], report=self.report)
        errors = [row.error or (NON_FINITE if spans is None else None) for row, spans in zip(given, found, strict=True)]
        texts = self._texts(table)
        made = [
            None if error else self._entities(spans or [], row.places or places_of(row.words, text))
            for row, spans, text, error in zip(given, found, texts, errors, strict=True)
        ]
        columns = {
            work.prefix + "entities": pa.array(made, SCORED_ENTITIES),
            ERROR: pa.array(errors, pa.string()),
        }
        num_words = sum(len(row.words) for row, error in zip(given, errors, strict=True) if error is None)
        return Processed(columns, num_words, self._finder.num_padding)

    def _texts(self, table: pa.Table) -> list[str | None]:
        if self._work.text_column is None:
            return [None] * table.num_rows
        texts: list[str | None] = table.column(self._work.text_column).to_pylist()
        return texts

    def _entities(self, found: Sequence[FoundSpan], places: Words) -> list[dict[str, Any]]:
        """The rows of the column `entities`: in order, of those that begin together longer ones first."""
        names = self._finder.tokenizer.labels
        ordered = sorted(found, key=lambda span: (span.start, -span.end, span.type))
        return [
            {
                **entity(*places.characters(span.start, span.end), Span(span.start, span.end, names[span.type])),
                "score": span.probability,
            }
            for span in ordered
        ]


PROCESSORS: dict[type[nn.Module], type[PredictProcessor]] = {
    SpanModel: SpanProcessor,
    TaggingModel: TagProcessor,
    ClassificationModel: ClassifyProcessor,
}


def asked_scheme(checkpoint: Checkpoint, entities: bool | None) -> Scheme | None:
    """How a tagger's labels are read as spans; None if they are not to be. Raises ConfigError if they cannot."""
    if entities is False:
        return None
    assert isinstance(checkpoint.task, TaggingConfig)
    assert isinstance(checkpoint.tokenizer, LabelTokenizer)
    labels, known = checkpoint.tokenizer.labels, checkpoint.task.scheme
    scheme = scheme_of_names(labels) if known in ("auto", "none") else _if_it_has(labels, cast(Scheme, known))
    if scheme is None and entities:
        shown = ", ".join(labels[:5])
        raise ConfigError(f"entities: the labels of the checkpoint ({shown}, ...) are not those of a scheme of spans")
    return scheme


def _if_it_has(labels: Sequence[str], scheme: Scheme) -> Scheme | None:
    try:
        spans_of(labels, scheme)
    except ValueError:
        return None
    return scheme


def places_of(words: Sequence[str], text: str | None) -> Words:
    """Where words are in a text that holds nothing else but white space; else in the words joined by a blank."""
    return (align(words, text) if text is not None else None) or join_words(words)


def align(words: Sequence[str], text: str) -> Words | None:
    """The words from left to right as they stand in a text, or None if there is more in it than white space beside
    them."""
    starts, ends, place = [], [], 0
    for word in words:
        place = _behind_blanks(text, place)
        if not text.startswith(word, place):
            return None
        starts.append(place)
        place += len(word)
        ends.append(place)
    return Words(text, tuple(starts), tuple(ends)) if _behind_blanks(text, place) == len(text) else None


def _entities(tagged: Tagged, places: Words, scheme: Scheme) -> list[dict[str, Any]]:
    """The rows of the column `entities`."""
    return [
        {
            **entity(*places.characters(span.start_word, span.end_word), span),
            "score": float(tagged.confidences[span.start_word : span.end_word].min()),
        }
        for span in spans_of(tagged.labels, scheme)
    ]


def _behind_blanks(text: str, place: int) -> int:
    """Where the white space that begins at `place` ends."""
    found = _BLANKS.match(text, place)
    assert found is not None
    return found.end()


def _probabilities(found: Probabilities, names: npt.NDArray[np.object_], wrong: npt.NDArray[np.bool_]) -> pa.ListArray:
    """Of all classes of each row, the most probable first; null where something is wrong."""
    order = np.argsort(-found, axis=1, kind="stable")
    sorted_probabilities = np.take_along_axis(found, order, axis=1)
    flat = pa.StructArray.from_arrays(
        [pa.array(names[order].ravel(), pa.string()), pa.array(sorted_probabilities.ravel())],
        fields=list(PROBABILITIES.value_type),
    )
    offsets = pa.array(np.arange(len(found) + 1) * found.shape[1], pa.int32())
    return pa.ListArray.from_arrays(offsets, flat, type=PROBABILITIES, mask=pa.array(wrong))


def _refuse_changed(work: PredictWork, names: Sequence[str], problem: str) -> None:
    """Raise ConfigError if an option is set that the model has no use for."""
    defaults = PredictWork(checkpoint=work.checkpoint)
    for name in names:
        if getattr(work, name) != getattr(defaults, name):
            raise ConfigError(f"{name}: it {problem}")
