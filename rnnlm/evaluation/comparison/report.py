"""A comparison told: report.html for people, report.md for reviews, report.json for programs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rnnlm.evaluation import plots
from rnnlm.evaluation.comparison.measures import COST, PARETO, QUALITY, Measure, best, measure, shown
from rnnlm.evaluation.comparison.notes import Note, incomparable
from rnnlm.evaluation.comparison.plots import plot_cost, plot_row_differences
from rnnlm.evaluation.comparison.runs import Kind, Run
from rnnlm.evaluation.comparison.scored_runs import Difference, ScoredComparison
from rnnlm.evaluation.comparison.settings import differing
from rnnlm.evaluation.leaderboard_plots import plot_curves
from rnnlm.evaluation.page import cut, figure, render_page, table_cell
from rnnlm.storage import Location

MAX_VALUE, MAX_DIGEST = 120, 12  # characters of a setting and of a fingerprint on the page
NOTHING_COMMON = (
    "no row with a text has a score in every run, so nothing is tested; look at the column `error` of the outputs"
)
MAX_DETAILS = 8  # runs whose rows are shown on the page; report.json has all


@dataclass(frozen=True)
class Comparison:
    """All that is told."""

    title: str
    kind: Kind
    runs: Sequence[Run]
    baseline: str
    scored: ScoredComparison | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def notes(self) -> list[Note]:
        """Why some figures do not compare."""
        return incomparable(self.kind, self.runs)


def write_comparison(comparison: Comparison, folder: Location) -> None:
    """Write the three files; the HTML last, since it is the one that people wait for."""
    page = _html(comparison)
    folder.join("report.json").write_text(json.dumps(comparison_data(comparison), indent=2, ensure_ascii=False) + "\n")
    folder.join("report.md").write_text(_markdown(comparison))
    folder.join("report.html").write_text(page)


def difference_sentences(comparison: Comparison) -> list[str]:
    """Each run against the baseline; why there is none if nothing could be tested."""
    if comparison.scored is None:
        return []
    if not comparison.scored.differences:
        return [NOTHING_COMMON]
    unit = comparison.scored.unit
    return [
        f"{one.run} against {comparison.baseline}: {one.value:+.4f} {unit} ({one.low:+.4f} to {one.high:+.4f}): "
        f"{one.verdict()} ({_said_p(one, comparison.scored)})"
        for one in comparison.scored.differences
    ]


def _said_p(one: Difference, scored: ScoredComparison) -> str:
    """The p-value; the adjusted one too where it is another."""
    text = f"p = {one.p_value:.4f}"
    return f"{text}, {one.adjusted_p_value:.4f} by Holm" if len(scored.differences) > 1 else text


def comparison_data(comparison: Comparison) -> dict[str, Any]:
    """The content of report.json."""
    scored = comparison.scored
    return {
        "title": comparison.title,
        "kind": comparison.kind,
        "baseline": comparison.baseline,
        "notes": [note.text for note in comparison.notes],
        "runs": {run.name: {"path": run.path, "figures": dict(run.figures)} for run in comparison.runs},
        "best": {one.key: names for one in (*QUALITY[comparison.kind], *COST) if (names := _best(one, comparison))},
        "significance": _significance(scored) if scored else None,
        "settings": differing(comparison.runs),
        "versions": dict(comparison.versions),
    }


def _significance(scored: ScoredComparison) -> dict[str, Any]:
    paired = scored.paired
    return {
        "unit": scored.unit,
        "rows": paired.rows,
        "common_rows": paired.common,
        "rows_a_block": paired.rows_a_block,
        "draws": scored.draws,
        "differences": {
            one.run: {
                "value": one.value,
                "interval": [one.low, one.high],
                "p_value": one.p_value,
                "adjusted_p_value": one.adjusted_p_value,
                "verdict": one.verdict(),
                "better_rows": [asdict(row) for row in one.rows.better],
                "worse_rows": [asdict(row) for row in one.rows.worse],
            }
            for one in scored.differences
        },
    }


def _html(comparison: Comparison) -> str:
    scored = comparison.scored
    details = scored.differences[:MAX_DETAILS] if scored else []
    return render_page(
        Path(__file__).with_name("comparison.html.jinja"),
        comparison=comparison,
        notes=comparison.notes,
        tables=[(heading, *_table(comparison, measures)) for heading, measures in _tables(comparison.kind)],
        curves=_curves(comparison),
        pareto=_pareto(comparison),
        details=[(one, plot_row_differences(one.run, comparison.baseline, one.rows)) for one in details],
        untested=None if details else NOTHING_COMMON,
        undetailed=max(0, len(scored.differences) - MAX_DETAILS) if scored else 0,
        settings=_settings_rows(comparison.runs),
    )


def _tables(kind: Kind) -> list[tuple[str, Sequence[Measure]]]:
    return [("Figures", QUALITY[kind]), ("Cost", COST)]


def _table(
    comparison: Comparison, measures: Sequence[Measure]
) -> tuple[list[Measure], list[tuple[Run, list[tuple[str, bool]]]]]:
    """Columns, and of each run its cells: text, and whether it is the best."""
    columns = shown(measures, comparison.runs)
    tops = {one.key: _best(one, comparison) for one in columns}
    return columns, [
        (run, [(figure(run.figures.get(one.key), one.digits), run.name in tops[one.key]) for one in columns])
        for run in comparison.runs
    ]


def _best(one: Measure, comparison: Comparison) -> list[str]:
    if any(one.key in note.measures for note in comparison.notes):
        return []
    return best(one, comparison.runs)


def _curves(comparison: Comparison) -> list[plots.Drawing]:
    metrics = {run.name: run.metrics for run in comparison.runs if run.metrics}
    drawn = [
        plot_curves(metrics, kind=kind, clock=clock, of="runs")
        for clock in ("tokens", "wall_seconds")
        for kind in ("valid", "train")
    ]
    return [one for one in drawn if one is not None]


def _pareto(comparison: Comparison) -> plots.Drawing | None:
    cost, quality = map(measure, PARETO[comparison.kind])
    if any(quality.key in note.measures for note in comparison.notes):
        return None
    return plot_cost(comparison.runs, cost, quality)


def _settings_rows(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """Dotted path, and the value of each run; a dash where it has none."""
    rows = []
    for path, values in differing(runs).items():
        limit = MAX_DIGEST if path.startswith("fingerprint.") else MAX_VALUE
        rows.append((path, [cut(str(values[run.name]), limit) if run.name in values else figure(None) for run in runs]))
    return rows


def _markdown(comparison: Comparison) -> str:
    paragraphs = [f"# {table_cell(comparison.title)}", *(note.text for note in comparison.notes)]
    for heading, measures in _tables(comparison.kind):
        columns, rows = _table(comparison, measures)
        if columns:
            lines = [[run.name, *(f"**{text}**" if top else text for text, top in cells)] for run, cells in rows]
            paragraphs += [f"## {heading}", _markdown_table(["run", *(one.name for one in columns)], lines)]
    if comparison.scored:
        paragraphs += [
            "## Differences",
            "\n".join(f"- {line}" for line in map(table_cell, difference_sentences(comparison))),
        ]
    differing_lines = [[path, *values] for path, values in _settings_rows(comparison.runs)]
    paragraphs += [
        "## Settings that differ",
        _markdown_table(["setting", *(run.name for run in comparison.runs)], differing_lines),
    ]
    paragraphs.append(", ".join(f"{name} {version}" for name, version in comparison.versions.items()))
    return "\n\n".join(paragraphs) + "\n"


def _markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(table_cell(cell) for cell in line) + " |" for line in lines)
