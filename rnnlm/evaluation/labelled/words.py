"""One label each: those of words, or the class of a row.

With the words of training, words that it held and words that are new to it are told apart as well: what a tagger has
memorised, and what it makes of spelling and context.
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rnnlm.data.files import expand_paths
from rnnlm.data.labelled import WORDS
from rnnlm.errors import DataError, Place
from rnnlm.evaluation.label_metrics import ClassScores, Reliability, score_classes
from rnnlm.evaluation.labelled.bootstrap import Estimate, RowRatio
from rnnlm.evaluation.labelled.columns import kind_of
from rnnlm.evaluation.labelled.confidences import Confidences
from rnnlm.evaluation.labelled.mistakes import MAX_MISTAKES, Mistake, most_confident
from rnnlm.evaluation.labelled.pairs import Floats, Mask, Pair, as_lists, as_mask, list_lengths
from rnnlm.evaluation.scored import Need, read_batches

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Known:
    """Accuracy on words that training held (`known`) and on others."""

    known: Estimate
    unknown: Estimate
    num_known: int
    num_unknown: int


@dataclass(frozen=True)
class TagScores:
    """Of words, or of rows with a class each; `pairs` counts (reference, predicted) of all that have both."""

    accuracy: Estimate
    sentences: float  # share of rows without a mistake
    words: int
    unpredicted: int  # words of rows without a prediction
    classes: ClassScores
    pairs: Counter[tuple[str, str]]
    reliability: Reliability | None
    mistakes: list[Mistake]  # the most confident first
    known: Known | None = None

    def most_confused(self, count: int) -> list[tuple[str, str, int]]:
        """The commonest mistakes: reference, prediction, how often."""
        wrong = [(*pair, number) for pair, number in self.pairs.items() if pair[0] != pair[1]]
        return sorted(wrong, key=lambda one: (-one[2], one[:2]))[:count]


def read_known_words(path: str) -> pa.Array:
    """The distinct words of a labelled table of jobs.tokenize_corpus. Raises DataError if there are none."""
    files = expand_paths(path, (".parquet",))
    todo = "give the output of jobs.tokenize_corpus"
    needs = {WORDS: Need("a list of texts", lambda found: kind_of(found) == "labels", todo)}
    found = pa.array([], pa.string())
    for batch in read_batches(files, needs):
        words = as_lists(batch.column(WORDS)).flatten()
        found = pc.unique(pa.concat_arrays([found, pc.unique(words)])).drop_null()
    if not len(found):
        raise DataError("the table holds no words", where=Place(path), todo=todo)
    return found


class TagScorer:
    """Adds up batches; `known` are the words of training."""

    def __init__(self, *, keep_rows: bool = False, known: pa.Array | None = None) -> None:
        self.accuracy = RowRatio(keep_rows=keep_rows)
        self.known = self.unknown = None
        self._known_words = known
        if known is not None:
            self.known, self.unknown = RowRatio(keep_rows=keep_rows), RowRatio(keep_rows=keep_rows)
        self._pairs: Counter[tuple[str, str]] = Counter()
        self._unpredicted: Counter[str] = Counter()  # references of rows without a prediction
        self._confidences = Confidences()
        self._mistakes: list[Mistake] = []

    def add(self, pair: Pair) -> Mask:
        """Which rows of the batch are right as a whole."""
        rows = pair.scored
        pair.check_lengths(pair.predicted, pair.reference, rows, pair.columns.predicted)
        self._check_words(pair)
        given = np.flatnonzero(pair.given)
        lengths = np.maximum(list_lengths(pair.reference), 0)[given]
        row_of = np.repeat(given, lengths)
        right = np.zeros(len(row_of), dtype=np.bool_)
        lost = pair.reference.filter(pa.array(pair.given & pair.failed))
        self._unpredicted.update(lost.flatten().to_pylist())
        if len(rows):
            right[~pair.failed[row_of]] = self._add_scored(pair, rows)
        hits = np.bincount(row_of, weights=right, minlength=len(pair.given))[given]
        self.accuracy.add(hits, lengths)
        self._add_known(pair, row_of, right)
        whole = np.zeros(len(pair.given), dtype=np.bool_)
        whole[given] = hits == lengths
        return whole

    def _add_scored(self, pair: Pair, rows: Rows) -> Mask:
        """Which labels of rows with a prediction are right."""
        reference, labels = (one.take(pa.array(rows)).flatten() for one in (pair.reference, pair.predicted))
        table = pa.table({"reference": reference, "predicted": labels})
        for one in table.group_by(["reference", "predicted"]).aggregate([([], "count_all")]).to_pylist():
            self._pairs[one["reference"], one["predicted"]] += one["count_all"]
        same = as_mask(pc.equal(reference, labels))
        sure = None
        if pair.confidence is not None:
            name = pair.columns.confidence
            pair.check_lengths(pair.confidence, pair.reference, rows, name)
            values = pair.confidence.take(pa.array(rows)).flatten().cast(pa.float64())
            sure = np.asarray(values.to_numpy(zero_copy_only=False), dtype=np.float64)
            self._confidences.add(sure, same, Place(pair.path, column=name))
        self._add_mistakes(pair, rows, (reference, labels), same, sure)
        return same

    def _add_mistakes(
        self, pair: Pair, rows: Rows, flat: tuple[pa.Array, pa.Array], same: Mask, sure: Floats | None
    ) -> None:
        """Keep the most confident mistakes, of equals (and without confidences) the first."""
        wrong = np.flatnonzero(~same)
        if sure is not None:
            wrong = wrong[np.argsort(-sure[wrong], kind="stable")]
        elif len(self._mistakes) == MAX_MISTAKES:
            return
        lengths = list_lengths(pair.reference)[rows]
        starts = np.cumsum(lengths) - lengths
        for place in wrong[:MAX_MISTAKES].tolist():
            number = int(np.searchsorted(starts, place, side="right")) - 1
            word, row = place - int(starts[number]), int(rows[number])
            of_row = pair.columns.reference_kind == "label"
            context = pair.context.whole(row) if of_row else pair.context.around(row, word, word + 1)
            reference, predicted = (one[place].as_py() for one in flat)
            confidence = None if sure is None else float(sure[place])
            self._mistakes.append(Mistake(pair.first + row, *context, reference, predicted, confidence))
        self._mistakes = most_confident(self._mistakes)

    def _check_words(self, pair: Pair) -> None:
        """Refuse words that are not as many as labels: those may be classes of the row."""
        words = pair.context.words
        if pair.columns.reference_kind == "label":
            return
        if words is not None:
            rows = pair.given & (as_mask(words.is_valid()) | (self.known is not None))
            pair.check_lengths(as_lists(words), pair.reference, np.flatnonzero(rows), pair.context.words_column)
        elif self.known is not None:
            raise DataError(
                "there is no column of words, which train_tokens is compared with",
                where=Place(pair.path),
                todo="set words_column, or leave train_tokens out",
            )

    def _add_known(self, pair: Pair, row_of: Rows, right: Mask) -> None:
        """Count the right ones among known words and among others, a row each."""
        if self.known is None or self.unknown is None:
            return
        given = np.flatnonzero(pair.given)
        words = as_lists(pair.context.words).take(pa.array(given)).flatten()
        is_known = as_mask(pc.is_in(words, value_set=self._known_words))
        for ratio, those in ((self.known, is_known), (self.unknown, ~is_known)):
            hits, count = (
                np.bincount(row_of, weights=one, minlength=len(pair.given))[given] for one in (right & those, those)
            )
            ratio.add(hits, count)

    def scores(self, draws: int) -> TagScores:
        """Of all batches."""
        right: Counter[str] = Counter()
        predicted: Counter[str] = Counter()
        support = Counter(self._unpredicted)
        for (reference, prediction), number in self._pairs.items():
            predicted[prediction] += number
            support[reference] += number
            if reference == prediction:
                right[reference] += number
        rows = self.accuracy.counts
        whole = sum(number for (hits, words), number in rows.items() if hits == words)
        return TagScores(
            self.accuracy.estimate(draws),
            whole / max(1, rows.total()),
            support.total(),
            self._unpredicted.total(),
            score_classes(right, predicted, support),
            self._pairs,
            self._confidences.result(),
            self._mistakes,
            self._known(draws),
        )

    def _known(self, draws: int) -> Known | None:
        if self.known is None or self.unknown is None:
            return None
        return Known(self.known.estimate(draws), self.unknown.estimate(draws), self.known.below, self.unknown.below)
