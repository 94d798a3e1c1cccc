"""The report's plots: how scores are distributed and where they are cut, drawn from the sketches alone."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rnnlm.evaluation.plots import INK, MIN_GROUP_ROWS, WIDE, Drawing, draw, draw_svg
from rnnlm.filtering.partitions import Cuts
from rnnlm.filtering.quantiles import Floats, QuantileSketch

BINS = 80
MERGED = ((1_000, 4), (10_000, 2), (math.inf, 1))  # so many bins to one where scores are fewer: chance is no shape
OUTERMOST = 0.005  # share of the scores on either side that no plot shows: a few would flatten all the rest
LOG_SPAN = 100.0  # from this ratio of the largest score to the smallest, both positive, the axis is logarithmic
DRAWABLE = 1e290  # matplotlib computes margins around the ends of an axis, which must not overflow
MAX_PANELS = 8
PANEL_WIDTH, PANEL_HEIGHT = 3.1, 1.55  # inches; a third of a wide page
STRONG, FAINT = "#0b6e99", "#d3e3ea"  # the first and the last partition; the others lie between


@dataclass(frozen=True)
class Scale:
    """The x axis that all plots of a report share: the edges of the bins, ascending."""

    edges: Floats
    log: bool


def scale_of(total: QuantileSketch) -> Scale:
    """Room for all of `total` but the outermost. Raises ValueError if it is empty."""
    minimum, maximum = total.minimum, total.maximum
    if minimum is None or maximum is None:
        raise ValueError("no scores have no scale")
    ends = (minimum, maximum) if total.count < 1.0 / OUTERMOST else total.quantiles([OUTERMOST, 1.0 - OUTERMOST])
    low, high = (min(max(end, -DRAWABLE), DRAWABLE) for end in ends)
    if minimum > 0.0 and maximum / LOG_SPAN >= minimum:
        low = max(low, 1.0 / DRAWABLE)
        return Scale(np.geomspace(low / 1.05, max(low, high) * 1.05, BINS + 1), log=True)
    # The ends of a small or a narrow distribution would otherwise lie on the frame.
    margin = max(0.02 * (high - low), 0.01 * abs(high), 0.01 * abs(low), 1e-3 if high == low == 0.0 else 0.0)
    return Scale(np.linspace(low - margin, high + margin, BINS + 1), log=False)


def plot_partitions(sketches: Mapping[str, QuantileSketch], cuts: Cuts, scale: Scale, score: str = "score") -> Drawing:
    """All rows by score, each partition in its colour; the lines are the common cuts."""
    counts = sum(
        (_histogram(sketch, cuts.for_group(name), scale) for name, sketch in sketches.items()),
        np.zeros((len(cuts.names), BINS)),
    )
    alone = len(sketches) == 1
    lines = cuts.for_group(next(iter(sketches))) if alone else cuts.common

    def paint(axes: Any) -> None:
        wide = axes.figure.get_figwidth() == WIDE
        _paint(axes, counts, lines, scale, most_ticks=9 if wide else 5, names=cuts.names)
        axes.set_ylabel("% of rows")
        axes.set_xlabel(score.replace("_", " "))
        # Above the plot: inside it, a legend would hide what is drawn there.
        axes.figure.legend(loc="outside upper left", ncols=min(len(cuts.names), 4), handlelength=1.2, columnspacing=1.2)

    return draw("Distribution of scores", 3.0, paint)


def plot_groups(sketches: Mapping[str, QuantileSketch], cuts: Cuts, scale: Scale) -> dict[str, str]:
    """A small SVG for each of `drawn_groups`, with the cuts that hold there, by the group's name."""
    drawn = {}
    for number, name in enumerate(drawn_groups(sketches), 1):
        lines = cuts.for_group(name)
        counts = _histogram(sketches[name], lines, scale)

        def paint(axes: Any, counts: Floats = counts, lines: tuple[float, ...] = lines) -> None:
            _paint(axes, counts, lines, scale, most_ticks=4)
            axes.tick_params(labelsize=9)
            axes.yaxis.set_ticklabels([])  # only the shape is compared
            axes.tick_params(axis="y", length=0)

        drawn[name] = draw_svg(f"Distribution of scores, group {number}", PANEL_WIDTH, PANEL_HEIGHT, paint)
    return drawn


def drawn_groups(sketches: Mapping[str, QuantileSketch]) -> list[str]:
    """The largest groups, at most MAX_PANELS, none of fewer scores than have a shape; none if there is one group."""
    if len(sketches) < 2:
        return []
    ordered = sorted(sketches, key=lambda name: (-sketches[name].count, name))
    return [name for name in ordered if sketches[name].count >= MIN_GROUP_ROWS][:MAX_PANELS]


def colours_of(partitions: int) -> list[str]:
    """A colour a partition, from strong to faint."""
    ends = [np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) for colour in (STRONG, FAINT)]
    mixed = [ends[0] + (ends[1] - ends[0]) * step / max(1, partitions - 1) for step in range(partitions)]
    return ["#" + "".join(f"{round(part):02x}" for part in colour) for colour in mixed]


def ticks_of(scale: Scale, most: int) -> list[float]:
    """Round numbers on a logarithmic axis: 1, 2, 5 of each decade if at most `most` fit, else fewer."""
    low, high = scale.edges[0], scale.edges[-1]
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        ticks = [step * 10.0**decade for decade in decades for step in steps]
        if len(inside := [tick for tick in ticks if low <= tick <= high]) <= most:
            return inside
    return inside[:: math.ceil(len(inside) / most)]


def _histogram(sketch: QuantileSketch, thresholds: tuple[float, ...], scale: Scale) -> Floats:
    """Scores by partition (rows) and bin (columns). A bucket is far narrower than a bin, and goes where its end is."""
    ends, counts = sketch.buckets()
    parts = np.searchsorted(thresholds, ends, side="left")  # equal to a threshold: the lower partition
    bins = np.searchsorted(scale.edges, ends, side="right") - 1
    shown = (bins >= 0) & (bins < BINS)
    places = parts[shown] * BINS + bins[shown]
    width = (len(thresholds) + 1) * BINS
    return np.bincount(places, weights=counts[shown], minlength=width).reshape(-1, BINS).astype(np.float64)


def _paint(
    axes: Any,
    counts: Floats,
    lines: tuple[float, ...],
    scale: Scale,
    *,
    most_ticks: int,
    names: tuple[str, ...] | None = None,
) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator  # noqa: PLC0415 - an extra

    merged = next(factor for most, factor in MERGED if counts.sum() < most)
    heights = counts.reshape(len(counts), -1, merged).sum(-1) / max(1.0, counts.sum()) * 100.0
    edges = scale.edges[::merged]
    below = np.zeros(len(edges) - 1)
    for place, colour in enumerate(colours_of(len(counts))):
        # matplotlib would take dollar signs for formulas and hide names that begin with an underscore.
        label = None if names is None else names[place].replace("$", r"\$").replace("_", " ")
        axes.stairs(below + heights[place], edges, baseline=below, fill=True, color=colour, label=label)
        below = below + heights[place]
    axes.stairs(below, edges, color=INK, lw=0.8)
    for line in lines:
        if scale.edges[0] <= line <= scale.edges[-1]:
            axes.axvline(line, color=INK, lw=1.0, ls=(0, (4, 3)))
    axes.set_xlim(scale.edges[0], scale.edges[-1])
    axes.set_ylim(0, max(below.max() * 1.08, 1e-9))
    axes.grid(visible=False, axis="x")
    if scale.log:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(ticks_of(scale, most_ticks)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(_tick))
    else:
        axes.locator_params(axis="x", nbins=most_ticks)


def _tick(value: float, position: object) -> str:  # noqa: ARG001 - matplotlib's signature
    return f"{value:,.0f}" if 1e3 <= value < 1e6 else f"{value:g}"
