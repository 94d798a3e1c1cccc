"""How right labels are: classes of texts, labels of words, spans, and structures of several.

All figures are shares from 0 to 1; nothing out of nothing is 0, as in conlleval. A span is right if its words and its
type are. What is averaged over:

    micro      all items
    macro      classes, each as much as any other: those of the references and those that were predicted
    weighted   classes, each as much as it is frequent in the references
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rnnlm.data.labels.schemes import Scheme, Span, spans_of

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scores:
    """Of one class, or an average; `support` is how many there are in the references."""

    precision: float
    recall: float
    f1: float
    support: int
    predicted: int


@dataclass(frozen=True)
class ClassScores:
    """Of every class, sorted, and averages."""

    classes: dict[str, Scores]
    micro: Scores
    macro: Scores
    weighted: Scores


def score_counts(right: int, predicted: int, support: int) -> Scores:
    """Precision, recall and F1 of counts."""
    return Scores(
        _ratio(right, predicted), _ratio(right, support), _ratio(2 * right, predicted + support), support, predicted
    )


def score_classes(right: Mapping[str, int], predicted: Mapping[str, int], support: Mapping[str, int]) -> ClassScores:
    """The same a class, and averages; a class without a count has none."""
    names = sorted({*right, *predicted, *support})
    classes = {name: score_counts(right.get(name, 0), predicted.get(name, 0), support.get(name, 0)) for name in names}
    micro = score_counts(sum(right.values()), sum(predicted.values()), sum(support.values()))
    found = list(classes.values())
    weights = np.array([one.support for one in found], dtype=np.float64)
    return ClassScores(classes, micro, _average(found, np.ones(len(found))), _average(found, weights))


# ----- one class of several


@dataclass(frozen=True)
class Confusion:
    """How often the class of a row, in the references, was predicted as that of a column."""

    classes: tuple[str, ...]
    counts: Counts

    @property
    def accuracy(self) -> float:
        return _ratio(int(np.trace(self.counts)), int(self.counts.sum()))

    def scores(self) -> ClassScores:
        """Each class against all others; micro is the accuracy."""
        columns = (np.diag(self.counts), self.counts.sum(axis=0), self.counts.sum(axis=1))
        right, predicted, support = (dict(zip(self.classes, map(int, one), strict=True)) for one in columns)
        return score_classes(right, predicted, support)

    def most_confused(self, count: int) -> list[tuple[str, str, int]]:
        """The commonest mistakes: reference, prediction, how often."""
        wrong = self.counts - np.diag(np.diag(self.counts))
        order = np.argsort(-wrong, axis=None, kind="stable")[:count]
        pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
        return [(self.classes[r], self.classes[p], int(wrong[r, p])) for r, p in pairs if wrong[r, p]]


def confusion(references: Iterable[str], predictions: Iterable[str], classes: Sequence[str] | None = None) -> Confusion:
    """Count; `classes` are those that occur if none are given. Raises ValueError if the lengths differ."""
    pairs = Counter(zip(references, predictions, strict=True))
    names = tuple(classes) if classes is not None else tuple(sorted({name for pair in pairs for name in pair}))
    place = {name: index for index, name in enumerate(names)}
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    for (reference, prediction), count in pairs.items():
        counts[place[reference], place[prediction]] = count
    return Confusion(names, counts)


# ----- several classes at once


@dataclass(frozen=True)
class MultiLabelScores:
    """`exact` is the share of texts with the right set of classes, `hamming_loss` of wrong decisions on a class."""

    scores: ClassScores
    exact: float
    hamming_loss: float


def score_multi_label(
    references: Sequence[Collection[str]],
    predictions: Sequence[Collection[str]],
    classes: Collection[str] | None = None,
) -> MultiLabelScores:
    """Sets of classes against sets; `classes` are those that occur if none are given.

    Raises ValueError if the lengths differ.
    """
    right: Counter[str] = Counter()
    predicted: Counter[str] = Counter()
    support: Counter[str] = Counter()
    exact = wrong = 0
    for reference, prediction in zip(map(set, references), map(set, predictions), strict=True):
        right.update(reference & prediction)
        predicted.update(prediction)
        support.update(reference)
        exact += reference == prediction
        wrong += len(reference ^ prediction)
    names = {*predicted, *support, *(classes or ())}
    scores = score_classes(dict.fromkeys(names, 0) | right, predicted, support)
    return MultiLabelScores(scores, _ratio(exact, len(references)), _ratio(wrong, len(references) * len(names)))


# ----- labels of words


@dataclass(frozen=True)
class TaggingAccuracy:
    """Shares of words with the right label; `unknown` of those that training did not hold."""

    all: float
    unknown: float
    sentences: float
    words: int
    unknown_words: int


def tagging_accuracy(
    references: Sequence[Sequence[str]],
    predictions: Sequence[Sequence[str]],
    words: Sequence[Sequence[str]] | None = None,
    known: Collection[str] = frozenset(),
) -> TaggingAccuracy:
    """Label against label; `known` are the words of training. Without `words` none counts as unknown.

    Raises ValueError if lengths differ.
    """
    right = count = right_unknown = unknown = sentences = 0
    for row, (reference, prediction) in enumerate(zip(references, predictions, strict=True)):
        same = [a == b for a, b in zip(reference, prediction, strict=True)]
        right, count, sentences = right + sum(same), count + len(same), sentences + all(same)
        if words is not None:
            new = [hit for word, hit in zip(words[row], same, strict=True) if word not in known]
            right_unknown, unknown = right_unknown + sum(new), unknown + len(new)
    return TaggingAccuracy(
        _ratio(right, count), _ratio(right_unknown, unknown), _ratio(sentences, len(references)), count, unknown
    )


# ----- spans


def score_spans(references: Sequence[Collection[Span]], predictions: Sequence[Collection[Span]]) -> ClassScores:
    """Sets of spans, nested ones too, a text each; whatever level a span is of, it is one item.

    Raises ValueError if the lengths differ.
    """
    right: Counter[str] = Counter()
    predicted: Counter[str] = Counter()
    support: Counter[str] = Counter()
    for reference, prediction in zip(map(set, references), map(set, predictions), strict=True):
        right.update(span.type for span in reference & prediction)
        predicted.update(span.type for span in prediction)
        support.update(span.type for span in reference)
    return score_classes(right, predicted, support)


def score_labels(
    references: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]], scheme: Scheme
) -> ClassScores:
    """Spans of label sequences, as conlleval scores them. Raises ValueError if lengths differ or a label is none."""
    _check_lengths(references, predictions)
    return score_spans(
        [spans_of(labels, scheme) for labels in references], [spans_of(labels, scheme) for labels in predictions]
    )


@dataclass(frozen=True)
class LevelScores:
    """Columns of labels, one a level, each against its own; `combined` are the items of all of them together.

    Of the two levels of GermEval 2014 `combined.micro` is the official metric (strict, combined), `levels` are its
    separate ones. Unlike in `score_spans`, a span that stands at another level than in the reference is wrong.
    """

    combined: ClassScores
    levels: list[ClassScores]


def score_columns(
    references: Sequence[Sequence[Sequence[str]]], predictions: Sequence[Sequence[Sequence[str]]], scheme: Scheme
) -> LevelScores:
    """Columns of each text against columns: equally many everywhere. Raises ValueError if numbers or lengths differ."""
    depths = {len(columns) for columns in [*references, *predictions]}
    if len(depths) > 1:
        raise ValueError(f"the texts have {' or '.join(map(str, sorted(depths)))} columns of labels")
    levels: list[ClassScores] = []
    all_references: list[Sequence[str]] = []
    all_predictions: list[Sequence[str]] = []
    for level in range(max(depths, default=0)):
        reference, prediction = ([columns[level] for columns in texts] for texts in (references, predictions))
        levels.append(score_labels(reference, prediction, scheme))
        all_references += reference
        all_predictions += prediction
    return LevelScores(score_labels(all_references, all_predictions, scheme), levels)


@dataclass(frozen=True)
class LevelRecall:
    """Shares of spans of the references that were found, at whatever level, and how many there are."""

    outermost: float
    innermost: float
    inner: float
    num_outermost: int
    num_innermost: int
    num_inner: int


def level_recall(references: Sequence[Collection[Span]], predictions: Sequence[Collection[Span]]) -> LevelRecall:
    """Outermost spans lie in no other, innermost ones hold no other, inner ones lie in another.

    Of spans of the same words, none lies in the other. Raises ValueError if the lengths differ.
    """
    found: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for reference, prediction in zip(map(set, references), map(set, predictions), strict=True):
        for span in reference:
            lies_inside = any(_holds(other, span) for other in reference)
            kinds = ["inner" if lies_inside else "outermost"]
            if not any(_holds(span, other) for other in reference):
                kinds.append("innermost")
            total.update(kinds)
            found.update(kinds if span in prediction else ())
    kinds = ["outermost", "innermost", "inner"]
    outermost, innermost, inner = (_ratio(found[kind], total[kind]) for kind in kinds)
    return LevelRecall(outermost, innermost, inner, *(total[kind] for kind in kinds))


# ----- structures


@dataclass(frozen=True)
class StructureScores:
    """`intent` is accuracy, `slots` those of spans, `exact` the share of texts with the right intent and slots."""

    intent: float
    slots: ClassScores
    exact: float


def score_structures(
    intents: Sequence[str],
    predicted_intents: Sequence[str],
    slots: Sequence[Sequence[str]],
    predicted_slots: Sequence[Sequence[str]],
    scheme: Scheme,
) -> StructureScores:
    """Intents and slots of the same texts. Slots are right if their spans are, however labels write them.

    Raises ValueError if lengths differ or a label is none.
    """
    same_intent = [a == b for a, b in zip(intents, predicted_intents, strict=True)]
    same_slots = [spans_of(a, scheme) == spans_of(b, scheme) for a, b in zip(slots, predicted_slots, strict=True)]
    exact = sum(a and b for a, b in zip(same_intent, same_slots, strict=True))
    return StructureScores(
        _ratio(sum(same_intent), len(intents)),
        score_labels(slots, predicted_slots, scheme),
        _ratio(exact, len(intents)),
    )


# ----- calibration


@dataclass(frozen=True)
class Reliability:
    """Predictions by confidence, in bins of equal width: `edges` (one more than bins), and for each bin how many there
    are, their mean confidence and their accuracy (0 where there are none)."""

    edges: Floats
    counts: Counts
    confidence: Floats
    accuracy: Floats

    @property
    def expected_calibration_error(self) -> float:
        """The mean distance of accuracy from confidence, each bin as much as it holds (Guo et al. 2017)."""
        return _ratio(float((self.counts * self._distances()).sum()), int(self.counts.sum()))

    @property
    def maximum_calibration_error(self) -> float:
        """The largest such distance."""
        return float(self._distances().max(initial=0.0))

    def _distances(self) -> Floats:
        return np.abs(self.accuracy - self.confidence)


def reliability(confidences: npt.ArrayLike, right: npt.ArrayLike, num_bins: int = 15) -> Reliability:
    """Of probabilities of what was predicted, and whether it was right; a bin holds its upper edge, not its lower one.

    Raises ValueError at a confidence outside [0, 1], and if the lengths differ.
    """
    sure, hit = np.asarray(confidences, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if sure.shape != hit.shape:
        raise ValueError(f"{sure.shape} confidences, but {hit.shape} results")
    if not ((sure >= 0.0) & (sure <= 1.0)).all():
        raise ValueError("a confidence is not a number from 0 to 1")
    edges = np.linspace(0.0, 1.0, num_bins + 1)
    bins = np.searchsorted(edges[1:-1], sure, side="left")
    counts = np.bincount(bins, minlength=num_bins)
    divisor = np.maximum(counts, 1)
    means = (np.bincount(bins, weights=values, minlength=num_bins) / divisor for values in (sure, hit))
    return Reliability(edges, counts, *means)


def _ratio(above: float, below: float) -> float:
    return float(above) / float(below) if below else 0.0


def _average(scores: Sequence[Scores], weights: Floats) -> Scores:
    total = float(weights.sum())
    table = np.array([(one.precision, one.recall, one.f1) for one in scores], dtype=np.float64).reshape(-1, 3)
    precision, recall, f1 = (weights @ table / total).tolist() if total else (0.0, 0.0, 0.0)
    return Scores(precision, recall, f1, sum(one.support for one in scores), sum(one.predicted for one in scores))


def _holds(outer: Span, inner: Span) -> bool:
    """Whether a span lies in another one of more words."""
    (a, b), (c, d) = outer[:2], inner[:2]
    return a <= c and d <= b and (a, b) != (c, d)


def _check_lengths(references: Sequence[Sequence[str]], predictions: Sequence[Sequence[str]]) -> None:
    for row, (reference, prediction) in enumerate(zip(references, predictions, strict=True)):
        if len(reference) != len(prediction):
            raise ValueError(f"text {row + 1} has {len(reference)} labels, {len(prediction)} are predicted")
