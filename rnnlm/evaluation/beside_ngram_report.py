"""How a comparison with n-grams (`beside_ngram.py`) is said and drawn in the report."""

import math
from dataclasses import dataclass
from typing import Any

from rnnlm.evaluation.beside_ngram import BesideNGram, Curve, Group
from rnnlm.evaluation.page import figure
from rnnlm.evaluation.plots import COLOURS, INK, MUTED, Drawing, draw

COLUMNS = ["% of targets", "network", "n-grams", "mixture", "gain, nats a target", "95 % interval"]


@dataclass(frozen=True)
class Section:
    """A table of groups of targets."""

    heading: str
    note: str
    rows: list[list[str]]


@dataclass(frozen=True)
class Said:
    """What page and Markdown show beside the plot."""

    columns: list[str]
    total: str
    claims: list[str]
    sections: list[Section]


def say(beside: BesideNGram) -> Said:
    """The comparison as text and tables."""
    sections = [
        Section(
            "longest seen",
            "Tokens of the longest n-gram of training that ends at the target; 1: it never followed the token before.",
            _rows([*beside.by_longest, beside.total]),
        ),
        Section(
            "k-gram",
            "The target after k - 1 tokens, or after all of its document where that is shorter.",
            _rows([group for pair in beside.seen for group in pair]),
        ),
    ]
    if beside.by_frequency:
        note = "How often the target occurred in the n-gram model's training data."
        sections.append(Section("occurrences", note, _rows(beside.by_frequency)))
    return Said(COLUMNS, _total(beside), _claims(beside), sections)


def markdown(beside: BesideNGram) -> list[str]:
    """Paragraphs of report.md."""
    said = say(beside)
    paragraphs = [said.total, *said.claims]
    for section in said.sections:
        lines = [[section.heading, *said.columns], ["---", *["---:"] * len(said.columns)], *section.rows]
        paragraphs.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
    return paragraphs


def plot_curve(beside: BesideNGram) -> Drawing:
    """Perplexity of the mixture by the n-gram model's weight."""

    def line(axes: Any, curve: Curve, **style: Any) -> None:
        axes.plot(curve.weights, [math.nan if nll is None else _exp(nll) for nll in curve.nll], **style)

    def paint(axes: Any) -> None:
        line(axes, beside.curve, color=COLOURS[0], lw=1.8, label="this text")
        if beside.held_out is not None:
            line(axes, beside.held_out, color=MUTED, lw=1.2, ls="--", label="held-out text")
        if beside.total.mixture is not None:
            mixed = _exp(beside.total.mixture)
            axes.plot(
                [beside.weight], [mixed], "o", color=COLOURS[1], ms=6, label=f"weight {beside.weight:.3f}: {mixed:.2f}"
            )
        axes.set_xlim(0.0, 1.0)
        axes.set_xlabel("weight of the n-grams")
        axes.set_ylabel("perplexity a token")
        axes.legend(loc="upper center", labelcolor=INK)

    return draw("Perplexity by the weight of the n-grams", 2.8, paint)


def _total(beside: BesideNGram) -> str:
    total, best = beside.total, beside.curve
    text = (
        f"Perplexity a token: network {_perplexity(total.network)}, {beside.order}-grams {_perplexity(total.ngram)}, "
        f"mixture {_perplexity(total.mixture)} with a weight of {beside.weight:.3f} for the n-grams"
    )
    text += ", fitted on held-out text" if beside.held_out else ""
    return f"{text}; the best weight for this very text is {best.best_weight:.3f} ({_perplexity(best.best_nll)})."


def _claims(beside: BesideNGram) -> list[str]:
    """What is said of networks, with the figures that speak for it or against it."""
    seen, unseen = beside.seen[-1]
    claims = []
    if seen.targets and unseen.targets:
        claims.append(
            f"Contexts never seen: {100.0 * unseen.share:.1f} % of the targets end a {beside.order}-gram that training "
            f"has not; there the network has {_against(unseen)}. Where training has it: {_against(seen)}."
        )
    if rare := next((one for one in beside.by_frequency if one.targets), None):
        claims.append(
            f"Rare words: of targets with {rare.name} occurrences in training ({100.0 * rare.share:.1f} %) the network "
            f"has {_against(rare)}."
        )
    return claims


def _against(group: Group) -> str:
    return f"{_perplexity(group.network)} against {_perplexity(group.ngram)}"


def _rows(groups: list[Group]) -> list[list[str]]:
    return [
        [
            one.name,
            figure(100.0 * one.share, 1),
            *(_perplexity(nll) for nll in (one.network, one.ngram, one.mixture)),
            "\N{EN DASH}" if one.gain is None else f"{one.gain:+.3f}",
            "\N{EN DASH}" if one.gain_interval is None else "{:+.3f} to {:+.3f}".format(*one.gain_interval),
        ]
        for one in groups
        if one.targets
    ]


def _perplexity(nll: float | None) -> str:
    return figure(None if nll is None else _exp(nll))


def _exp(nll: float) -> float:
    return math.exp(min(700.0, nll))  # n-grams may hold a target for all but impossible
