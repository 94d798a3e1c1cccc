"""The report's plots, as inline SVG: no scripts, no network, sharp at any size.

Each is drawn twice, for a wide page and for a phone, since text in a plot that is scaled down cannot be read.
"""

import html
import io
import math
import re
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rnnlm.errors import EnvironmentFailure
from rnnlm.evaluation.baselines import Baselines
from rnnlm.evaluation.perplexity import HISTOGRAM_EDGES, Evaluation

MIN_GROUP_ROWS = 20  # fewer have no shape to show
MAX_CURVE_POINTS = 400  # of a training curve; more than there are pixels only makes the page heavy
WIDE, NARROW = 7.2, 3.7  # inches; narrow is the width of a phone

INK, MUTED, GRID, PALE = "#1f2933", "#5f6b79", "#e4e7eb", "#c9d1d9"
COLOURS = ["#0b6e99", "#d9730d", "#4d8b31", "#9065b0", "#c4314b", "#8a6d3b", "#2f9e9e", "#6b7785"]
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.edgecolor": PALE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "text.color": INK,
    "xtick.color": PALE,
    "ytick.color": PALE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "figure.constrained_layout.use": True,
}


@dataclass(frozen=True)
class Drawing:
    """One plot as SVG, for wide and for narrow pages."""

    wide: str
    narrow: str


def plot_baselines(bits_per_byte: float, baselines: Baselines) -> Drawing:
    """Bits per byte of the model beside simple means, as bars; shorter is better."""
    names = ["bytes by frequency", "gzip -9", "xz", "this model"]
    values = [baselines.order0, baselines.gzip, baselines.xz, bits_per_byte]

    def paint(axes: Any) -> None:
        bars = axes.barh(names, values, color=[PALE, PALE, PALE, COLOURS[0]], height=0.62)
        axes.bar_label(bars, fmt="%.2f", padding=4, color=INK)
        axes.invert_yaxis()
        axes.set_xlim(0, max(values) * 1.12)
        axes.set_xlabel("bits per byte; less is better")
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0, labelcolor=INK)

    return draw("Bits per byte of the model and of simple baselines", 2.0, paint)


def plot_learning(rows: list[dict[str, Any]]) -> Drawing:
    """Loss in nats a target against targets seen; training as it went, validation as points."""
    train = thin([row for row in rows if row["kind"] == "train"])
    valid = [row for row in rows if row["kind"] == "valid"]
    losses = sorted(row["nll"] for row in [*train, *valid])

    def paint(axes: Any) -> None:
        for part, colour, marker, name in ((train, COLOURS[0], "", "training"), (valid, COLOURS[1], "o", "validation")):
            points = [row["tokens"] for row in part], [row["nll"] for row in part]
            if part:
                axes.plot(*points, color=colour, lw=1.3, marker=marker, ms=4, label=name)
        if losses:  # the first steps fall from a height that would flatten all the rest
            axes.set_ylim(losses[0] - 0.1, losses[math.floor(0.97 * (len(losses) - 1))] + 0.2)
        axes.set_xlabel("targets seen")
        axes.set_ylabel("nats a target")
        axes.xaxis.set_major_formatter(thousands)
        axes.legend(loc="upper right")

    return draw("Learning curve", 3.0, paint)


def plot_speed(rows: list[dict[str, Any]]) -> Drawing:
    """Training throughput in targets a second against seconds on the clock."""
    train = thin([row for row in rows if row["kind"] == "train"])

    def paint(axes: Any) -> None:
        seconds, speeds = [row["wall_seconds"] for row in train], [row["tokens_per_second"] for row in train]
        axes.plot(seconds, speeds, color=COLOURS[2], lw=1.3)
        axes.set_ylim(0, max(speeds) * 1.15)
        axes.set_xlabel("seconds of training")
        axes.set_ylabel("targets a second")
        axes.yaxis.set_major_formatter(thousands)

    return draw("Training throughput", 2.0, paint)


def plot_distribution(evaluation: Evaluation) -> Drawing:
    """Rows by bits per byte, one outline a group, each scaled to its own number of rows; see `drawn_groups`."""
    groups = drawn_groups(evaluation)
    pooled = sum((evaluation.histograms[name] for name in groups), np.zeros(len(HISTOGRAM_EDGES) - 1))
    merged = 2 if pooled.sum() > 20_000 else 4  # bins of 0.1 or 0.2 bits
    edges = HISTOGRAM_EDGES[::merged]
    reached = np.flatnonzero(np.cumsum(pooled) >= 0.995 * pooled.sum())

    def paint(axes: Any) -> None:
        for name, colour in zip(groups, COLOURS, strict=False):
            counts = evaluation.histograms[name]
            shares = counts.reshape(-1, merged).sum(1) / max(1, counts.sum()) * 100.0
            axes.stairs(shares, edges, color=colour, lw=1.6, label=legend_label(f"{name[:24]} ({int(counts.sum()):,})"))
            if len(groups) <= 3:  # more would be mud
                axes.stairs(shares, edges, color=colour, alpha=0.08, fill=True)
        axes.set_xlim(0, HISTOGRAM_EDGES[min(len(HISTOGRAM_EDGES) - 1, int(reached[0]) + 5)])
        axes.set_ylim(bottom=0)
        axes.set_xlabel("bits per byte")
        axes.set_ylabel("% of the group's rows")
        if axes.figure.get_figwidth() == NARROW:  # no room beside the outlines
            axes.figure.legend(loc="outside upper left", ncols=2, columnspacing=1.0, handlelength=1.2)
        else:
            axes.legend(loc="upper right")

    return draw("Distribution of bits per byte", 3.0, paint)


def drawn_groups(evaluation: Evaluation) -> list[str]:
    """The groups `plot_distribution` shows: the largest, none of fewer than MIN_GROUP_ROWS if that leaves any."""
    counts = {name: int(histogram.sum()) for name, histogram in evaluation.histograms.items()}
    ordered = sorted(counts, key=lambda name: (-counts[name], name))
    return ([name for name in ordered if counts[name] >= MIN_GROUP_ROWS] or ordered)[: len(COLOURS)]


def thin(rows: list[dict[str, Any]], limit: int = MAX_CURVE_POINTS) -> list[dict[str, Any]]:
    """At most `limit` rows: each the last of as many neighbours, with their mean loss and speed."""
    size = math.ceil(len(rows) / limit)
    if size <= 1:
        return rows
    buckets = [rows[start : start + size] for start in range(0, len(rows), size)]
    means = ("nll", "tokens_per_second")
    return [{**part[-1], **{key: sum(row[key] for row in part) / len(part) for key in means}} for part in buckets]


def check_installed() -> None:
    """Raise EnvironmentFailure if the packages that a report needs are not there."""
    try:
        import jinja2  # noqa: F401, PLC0415 - an extra
        import matplotlib as mpl  # noqa: F401, PLC0415 - an extra
    except ImportError as error:
        raise EnvironmentFailure(
            f"a report needs the package {error.name}", todo="pip install 'rnnlm[report]'"
        ) from error


def draw(description: str, height: float, paint: Callable[[Any], None]) -> Drawing:
    """Paint in both widths. Inches."""
    return Drawing(
        draw_svg(description, WIDE, height, paint), draw_svg(description, NARROW, max(1.9, height * 0.95), paint)
    )


def draw_svg(description: str, width: float, height: float, paint: Callable[[Any], None]) -> str:
    """One plot; inches. `description` is what a screen reader says, and must be another for each plot of a page."""
    import matplotlib as mpl  # noqa: PLC0415 - an extra, and slow to import
    from matplotlib.figure import Figure  # noqa: PLC0415

    words = re.sub("[^a-z0-9]+", "-", description.lower())  # of two descriptions they may be the same
    name = f"{words}-{zlib.crc32(description.encode()):x}-{'wide' if width == WIDE else 'narrow'}"
    sink = io.StringIO()
    with mpl.rc_context({**STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # the browser has more fonts
        figure = Figure(figsize=(width, height))  # a figure of its own, in no global list of figures
        axes = figure.subplots()
        paint(axes)
        if width == NARROW:
            axes.locator_params(axis="x", nbins=5)
        figure.savefig(sink, format="svg", metadata={"Date": None, "Creator": None, "Title": description})
    content = sink.getvalue()
    label = html.escape(description)
    content = content[content.index("<svg") :].replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)
    # Several drawings share a page: what one calls `patch_1` must not be another's.
    content = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{name}-", content)
    return re.sub(r"'DejaVu Sans'[^;\"]*sans-serif", "system-ui, sans-serif", content)


def legend_label(text: str) -> str:
    """A label that matplotlib takes as it is: no formulas, and not hidden for its leading underscore."""
    shown = text.replace("$", r"\$")
    return f"\N{NO-BREAK SPACE}{shown}" if shown.startswith("_") else shown


def log_axis(axes: Any, low: float, high: float) -> None:
    """Make the x axis logarithmic, from `low` > 0 to `high`, with a tick a power of ten and none between."""
    axes.set_xscale("log")
    axes.set_xticks([10.0**power for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)])
    axes.set_xticks([], minor=True)
    axes.xaxis.set_major_formatter(thousands)
    axes.set_xlim(low / 1.3, high * 1.3)


def thousands(value: float, position: object) -> str:  # noqa: ARG001 - matplotlib's signature
    """A tick's label: 2 k, 3 M."""
    if value >= 1e6:
        return f"{value / 1e6:g} M"
    return f"{value / 1e3:g} k" if value >= 1e3 else f"{value:g}"
