"""What calibration is judged by: nll and calibration error of probabilities, F1 of what thresholds let through.

One class a row: the nll is that of the class in nats, the calibration error that of the most probable class. Several:
the nll is summed over classes, and the calibration error is that of every probability as a forecast that the row has
the class. Both are means over rows.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from rnnlm.evaluation.label_metrics import reliability, score_classes, score_counts

Floats = npt.NDArray[np.float64]
Figures = dict[str, float]


def class_figures(probabilities: Floats, classes: npt.NDArray[np.int64]) -> Figures:
    """Of rows (N L) with a class each (N)."""
    best, own = probabilities.argmax(axis=1), probabilities[np.arange(len(classes)), classes]
    return {
        "nll": _nll(own),
        "ece": reliability(probabilities.max(axis=1), best == classes).expected_calibration_error,
        "accuracy": float((best == classes).mean()),
    }


def class_set_figures(
    probabilities: Floats, right: npt.NDArray[np.bool_], thresholds: Floats, names: Sequence[str]
) -> Figures:
    """Of rows (N L) that have a class or not (N L), given where it is as probable as its threshold (L)."""
    given = probabilities >= thresholds
    counts = (dict(zip(names, one.sum(axis=0).tolist(), strict=True)) for one in (given & right, given, right))
    scores = score_classes(*counts)
    return {
        "nll": _nll(np.where(right, probabilities, 1.0 - probabilities)) * len(names),
        "ece": reliability(probabilities.ravel(), right.ravel()).expected_calibration_error,
        "micro_f1": scores.micro.f1,
        "macro_f1": scores.macro.f1,
    }


def span_figures(probabilities: Floats, right: npt.NDArray[np.bool_], num_right: int, threshold: float) -> Figures:
    """Of spans that are right or not (N), given where they are as probable as the threshold; `num_right` counts those
    of the references."""
    given = probabilities >= threshold
    scores = score_counts(int((given & right).sum()), int(given.sum()), num_right)
    return {"precision": scores.precision, "recall": scores.recall, "f1": scores.f1}


def _nll(probabilities: Floats) -> float:
    """The mean of -ln p, in nats."""
    return float(-np.log(np.maximum(probabilities, np.finfo(np.float64).tiny)).mean())
