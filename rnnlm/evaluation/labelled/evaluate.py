"""How right predicted labels are, in one pass over the parts of an output.

    words (tags)                a label a word on both sides; spans too, if a scheme writes them
    rows (tags)                 one class on both sides
    rows (class_sets)           any number of classes on either side
    spans                       entities on either side; labels on the other are read by the rule of conlleval
    frames                      intent and slots; intents are tags or class_sets, slots are spans

A row with an error or without a prediction counts as one in which every word is wrong and nothing was found, or a
system would gain by failing where it is hard. A row without a reference (null, or no label) is counted and left out.
What is kept grows with classes and distinct counts, not rows, but for `keep_rows` and average precision.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from rnnlm.data.files import expand_paths
from rnnlm.data.labels.schemes import Scheme
from rnnlm.errors import DataError, Place
from rnnlm.evaluation.label_metrics import ClassScores
from rnnlm.evaluation.labelled.bootstrap import Estimate, RowRatio
from rnnlm.evaluation.labelled.class_sets import ClassSetScorer, ClassSetScores
from rnnlm.evaluation.labelled.columns import Columns, Kind, LabelColumns, find_columns
from rnnlm.evaluation.labelled.frames import FrameScorer, FrameScores
from rnnlm.evaluation.labelled.pairs import Pair, pair_of
from rnnlm.evaluation.labelled.spans import SpanScorer, SpanScores
from rnnlm.evaluation.labelled.words import TagScorer, TagScores
from rnnlm.evaluation.scored import read_batches


@dataclass(frozen=True)
class Labelled:
    """All that is said of predicted labels; `tags`, `class_sets` or `spans` is there."""

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
    class_sets: ClassSetScores | None = None
    frames: FrameScores | None = None
    intent_column: str | None = None

    @property
    def unit(self) -> str:
        """What spans are called."""
        return "slots" if self.frames is not None else "spans"

    def figures(self) -> dict[str, Estimate]:
        """Those with an interval by their names, the chief one first."""
        intent = "intent " if self.frames is not None else ""
        found: dict[str, Estimate] = {}
        if self.frames is not None:
            found["frame accuracy"] = self.frames.accuracy
        if self.spans is not None:
            found[f"F1 of {self.unit}"] = self.spans.f1
        if self.tags is not None:
            found[f"{intent}accuracy"] = self.tags.accuracy
            if self.tags.known is not None:
                found["accuracy on known words"] = self.tags.known.known
                found["accuracy on unknown words"] = self.tags.known.unknown
        if self.class_sets is not None:
            found[f"{intent}micro F1"] = self.class_sets.f1
            found[f"{intent}exact match"] = self.class_sets.exact
        return found

    def chief_classes(self) -> tuple[str, ClassScores]:
        """What the classes are of, and their scores: of spans, if there are any, else of words or rows."""
        if self.spans is not None:
            return self.unit, self.spans.classes
        if self.class_sets is not None:
            return "rows", self.class_sets.classes
        assert self.tags is not None
        return "words" if self.kind == "labels" else "rows", self.tags.classes


@dataclass(frozen=True)
class Rows:
    """What makes two systems comparable row by row: what each row adds to the figures, and the references."""

    ratios: dict[str, RowRatio]  # by the names of `Labelled.figures`
    references: list[pa.Array]


def evaluate_labels(
    path: str,
    columns: LabelColumns,
    *,
    scheme: Scheme | None = None,
    draws: int = 1000,
    known: pa.Array | None = None,
) -> Labelled:
    """Read and compare; `scheme` is that of the labels, null to guess it from them as jobs.predict does; `known` are
    the words of training.

    Raises DataError for a file, a column or a row that is of no use, and if no row has a reference and a prediction.
    """
    return evaluate_rows(path, columns, scheme=scheme, draws=draws, known=known, keep_rows=False)[0]


def evaluate_rows(
    path: str,
    columns: LabelColumns,
    *,
    scheme: Scheme | None,
    draws: int,
    known: pa.Array | None,
    keep_rows: bool,
) -> tuple[Labelled, Rows]:
    """The same, and its rows."""
    files = expand_paths(path, (".parquet",))
    found = find_columns(files[0], columns)
    work = _Pass(path, found, scheme, known, keep_rows=keep_rows)
    for batch in read_batches(files, found.needs()):
        work.add(batch)
    return work.result(draws)


class _Pass:
    def __init__(
        self, path: str, columns: Columns, scheme: Scheme | None, known: pa.Array | None, *, keep_rows: bool
    ) -> None:
        self._path, self._columns, self._keep_rows = path, columns, keep_rows
        self._first = self._rows = self._errors = self._without = 0
        self._references: list[pa.Array] = []
        kinds, labels = columns.main.kinds, columns.intent or columns.main
        if known is not None and kinds != {"labels"}:
            raise DataError(
                f"'{columns.main.predicted}' has no labels of words, which train_tokens is about",
                where=Place(path),
                todo="leave train_tokens out",
            )
        rows: TagScorer | ClassSetScorer | None = None
        if "classes" in labels.kinds:
            rows = ClassSetScorer(keep_rows=keep_rows)
        elif "entities" not in labels.kinds:
            rows = TagScorer(keep_rows=keep_rows, known=known)
        self._tags = rows if isinstance(rows, TagScorer) else None
        self._class_sets = rows if isinstance(rows, ClassSetScorer) else None
        has_spans = bool(kinds & {"labels", "entities"})
        self._spans = SpanScorer(scheme, alone="entities" in kinds, keep_rows=keep_rows) if has_spans else None
        self._frames: FrameScorer | None = None
        if columns.intent is not None:
            assert self._spans is not None
            assert rows is not None
            self._frames = FrameScorer(self._spans, rows, keep_rows=keep_rows)

    def add(self, batch: pa.RecordBatch) -> None:
        columns = self._columns
        pairs = [
            pair_of(batch, one, columns, self._path, self._first)
            for one in (columns.main, columns.intent)
            if one is not None
        ]
        main = pairs[0]
        if self._frames is not None:
            pairs = _together(pairs)
            self._frames.add(*pairs)
        else:
            for scorer in (self._tags, self._class_sets, self._spans):
                if scorer is not None:
                    scorer.add(main)
        given, failed = pairs[0].given, pairs[0].failed
        self._without += int((~given).sum())
        self._rows += int(given.sum())
        self._errors += int((given & failed).sum())
        self._first += batch.num_rows
        if self._keep_rows:
            self._references.append(_joined([pair.reference for pair in pairs]))

    def result(self, draws: int) -> tuple[Labelled, Rows]:
        if self._rows == self._errors:
            raise DataError(
                f"no row has a reference and a prediction: {self._rows:,} rows have a reference, all of them without a "
                f"prediction, {self._without:,} rows have no reference",
                where=Place(self._path),
                todo="check predictions and reference_column",
            )
        main, intent = self._columns.main, self._columns.intent
        spans = self._spans.scores(self._path, draws) if self._spans is not None else None
        labelled = Labelled(
            self._path,
            main.reference,
            main.predicted,
            main.predicted_kind,
            self._spans.scheme if self._spans is not None and spans is not None and "labels" in main.kinds else None,
            self._rows,
            self._errors,
            self._without,
            draws,
            self._tags.scores(draws) if self._tags is not None else None,
            spans,
            self._class_sets.scores(draws) if self._class_sets is not None else None,
            self._frames.scores(draws) if self._frames is not None else None,
            intent.reference if intent is not None else None,
        )
        return labelled, Rows(self._ratios(labelled), self._references)

    def _ratios(self, labelled: Labelled) -> dict[str, RowRatio]:
        """In the order of the figures, which are those that are there."""
        tags, sets = self._tags, self._class_sets
        ratios = [
            self._frames.accuracy if self._frames is not None else None,
            self._spans.f1 if self._spans is not None and labelled.spans is not None else None,
            *([tags.accuracy, tags.known, tags.unknown] if tags is not None else []),
            *([sets.f1, sets.exact] if sets is not None else []),
        ]
        there = [ratio for ratio in ratios if ratio is not None]
        return dict(zip(labelled.figures(), there, strict=True))


def _together(pairs: Sequence[Pair]) -> list[Pair]:
    """A row counts if it has all references, and has failed if any prediction has."""
    given = pairs[0].given & pairs[1].given
    failed = pairs[0].failed | pairs[1].failed
    return [replace(pair, given=given, failed=failed) for pair in pairs]


def _joined(references: Sequence[pa.ListArray]) -> pa.Array:
    """One array that is equal where all references are."""
    if len(references) == 1:
        return references[0]
    return pa.StructArray.from_arrays(references, ["slots", "intent"])
