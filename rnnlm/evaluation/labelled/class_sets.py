"""Rows with any number of classes: sets against sets.

micro F1            of all decisions for a class
exact match         the share of rows with the right set (subset accuracy)
Hamming loss        the share of wrong decisions, one a row and class; all those of a row without a prediction
average precision   of a class: the sum over thresholds of precision times what recall gains there
"""

from array import array
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from rnnlm.errors import DataError, Place
from rnnlm.evaluation.label_metrics import ClassScores, Reliability, score_classes
from rnnlm.evaluation.labelled.bootstrap import Estimate, RowRatio
from rnnlm.evaluation.labelled.confidences import ROUNDING, Confidences
from rnnlm.evaluation.labelled.mistakes import MAX_MISTAKES, Mistake, most_confident
from rnnlm.evaluation.labelled.pairs import Floats, Mask, Pair

_Ranks = tuple["array[int]", "array[float]"]


@dataclass(frozen=True)
class Decisions:
    """Rows by whether a class is among the references and whether it was predicted."""

    right: int
    missed: int
    spurious: int
    neither: int


@dataclass(frozen=True)
class ClassSetScores:
    """Of sets of classes; `average_precision` is of the classes of the references, if probabilities are known."""

    f1: Estimate
    exact: Estimate
    hamming_loss: float
    unpredicted: int  # rows without a prediction
    classes: ClassScores
    decisions: dict[str, Decisions]
    average_precision: dict[str, float] | None
    reliability: Reliability | None  # of predicted classes
    mistakes: list[Mistake]

    @property
    def mean_average_precision(self) -> float | None:
        """The mean over classes."""
        found = self.average_precision
        return sum(found.values()) / len(found) if found else None


class ClassSetScorer:
    """Adds up batches. With probabilities it keeps two numbers a row and class."""

    def __init__(self, *, keep_rows: bool = False) -> None:
        self.f1 = RowRatio(keep_rows=keep_rows)  # of (2 right, predicted and right ones)
        self.exact = RowRatio(keep_rows=keep_rows)
        self._right: Counter[str] = Counter()
        self._predicted: Counter[str] = Counter()
        self._support: Counter[str] = Counter()
        self._wrong = self._unpredicted = 0
        self._ranked = 0  # rows with a reference, if there are probabilities
        self._places = defaultdict[str, "array[int]"](lambda: array("q"))  # of each class: the rows that have it,
        self._ranks = defaultdict[str, _Ranks](lambda: (array("q"), array("d")))  # and all with their probability
        self._confidences = Confidences()
        self._mistakes: list[Mistake] = []

    def add(self, pair: Pair) -> Mask:
        """Which rows of the batch are right."""
        if pair.confidence is not None:
            pair.check_lengths(pair.confidence, pair.predicted, pair.scored, pair.columns.confidence)
        whole = np.zeros(len(pair.given), dtype=np.bool_)
        columns = (pair.reference, pair.predicted, pair.confidence, pair.probabilities)
        values = zip(*(_values(column, len(whole)) for column in columns), strict=True)
        sizes: list[tuple[int, int]] = []
        sure: list[tuple[float, bool]] = []
        for row, (reference, predicted, confidences, probabilities) in enumerate(values):
            if not pair.given[row]:
                continue
            failed = bool(pair.failed[row])
            right, found = set(reference), set() if failed else set(predicted)
            scores = {} if failed or confidences is None else dict(zip(predicted, confidences, strict=True))
            sizes.append((2 * len(right & found), len(right) + len(found)))
            whole[row] = right == found and not failed
            sure += [(score, one in right) for one, score in scores.items()]
            self._add_row(right, found, failed=failed)
            if pair.probabilities is not None:
                self._add_probabilities(pair, row, right, [] if failed else probabilities)
            if not whole[row]:
                self._add_mistake(pair, row, (right, found), scores)
        self.f1.add(*np.array(sizes, dtype=np.int64).reshape(-1, 2).T)
        self.exact.add(whole[pair.given], np.ones(len(sizes)))
        place = Place(pair.path, column=pair.columns.confidence)
        self._confidences.add([one for one, _ in sure], [hit for _, hit in sure], place)
        self._mistakes = most_confident(self._mistakes)
        return whole

    def _add_row(self, right: set[str], found: set[str], *, failed: bool) -> None:
        self._right.update(right & found)
        self._predicted.update(found)
        self._support.update(right)
        self._unpredicted += failed
        self._wrong += 0 if failed else len(right ^ found)

    def _add_probabilities(self, pair: Pair, row: int, right: set[str], probabilities: list[Any] | None) -> None:
        """A row without a prediction comes last."""
        for name in right:
            self._places[name].append(self._ranked)
        for one in [None] if probabilities is None else probabilities:
            if one is None or one["label"] is None or not _is_probability(one["probability"]):
                raise DataError(
                    "a probability is null, or not from 0 to 1",
                    where=pair.place(row, pair.columns.probabilities),
                    todo="give the output of jobs.predict",
                )
            rows, values = self._ranks[one["label"]]
            rows.append(self._ranked)
            values.append(one["probability"])
        self._ranked += 1

    def _add_mistake(self, pair: Pair, row: int, sets: tuple[set[str], set[str]], scores: dict[str, float]) -> None:
        right, found = sets
        confidence = max((scores[one] for one in found - right if one in scores), default=None)
        if len(self._mistakes) >= MAX_MISTAKES and (confidence or 0.0) <= (self._mistakes[-1].confidence or 0.0):
            return
        reference, predicted = (", ".join(sorted(one)) for one in sets)
        mistake = Mistake(pair.first + row, *pair.context.whole(row), reference, predicted, confidence)
        self._mistakes.append(mistake)
        self._mistakes = most_confident(self._mistakes)

    def scores(self, draws: int) -> ClassSetScores:
        """Of all batches."""
        rows = self.exact.below
        classes = score_classes(self._right, self._predicted, self._support)
        names = list(classes.classes)
        wrong = self._wrong + self._unpredicted * len(names)
        return ClassSetScores(
            self.f1.estimate(draws),
            self.exact.estimate(draws),
            wrong / max(1, rows * len(names)),
            self._unpredicted,
            classes,
            {name: self._decisions(name, rows) for name in names},
            self._average_precision(),
            self._confidences.result(),
            self._mistakes,
        )

    def _decisions(self, name: str, rows: int) -> Decisions:
        right, predicted, support = self._right[name], self._predicted[name], self._support[name]
        return Decisions(right, support - right, predicted - right, rows - support - predicted + right)

    def _average_precision(self) -> dict[str, float] | None:
        if not self._ranked:
            return None
        found = {}
        for name in sorted(self._support):
            right, score = np.zeros(self._ranked, dtype=np.bool_), np.full(self._ranked, -1.0)
            right[self._places[name]] = True
            rows, probabilities = self._ranks[name]
            score[rows] = probabilities
            found[name] = average_precision(right, score)
        return found


def average_precision(right: npt.NDArray[np.bool_], score: Floats) -> float:
    """Of a ranking by `score`, of which equal ones share a threshold; 0 if nothing is right."""
    order = np.argsort(-score, kind="stable")
    ends = np.flatnonzero(np.diff(score[order], append=-np.inf))
    hits = np.cumsum(right[order])[ends]
    gained = np.diff(hits, prepend=0)
    return float((gained * hits / (ends + 1)).sum() / max(1, int(hits[-1]))) if len(ends) else 0.0


def _is_probability(value: float | None) -> bool:
    return value is not None and 0.0 <= value <= 1.0 + ROUNDING


def _values(column: Any, rows: int) -> list[Any]:
    found: list[Any] = [None] * rows if column is None else column.to_pylist()
    return found
