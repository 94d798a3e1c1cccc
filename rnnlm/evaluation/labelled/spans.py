"""Sets of spans, nested ones too: entities, slots, or what labels stand for by the rule of conlleval."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rnnlm.data.labels.entities import spans_in
from rnnlm.data.labels.schemes import OUTSIDE, Scheme, Span, scheme_of_names, spans_of
from rnnlm.errors import DataError, Place
from rnnlm.evaluation.label_metrics import ClassScores, LevelRecall, Reliability, level_recall, score_classes
from rnnlm.evaluation.labelled.bootstrap import Estimate, RowRatio
from rnnlm.evaluation.labelled.confidences import Confidences
from rnnlm.evaluation.labelled.mistakes import MAX_MISTAKES, Mistake, most_confident
from rnnlm.evaluation.labelled.nested import MAX_EXAMPLES, MAX_WORDS, NestedExample, boxes, holds_nested
from rnnlm.evaluation.labelled.pairs import Mask, Pair


@dataclass(frozen=True)
class SpanScores:
    """Of spans: one is right if its words and its type are, at whatever level it stands."""

    f1: Estimate
    classes: ClassScores
    levels: LevelRecall
    reliability: Reliability | None  # of the scores of predicted spans
    missed: list[Mistake]
    spurious: list[Mistake]  # the most confident first
    nested: list[NestedExample]


class SpanScorer:
    """Adds up batches.

    Without a given scheme labels are read as they look, and a guess may change from batch to batch; spans stay the
    same, which all schemes read by one rule. Once there is a label that no scheme has, `gave_up` is set, or, if spans
    are all that can be compared (`alone`), DataError raised.
    """

    def __init__(self, scheme: Scheme | None, *, alone: bool, keep_rows: bool = False) -> None:
        self.f1 = RowRatio(keep_rows=keep_rows)  # of (2 right, predicted and right ones)
        self.scheme, self.gave_up = scheme, False
        self._guesses, self._alone = scheme is None, alone
        self._seen: set[str] = set()
        self._right: Counter[str] = Counter()
        self._predicted: Counter[str] = Counter()
        self._support: Counter[str] = Counter()
        self._found = np.zeros(3, np.int64)  # outermost, innermost, inner
        self._total = np.zeros(3, np.int64)
        self._confidences = Confidences()
        self._missed: list[Mistake] = []
        self._spurious: list[Mistake] = []
        self._nested: list[NestedExample] = []

    def add(self, pair: Pair) -> Mask:
        """Which rows of the batch are right as a whole."""
        whole = np.zeros(len(pair.given), dtype=np.bool_)
        if self.gave_up or not self._knows_scheme(pair):
            return whole
        references, predictions = [], []
        sure: list[tuple[float, bool]] = []
        values = zip(pair.reference.to_pylist(), pair.predicted.to_pylist(), pair.given, pair.failed, strict=True)
        for row, (right_value, value, is_given, has_failed) in enumerate(values):
            if not is_given:
                continue
            right = self.read(pair, right_value, row, pair.columns.reference)
            found = set() if has_failed else self.read(pair, value, row, pair.columns.predicted)
            scores = {} if has_failed else _scores(value)
            references.append(right)
            predictions.append(found)
            sure += [(score, span in right) for span, score in scores.items()]
            whole[row] = right == found and not has_failed
            if right != found:
                self._add_mistakes(pair, row, (right, found), scores)
            elif len(self._nested) < MAX_EXAMPLES and holds_nested(found):
                self._add_nested(pair, row, found)
        self._add_counts(references, predictions)
        place = Place(pair.path, column=pair.columns.predicted)
        self._confidences.add([one for one, _ in sure], [hit for _, hit in sure], place)
        self._spurious = most_confident(self._spurious)
        return whole

    def read(self, pair: Pair, value: list[Any], row: int, column: str) -> set[Span]:
        """The spans of one value."""
        if not value:
            return set()
        if isinstance(value[0], dict):
            return spans_in(value)
        try:
            return set(spans_of(value, self.scheme or "iob2"))
        except ValueError as error:
            todo = "set scheme to that of the labels, or to null"
            raise DataError(str(error), where=pair.place(row, column), todo=todo) from error

    def scores(self, path: str, draws: int) -> SpanScores | None:
        """Of all batches; None if labels stand for no spans."""
        if self._seen and not self.gave_up:
            self.scheme = scheme_of_names(self._seen)  # O may have been awaited until now
            if self.scheme is None:
                self._give_up(path)
        if self.gave_up:
            return None
        shares = (self._found / np.maximum(self._total, 1)).tolist()
        return SpanScores(
            self.f1.estimate(draws),
            score_classes(self._right, self._predicted, self._support),
            LevelRecall(*shares, *self._total.tolist()),
            self._confidences.result(),
            self._missed,
            self._spurious,
            self._nested,
        )

    def _knows_scheme(self, pair: Pair) -> bool:
        """Whether labels, if there are any, can be read as spans, those of this batch and all before."""
        columns = pair.columns
        if not self._guesses or "labels" not in columns.kinds:
            return True
        rows = pair.reference.filter(pa.array(pair.given))
        for lists, kind in ((rows, columns.reference_kind), (pair.predicted, columns.predicted_kind)):
            if kind == "labels":
                self._seen.update(pc.unique(lists.flatten()).drop_null().to_pylist())
        self.scheme = scheme_of_names({*self._seen, OUTSIDE})
        if self.scheme is None and self._seen - {OUTSIDE}:
            self._give_up(pair.path)
        return not self.gave_up

    def _give_up(self, path: str) -> None:
        if self._alone:
            shown = ", ".join(sorted(self._seen)[:5])
            raise DataError(
                f"the labels ({shown}) are not O and others with the prefixes of a scheme: there are no spans to "
                "compare",
                where=Place(path),
                todo="set scheme, or compare labels with labels",
            )
        self.gave_up = True

    def _add_counts(self, references: list[set[Span]], predictions: list[set[Span]]) -> None:
        for right, found in zip(references, predictions, strict=True):
            self._right.update(span.type for span in right & found)
            self._predicted.update(span.type for span in found)
            self._support.update(span.type for span in right)
        self.f1.add(
            [2 * len(right & found) for right, found in zip(references, predictions, strict=True)],
            [len(right) + len(found) for right, found in zip(references, predictions, strict=True)],
        )
        levels = level_recall(references, predictions)
        total = np.array([levels.num_outermost, levels.num_innermost, levels.num_inner])
        self._total += total
        self._found += np.rint(total * [levels.outermost, levels.innermost, levels.inner]).astype(np.int64)

    def _add_nested(self, pair: Pair, row: int, spans: set[Span]) -> None:
        words = pair.context.words_of(row)
        if words and max(span.end_word for span in spans) <= len(words) <= MAX_WORDS:
            self._nested.append(NestedExample(pair.first + row, list(boxes(words, spans))))

    def _add_mistakes(
        self, pair: Pair, row: int, spans: tuple[set[Span], set[Span]], scores: dict[Span, float]
    ) -> None:
        right, found = spans[0] - spans[1], spans[1] - spans[0]
        for span in sorted(right)[: MAX_MISTAKES - len(self._missed)]:
            context = pair.context.around(row, span.start_word, span.end_word)
            self._missed.append(Mistake(pair.first + row, *context, span.type, _beside(span, found)))
        is_full = len(self._spurious) >= MAX_MISTAKES
        least = self._spurious[MAX_MISTAKES - 1].confidence or 0.0 if is_full else -1.0
        for span in sorted(found):
            if scores.get(span, 0.0) > least:
                context = pair.context.around(row, span.start_word, span.end_word)
                beside, score = _beside(span, right), scores.get(span)
                self._spurious.append(Mistake(pair.first + row, *context, beside, span.type, score))


def _beside(span: Span, others: set[Span]) -> str:
    """The types of the wrong spans that share words with one, and their words if these are others."""
    shared = sorted(other for other in others if other.start_word < span.end_word and span.start_word < other.end_word)
    return ", ".join(
        other.type
        if other[:2] == span[:2]
        else f"{other.type} (words {other.start_word + 1}\N{EN DASH}{other.end_word})"
        for other in shared
    )


def _scores(value: list[Any]) -> dict[Span, float]:
    if not value or not isinstance(value[0], dict):
        return {}
    return {
        Span(one["start_word"], one["end_word"], one["type"]): one["score"]
        for one in value
        if one.get("score") is not None
    }
