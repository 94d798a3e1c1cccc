"""What calibration is judged by, on numbers done by hand."""

import numpy as np
import pytest

from rnnlm.evaluation.calibration import class_figures, class_set_figures, span_figures


def test_one_class_a_row():
    probabilities = np.array([[0.8, 0.2], [0.6, 0.4]])
    found = class_figures(probabilities, np.array([0, 1]))
    assert found == pytest.approx({"nll": -(np.log(0.8) + np.log(0.4)) / 2, "ece": (0.2 + 0.6) / 2, "accuracy": 0.5})
    assert np.isfinite(class_figures(np.array([[1.0, 0.0]]), np.array([1]))["nll"])


def test_several_classes_a_row():
    probabilities = np.array([[0.9, 0.1], [0.4, 0.7]])
    right = np.array([[True, False], [True, False]])
    found = class_set_figures(probabilities, right, np.array([0.5, 0.5]), ["a", "b"])
    nll = -(np.log(0.9) + np.log(0.9) + np.log(0.4) + np.log(0.3)) / 2
    ece = (0.1 + 0.1 + 0.6 + 0.7) / 4  # each alone in its bin
    assert found == pytest.approx({"nll": nll, "ece": ece, "micro_f1": 2 / 4, "macro_f1": (2 / 3 + 0) / 2})
    assert class_set_figures(probabilities, right, np.array([0.4, 0.8]), ["a", "b"])["micro_f1"] == 1.0


def test_spans():
    spans = np.array([0.9, 0.6, 0.3]), np.array([True, False, True])
    assert span_figures(*spans, 4, 0.5) == pytest.approx({"precision": 1 / 2, "recall": 1 / 4, "f1": 2 / 6})
    assert span_figures(*spans, 4, 0.3) == pytest.approx({"precision": 2 / 3, "recall": 2 / 4, "f1": 4 / 7})
