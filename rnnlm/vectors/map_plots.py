"""The plots of a map of words: where they lie, and the length of their vectors against how often they occur."""

from typing import Any

import numpy as np
import numpy.typing as npt

from rnnlm.data.vectors import WORD_START
from rnnlm.evaluation.plots import COLOURS, INK, NARROW, Drawing, draw, legend_label
from rnnlm.vectors.word_map import WordMap

MAX_LABEL = 14  # characters
POINTS = 72.0  # of an inch
LETTER, LINE = 5.4, 10.0  # points that a letter and a line of a label take, about
INNER = 0.85, 0.75  # of width and height of a picture, what axes and colour bar leave, about


def plot_map(words: WordMap) -> Drawing:
    """A point a word: its colour how often it occurs, its area the length of its vector. Names of the most frequent
    words, where there is room."""
    places, lengths = np.array(words.places), np.array(words.lengths)

    def paint(axes: Any) -> None:
        areas = 6.0 + 40.0 * lengths / max(1e-12, lengths.max())
        points = axes.scatter(*places.T, s=areas, c=np.log10(words.counts), cmap="viridis", alpha=0.7, lw=0)
        bar = axes.figure.colorbar(points, ax=axes, location="bottom", shrink=0.6, aspect=40, pad=0.02)
        bar.set_label("occurrences")
        bar.ax.xaxis.set_major_formatter(_occurrences)
        if axes.figure.get_figwidth() == NARROW:
            bar.ax.locator_params(nbins=4)
        axes.set_xlabel(f"first component, {words.shares[0]:.1%} of the variation")
        axes.set_ylabel(f"second, {words.shares[1]:.1%}")
        room = POINTS * axes.figure.get_size_inches() * INNER
        for place in _with_room(places, words.words, room):
            at = {"xytext": (3, 3), "textcoords": "offset points", "fontsize": 8, "color": INK}
            axes.annotate(_label(words.words[place]), places[place], **at)

    return draw("Words by the two main directions of their vectors", 6.0, paint)


def plot_lengths(words: WordMap) -> Drawing:
    """Length of the vector against the number of occurrences."""

    def paint(axes: Any) -> None:
        axes.scatter(np.log10(words.counts), words.lengths, s=9, color=COLOURS[0], alpha=0.6, lw=0)
        axes.xaxis.set_major_formatter(_occurrences)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("occurrences")
        axes.set_ylabel("length of the vector")

    return draw("Length of vectors by frequency", 2.8, paint)


def _occurrences(power: float, position: object) -> str:  # noqa: ARG001 - matplotlib's signature
    """A tick's label, to two digits."""
    return f"{float(f'{10.0**power:.2g}'):,.0f}"


def _label(word: str) -> str:
    shown = word if len(word) <= MAX_LABEL else word[: MAX_LABEL - 1] + "\N{HORIZONTAL ELLIPSIS}"
    return legend_label(shown)


def _with_room(places: npt.NDArray[np.float64], words: list[str], room: npt.NDArray[np.float64]) -> list[int]:
    """The words whose names cover no name of a more frequent one, in a room of width and height in points; a run of
    blanks is no name."""
    low, high = places.min(0), places.max(0)
    scaled = (places - low) / np.where(high > low, high - low, 1.0) * room
    taken: list[tuple[float, float, float]] = []
    kept = []
    for place, (x, y) in enumerate(scaled.tolist()):
        end = x + LETTER * min(len(words[place]), MAX_LABEL)
        free = all(x > right or end < left or abs(y - v) > LINE for left, right, v in taken)
        if free and words[place].strip(WORD_START).strip():
            taken.append((x, end, y))
            kept.append(place)
    return kept
