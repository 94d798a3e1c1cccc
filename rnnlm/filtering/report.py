"""The report of a filtering: report.html for people, report.md for reviews, report.json for programs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rnnlm.config import TARGET, flatten
from rnnlm.errors import DataError
from rnnlm.evaluation.page import figure, render_page, table_cell
from rnnlm.evaluation.plots import check_installed
from rnnlm.filtering import plots
from rnnlm.filtering.groups import GroupedSketch
from rnnlm.filtering.partitions import Cuts, PartitionCounts
from rnnlm.filtering.quantiles import QuantileSketch
from rnnlm.storage import Location

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
MAX_TABLE_GROUPS = 40  # of the page; report.json has them all
MAX_NAMED = 12  # groups in a sentence


@dataclass(frozen=True)
class FilterReport:
    """All that a report shows; `sketches` are of the pass that found the cuts, `counts` of the one that used them."""

    title: str
    sketches: GroupedSketch
    cuts: Cuts
    counts: PartitionCounts
    score: str = "score"  # what it is called
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # sentences to show below the headline figures


def write_filter_report(report: FilterReport, folder: Location) -> None:
    """Write the three files; the HTML last, since it is the one that people wait for.

    Raises DataError, before anything is written, if the two passes did not see the same rows.
    """
    check_installed()
    content = _content(report)
    folder.join("report.json").write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    folder.join("report.md").write_text(_markdown(content))
    folder.join("report.html").write_text(_html(report, content))


def _content(report: FilterReport) -> dict[str, Any]:
    """The figures, as plain data."""
    sketches, cuts = report.sketches.sketches, report.cuts
    rows = {name: (partitions, unscored) for name, partitions, unscored in report.counts.groups()}
    first = {name: (sketch.count, report.sketches.unscored[name]) for name, sketch in sketches.items()}
    second = {name: (sum(partitions.values()), unscored) for name, (partitions, unscored) in rows.items()}
    if first != second:
        name = min(name for name in {*first, *second} if first.get(name) != second.get(name))
        raise DataError(
            f"the rows of the group '{name}' are not those that the cuts were made from: "
            f"{_scored(first.get(name))} then, {_scored(second.get(name))} now",
            todo="was the corpus changed meanwhile? Start again in another output folder",
        )
    return {
        "title": report.title,
        "notes": list(report.notes),
        "partitions": list(cuts.names),
        "cut_at_quantiles": None if cuts.quantiles is None else list(cuts.quantiles),
        "min_group_rows": cuts.min_group_rows,
        "relative_error": report.sketches.relative_error,
        "total": _figures(report.sketches.total(), *report.counts.total(), cuts.common),
        "groups": {name: _figures(sketches[name], *rows[name], cuts.for_group(name)) for name in sketches},
        "groups_with_common_cuts": [name for name in sketches if name not in cuts.own],
        "settings": {k: v for k, v in flatten(report.settings).items() if not k.endswith(TARGET)},
        "versions": dict(report.versions),
    }


def _figures(
    sketch: QuantileSketch, partitions: dict[str, int], unscored: int, thresholds: tuple[float, ...]
) -> dict[str, Any]:
    scored = sum(partitions.values())
    return {
        "rows": scored + unscored,
        "without_score": unscored,
        "partitions": partitions,
        "shares": {name: rows / scored if scored else None for name, rows in partitions.items()},
        "thresholds": list(thresholds),
        "minimum": sketch.minimum,
        "maximum": sketch.maximum,
        "quantiles": {str(q): sketch.quantile(q) if scored else None for q in QUANTILES},
    }


def _html(report: FilterReport, content: dict[str, Any]) -> str:
    sketches = report.sketches.sketches
    groups = sorted(content["groups"].items(), key=lambda item: (-item[1]["rows"], item[0]))
    scored = report.sketches.total()
    scale = plots.scale_of(scored) if scored.count else None
    return render_page(
        Path(__file__).with_name("report.html.jinja"),
        content=content,
        groups=groups[:MAX_TABLE_GROUPS] if len(groups) > 1 else [],
        more_groups=max(0, len(groups) - MAX_TABLE_GROUPS),
        colours=plots.colours_of(len(report.cuts.names)),
        drawing=plots.plot_partitions(sketches, report.cuts, scale, report.score) if scale else None,
        panels=plots.plot_groups(sketches, report.cuts, scale) if scale else {},
        outermost=f"{plots.OUTERMOST:.1%}".replace("%", " %"),
        sentences={"rows": _rows_sentence(content), "cuts": _cuts_sentence(content)},
        score=score_figure,
        share=share_figure,
    )


def _rows_sentence(content: Mapping[str, Any]) -> str:
    total = content["total"]
    places = [*total["partitions"].items(), ("without a score", total["without_score"])]
    parts = [f"{rows:,} {name}" for name, rows in places]
    return f"Rows: {' + '.join(parts)} = {total['rows']:,}."


def _cuts_sentence(content: Mapping[str, Any]) -> str:
    """Where the cuts come from, and which groups do without their own."""
    quantiles, common = content["cut_at_quantiles"], content["groups_with_common_cuts"]
    equal = "A score equal to a cut belongs to the lower partition."
    if quantiles is None:
        return f"The cuts are fixed, the same for all rows. {equal}"
    shown = " and ".join(share_figure(q) for q in quantiles)
    text = f"Cut at the quantiles {shown} of the scores{' of each group' if len(content['groups']) > 1 else ''}"
    text += f", each found within {100.0 * content['relative_error']:g} % of its value. {equal}"
    if common and len(content["groups"]) > 1:
        text += f" With the cuts of all rows, having fewer than {content['min_group_rows']:,} scores of their own: "
        text += ", ".join(common[:MAX_NAMED])
        text += f" and {len(common) - MAX_NAMED:,} more." if len(common) > MAX_NAMED else "."
    return text


def _markdown(content: Mapping[str, Any]) -> str:
    names, cuts = content["partitions"], len(content["partitions"]) - 1
    first = ["", "rows", "without a score", *names, *(f"{name} up to" for name in names[:-1])]
    second = ["", "lowest", *(share_figure(q, 0) for q in QUANTILES), "highest"]
    tables = [[first, ["---", *["---:"] * (len(first) - 1)]], [second, ["---", *["---:"] * (len(second) - 1)]]]
    # Pairs, since a group may well be called "all".
    groups = [(table_cell(name), row) for name, row in content["groups"].items()]
    for name, row in [*(groups if len(groups) > 1 else []), ("**all**", content["total"])]:
        shares = [share_figure(row["shares"][partition]) for partition in names]
        thresholds = [score_figure(row["thresholds"][place]) for place in range(cuts)]
        tables[0].append([name, figure(row["rows"]), figure(row["without_score"]), *shares, *thresholds])
        scores = [row["minimum"], *row["quantiles"].values(), row["maximum"]]
        tables[1].append([name, *(score_figure(score) for score in scores)])
    shown = ["\n".join(f"| {' | '.join(line)} |" for line in table) for table in tables]
    paragraphs = [f"# {table_cell(content['title'])}", *content["notes"], _rows_sentence(content), shown[0]]
    paragraphs += [_cuts_sentence(content), "Scores by quantile:", shown[1]]
    paragraphs.append(", ".join(f"{name} {version}" for name, version in content["versions"].items()))
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph) + "\n"


def _scored(rows: tuple[int, int] | None) -> str:
    return "no rows" if rows is None else f"{rows[0]:,} with and {rows[1]:,} without a score"


def score_figure(value: float | None) -> str:
    """A score for people, four digits or all of an integer part; a dash for none."""
    if value is None:
        return "\N{EN DASH}"
    if value == 0.0 or 1e-3 <= abs(value) < 1e3:
        return f"{value:.4g}"
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e7 else f"{value:.3e}"


def share_figure(value: float | None, digits: int = 1) -> str:
    """A share as percent; a dash for none."""
    return "\N{EN DASH}" if value is None else f"{100.0 * value:.{digits}f} %"
