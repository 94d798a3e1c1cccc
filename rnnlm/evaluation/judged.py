"""What a report says of outputs that have a right answer: figures, where they are good and bad, whom they beat."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from rnnlm.evaluation.hypotheses import (
    Attention,
    OutputColumns,
    Outputs,
    check_pair,
    has_attention,
    read_attention,
    read_outputs,
)
from rnnlm.evaluation.metric_names import Unit
from rnnlm.evaluation.sequence_metrics import (
    Counts,
    Figure,
    RowCounts,
    count_rows,
    measure,
    sentence_chrf,
)
from rnnlm.evaluation.significance import Comparison, compare, untested

LENGTH_GROUPS = 6
WORST, EXAMPLES = 8, 6
GOOD_MAPS, WORST_MAPS = 3, 2  # maps of attention
MAX_MAP_WORDS = 24  # of source and output: more does not fit on a screen

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Example:
    """A row to show; `quality` is 0 to 100."""

    row: int
    quality: float
    source: str | None
    text: str
    references: list[str]


@dataclass(frozen=True)
class LengthGroup:
    """The rows whose source (or reference) has so many words or characters."""

    label: str
    rows: int
    figures: list[Figure]


@dataclass(frozen=True)
class Judged:
    """All that is said of an output; rows without one count as empty ones."""

    path: str
    unit: Unit
    rows: int
    errors: int
    missing: int
    finish_reasons: Mapping[str, int]
    figures: list[Figure]
    length_ratio: float | None  # words of the outputs to words of the references
    quality_name: str
    quality: Counts  # of each row, 0 to 100
    length_of: str  # what the groups below are of
    by_length: list[LengthGroup]
    worst: list[Example]
    examples: list[Example]
    attention: list[Attention] = field(default_factory=list)
    baseline_column: str | None = None
    baseline: list[Figure] = field(default_factory=list)
    against: str | None = None
    against_quality: Counts | None = None
    comparisons: list[Comparison] = field(default_factory=list)
    draws: int = 0
    untested: list[str] = field(default_factory=list)

    def figure(self, metric: str) -> Figure | None:
        """The figure of a metric, if it was asked for."""
        return next((figure for figure in self.figures if figure.metric == metric), None)


def judge(
    path: str,
    columns: OutputColumns,
    metrics: Sequence[str],
    unit: Unit,
    *,
    against: str | None = None,
    draws: int = 1000,
) -> Judged:
    """Judge the output at `path`, and compare it with the one at `against`.

    Raises DataError for a file, a column or a row that is of no use.
    """
    ours = read_outputs(path, columns)
    theirs = read_outputs(against, OutputColumns(columns.reference)) if against is not None else None
    if theirs is not None:
        check_pair(ours, theirs)
    counts = count_rows(ours.texts, ours.references, unit)
    quality_name, quality = row_quality(ours, counts, metrics)
    length_of, by_length = _by_length(ours, counts, metrics, unit)
    ordered = np.argsort(quality, kind="stable")
    judged = Judged(
        path=path,
        unit=unit,
        rows=ours.rows,
        errors=ours.errors,
        missing=ours.missing,
        finish_reasons=dict(sorted(ours.finish_reasons.items())),
        figures=measure(metrics, ours.texts, ours.references, counts, unit),
        length_ratio=float(counts.output_words.sum() / counts.words.sum()) if counts.words.sum() else None,
        quality_name=quality_name,
        quality=quality,
        length_of=length_of,
        by_length=by_length,
        worst=_examples(ours, quality, [row for row in ordered.tolist() if ours.texts[row]][:WORST]),
        examples=_examples(ours, quality, [step * ours.rows // EXAMPLES for step in range(min(EXAMPLES, ours.rows))]),
        attention=_attention(ours, ordered),
        baseline_column=columns.baseline,
        baseline=_baseline(ours, metrics, unit),
    )
    return judged if theirs is None else _compared(judged, ours, theirs, counts, metrics, draws)


def row_quality(outputs: Outputs, counts: RowCounts, metrics: Sequence[str]) -> tuple[str, Counts]:
    """What rows are ordered by, 0 to 100: chrF if it was asked for, else 100 less the edits in % of the reference."""
    if "chrf" in metrics:
        return "chrF", sentence_chrf(outputs.texts, outputs.references)
    return "closeness", 100.0 * np.maximum(0.0, 1.0 - counts.edits / np.maximum(counts.length, 1.0))


def _compared(
    judged: Judged, ours: Outputs, theirs: Outputs, counts: RowCounts, metrics: Sequence[str], draws: int
) -> Judged:
    their_counts = count_rows(theirs.texts, theirs.references, judged.unit)
    return replace(
        judged,
        against=theirs.path,
        against_quality=row_quality(theirs, their_counts, metrics)[1],
        comparisons=compare(metrics, ours, theirs, (counts, their_counts), judged.unit, draws),
        draws=draws,
        untested=untested(metrics, ours.rows),
    )


def _baseline(outputs: Outputs, metrics: Sequence[str], unit: Unit) -> list[Figure]:
    """What a column of the table, taken as the output, is worth."""
    if outputs.baselines is None:
        return []
    counts = count_rows(outputs.baselines, outputs.references, unit)
    return measure(metrics, outputs.baselines, outputs.references, counts, unit)


def _by_length(
    outputs: Outputs, counts: RowCounts, metrics: Sequence[str], unit: Unit
) -> tuple[str, list[LengthGroup]]:
    """Groups of about equally many rows by the length of the source, or of the first reference where there is none."""
    texts = outputs.sources if outputs.sources is not None else [right[0] for right in outputs.references]
    lengths, length_unit = np.array([len(text.split()) for text in texts]), "words"
    if lengths.max() <= 1:  # single words, as in spelling to sound
        lengths, length_unit = np.array([len(text.strip()) for text in texts]), "characters"
    edges = np.unique(np.quantile(lengths, np.linspace(0.0, 1.0, LENGTH_GROUPS + 1), method="higher"))
    groups = []
    for low, high in zip([lengths.min(), *(edges[1:-1] + 1)], edges[1:] if len(edges) > 1 else edges, strict=True):
        rows = np.flatnonzero((lengths >= low) & (lengths <= high))
        if len(rows):
            figures = measure(
                metrics,
                [outputs.texts[row] for row in rows],
                [outputs.references[row] for row in rows],
                counts.of_rows(rows),
                unit,
            )
            label = f"{low}" if low == high else f"{low} to {high}"
            groups.append(LengthGroup(label, len(rows), figures))
    return f"{length_unit} of the {'source' if outputs.sources is not None else 'reference'}", groups


def _examples(outputs: Outputs, quality: Counts, rows: Sequence[int]) -> list[Example]:
    return [
        Example(
            row,
            float(quality[row]),
            outputs.sources[row] if outputs.sources is not None else None,
            outputs.texts[row],
            outputs.references[row],
        )
        for row in rows
    ]


def _attention(outputs: Outputs, ordered: Rows) -> list[Attention]:
    """Maps of some of the best rows and of some of the worst, none too large to be looked at and none trivial."""
    if not has_attention(outputs.path):
        return []
    lengths = np.array(
        [
            max(len(text.split()), len((outputs.sources or outputs.texts)[row].split()), 1)
            for row, text in enumerate(outputs.texts)
        ]
    )
    fitting = ordered[lengths[ordered] <= MAX_MAP_WORDS]
    written = [row for row in fitting.tolist() if outputs.texts[row]]
    middle = np.median(lengths[written]) if written else 0
    best = [row for row in reversed(written) if lengths[row] >= middle][:GOOD_MAPS]
    worst = [row for row in written if row not in best][:WORST_MAPS]
    return read_attention(outputs.path, [*best, *worst])
