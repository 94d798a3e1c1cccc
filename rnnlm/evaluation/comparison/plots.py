"""Plots of a comparison: how the rows of two runs differ, and quality against cost."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from rnnlm.evaluation.comparison.differences import BINS, RowDifferences
from rnnlm.evaluation.comparison.measures import Measure
from rnnlm.evaluation.comparison.runs import Run
from rnnlm.evaluation.leaderboard_plots import LOG_RATIO
from rnnlm.evaluation.plots import COLOURS, INK, MUTED, NARROW, Drawing, draw, legend_label, log_axis, thousands

SHOWN_SHARE = 0.99  # of the rows in a histogram; the rest would flatten them
BARS = 60


def plot_row_differences(name: str, baseline: str, rows: RowDifferences) -> Drawing | None:
    """Rows by how much the run's value is above (worse) or below (better) the baseline's; None if nearly all
    are in one bin."""
    first, last = _window(rows)
    if last - first <= 1:
        return None
    joined = math.ceil((last - first) / BARS)
    first -= (first - BINS // 2) % joined  # so that 0 lies between two bars
    starts = np.arange(max(0, first), last, joined)
    counts = np.add.reduceat(rows.histogram[: starts[-1] + joined], starts)
    lefts, width = starts * rows.scale.width - rows.scale.limit, joined * rows.scale.width

    def paint(axes: Any) -> None:
        shares = counts / rows.histogram.sum() * 100.0
        axes.bar(lefts, shares, width=width, align="edge", color=[COLOURS[int(start >= BINS // 2)] for start in starts])
        axes.axvline(0.0, color=INK, lw=0.8)
        axes.set_xlabel(f"{rows.scale.unit}, difference")
        axes.set_ylabel("% of rows")

    return draw(f"Rows by difference, {name} less {baseline}", 2.4, paint)


def plot_cost(runs: Sequence[Run], cost: Measure, quality: Measure) -> Drawing | None:
    """A point a run; a line joins those that no other beats in both (the Pareto front). None for fewer than two."""
    points = [
        (run.name, float(x), float(y))
        for run in runs
        if (x := run.figures.get(cost.key)) and (y := run.figures.get(quality.key)) is not None
    ]
    if len(points) < 2:
        return None
    front = sorted((x, y) for _, x, y in points if not any(_beats((a, b), (x, y)) for _, a, b in points))
    costs = [x for _, x, _ in points]

    def paint(axes: Any) -> None:
        axes.plot(*zip(*front, strict=True), color=MUTED, lw=1.0, ls="--", zorder=1)
        for place, (name, x, y) in enumerate(points):
            colour = COLOURS[place % len(COLOURS)]
            axes.scatter([x], [y], color=colour, s=42, zorder=3, label=legend_label(name[-30:]))
        axes.margins(0.12)
        axes.set_xlabel(cost.name)
        axes.set_ylabel(quality.name)
        axes.ticklabel_format(axis="y", useOffset=False)
        axes.xaxis.set_major_formatter(thousands)
        if max(costs) > LOG_RATIO * min(costs):
            log_axis(axes, min(costs), max(costs))
        columns = 1 if axes.figure.get_figwidth() == NARROW else 3
        axes.figure.legend(loc="outside upper left", fontsize=8, ncols=columns, handlelength=1.0)

    return draw("Quality against cost", 3.0, paint)


def _beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one != other and one[0] <= other[0] and one[1] <= other[1]


def _window(rows: RowDifferences) -> tuple[int, int]:
    """The bins [first, last) that hold all but a few rows of either side."""
    if not rows.histogram.any():
        return 0, 0
    shares = np.cumsum(rows.histogram) / rows.histogram.sum()
    tail = (1.0 - SHOWN_SHARE) / 2.0
    return int(np.searchsorted(shares, tail)), int(np.searchsorted(shares, 1.0 - tail)) + 1
