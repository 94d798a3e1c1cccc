"""A classifier in bulk: the class of a row, or several."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from rnnlm.bulk.work import ERROR, Device, Processed
from rnnlm.checkpoint import Checkpoint, loaded
from rnnlm.data.labels.entities import STRINGS
from rnnlm.inference.classify import Classifier, Probabilities
from rnnlm.inference.predict.base import PredictProcessor
from rnnlm.inference.predict.calibration import calibration_of
from rnnlm.inference.predict.model import Predictor
from rnnlm.inference.predict.options import PredictOptions
from rnnlm.inference.score_work import NON_FINITE
from rnnlm.nn.classification_model import ClassificationModel

PROBABILITIES = pa.list_(pa.struct([pa.field("label", pa.string()), pa.field("probability", pa.float32())]))


class ClassesProcessor(PredictProcessor):
    """Whatever gives each row its class, or several."""

    num_padding = 0  # positions computed by the last `classify` that belong to no word

    def __init__(
        self,
        options: PredictOptions,
        predictor: Predictor,
        device: Device,
        labels: Sequence[str],
        *,
        multi_label: bool,
        thresholds: Mapping[str, float] | None = None,
    ) -> None:
        """`thresholds`: those of classes that have one of their own."""
        super().__init__(options, predictor, device)
        self._names, self._multi_label = np.array(labels, dtype=object), multi_label
        self._thresholds = np.array([(thresholds or {}).get(label, options.threshold) for label in labels])

    @abstractmethod
    def classify(self, rows: Sequence[Sequence[str]]) -> Probabilities:
        """The probability of each class, for each row of words in its order; anything for a row without words."""

    def process(self, table: pa.Table, rows: npt.NDArray[np.int64]) -> Processed:  # noqa: ARG002 - no randomness
        options, given = self._options, self.given_rows(table)
        found = self.classify([row.words for row in given])
        finite = [np.isfinite(one).all() for one in found]
        errors = [row.error or (None if good else NON_FINITE) for row, good in zip(given, finite, strict=True)]
        wrong: npt.NDArray[np.bool_] = np.array([error is not None for error in errors], dtype=bool)
        if self._multi_label:
            chosen = [np.flatnonzero(one >= self._thresholds) for one in found]
            made: dict[str, Sequence[Any]] = {
                "labels": [self._names[some] for some in chosen],
                "confidence": [one[some] for one, some in zip(found, chosen, strict=True)],
            }
        else:
            best = found.argmax(axis=1)
            made = {"label": self._names[best].tolist(), "confidence": found[np.arange(len(found)), best].tolist()}
        columns = {ERROR: pa.array(errors, pa.string())}
        for field in self.fields(options):
            if field.name == "probabilities":
                column = _probabilities(found, self._names, wrong)
            else:
                values = made[field.name]
                column = pa.array([None if bad else one for one, bad in zip(values, wrong, strict=True)], field.type)
            columns[options.prefix + field.name] = column
        num_words = sum(len(row.words) for row, error in zip(given, errors, strict=True) if error is None)
        return Processed(columns, num_words, self.num_padding)


class ClassifyProcessor(ClassesProcessor):
    """A recurrent classifier."""

    def __init__(self, options: PredictOptions, checkpoint: Checkpoint, device: Device) -> None:
        calibration = calibration_of(options, checkpoint)
        temperature = None if calibration is None else calibration.temperature
        self._classifier = Classifier(
            checkpoint,
            products=options.products,
            temperature=options.temperature if temperature is None else temperature,
        )
        super().__init__(
            options,
            checkpoint,
            device,
            self._classifier.tokenizer.labels,
            multi_label=self._classifier.multi_label,
            thresholds=None if calibration is None else calibration.thresholds,
        )

    @staticmethod
    def fields(options: PredictOptions) -> list[pa.Field]:
        checkpoint = loaded(options.checkpoint)
        assert isinstance(checkpoint.model, ClassificationModel)
        calibration_of(options, checkpoint)
        return class_fields(options, multi_label=checkpoint.model.multi_label)

    def classify(self, rows: Sequence[Sequence[str]]) -> Probabilities:
        found = self._classifier.classify(rows, report=self.report)
        self.num_padding = self._classifier.num_padding
        return found


def class_fields(options: PredictOptions, *, multi_label: bool) -> list[pa.Field]:
    """The columns of what classifies rows. Raises ConfigError at options that are about something else."""
    options.refuse_changed(
        ("entities", "flat", "window", "overlap", "k_best"), "is about labels of words; this is a classifier of rows"
    )
    if multi_label:
        found = [pa.field("labels", STRINGS), pa.field("confidence", pa.list_(pa.float32()))]
    else:
        options.refuse_changed(("threshold",), "is about rows of several labels; these have one each")
        found = [pa.field("label", pa.string()), pa.field("confidence", pa.float32())]
    return [*found, *([pa.field("probabilities", PROBABILITIES)] if options.probabilities else [])]


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
