"""A classifier in bulk: the class of a row, or several."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rnnlm.bulk.work import ERROR, Device, Processed
from rnnlm.checkpoint import Checkpoint, loaded
from rnnlm.data.labels.entities import STRINGS
from rnnlm.inference.classify import Classifier, Probabilities
from rnnlm.inference.predict.base import PredictProcessor
from rnnlm.inference.predict.options import PredictOptions
from rnnlm.inference.score_work import NON_FINITE
from rnnlm.nn.classification_model import ClassificationModel

PROBABILITIES = pa.list_(pa.struct([pa.field("label", pa.string()), pa.field("probability", pa.float32())]))


class ClassifyProcessor(PredictProcessor):
    """A classifier, which gives each row its class, or several."""

    def __init__(self, options: PredictOptions, checkpoint: Checkpoint, device: Device) -> None:
        super().__init__(options, checkpoint, device)
        self._classifier = Classifier(checkpoint, products=options.products, temperature=options.temperature)

    @staticmethod
    def fields(options: PredictOptions) -> list[pa.Field]:
        model = loaded(options.checkpoint).model
        assert isinstance(model, ClassificationModel)
        options.refuse_changed(
            ("entities", "flat", "window", "overlap"), "is about labels of words; this is a classifier of rows"
        )
        if model.multi_label:
            found = [pa.field("labels", STRINGS), pa.field("confidence", pa.list_(pa.float32()))]
        else:
            options.refuse_changed(("threshold",), "is about rows of several labels; these have one each")
            found = [pa.field("label", pa.string()), pa.field("confidence", pa.float32())]
        return [*found, *([pa.field("probabilities", PROBABILITIES)] if options.probabilities else [])]

    def process(self, table: pa.Table, rows: npt.NDArray[np.int64]) -> Processed:  # noqa: ARG002 - no randomness
        options, given = self._options, self.given_rows(table)
        found = self._classifier.classify([row.words for row in given], report=self.report)
        finite = [np.isfinite(one).all() for one in found]
        errors = [row.error or (None if good else NON_FINITE) for row, good in zip(given, finite, strict=True)]
        wrong: npt.NDArray[np.bool_] = np.array([error is not None for error in errors], dtype=bool)
        names = np.array(self._classifier.tokenizer.labels, dtype=object)
        if self._classifier.multi_label:
            chosen = [np.flatnonzero(one >= options.threshold) for one in found]
            made: dict[str, Sequence[Any]] = {
                "labels": [names[some] for some in chosen],
                "confidence": [one[some] for one, some in zip(found, chosen, strict=True)],
            }
        else:
            best = found.argmax(axis=1)
            made = {"label": names[best].tolist(), "confidence": found[np.arange(len(found)), best].tolist()}
        columns = {ERROR: pa.array(errors, pa.string())}
        for field in self.fields(options):
            if field.name == "probabilities":
                column = _probabilities(found, names, wrong)
            else:
                values = made[field.name]
                column = pa.array([None if bad else one for one, bad in zip(values, wrong, strict=True)], field.type)
            columns[options.prefix + field.name] = column
        num_words = sum(len(row.words) for row, error in zip(given, errors, strict=True) if error is None)
        return Processed(columns, num_words, self._classifier.num_padding)


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
