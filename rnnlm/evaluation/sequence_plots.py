"""Plots of judged outputs: rows by quality, figures by length, and maps of attention."""

from html import escape
from typing import Any

import numpy as np

from rnnlm.evaluation.hypotheses import Attention
from rnnlm.evaluation.judged import Judged
from rnnlm.evaluation.plots import COLOURS, MUTED, Drawing, draw

QUALITY_BINS = np.linspace(0.0, 100.0, 21)
CELL = 22  # pixels of a map; labels are 13 pixels high, so they stay readable on a phone, which scrolls
LETTER = 7.4  # pixels, about the mean width of a letter of that size
MAX_LABEL = 16  # characters
LEVELS = 20  # shades of a weight, of which the palest is left out: one path each keeps a map below 10 kB
SLANT = 0.77, 0.64  # sine and cosine of the 50 degrees that labels of the source are turned by


def plot_quality(judged: Judged) -> Drawing:
    """How many rows are how good, beside those of the other output where there is one."""
    outputs = [(judged.quality, COLOURS[0], "this output")]
    if judged.against_quality is not None:
        outputs.append((judged.against_quality, COLOURS[1], "compared with"))

    def paint(axes: Any) -> None:
        for quality, colour, label in outputs:
            shares = np.histogram(quality, QUALITY_BINS)[0] / len(quality) * 100.0
            axes.stairs(shares, QUALITY_BINS, color=colour, lw=1.6, label=label)
            axes.stairs(shares, QUALITY_BINS, color=colour, alpha=0.12, fill=True)
            axes.axvline(float(quality.mean()), color=colour, lw=1.0, ls=":")
        axes.set_xlim(0, 100)
        axes.set_ylim(bottom=0)
        axes.set_xlabel(f"{judged.quality_name} of a row; dotted: the mean")
        axes.set_ylabel("% of rows")
        if len(outputs) > 1:
            axes.figure.legend(loc="outside upper left", ncols=2)

    return draw(f"Rows by {judged.quality_name}", 2.6, paint)


def plot_by_length(judged: Judged) -> Drawing | None:
    """The first figure of each group of lengths, as bars; none if there is one group."""
    if len(judged.by_length) < 2:
        return None
    values = [group.figures[0].value for group in judged.by_length]
    name, overall = judged.figures[0].name, judged.figures[0].value

    def paint(axes: Any) -> None:
        labels = [group.label.replace(" to ", "\N{EN DASH}") for group in judged.by_length]
        bars = axes.barh(labels, values, color=COLOURS[0], height=0.66)
        for text in axes.bar_label(bars, fmt="%.1f", padding=4):
            text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.5})  # the line must not cross it
        axes.axvline(overall, color=MUTED, lw=1.0, ls=":")
        axes.invert_yaxis()
        axes.set_xlim(0, max(*values, overall, 1.0) * 1.12)
        axes.set_xlabel(f"{name}; dotted: all rows")
        axes.set_ylabel(judged.length_of)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)

    return draw(f"{name} by {judged.length_of}", 2.4, paint)


def map_attention(attention: Attention, name: str) -> str:
    """A map as SVG in the colours of the page: a row an output token, a column a source token, dark where it looked.

    It has its own size in pixels, for a box that scrolls.
    """
    weights = np.clip(np.nan_to_num(np.array(attention.weights)), 0.0, 1.0)
    height, width = weights.shape
    source, target = ([_label(piece) for piece in pieces] for pieces in (attention.source, attention.target))
    left = round(max(map(len, target)) * LETTER) + 12
    top = round(max(map(len, source)) * LETTER * SLANT[0]) + 20
    right = round(len(source[-1]) * LETTER * SLANT[1]) + 12
    size = f'width="{left + width * CELL + right}" height="{top + height * CELL + 4}"'
    parts = [f'<svg {size} role="img" aria-label="{escape(name)}" font-size="13" fill="currentColor">']
    parts.append(f'<path d="{_grid(left, top, width, height)}" style="stroke:var(--line)" fill="none"/>')
    shades = np.rint(weights * LEVELS).astype(int)
    for level in range(1, LEVELS + 1):
        cells = "".join(
            f"M{left + column * CELL} {top + row * CELL}h{CELL}v{CELL}h-{CELL}z"
            for row, column in zip(*np.nonzero(shades == level), strict=True)
        )
        if cells:
            parts.append(f'<path d="{cells}" style="fill:var(--accent)" fill-opacity="{level / LEVELS:g}"/>')
    for column, piece in enumerate(source):
        x, y = left + column * CELL + CELL // 2 + 3, top - 6
        parts.append(f'<text transform="translate({x} {y}) rotate(-50)">{escape(piece)}</text>')
    for row, piece in enumerate(target):
        parts.append(f'<text x="{left - 6}" y="{top + row * CELL + 15}" text-anchor="end">{escape(piece)}</text>')
    return "".join([*parts, "</svg>"])


def _grid(left: int, top: int, width: int, height: int) -> str:
    across = "".join(f"M{left} {top + row * CELL}h{width * CELL}" for row in range(height + 1))
    return across + "".join(f"M{left + column * CELL} {top}v{height * CELL}" for column in range(width + 1))


def _label(piece: str) -> str:
    """A piece for people: nothing too long, nothing invisible."""
    shown = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in piece) or "\N{OPEN BOX}"
    return shown if len(shown) <= MAX_LABEL else shown[: MAX_LABEL - 1] + "\N{HORIZONTAL ELLIPSIS}"
