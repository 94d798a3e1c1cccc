"""How right predicted labels are: the output of jobs.predict beside the right answers, in one pass over its parts.

    kind       a row holds                                                   what is compared
    labels     a list of texts, a label a word                               words; spans too, if a scheme writes them
    entities   a list of structs with start_word, end_word (exclusive), type  sets of spans, nested ones too
    label      a text, the class of the row                                  rows

Labels against entities are compared by their spans. A row with an error or without a prediction counts as one in which
every word is wrong and no span was found, or a system would gain by failing where it is hard. A row without a
reference (null, or no label) is counted and left out. What is kept grows with classes and distinct counts, not rows.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rnnlm.data.column_types import is_list
from rnnlm.data.files import expand_paths
from rnnlm.data.labels.entities import spans_in
from rnnlm.data.labels.schemes import OUTSIDE, Scheme, Span, scheme_of_names, spans_of
from rnnlm.determinism import derive_seed
from rnnlm.errors import DataError, Place
from rnnlm.evaluation.label_metrics import (
    ClassScores,
    LevelRecall,
    Reliability,
    level_recall,
    reliability,
    score_classes,
)
from rnnlm.evaluation.scored import ERROR, Need, read_batches, text_need
from rnnlm.storage import open_location

Kind = Literal["labels", "entities", "label"]
KINDS: tuple[Kind, ...] = ("labels", "entities", "label")
USUAL_PREFIXES = ("predicted_", "")
SEED = 1
NUM_BINS = 15  # of confidence, as Guo et al. 2017 have
MAX_MISTAKES = 24  # that are shown, of each sort
CONTEXT = 12  # words on either side of a mistake
MAX_CHARS = 300  # of a text that stands for a row


@dataclass(frozen=True)
class LabelColumns:
    """Names of columns; `prefix` is that of jobs.predict (null: predicted_, else none). `words` and `text` are for
    examples, and may be missing."""

    reference: str
    prefix: str | None = None
    words: str | None = "words"
    text: str | None = "text"


@dataclass(frozen=True)
class Estimate:
    """A share from 0 to 1, and what holds 95 % of its values over draws of the rows (percentile bootstrap)."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Mistake:
    """A wrong word, or a wrong span, in its sentence. `reference` and `predicted` are labels, or the types of spans
    there; `confidence` is that of the prediction, if it is known. `row` counts from 0 over all parts."""

    row: int
    before: str
    text: str
    after: str
    reference: str
    predicted: str
    confidence: float | None = None


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

    def most_confused(self, count: int) -> list[tuple[str, str, int]]:
        """The commonest mistakes: reference, prediction, how often."""
        wrong = [(*pair, number) for pair, number in self.pairs.items() if pair[0] != pair[1]]
        return sorted(wrong, key=lambda one: (-one[2], one[:2]))[:count]


@dataclass(frozen=True)
class SpanScores:
    """Of spans: one is right if its words and its type are, at whatever level it stands."""

    f1: Estimate
    classes: ClassScores
    levels: LevelRecall
    missed: list[Mistake]
    spurious: list[Mistake]  # the most confident first


@dataclass(frozen=True)
class Labelled:
    """All that is said of predicted labels; at least one of `tags` and `spans` is there."""

    path: str
    reference_column: str
    predicted_column: str
    kind: Kind  # of the prediction
    scheme: Scheme | None
    rows: int  # with a reference
    errors: int  # of these, those without a prediction
    without_reference: int
    draws: int
    tags: TagScores | None
    spans: SpanScores | None


def evaluate_labels(path: str, columns: LabelColumns, *, scheme: Scheme | None = None, draws: int = 1000) -> Labelled:
    """Read and compare; `scheme` is that of the labels, null to guess it from them as jobs.predict does.

    Raises DataError for a file, a column or a row that is of no use, and if no row has a reference and a prediction.
    """
    files = expand_paths(path, (".parquet",))
    found = _find_columns(files[0], columns)
    work = _Pass(path, found, scheme)
    for batch in read_batches(files, found.needs()):
        work.add(batch)
    return work.result(draws)


def bootstrap(counts: Counter[tuple[int, int]], draws: int, seed: int = SEED) -> Estimate:
    """Of the ratio of two sums over rows: `counts` says how many rows add (above, below) to them.

    Rows that add the same need not be told apart, so a draw of all rows is one multinomial draw over distinct pairs.
    """
    pairs = np.array(sorted(counts), dtype=np.float64).reshape(-1, 2)
    numbers = np.array([counts[pair] for pair in sorted(counts)], dtype=np.int64)
    total = int(numbers.sum())
    above, below = (numbers @ pairs).tolist() if total else (0.0, 0.0)
    if not below:
        return Estimate(0.0, 0.0, 0.0)
    random = np.random.default_rng(derive_seed(seed, "bootstrap"))
    sums = np.stack([random.multinomial(total, numbers / total) @ pairs for _ in range(draws)])
    low, high = np.quantile(sums[:, 0] / np.maximum(sums[:, 1], 1.0), [0.025, 0.975])
    return Estimate(above / below, float(low), float(high))


# ----- columns


@dataclass(frozen=True)
class _Columns:
    """What was found in the first file; the others must have the same."""

    reference: str
    reference_kind: Kind
    predicted: str
    predicted_kind: Kind
    confidence: str | None
    words: str | None
    text: str | None

    def needs(self) -> dict[str, Need]:
        needs = {}
        for name, kind in ((self.reference, self.reference_kind), (self.predicted, self.predicted_kind)):
            needs[name] = Need(f"what was found in the first file ({kind})", _is_kind(kind), "evaluate one output")
        if self.confidence is not None:
            needs[self.confidence] = Need("numbers", _is_confidence(self.predicted_kind), "give the output of predict")
        if self.words is not None:
            needs.setdefault(self.words, Need("a list of texts", _is_kind("labels"), "set words_column"))
        if self.text is not None:
            needs.setdefault(self.text, text_need("set text_column, or null to do without"))
        return needs


def _find_columns(file: str, columns: LabelColumns) -> _Columns:
    schema = _schema(file)
    if columns.reference not in schema.names:
        raise DataError(
            f"there is no column '{columns.reference}' among {', '.join(schema.names)}",
            where=Place(file),
            todo="set reference_column",
        )
    kind = _kind(schema.field(columns.reference).type)
    if kind is None:
        raise DataError(
            f"the column has type {schema.field(columns.reference).type}; labels (a list of texts), entities (a list "
            "of structs with start_word, end_word and type) or a class (text) are needed",
            where=Place(file, column=columns.reference),
            todo="set reference_column",
        )
    kinds: list[Kind] = ["label"] if kind == "label" else sorted(("labels", "entities"), key=lambda one: one != kind)
    prefixes = USUAL_PREFIXES if columns.prefix is None else (columns.prefix,)
    candidates = [(prefix, one) for prefix in prefixes for one in kinds if prefix + one != columns.reference]
    for prefix, one in candidates:
        if prefix + one in schema.names and _kind(schema.field(prefix + one).type) == one:
            confidence = prefix + "confidence"
            has_confidence = confidence in schema.names and _is_confidence(one)(schema.field(confidence).type)
            return _Columns(
                columns.reference,
                kind,
                prefix + one,
                one,
                confidence if has_confidence else None,
                _first(schema, (prefix + "words", columns.words), "labels"),
                _first(schema, (columns.text,), "label"),
            )
    raise DataError(
        f"there is no prediction for '{columns.reference}': none of "
        f"{', '.join(prefix + one for prefix, one in candidates)} among {', '.join(schema.names)}",
        where=Place(file),
        todo="give the output of jobs.predict, and its prefix",
    )


def _schema(file: str) -> pa.Schema:
    try:
        with open_location(file).open_input() as stream:
            return pq.read_schema(stream)
    except (pa.ArrowException, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"not readable as Parquet: {reason}", where=Place(file), todo="write the file again") from error


def _first(schema: pa.Schema, names: Sequence[str | None], kind: Kind) -> str | None:
    there = (name for name in names if name in schema.names and _kind(schema.field(name).type) == kind)
    return next(there, None)


def _kind(found: pa.DataType) -> Kind | None:
    if text_need("").fits(found):
        return "label"
    if not is_list(found):
        return None
    if text_need("").fits(found.value_type):
        return "labels"
    if not pa.types.is_struct(found.value_type):
        return None
    inner = {one.name: one.type for one in found.value_type}
    places = all(name in inner and pa.types.is_integer(inner[name]) for name in ("start_word", "end_word"))
    return "entities" if places and "type" in inner and text_need("").fits(inner["type"]) else None


def _is_kind(kind: Kind) -> Any:
    return lambda found: _kind(found) == kind


def _is_confidence(kind: Kind) -> Any:
    if kind == "label":
        return pa.types.is_floating
    return lambda found: is_list(found) and pa.types.is_floating(found.value_type)


# ----- the pass


@dataclass
class _TagCounts:
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    unpredicted: Counter[str] = field(default_factory=Counter)  # references of rows without a prediction
    rows: Counter[tuple[int, int]] = field(default_factory=Counter)  # of (right words, words)
    bins: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros((3, NUM_BINS)))  # words, sure, right
    mistakes: list[Mistake] = field(default_factory=list)


@dataclass
class _SpanCounts:
    right: Counter[str] = field(default_factory=Counter)
    predicted: Counter[str] = field(default_factory=Counter)
    support: Counter[str] = field(default_factory=Counter)
    rows: Counter[tuple[int, int]] = field(default_factory=Counter)  # of (2 right, predicted and right ones)
    found: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(3, np.int64))  # outermost, innermost, inner
    total: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(3, np.int64))
    missed: list[Mistake] = field(default_factory=list)
    spurious: list[Mistake] = field(default_factory=list)


class _Pass:
    def __init__(self, path: str, columns: _Columns, scheme: Scheme | None) -> None:
        self._path, self._columns = path, columns
        self._given = self._scheme = scheme
        self._seen: set[str] = set()
        kinds = {columns.reference_kind, columns.predicted_kind}
        self._has_labels = "labels" in kinds
        self._tags = _TagCounts() if "entities" not in kinds else None
        self._spans = _SpanCounts() if kinds != {"label"} else None
        self._first = self._rows = self._errors = self._without = 0

    def add(self, batch: pa.RecordBatch) -> None:
        columns = self._columns
        reference = _as_lists(batch.column(columns.reference))
        predicted = _as_lists(batch.column(columns.predicted))
        given = _mask(reference.is_valid())
        if columns.reference_kind != "entities":
            given &= _mask(pc.fill_null(pc.greater(pc.list_value_length(reference), 0), False))
        failed = ~_mask(predicted.is_valid())
        if ERROR in batch.schema.names:
            failed |= _mask(batch.column(ERROR).is_valid())
        self._without += int((~given).sum())
        self._rows += int(given.sum())
        self._errors += int((given & failed).sum())
        for name, lists, rows in ((columns.reference, reference, given), (columns.predicted, predicted, ~failed)):
            self._check_values(lists, name, rows)
        if self._tags is not None:
            self._add_tags(self._tags, batch, reference, predicted, (given, failed))
        if self._spans is not None and self._knows_scheme(reference.filter(pa.array(given)), predicted):
            self._add_spans(self._spans, batch, reference, predicted, (given, failed))
        self._first += batch.num_rows

    def result(self, draws: int) -> Labelled:
        if self._rows == self._errors:
            raise DataError(
                f"no row has a reference and a prediction: {self._rows:,} rows have a reference, all of them without a "
                f"prediction, {self._without:,} rows have no reference",
                where=Place(self._path),
                todo="check predictions and reference_column",
            )
        if self._spans is not None and self._has_labels and self._given is None:
            self._scheme = scheme_of_names(self._seen)  # O may have been awaited until now
            if self._scheme is None:
                self._spans = None
        if self._tags is None and self._spans is None:
            raise self._no_scheme()
        return Labelled(
            self._path,
            self._columns.reference,
            self._columns.predicted,
            self._columns.predicted_kind,
            self._scheme if self._has_labels else None,
            self._rows,
            self._errors,
            self._without,
            draws,
            _tag_scores(self._tags, draws) if self._tags is not None else None,
            _span_scores(self._spans, draws) if self._spans is not None else None,
        )

    # ----- words

    def _add_tags(
        self,
        counts: _TagCounts,
        batch: pa.RecordBatch,
        reference: pa.Array,
        predicted: pa.Array,
        masks: tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]],
    ) -> None:
        given, failed = masks
        lost = reference.filter(pa.array(given & failed))
        counts.rows.update((0, length) for length in pc.list_value_length(lost).to_pylist())
        counts.unpredicted.update(lost.flatten().to_pylist())
        rows = np.flatnonzero(given & ~failed)
        if not len(rows):
            return
        reference, predicted = reference.take(pa.array(rows)), predicted.take(pa.array(rows))
        lengths = self._same_lengths(reference, predicted, rows, self._columns.predicted)
        right_labels, labels = reference.flatten(), predicted.flatten()
        table = pa.table({"reference": right_labels, "predicted": labels})
        for one in table.group_by(["reference", "predicted"]).aggregate([([], "count_all")]).to_pylist():
            counts.pairs[one["reference"], one["predicted"]] += one["count_all"]
        same = _mask(pc.equal(right_labels, labels))
        starts = np.cumsum(lengths) - lengths
        counts.rows.update(zip(np.add.reduceat(same, starts, dtype=np.int64).tolist(), lengths.tolist(), strict=True))
        sure = self._confidences(batch, reference, rows)
        if sure is not None:
            bins = self._reliability(sure, same)
            counts.bins += np.stack([bins.counts, bins.counts * bins.confidence, bins.counts * bins.accuracy])
        self._add_mistakes(counts, batch, rows, starts, (right_labels, labels, same, sure))

    def _add_mistakes(
        self,
        counts: _TagCounts,
        batch: pa.RecordBatch,
        rows: npt.NDArray[np.int64],
        starts: npt.NDArray[np.int64],
        flat: tuple[pa.Array, pa.Array, npt.NDArray[np.bool_], npt.NDArray[np.float64] | None],
    ) -> None:
        """Keep the most confident mistakes, of equals (and without confidences) the first."""
        right_labels, labels, same, sure = flat
        wrong = np.flatnonzero(~same)
        if sure is not None:
            wrong = wrong[np.argsort(-sure[wrong], kind="stable")]
        elif len(counts.mistakes) == MAX_MISTAKES:
            return
        for place in wrong[:MAX_MISTAKES].tolist():
            number = int(np.searchsorted(starts, place, side="right")) - 1
            word, row = place - int(starts[number]), int(rows[number])
            counts.mistakes.append(
                Mistake(
                    self._first + row,
                    *self._context(batch, row, word, word + 1),
                    right_labels[place].as_py(),
                    labels[place].as_py(),
                    None if sure is None else float(sure[place]),
                )
            )
        counts.mistakes = sorted(counts.mistakes, key=lambda one: -(one.confidence or 0.0))[:MAX_MISTAKES]

    def _confidences(
        self, batch: pa.RecordBatch, reference: pa.Array, rows: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64] | None:
        name = self._columns.confidence
        if name is None:
            return None
        lists = _as_lists(batch.column(name)).take(pa.array(rows))
        self._same_lengths(reference, lists, rows, name)
        return np.asarray(lists.flatten().cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)

    def _reliability(self, sure: npt.NDArray[np.float64], same: npt.NDArray[np.bool_]) -> Reliability:
        try:
            return reliability(np.where(sure <= 1.0 + 1e-5, np.minimum(sure, 1.0), sure), same, NUM_BINS)  # rounding
        except ValueError as error:
            place = Place(self._path, column=self._columns.confidence)
            raise DataError(str(error), where=place, todo="give the output of jobs.predict") from error

    def _same_lengths(
        self, reference: pa.Array, other: pa.Array, rows: npt.NDArray[np.int64], name: str
    ) -> npt.NDArray[np.int64]:
        """The lengths of lists, which must be those of the reference."""
        lengths, others = (
            np.array(pc.fill_null(pc.list_value_length(lists), -1).to_numpy(zero_copy_only=False), dtype=np.int64)
            for lists in (reference, other)
        )
        if (different := np.flatnonzero(lengths != others)).size:
            at = int(different[0])
            raise DataError(
                f"{max(0, int(others[at])):,} values, but {int(lengths[at]):,} in '{self._columns.reference}'",
                where=Place(self._path, row=self._first + int(rows[at]), column=name),
                todo="compare labels of the same words",
            )
        return lengths

    # ----- spans

    def _knows_scheme(self, reference: pa.Array, predicted: pa.Array) -> bool:
        """Whether labels, if there are any, can be read as spans, those of this batch and all before.

        A guess may change from batch to batch; spans stay the same, which all schemes read by one rule. Once there
        is a label that none has, there will be no guess.
        """
        if not self._has_labels or self._given is not None:
            return True
        for lists, kind in (
            (reference, self._columns.reference_kind),
            (predicted, self._columns.predicted_kind),
        ):
            if kind == "labels":
                self._seen.update(pc.unique(lists.flatten()).drop_null().to_pylist())
        self._scheme = scheme_of_names({*self._seen, OUTSIDE})
        if self._scheme is None and self._seen - {OUTSIDE}:
            if self._tags is None:
                raise self._no_scheme()
            self._spans = None
            return False
        return True

    def _no_scheme(self) -> DataError:
        shown = ", ".join(sorted(self._seen)[:5])
        return DataError(
            f"the labels ({shown}) are not O and others with the prefixes of a scheme: there are no spans to compare",
            where=Place(self._path),
            todo="set scheme, or compare labels with labels",
        )

    def _add_spans(
        self,
        counts: _SpanCounts,
        batch: pa.RecordBatch,
        reference: pa.Array,
        predicted: pa.Array,
        masks: tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]],
    ) -> None:
        references, predictions = [], []
        values = zip(reference.to_pylist(), predicted.to_pylist(), *(mask.tolist() for mask in masks), strict=True)
        for row, (right_value, value, is_given, has_failed) in enumerate(values):
            if not is_given:
                continue
            right = self._read_spans(right_value, row, self._columns.reference)
            found = set() if has_failed else self._read_spans(value, row, self._columns.predicted)
            references.append(right)
            predictions.append(found)
            counts.right.update(span.type for span in right & found)
            counts.predicted.update(span.type for span in found)
            counts.support.update(span.type for span in right)
            counts.rows[2 * len(right & found), len(right) + len(found)] += 1
            if right != found:
                scores = {} if has_failed else _scores(value)
                self._add_wrong_spans(counts, batch, row, (right, found), scores)
        levels = level_recall(references, predictions)
        total = np.array([levels.num_outermost, levels.num_innermost, levels.num_inner])
        counts.total += total
        counts.found += np.rint(total * [levels.outermost, levels.innermost, levels.inner]).astype(np.int64)
        counts.spurious = sorted(counts.spurious, key=lambda one: -(one.confidence or 0.0))[:MAX_MISTAKES]

    def _add_wrong_spans(
        self,
        counts: _SpanCounts,
        batch: pa.RecordBatch,
        row: int,
        spans: tuple[set[Span], set[Span]],
        scores: dict[Span, float],
    ) -> None:
        right, found = spans[0] - spans[1], spans[1] - spans[0]
        for span in sorted(right)[: MAX_MISTAKES - len(counts.missed)]:
            context = self._context(batch, row, span.start_word, span.end_word)
            counts.missed.append(Mistake(self._first + row, *context, span.type, _beside(span, found)))
        least = counts.spurious[MAX_MISTAKES - 1].confidence or 0.0 if len(counts.spurious) >= MAX_MISTAKES else -1.0
        for span in sorted(found):
            if scores.get(span, 0.0) > least:
                context = self._context(batch, row, span.start_word, span.end_word)
                beside, score = _beside(span, right), scores.get(span)
                counts.spurious.append(Mistake(self._first + row, *context, beside, span.type, score))

    def _read_spans(self, value: list[Any], row: int, column: str) -> set[Span]:
        if not value:
            return set()
        if isinstance(value[0], dict):
            return spans_in(value)
        try:
            return set(spans_of(value, self._scheme or "iob2"))
        except ValueError as error:
            place = Place(self._path, row=self._first + row, column=column)
            raise DataError(str(error), where=place, todo="set scheme to that of the labels, or to null") from error

    # ----- both

    def _check_values(self, lists: pa.Array, name: str, rows: npt.NDArray[np.bool_]) -> None:
        """Refuse lists that hold a null."""
        kept = np.flatnonzero(rows)
        for at, value in (
            zip(kept.tolist(), lists.take(pa.array(kept)), strict=True) if lists.flatten().null_count else ()
        ):
            if value.values.null_count:
                place = Place(self._path, row=self._first + at, column=name)
                raise DataError("a label is null", where=place, todo="leave such rows out: corpus.where")

    def _context(self, batch: pa.RecordBatch, row: int, start: int, end: int) -> tuple[str, str, str]:
        """What is before, within and behind some words; without a column of words, their numbers and the text."""
        columns = self._columns
        words = batch.column(columns.words)[row].as_py() if columns.words is not None else None
        if words and columns.reference_kind == "label":
            return "", _joined(words)[:MAX_CHARS], ""
        if words and end <= len(words):
            before, after = words[max(0, start - CONTEXT) : start], words[end : end + CONTEXT]
            return _joined(before), _joined(words[start:end]), _joined(after)
        text = batch.column(columns.text)[row].as_py() if columns.text is not None else None
        if columns.reference_kind == "label":
            return "", (text or "")[:MAX_CHARS], ""
        return "", f"word {start + 1}" if end == start + 1 else f"words {start + 1} to {end}", (text or "")[:MAX_CHARS]


def _tag_scores(counts: _TagCounts, draws: int) -> TagScores:
    right: Counter[str] = Counter()
    predicted: Counter[str] = Counter()
    support = Counter(counts.unpredicted)
    for (reference, prediction), number in counts.pairs.items():
        predicted[prediction] += number
        support[reference] += number
        if reference == prediction:
            right[reference] += number
    whole = sum(number for (hits, words), number in counts.rows.items() if hits == words)
    num_words, sure, hits = counts.bins
    divisor = np.maximum(num_words, 1.0)
    edges = np.linspace(0.0, 1.0, NUM_BINS + 1)
    bins = Reliability(edges, num_words.astype(np.int64), sure / divisor, hits / divisor) if num_words.any() else None
    return TagScores(
        bootstrap(counts.rows, draws),
        whole / max(1, counts.rows.total()),
        support.total(),
        counts.unpredicted.total(),
        score_classes(right, predicted, support),
        counts.pairs,
        bins,
        counts.mistakes,
    )


def _span_scores(counts: _SpanCounts, draws: int) -> SpanScores:
    shares = (counts.found / np.maximum(counts.total, 1)).tolist()
    return SpanScores(
        bootstrap(counts.rows, draws),
        score_classes(counts.right, counts.predicted, counts.support),
        LevelRecall(*shares, *counts.total.tolist()),
        counts.missed,
        counts.spurious,
    )


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


def _joined(words: Sequence[str | None]) -> str:
    return " ".join(word or "" for word in words)


def _as_lists(column: pa.Array) -> pa.Array:
    """Lists in one layout, whatever that of the file is; each value of a column of values is a list of one."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if not is_list(kind):
        values = column.cast(pa.string()) if not pa.types.is_floating(kind) else column
        offsets = pa.array(np.arange(len(column) + 1, dtype=np.int32))
        return pa.ListArray.from_arrays(offsets, values, mask=column.is_null())
    if pa.types.is_struct(kind.value_type) or pa.types.is_floating(kind.value_type):
        return column.cast(pa.list_(kind.value_type))
    return column.cast(pa.list_(pa.string()))


def _mask(values: pa.Array) -> npt.NDArray[np.bool_]:
    return np.array(values.to_numpy(zero_copy_only=False), dtype=np.bool_)
