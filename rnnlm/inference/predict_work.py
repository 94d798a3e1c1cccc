"""Labelling as bulk work: a corpus plus what a model says of its words, and `error`.

Words are given, or split from a text by the rule of `rnnlm.data.labels.words`. A tagger adds

    labels, confidence                a label a word, and its probability
    alternatives                      on demand, the most probable sequences of labels, and their probabilities
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

A model of intents adds

    intent, intent_confidence         what is wanted, and the probability of it (`intents`, lists, where a row may have
                                      several: those above a threshold)
    slots                             with what: name, value (the text itself), places, and a `score` as entities have

A baseline (`rnnlm.baselines`) adds what a network of its kind does. The confidence of a tagger is P(label | all words)
by the hidden Markov model, or of the most frequent label its share of the places where the word was seen.

Places are in characters, ends exclusive. Those of entities are in the text that was split. Where words were given, they
are in `text_column` if the words are all that it holds but white space, in order; in any other row they are in the
words joined by a blank.
"""

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import torch
from torch import nn

from rnnlm.baselines.base import BaselineClassifier, BaselineTagger
from rnnlm.bulk.plan import CostModel
from rnnlm.bulk.work import ERROR, Device, WorkConfig
from rnnlm.config import config
from rnnlm.data.column_types import is_list, is_text, plain
from rnnlm.errors import ConfigError, DataError
from rnnlm.inference.predict.base import PredictProcessor
from rnnlm.inference.predict.baselines import BaselineClassifyProcessor, BaselineTagProcessor
from rnnlm.inference.predict.calibration import read_calibration
from rnnlm.inference.predict.classes import ClassifyProcessor
from rnnlm.inference.predict.intents import IntentProcessor
from rnnlm.inference.predict.model import loaded_predictor
from rnnlm.inference.predict.options import PredictOptions
from rnnlm.inference.predict.spans import SpanProcessor
from rnnlm.inference.predict.tags import TagProcessor
from rnnlm.inference.score_work import BYTES_PER_TOKEN
from rnnlm.nn.classification_model import ClassificationModel
from rnnlm.nn.intent_model import IntentModel
from rnnlm.nn.language_model import LanguageModel
from rnnlm.nn.span_model import SpanModel
from rnnlm.nn.tagging_model import TaggingModel
from rnnlm.nn.translation_model import TranslationModel

INSTEAD: dict[type[nn.Module], str] = {
    LanguageModel: "is a language model: use jobs.score or jobs.generate",
    TranslationModel: "is an encoder-decoder: use jobs.generate or jobs.score",
}

PROCESSORS: dict[type[Any], type[PredictProcessor]] = {
    SpanModel: SpanProcessor,
    IntentModel: IntentProcessor,  # before what it is a kind of
    TaggingModel: TagProcessor,
    ClassificationModel: ClassifyProcessor,
    BaselineTagger: BaselineTagProcessor,
    BaselineClassifier: BaselineClassifyProcessor,
}


@config
class PredictWork(PredictOptions, WorkConfig):
    """Labels the words of every row."""

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
        per_word = self._processor().seconds_per_word(self)
        return CostModel(seconds_per_row=per_word, seconds_per_byte=per_word / BYTES_PER_TOKEN)

    def identity(self) -> dict[str, Any]:
        asked = {
            "calibration": None if self.calibration is None else read_calibration(self.calibration).fitted(),
            "k_best": self.k_best,
        }
        return {
            "model": loaded_predictor(self.checkpoint).fingerprint,
            # Only what is asked for: a plain run is the same as before there was anything to ask for.
            **{name: value for name, value in asked.items() if value is not None},
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
        return {"model": loaded_predictor(self.checkpoint).fingerprint, "products": json.dumps(self.products.card())}

    def card(self) -> dict[str, Any]:
        return {"products": self.products.card()}

    def build(self, device: Device) -> PredictProcessor:
        torch.set_num_threads(self.threads)
        return self._processor()(self, loaded_predictor(self.checkpoint), device)

    def _processor(self) -> type[PredictProcessor]:
        """What suits the model; the one place that asks for its class."""
        model = loaded_predictor(self.checkpoint).model
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
