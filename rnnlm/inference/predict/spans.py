"""A model of spans that may nest, in bulk."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rnnlm.bulk.work import ERROR, Device, Processed
from rnnlm.checkpoint import Checkpoint, loaded
from rnnlm.data.labels.entities import SCORED_ENTITIES, entity
from rnnlm.data.labels.schemes import Span
from rnnlm.data.labels.words import Words
from rnnlm.errors import ConfigError
from rnnlm.inference.find_spans import SpanFinder
from rnnlm.inference.predict.base import PredictProcessor
from rnnlm.inference.predict.calibration import calibration_of
from rnnlm.inference.predict.options import PredictOptions
from rnnlm.inference.predict.places import places_of
from rnnlm.inference.score_work import NON_FINITE
from rnnlm.nn.span_model import FoundSpan


class SpanProcessor(PredictProcessor):
    """A model of spans of words, which may nest."""

    def __init__(self, options: PredictOptions, checkpoint: Checkpoint, device: Device) -> None:
        super().__init__(options, checkpoint, device)
        calibration = calibration_of(options, checkpoint)
        threshold = None if calibration is None else calibration.threshold
        self._finder = SpanFinder(
            checkpoint,
            products=options.products,
            threshold=options.threshold if threshold is None else threshold,
            flat=options.flat,
        )

    @staticmethod
    def fields(options: PredictOptions) -> list[pa.Field]:
        options.refuse_changed(
            ("probabilities", "temperature"), "is about classes of rows; this model finds spans of words"
        )
        options.refuse_changed(("k_best",), "is about labels of words; this model finds spans of them")
        options.refuse_changed(("window", "overlap"), "spans of words need the whole row; use max_words")
        if options.entities is False:
            raise ConfigError("entities: spans that may nest are all that the model finds; leave entities out")
        calibration_of(options, loaded(options.checkpoint))
        return [pa.field("entities", SCORED_ENTITIES)]

    def process(self, table: pa.Table, rows: npt.NDArray[np.int64]) -> Processed:  # noqa: ARG002 - no randomness
        options, given = self._options, self.given_rows(table)
        found = self._finder.find([row.words for row in given], report=self.report)
        errors = [row.error or (NON_FINITE if spans is None else None) for row, spans in zip(given, found, strict=True)]
        made = [
            None if error else self._entities(spans or [], row.places or places_of(row.words, text))
            for row, spans, text, error in zip(given, found, self.texts(table), errors, strict=True)
        ]
        columns = {
            options.prefix + "entities": pa.array(made, SCORED_ENTITIES),
            ERROR: pa.array(errors, pa.string()),
        }
        num_words = sum(len(row.words) for row, error in zip(given, errors, strict=True) if error is None)
        return Processed(columns, num_words, self._finder.num_padding)

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
