"""Plots of a leaderboard: a line a trial through all its parameters (parallel coordinates), and validation curves."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from rnnlm.evaluation.plots import (
    COLOURS,
    INK,
    MUTED,
    NARROW,
    PALE,
    Drawing,
    draw,
    legend_label,
    log_axis,
    thin,
    thousands,
)

MAX_AXES = 7  # parameters drawn; more cannot be told apart
NARROW_AXES = 4
LOG_RATIO = 50.0  # numbers that span more are drawn on a logarithmic axis
MAX_WORD = 12  # characters of a tick
SHORT_LABEL = 24  # characters, of which three fit side by side
_CURVES = {"valid": "Validation", "train": "Training"}
_CLOCKS = {"tokens": "targets seen", "wall_seconds": "seconds on the clock"}


def number(text: str) -> float | None:
    """The finite number that a value is, if it is one."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def plot_coordinates(
    parameters: Sequence[Mapping[str, str]], values: Sequence[float], names: Sequence[str], figure_name: str
) -> Drawing | None:
    """A line a trial, given best first, across an axis a parameter to its figure; None if there is nothing to compare.

    Numbers stand on a linear or logarithmic axis, words at even distances. The best tenth is coloured.
    """
    names = [name for name in names if len({one.get(name) for one in parameters}) > 1][:MAX_AXES]
    if not names:
        return None
    best = max(1, len(values) // 10)
    columns = [[one.get(name, "") for one in parameters] for name in names]

    def paint(axes: Any) -> None:
        shown = columns[: NARROW_AXES if axes.figure.get_figwidth() == NARROW else MAX_AXES]
        places, ticks = zip(*(_axis(column) for column in [*shown, [f"{value:.6g}" for value in values]]), strict=True)
        for trial in reversed(range(len(values))):  # the best on top
            good = trial < best
            axes.plot(
                range(len(places)),
                [column[trial] for column in places],
                color=COLOURS[1] if trial == 0 else COLOURS[0] if good else PALE,
                lw=2.0 if good else 1.0,
                alpha=1.0 if good else 0.8,
                zorder=3 if good else 2,
            )
        _write_ticks(axes, ticks)
        heads = [name.rpartition(".")[2].replace("_", "\n") for name in names[: len(shown)]]
        axes.set_xticks(range(len(places)), [*heads, figure_name.partition(" (")[0].replace(" ", "\n")])
        axes.tick_params(axis="x", labelcolor=INK, labelsize=9, length=0)
        axes.set_xlim(-0.05, len(places) - 0.55)  # room for the ticks of the last axis
        axes.set_ylim(-0.06, 1.06)
        axes.set_yticks([])
        axes.grid(visible=False)
        axes.spines[["left", "bottom"]].set_visible(False)

    return draw("Parameters and figure of each trial", 3.4, paint)


def plot_curves(
    metrics: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    kind: Literal["valid", "train"] = "valid",
    clock: Literal["tokens", "wall_seconds"] = "tokens",
    of: str = "trials",
) -> Drawing | None:
    """Validation or training loss against targets or seconds, a curve a trial by its label; the first in colour."""
    curves = {
        name: [dict(row) for row in rows if row["kind"] == kind and math.isfinite(row["nll"])]
        for name, rows in metrics.items()
    }
    curves = {name: thin(rows) if kind == "train" else rows for name, rows in curves.items() if rows}
    if not curves:
        return None
    losses = sorted(row["nll"] for rows in curves.values() for row in rows)
    ends = [rows[-1][clock] for rows in curves.values()]
    lowest = [min(row["nll"] for row in rows) for rows in curves.values()]
    what, across = _CURVES[kind], _CLOCKS[clock]

    def paint(axes: Any) -> None:
        narrow = axes.figure.get_figwidth() == NARROW
        coloured = COLOURS[: 4 if narrow else 6]
        for place, (name, rows) in reversed(list(enumerate(curves.items()))):
            axes.plot(
                [row[clock] for row in rows],
                [row["nll"] for row in rows],
                color=coloured[place] if place < len(coloured) else PALE,
                lw=1.5 if place < len(coloured) else 1.0,
                marker="o" if kind == "valid" else "",
                ms=3,
                label=legend_label(_short(name, 34 if narrow else 60)) if place < len(coloured) else None,
            )
        top = max(losses[math.floor(0.97 * (len(losses) - 1))], *lowest[: len(coloured)])
        axes.set_ylim(losses[0] - 0.1, top + 0.2)
        axes.set_xlabel(across)
        axes.set_ylabel(f"{what.lower()}, nats a target")
        axes.xaxis.set_major_formatter(thousands)
        if max(ends) > LOG_RATIO * min(ends):
            log_axis(axes, min(row[clock] for rows in curves.values() for row in rows if row[clock] > 0), max(ends))
        handles, labels = axes.get_legend_handles_labels()  # drawn worst first; told best first
        columns = 3 if not narrow and max(map(len, labels)) <= SHORT_LABEL else 1
        axes.figure.legend(
            handles[::-1], labels[::-1], loc="outside upper left", ncols=columns, fontsize=8, handlelength=1.4
        )

    return draw(f"{what} loss of the {of} over {across}", 3.6, paint)


def _write_ticks(axes: Any, ticks: Sequence[Sequence[tuple[float, str]]]) -> None:
    """An upright axis at each whole x, with its ticks beside it, readable over the lines."""
    for x, labels in enumerate(ticks):
        axes.axvline(x, color=MUTED, lw=0.8, zorder=1)
        for y, text in labels:
            axes.annotate(
                legend_label(text),
                (x, y),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
                color=INK,
                zorder=4,
                bbox={"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.75},
            )


def _axis(values: Sequence[str]) -> tuple[list[float], list[tuple[float, str]]]:
    """Heights in [0, 1] of all values, and (height, text) of the ticks."""
    numbers = [number(value) for value in values]
    if any(one is None for one in numbers):
        words = sorted(set(values))
        heights = {word: place / max(1, len(words) - 1) for place, word in enumerate(words)}
        return [heights[value] for value in values], [(heights[word], _short(word, MAX_WORD)) for word in words]
    found = [one for one in numbers if one is not None]
    low, high = min(found), max(found)
    scale: Callable[[float], float] = math.log if low > 0 and high / low > LOG_RATIO else float
    span = (scale(high) - scale(low)) or 1.0
    distinct = sorted(set(found))
    marked = distinct if len(distinct) <= 6 else [low, high]
    return [(scale(one) - scale(low)) / span for one in found], [
        ((scale(one) - scale(low)) / span, f"{one:.4g}") for one in marked
    ]


def _short(text: str, limit: int) -> str:
    """The end of a long text: paths, for one, differ there more often than at their beginning."""
    return text if len(text) <= limit else "\N{HORIZONTAL ELLIPSIS}" + text[-limit + 1 :]
