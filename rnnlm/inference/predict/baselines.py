"""A baseline in bulk, with the columns of a network of its kind."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from rnnlm.baselines.base import BaselineClassifier, BaselineTagger, text_of
from rnnlm.baselines.stored import StoredBaseline
from rnnlm.bulk.work import Device
from rnnlm.errors import ConfigError
from rnnlm.inference.classify import Probabilities
from rnnlm.inference.predict.classes import ClassesProcessor, class_fields
from rnnlm.inference.predict.model import loaded_predictor
from rnnlm.inference.predict.options import PredictOptions
from rnnlm.inference.predict.tags import LabelsProcessor, label_fields, scheme_of_labels
from rnnlm.inference.tag import Tagged

SECONDS_PER_WORD = 1e-4  # of one core, by the hidden Markov model; the others are faster


class BaselineTagProcessor(LabelsProcessor):
    """A classical tagger."""

    def __init__(self, options: PredictOptions, stored: StoredBaseline, device: Device) -> None:
        assert isinstance(stored.model, BaselineTagger)
        super().__init__(options, stored, device, scheme_of_labels(stored.model.tags, options.entities))
        self._model = stored.model

    @staticmethod
    def fields(options: PredictOptions) -> list[pa.Field]:
        _refuse_what_networks_do(options)
        model = loaded_predictor(options.checkpoint).model
        assert isinstance(model, BaselineTagger)
        return label_fields(options, scheme_of_labels(model.tags, options.entities))

    @staticmethod
    def seconds_per_word(options: PredictOptions) -> float:  # noqa: ARG004 - about the same for all
        return SECONDS_PER_WORD

    def tag(self, rows: Sequence[Sequence[str]]) -> list[Tagged]:
        labels = self._model.tag(rows)
        confidences = self._model.confidences(rows, labels)
        return [Tagged(*one) for one in zip(labels, (sure.astype(np.float32) for sure in confidences), strict=True)]


class BaselineClassifyProcessor(ClassesProcessor):
    """A classical classifier."""

    def __init__(self, options: PredictOptions, stored: StoredBaseline, device: Device) -> None:
        model = stored.model
        assert isinstance(model, BaselineClassifier)
        super().__init__(options, stored, device, model.labels, multi_label=model.multi_label)
        self._model = model

    @staticmethod
    def fields(options: PredictOptions) -> list[pa.Field]:
        _refuse_what_networks_do(options)
        options.refuse_changed(("temperature", "calibration"), "is about logits of a network; this is a baseline")
        model = loaded_predictor(options.checkpoint).model
        assert isinstance(model, BaselineClassifier)
        return class_fields(options, multi_label=model.multi_label)

    @staticmethod
    def seconds_per_word(options: PredictOptions) -> float:  # noqa: ARG004 - about the same for all
        return SECONDS_PER_WORD

    def classify(self, rows: Sequence[Sequence[str]]) -> Probabilities:
        return self._model.probabilities([text_of(words) for words in rows]).astype(np.float32)


def _refuse_what_networks_do(options: PredictOptions) -> None:
    options.refuse_changed(("window", "overlap", "k_best"), "is about networks; this is a baseline")
    if options.products.precision != "float32":
        raise ConfigError("precision: it is about networks; this is a baseline")
