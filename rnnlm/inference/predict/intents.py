"""Utterances in bulk: what is wanted, as a structure."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rnnlm.bulk.work import ERROR, Device, Processed
from rnnlm.checkpoint import Checkpoint, loaded
from rnnlm.data.labels.entities import STRINGS
from rnnlm.data.labels.schemes import Scheme, spans_of
from rnnlm.data.labels.words import Words
from rnnlm.errors import ConfigError
from rnnlm.inference.predict.base import GivenRow, PredictProcessor
from rnnlm.inference.predict.options import PredictOptions
from rnnlm.inference.predict.places import places_of
from rnnlm.inference.predict.tags import asked_scheme
from rnnlm.inference.score_work import NON_FINITE
from rnnlm.inference.tag import Tagged
from rnnlm.inference.understand import Understander, Understood
from rnnlm.nn.intent_model import IntentModel

SLOTS = pa.list_(
    pa.struct(
        [
            ("name", pa.string()),
            ("value", pa.string()),
            ("start_char", pa.int32()),
            ("end_char", pa.int32()),
            ("start_word", pa.int32()),
            ("end_word", pa.int32()),
            ("score", pa.float32()),
        ]
    )
)


class IntentProcessor(PredictProcessor):
    """A model of intents and slots."""

    def __init__(self, options: PredictOptions, checkpoint: Checkpoint, device: Device) -> None:
        super().__init__(options, checkpoint, device)
        self._understander = Understander(checkpoint, products=options.products)
        self._scheme = scheme_of_slots(checkpoint)

    @staticmethod
    def fields(options: PredictOptions) -> list[pa.Field]:
        checkpoint = loaded(options.checkpoint)
        assert isinstance(checkpoint.model, IntentModel)
        scheme_of_slots(checkpoint)
        options.refuse_changed(
            ("entities", "flat", "window", "overlap", "probabilities", "temperature", "calibration", "k_best"),
            "is about labels or classes alone; this model finds intents with their slots",
        )
        if checkpoint.model.multi_intent:
            found = [pa.field("intents", STRINGS), pa.field("intent_confidence", pa.list_(pa.float32()))]
        else:
            options.refuse_changed(("threshold",), "is about rows of several intents; these have one each")
            found = [pa.field("intent", pa.string()), pa.field("intent_confidence", pa.float32())]
        return [*found, pa.field("slots", SLOTS)]

    def process(self, table: pa.Table, rows: npt.NDArray[np.int64]) -> Processed:  # noqa: ARG002 - no randomness
        given = self.given_rows(table)
        found = self._understander.understand([row.words for row in given], report=self.report)
        errors = [
            row.error or (None if one is not None and _is_finite(one) else NON_FINITE)
            for row, one in zip(given, found, strict=True)
        ]
        made = [
            None if one is None or error else self._structure(row, text, one)
            for row, text, one, error in zip(given, self.texts(table), found, errors, strict=True)
        ]
        columns = {ERROR: pa.array(errors, pa.string())}
        for field in self.fields(self._options):
            values = [None if one is None else one[field.name] for one in made]
            columns[self._options.prefix + field.name] = pa.array(values, field.type)
        num_words = sum(len(row.words) for row, error in zip(given, errors, strict=True) if error is None)
        return Processed(columns, num_words, self._understander.num_padding)

    def _structure(self, row: GivenRow, text: str | None, found: Understood) -> dict[str, Any]:
        slots = self._slots(found.slots, row.places or places_of(row.words, text))
        names = self._understander.tokenizer.intents
        if not self._understander.multi_intent:
            best = int(found.intents.argmax())
            return {"intent": names[best], "intent_confidence": float(found.intents[best]), "slots": slots}
        chosen = np.flatnonzero(found.intents >= self._options.threshold)
        return {
            "intents": [names[place] for place in chosen],
            "intent_confidence": found.intents[chosen],
            "slots": slots,
        }

    def _slots(self, tagged: Tagged, places: Words) -> Sequence[dict[str, Any]]:
        """The rows of the column `slots`, in order."""
        slots = []
        for span in spans_of(tagged.labels, self._scheme):
            start, end = places.characters(span.start_word, span.end_word)
            slots.append(
                {
                    "name": span.type,
                    "value": places.text[start:end],
                    "start_char": start,
                    "end_char": end,
                    "start_word": span.start_word,
                    "end_word": span.end_word,
                    "score": float(tagged.confidences[span.start_word : span.end_word].min()),
                }
            )
        return slots


def scheme_of_slots(checkpoint: Checkpoint) -> Scheme:
    """How labels are read as slots. Raises ConfigError if they cannot."""
    found = asked_scheme(checkpoint, entities=True)
    if found is None:
        raise ConfigError(
            "checkpoint: the labels of its words are not those of a scheme of spans, so there are no slots"
        )
    return found


def _is_finite(found: Understood) -> bool:
    return bool(np.isfinite(found.intents).all() and np.isfinite(found.slots.confidences).all())
