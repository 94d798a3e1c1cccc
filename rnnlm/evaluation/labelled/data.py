"""Predicted labels as plain data: labels.json. Shares are from 0 to 1."""

from dataclasses import asdict
from typing import Any

from rnnlm.evaluation.label_metrics import Reliability
from rnnlm.evaluation.labelled.class_sets import ClassSetScores
from rnnlm.evaluation.labelled.evaluate import Labelled
from rnnlm.evaluation.labelled.spans import SpanScores
from rnnlm.evaluation.labelled.systems import Systems
from rnnlm.evaluation.labelled.words import TagScores

MAX_CONFUSED = 20  # commonest mistakes


def systems_data(systems: Systems) -> dict[str, Any]:
    """All figures of the first system; of several also their figures side by side, and what tests say."""
    content = labelled_data(systems.first)
    if len(systems.labelled) == 1:
        return content
    return {
        **content,
        "systems": {name: _system_data(labelled) for name, labelled in systems.labelled.items()},
        "differences": [{**asdict(one), "verdict": one.verdict()} for one in systems.differences],
    }


def labelled_data(labelled: Labelled) -> dict[str, Any]:
    """All figures of one system."""
    tags, spans, sets = labelled.tags, labelled.spans, labelled.class_sets
    return {
        "predictions": labelled.path,
        "reference_column": labelled.reference_column,
        "intent_column": labelled.intent_column,
        "predicted_column": labelled.predicted_column,
        "scheme": labelled.scheme,
        "rows": labelled.rows,
        "errors": labelled.errors,
        "without_reference": labelled.without_reference,
        "bootstrap_draws": labelled.draws,
        "tags": _tags_data(tags) if tags is not None else None,
        "class_sets": _class_sets_data(sets) if sets is not None else None,
        "spans": _spans_data(spans) if spans is not None else None,
        "frames": asdict(labelled.frames) if labelled.frames is not None else None,
    }


def _system_data(labelled: Labelled) -> dict[str, Any]:
    what, classes = labelled.chief_classes()
    return {
        "predictions": labelled.path,
        "errors": labelled.errors,
        "figures": {name: asdict(figure) for name, figure in labelled.figures().items()},
        "classes_of": what,
        **asdict(classes),
    }


def _tags_data(tags: TagScores) -> dict[str, Any]:
    matrix: dict[str, dict[str, int]] = {}
    for (reference, predicted), count in sorted(tags.pairs.items()):
        matrix.setdefault(reference, {})[predicted] = count
    return {
        "accuracy": asdict(tags.accuracy),
        "sentence_accuracy": tags.sentences,
        "words": tags.words,
        "words_without_prediction": tags.unpredicted,
        "known_words": asdict(tags.known) if tags.known is not None else None,
        **asdict(tags.classes),
        "confusion": matrix,  # reference, predicted: how often
        "most_confused": [
            {"reference": reference, "predicted": predicted, "count": count}
            for reference, predicted, count in tags.most_confused(MAX_CONFUSED)
        ],
        "calibration": _calibration_data(tags.reliability),
        "mistakes": [asdict(one) for one in tags.mistakes],
    }


def _class_sets_data(sets: ClassSetScores) -> dict[str, Any]:
    return {
        "f1": asdict(sets.f1),
        "exact_match": asdict(sets.exact),
        "hamming_loss": sets.hamming_loss,
        "rows_without_prediction": sets.unpredicted,
        **asdict(sets.classes),
        "decisions": {name: asdict(one) for name, one in sets.decisions.items()},
        "average_precision": sets.average_precision,
        "mean_average_precision": sets.mean_average_precision,
        "calibration": _calibration_data(sets.reliability),
        "mistakes": [asdict(one) for one in sets.mistakes],
    }


def _spans_data(spans: SpanScores) -> dict[str, Any]:
    return {
        "f1": asdict(spans.f1),
        **asdict(spans.classes),
        "levels": asdict(spans.levels),
        "calibration": _calibration_data(spans.reliability),
        "missed": [asdict(one) for one in spans.missed],
        "spurious": [asdict(one) for one in spans.spurious],
    }


def _calibration_data(bins: Reliability | None) -> dict[str, Any] | None:
    if bins is None:
        return None
    columns = (bins.edges[:-1], bins.edges[1:], bins.counts, bins.confidence, bins.accuracy)
    names = ("from", "to", "count", "confidence", "accuracy")
    return {
        "expected_error": bins.expected_calibration_error,
        "maximum_error": bins.maximum_calibration_error,
        "bins": [
            dict(zip(names, values, strict=True)) for values in zip(*(one.tolist() for one in columns), strict=True)
        ],
    }
