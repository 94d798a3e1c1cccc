"""The report's plots, as inline SVG: no scripts, no network, sharp at any size."""

import io
import math
from typing import Any

import numpy as np

from rnnlm.errors import EnvironmentFailure
from rnnlm.evaluation.baselines import Baselines
from rnnlm.evaluation.perplexity import HISTOGRAM_EDGES, Evaluation

MIN_GROUP_ROWS = 20

INK, MUTED, GRID = "#1f2933", "#6b7785", "#e4e7eb"
COLOURS = ["#0b6e99", "#d9730d", "#4d8b31", "#9065b0", "#c4314b", "#8a6d3b", "#2f9e9e", "#6b7785"]
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "rnnlm",
    "figure.constrained_layout.use": True,
}


def plot_baselines(bits_per_byte: float, baselines: Baselines) -> str:
    """Bits per byte of the model beside simple means, as bars; shorter is better."""
    names = ["bytes by frequency (order 0)", "gzip -9", "xz", "this model"]
    values = [baselines.order0, baselines.gzip, baselines.xz, bits_per_byte]
    figure, axes = _figure(7.0, 2.0)
    bars = axes.barh(names, values, color=[GRID, GRID, GRID, COLOURS[0]], height=0.62)
    axes.bar_label(bars, fmt="%.2f", padding=4, color=INK)
    axes.invert_yaxis()
    axes.set_xlim(0, max(values) * 1.12)
    axes.set_xlabel("bits per byte of held-out text (less is better)")
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0, labelcolor=INK)
    return _svg(figure, "Bits per byte of the model and of simple baselines")


def plot_learning(rows: list[dict[str, Any]]) -> str:
    """Loss in nats a target against targets seen; training as it went, validation as points."""
    figure, axes = _figure(7.0, 3.0)
    train = [row for row in rows if row["kind"] == "train"]
    valid = [row for row in rows if row["kind"] == "valid"]
    axes.plot([r["tokens"] for r in train], [r["nll"] for r in train], color=COLOURS[0], lw=1.3, label="training")
    axes.plot(
        [r["tokens"] for r in valid],
        [r["nll"] for r in valid],
        color=COLOURS[1],
        lw=1.3,
        marker="o",
        ms=4,
        label="validation",
    )
    losses = sorted(row["nll"] for row in [*train, *valid])
    if losses:  # the first steps fall from a height that would flatten all the rest
        axes.set_ylim(losses[0] - 0.1, losses[math.floor(0.97 * (len(losses) - 1))] + 0.2)
    axes.set_xlabel("targets seen")
    axes.set_ylabel("nats a target")
    axes.xaxis.set_major_formatter(_thousands)
    axes.legend(loc="upper right")
    return _svg(figure, "Learning curve")


def plot_speed(rows: list[dict[str, Any]]) -> str:
    """Training throughput against time."""
    figure, axes = _figure(7.0, 1.9)
    train = [row for row in rows if row["kind"] == "train"]
    axes.plot([r["wall_seconds"] for r in train], [r["tokens_per_second"] for r in train], color=COLOURS[2], lw=1.3)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("seconds")
    axes.set_ylabel("targets a second")
    axes.yaxis.set_major_formatter(_thousands)
    return _svg(figure, "Training throughput")


def plot_distribution(evaluation: Evaluation) -> str:
    """Rows by bits per byte, one outline a group (the largest eight), each scaled to its own number of rows.

    Groups of fewer than MIN_GROUP_ROWS rows have no shape to show and are left out, unless there is no other.
    """
    figure, axes = _figure(7.0, 3.0)
    groups = sorted(evaluation.histograms.items(), key=lambda item: -int(item[1].sum()))[: len(COLOURS)]
    groups = [item for item in groups if item[1].sum() >= MIN_GROUP_ROWS] or groups
    pooled = sum((counts for _, counts in groups), np.zeros(len(HISTOGRAM_EDGES) - 1))
    merged = 2 if pooled.sum() > 20_000 else 4  # bins of 0.1 or 0.2 bits
    edges = HISTOGRAM_EDGES[::merged]
    for (name, counts), colour in zip(groups, COLOURS, strict=False):
        shares = counts.reshape(-1, merged).sum(1) / max(1, counts.sum()) * 100.0
        axes.stairs(shares, edges, color=colour, lw=1.6, label=f"{name} ({int(counts.sum()):,})")
        axes.stairs(shares, edges, color=colour, alpha=0.08, fill=True)
    reached = np.flatnonzero(np.cumsum(pooled) >= 0.995 * pooled.sum())
    axes.set_xlim(0, HISTOGRAM_EDGES[min(len(HISTOGRAM_EDGES) - 1, int(reached[0]) + 5)] if len(reached) else 8)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("bits per byte")
    axes.set_ylabel("% of the group's rows")
    axes.legend(loc="upper right")
    return _svg(figure, "Distribution of bits per byte")


def check_installed() -> None:
    """Raise EnvironmentFailure if the packages that a report needs are not there."""
    try:
        import jinja2  # noqa: F401, PLC0415 - an extra
        import matplotlib as mpl  # noqa: F401, PLC0415 - an extra
    except ImportError as error:
        raise EnvironmentFailure(
            f"a report needs the package {error.name}", todo="pip install 'rnnlm[report]'"
        ) from error


def _figure(width: float, height: float) -> tuple[Any, Any]:
    """A figure of its own, in no global list of figures. Inches."""
    import matplotlib as mpl  # noqa: PLC0415 - an extra, and slow to import
    from matplotlib.figure import Figure  # noqa: PLC0415

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        return figure, figure.subplots()


def _svg(figure: Any, description: str) -> str:
    import matplotlib as mpl  # noqa: PLC0415 - an extra, and slow to import

    sink = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(sink, format="svg", metadata={"Date": None, "Creator": None, "Title": description})
    content = sink.getvalue()
    return content[content.index("<svg") :].replace("<svg ", f'<svg role="img" aria-label="{description}" ', 1)


def _thousands(value: float, position: object) -> str:  # noqa: ARG001 - matplotlib's signature
    if value >= 1e6:
        return f"{value / 1e6:g} M"
    return f"{value / 1e3:g} k" if value >= 1e3 else f"{value:g}"
