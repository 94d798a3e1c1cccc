"""A tagger in bulk: labels of words, or the spans they stand for."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rnnlm.bulk.work import ERROR, Device, Processed
from rnnlm.checkpoint import Checkpoint, loaded
from rnnlm.data.labels.entities import SCORED_ENTITIES, STRINGS, entity
from rnnlm.data.labels.schemes import Scheme, scheme_of_names, spans_of
from rnnlm.data.labels.words import Words
from rnnlm.data.tokenizers.labels import LabelTokenizer
from rnnlm.errors import ConfigError
from rnnlm.inference.predict.base import PredictProcessor
from rnnlm.inference.predict.model import Predictor
from rnnlm.inference.predict.options import PredictOptions
from rnnlm.inference.predict.places import places_of
from rnnlm.inference.score_work import NON_FINITE
from rnnlm.inference.tag import Tagged, Tagger
from rnnlm.tasks.tagging import TaggingConfig

ALTERNATIVES = pa.list_(pa.struct([pa.field("labels", STRINGS), pa.field("probability", pa.float32())]))


class LabelsProcessor(PredictProcessor):
    """Whatever gives each word a label."""

    num_padding = 0  # positions computed by the last `tag` that belong to no word

    def __init__(self, options: PredictOptions, predictor: Predictor, device: Device, scheme: Scheme | None) -> None:
        """`scheme` says how labels are read as spans, which then take their place."""
        super().__init__(options, predictor, device)
        self._scheme = scheme

    @abstractmethod
    def tag(self, rows: Sequence[Sequence[str]]) -> list[Tagged]:
        """The labels of each row of words, in their order; none for a row without words."""

    def process(self, table: pa.Table, rows: npt.NDArray[np.int64]) -> Processed:  # noqa: ARG002 - no randomness
        options = self._options
        given = self.given_rows(table)
        tagged = self.tag([row.words for row in given])
        errors = [
            row.error or (None if np.isfinite(found.confidences).all() else NON_FINITE)
            for row, found in zip(given, tagged, strict=True)
        ]
        made: dict[str, Sequence[Any]] = {"alternatives": [_alternatives(found) for found in tagged]}
        if self._scheme is not None:
            made["entities"] = [
                _entities(found, row.places or places_of(row.words, text), self._scheme)
                for row, found, text in zip(given, tagged, self.texts(table), strict=True)
            ]
        else:
            made |= {
                "labels": [found.labels for found in tagged],
                "confidence": [found.confidences for found in tagged],
                "words": [row.words for row in given],
                "starts": [row.places and row.places.starts for row in given],
                "ends": [row.places and row.places.ends for row in given],
            }
        columns = {ERROR: pa.array(errors, pa.string())}
        for field in self.fields(options):
            values = [None if error else value for value, error in zip(made[field.name], errors, strict=True)]
            columns[options.prefix + field.name] = pa.array(values, field.type)
        num_words = sum(len(row.words) for row, error in zip(given, errors, strict=True) if error is None)
        return Processed(columns, num_words, self.num_padding)


class TagProcessor(LabelsProcessor):
    """A recurrent tagger."""

    def __init__(self, options: PredictOptions, checkpoint: Checkpoint, device: Device) -> None:
        super().__init__(options, checkpoint, device, asked_scheme(checkpoint, options.entities))
        self._tagger = Tagger(checkpoint, products=options.products)

    @staticmethod
    def fields(options: PredictOptions) -> list[pa.Field]:
        if options.window is not None:
            options.refuse_changed(("k_best",), "is about sequences of whole rows; leave out window")
        return label_fields(options, asked_scheme(loaded(options.checkpoint), options.entities))

    def tag(self, rows: Sequence[Sequence[str]]) -> list[Tagged]:
        options = self._options
        found = self._tagger.tag(
            rows, window=options.window, overlap=options.overlap, k_best=options.k_best, report=self.report
        )
        self.num_padding = self._tagger.num_padding
        return found


def label_fields(options: PredictOptions, scheme: Scheme | None) -> list[pa.Field]:
    """The columns of what labels words. Raises ConfigError at options that are about something else."""
    options.refuse_changed(
        ("probabilities", "threshold", "temperature", "calibration"), "is about classes of rows; this is a tagger"
    )
    options.refuse_changed(("flat",), "is about spans that may nest; this is a tagger")
    last = [] if options.k_best is None else [pa.field("alternatives", ALTERNATIVES)]
    if scheme is not None:
        return [pa.field("entities", SCORED_ENTITIES), *last]
    split = [
        pa.field("words", STRINGS),
        pa.field("starts", pa.list_(pa.int32())),
        pa.field("ends", pa.list_(pa.int32())),
    ]
    new = [pa.field("labels", STRINGS), pa.field("confidence", pa.list_(pa.float32()))]
    return [*(split if options.splits else []), *new, *last]


def asked_scheme(checkpoint: Checkpoint, entities: bool | None) -> Scheme | None:
    """How a tagger's labels are read as spans; None if they are not to be. Raises ConfigError if they cannot."""
    assert isinstance(checkpoint.task, TaggingConfig)
    assert isinstance(checkpoint.tokenizer, LabelTokenizer)
    return scheme_of_labels(checkpoint.tokenizer.labels, entities, checkpoint.task.scheme)


def scheme_of_labels(
    labels: Sequence[str], entities: bool | None, known: Scheme | Literal["auto", "none"] = "auto"
) -> Scheme | None:
    """The same for labels, of which a scheme may be `known`."""
    if entities is False:
        return None
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


def _alternatives(tagged: Tagged) -> list[dict[str, Any]]:
    """The rows of the column `alternatives`."""
    return [one._asdict() for one in tagged.alternatives]


def _entities(tagged: Tagged, places: Words, scheme: Scheme) -> list[dict[str, Any]]:
    """The rows of the column `entities`."""
    return [
        {
            **entity(*places.characters(span.start_word, span.end_word), span),
            "score": float(tagged.confidences[span.start_word : span.end_word].min()),
        }
        for span in spans_of(tagged.labels, scheme)
    ]
