"""Plots of predicted labels: what is taken for what, F1 by class of one system or several, and whether confidences are
accuracies."""

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from rnnlm.evaluation.label_metrics import ClassScores, Reliability
from rnnlm.evaluation.plots import COLOURS, MUTED, NARROW, PALE, Drawing, draw, legend_label

MAX_CLASSES = 20  # of the map of confusions
MAX_BARS = 30
OTHER = "(others)"
CELL, LETTER = 34, 8.8  # pixels: of a cell of the map, and about the width of a capital of 13 pixels
MAX_LABEL, MAX_WIDE_LABEL = 16, 28  # characters, in a map and on a narrow page, and on a wide one
SLANT = 0.77, 0.64  # sine and cosine of the 50 degrees that labels of columns are turned by
MIN_SHARE = 0.005  # of a row of the map; less is no number, only a shade


def largest_confusions(pairs: Mapping[tuple[str, str], int], limit: int = MAX_CLASSES) -> dict[tuple[str, str], int]:
    """The same counts over the most frequent classes of references and predictions; all others are one, if there are
    more than `limit`."""
    sizes: Counter[str] = Counter()
    for (reference, predicted), number in pairs.items():
        sizes[reference] += number
        sizes[predicted] += number
    ordered = sorted(sizes, key=lambda name: (-sizes[name], name))
    kept = set(ordered if len(ordered) <= limit else ordered[: limit - 1])
    found: Counter[tuple[str, str]] = Counter()
    for (reference, predicted), number in pairs.items():
        found[reference if reference in kept else OTHER, predicted if predicted in kept else OTHER] += number
    return dict(found)


def map_confusions(pairs: Mapping[tuple[str, str], int], name: str) -> str:
    """A map as SVG in the colours of the page: a row a class of the references, a column one that was predicted, each
    cell its share of the row in %; what is right is of another colour. It has its own size, for a box that scrolls."""
    counts = largest_confusions(pairs)
    sizes: Counter[str] = Counter()
    for (reference, predicted), number in counts.items():
        sizes[reference] += number
        sizes[predicted] += 0
    names = sorted(sizes, key=lambda one: (one == OTHER, -sizes[one], one))
    labels = [_label(one) for one in names]
    left, slanted = (round(max(map(len, labels), default=1) * LETTER * share) + 14 for share in (1.0, SLANT[0]))
    right = round(len(labels[-1]) * LETTER * SLANT[1]) + 12
    width, top = len(names) * CELL, slanted + 6
    size = f'width="{left + width + right}" height="{top + width + 14}"'  # of which the page takes 10 as a margin
    parts = [f'<svg {size} role="img" aria-label="{escape(name)}" font-size="13" fill="currentColor">']
    for row, reference in enumerate(names):
        y = top + row * CELL
        parts.append(f'<text x="{left - 8}" y="{y + CELL // 2 + 5}" text-anchor="end">{escape(labels[row])}</text>')
        x_label = left + row * CELL + CELL // 2 + 3
        parts.append(f'<text transform="translate({x_label} {top - 6}) rotate(-50)">{escape(labels[row])}</text>')
        for column, predicted in enumerate(names):
            share = counts.get((reference, predicted), 0) / max(1, sizes[reference])
            x = left + column * CELL
            if share:
                # A root shows small shares, which mistakes have; 0.55 at most leaves numbers readable.
                colour = "var(--accent)" if row == column else COLOURS[1]
                box = f'x="{x}" y="{y}" width="{CELL}" height="{CELL}" fill-opacity="{0.55 * np.sqrt(share):.3f}"'
                parts.append(
                    f'<rect {box} style="fill:{colour}"><title>{escape(reference)} as {escape(predicted)}: '
                    f"{counts[reference, predicted]:,}, {share:.1%}</title></rect>"
                )
            if share >= MIN_SHARE:
                place = f'x="{x + CELL // 2}" y="{y + CELL // 2 + 4}" font-size="11" text-anchor="middle"'
                parts.append(f'<text {place} pointer-events="none">{share * 100:.0f}</text>')
    lines = "".join(
        f"M{left} {top + step * CELL}h{width}M{left + step * CELL} {top}v{width}" for step in range(len(names) + 1)
    )
    parts.append(f'<path d="{lines}" style="stroke:var(--line)" fill="none" pointer-events="none"/>')
    return "".join([*parts, "</svg>"])


def plot_classes(scores: ClassScores, what: str) -> Drawing | None:
    """F1 of the most frequent classes as bars, with how many there are in the references; none for a single class."""
    names = sorted(scores.classes, key=lambda name: (-scores.classes[name].support, name))[:MAX_BARS]
    if len(names) < 2:
        return None
    values = [scores.classes[name].f1 * 100.0 for name in names]

    def paint(axes: Any) -> None:
        bars = axes.barh(range(len(names)), values, color=COLOURS[0], height=0.66)
        texts = [f"{value:.1f}  ({scores.classes[name].support:,})" for name, value in zip(names, values, strict=True)]
        for text in axes.bar_label(bars, labels=texts, padding=4):
            text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.5})  # the line must not cross it
        _name_rows(axes, names)
        axes.axvline(scores.micro.f1 * 100.0, color=MUTED, lw=1.0, ls=":")
        is_narrow = axes.figure.get_figwidth() == NARROW
        axes.set_xlim(0, 148 if is_narrow else 122)  # room for the numbers
        axes.set_xticks([0, 20, 40, 60, 80, 100])
        axes.set_xlabel("F1, % (number)" if is_narrow else "F1, % (number); dotted: micro average")
        axes.grid(visible=False, axis="y")

    return draw(f"F1 of {what} by class", 0.9 + 0.23 * len(names), paint)


def plot_systems(systems: Mapping[str, ClassScores], what: str) -> Drawing | None:
    """F1 of the classes that the first system is asked for most, a mark for each of the first eight systems; none
    for a single class."""
    first = next(iter(systems.values())).classes
    names = sorted(first, key=lambda name: (-first[name].support, name))[:MAX_BARS]
    if len(names) < 2:
        return None
    shown = dict(list(systems.items())[: len(COLOURS)])
    values = [
        [100.0 * one.classes[name].f1 if name in one.classes else 0.0 for name in names] for one in shown.values()
    ]
    places = list(range(len(names)))

    def paint(axes: Any) -> None:
        axes.hlines(places, *(edge(np.array(values), axis=0) for edge in (np.min, np.max)), color=PALE, lw=2.0)
        for (name, f1), colour, marker in zip(zip(shown, values, strict=True), COLOURS, "osD^vP*X", strict=False):
            label = legend_label(_label(name))
            axes.plot(f1, places, ls="", marker=marker, ms=5.5, color=colour, label=label, alpha=0.9)
        _name_rows(axes, names)
        low = min(min(one) for one in values)
        axes.set_xlim(max(0.0, 10.0 * np.floor((low - 4.0) / 10.0)), 101)
        axes.set_xlabel("F1, %")
        columns = 2 if axes.figure.get_figwidth() == NARROW else 4
        axes.figure.legend(loc="outside upper left", ncols=columns, columnspacing=1.2, handlelength=1.0)

    return draw(f"F1 of {what} by class and system", 1.2 + 0.25 * len(names), paint)


def plot_reliability(bins: Reliability, what: str) -> Drawing:
    """Accuracy of `what` against mean confidence of each bin, over how much of everything the bin holds."""
    there = bins.counts > 0
    shares = bins.counts / max(1, int(bins.counts.sum()))

    def paint(axes: Any) -> None:
        axes.stairs(shares * 100.0, bins.edges * 100.0, color=COLOURS[7], alpha=0.22, fill=True, label="% of all")
        axes.plot([0, 100], [0, 100], color=MUTED, lw=1.0, ls=":", label="calibrated")
        axes.plot(
            bins.confidence[there] * 100.0,
            bins.accuracy[there] * 100.0,
            color=COLOURS[0],
            lw=1.4,
            marker="o",
            ms=4,
            label="accuracy, %",
        )
        axes.set_xlim(0, 101)
        axes.set_ylim(0, 104)
        axes.set_xlabel("confidence, %")
        axes.figure.legend(loc="outside upper left", ncols=3, columnspacing=1.2, handlelength=1.4)

    return draw(f"Accuracy of {what} by confidence", 3.2, paint)


def _name_rows(axes: Any, names: Sequence[str]) -> None:
    """Classes from top to bottom; not by matplotlib's own names, since two may be shown alike."""
    limit = MAX_LABEL if axes.figure.get_figwidth() == NARROW else MAX_WIDE_LABEL
    axes.set_yticks(range(len(names)), [_escaped(_label(name, limit)) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


def _label(name: str, limit: int = MAX_LABEL) -> str:
    """A class for people: nothing too long, nothing invisible."""
    shown = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in name) or "\N{OPEN BOX}"
    return shown if len(shown) <= limit else shown[: limit - 1] + "\N{HORIZONTAL ELLIPSIS}"


def _escaped(label: str) -> str:
    """Text that matplotlib takes for no formula."""
    return label.replace("$", r"\$")
