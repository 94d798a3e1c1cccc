"""Label sequences and the spans they stand for.

    iob1    B- only where a span follows directly on one of the same type, else I- (Ramshaw & Marcus 1995; CoNLL-2003)
    iob2    B- at the beginning of each span, I- inside (Tjong Kim Sang & Veenstra 1999)
    iobes   iob2, and E- at the end, S- for a span of one word
    bilou   the same with L- and U- (Ratinov & Roth 2009)
    io      I- for each word of a span; neighbours of one type melt into one. A label without a prefix counts as I-

`O` is no span. A prefix alone (`B`) is a span whose type is the empty string.

Spans are read by the rule of conlleval, the script of the CoNLL shared tasks, which reads any sequence: a span begins
at B or S, at any label of a type behind O, E or S, and wherever the type changes; it ends before the next one begins,
before O, and behind E or S. So an I- without a beginning begins a span, whatever the scheme says. How often a sequence
breaks its scheme is a count of its own.

Nested annotations are columns of labels, one a level. What counts is the set of their spans.
"""

import itertools
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Literal, NamedTuple, get_args

Scheme = Literal["iob1", "iob2", "iobes", "bilou", "io"]
Order = Literal["outer", "inner"]

SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
OUTSIDE = "O"
PREFIXES: dict[Scheme, str] = {"iob1": "BI", "iob2": "BI", "iobes": "BIES", "bilou": "BILU", "io": "I"}
_PREFIX = re.compile("[BESLU](-|$)")
_CANONICAL = {"L": "E", "U": "S"}


class Span(NamedTuple):
    """Words `start_word` to `end_word` (exclusive), and what they are."""

    start_word: int
    end_word: int
    type: str


def spans_of(labels: Sequence[str], scheme: Scheme) -> list[Span]:
    """The spans of a sequence by the rule of conlleval, in order. Raises ValueError at a label that is none."""
    spans, start = [], -1
    before, type_before = OUTSIDE, ""
    for word, (prefix, kind) in enumerate([*_parsed(labels, scheme), (OUTSIDE, "")]):
        starts = prefix != OUTSIDE and (prefix in "BS" or before in "OES" or kind != type_before)
        if start >= 0 and (starts or prefix == OUTSIDE):
            spans.append(Span(start, word, type_before))
            start = -1
        if starts:
            start = word
        before, type_before = prefix, kind
    return spans


def count_violations(labels: Sequence[str], scheme: Scheme) -> int:
    """At how many places the sequence breaks the scheme: between which neighbours, its beginning and end included.

    Raises ValueError at a label that is none.
    """
    parsed = [(OUTSIDE, ""), *_parsed(labels, scheme), (OUTSIDE, "")]
    return sum(not _may_follow(*pair, scheme) for pair in itertools.pairwise(parsed))


def may_follow(before: str, label: str, scheme: Scheme) -> bool:
    """Whether the scheme has `label` directly behind `before`; OUTSIDE stands for the beginning and for the end.

    Raises ValueError at a label that is none.
    """
    first, second = _parsed([before, label], scheme)
    return _may_follow(first, second, scheme)


def labels_of(spans: Iterable[Span], n: int, scheme: Scheme) -> list[str]:
    """The labels of `n` words. Raises ValueError if spans overlap, are empty or go beyond the words."""
    labels = [OUTSIDE] * n
    types: list[str | None] = [None] * n
    for span in sorted(spans):
        start, end, kind = span
        if not 0 <= start < end <= n:
            raise ValueError(f"the span {start}-{end} does not lie within {n} words")
        if any(found is not None for found in types[start:end]):
            raise ValueError(f"the span {start}-{end} ({kind}) overlaps another; nested spans need several columns")
        follows = start > 0 and types[start - 1] == kind
        for word in range(start, end):
            prefix = _prefix(word == start, word == end - 1, follows, scheme)
            labels[word], types[word] = (f"{prefix}-{kind}" if kind else prefix), kind
    return labels


def convert(labels: Sequence[str], source: Scheme, target: Scheme) -> list[str]:
    """The same spans in another scheme."""
    return labels_of(spans_of(labels, source), len(labels), target)


def scheme_of_names(labels: Collection[str]) -> Scheme | None:
    """The first of iob2, iobes and bilou that has all of these labels, if O is one of them and all others have a prefix
    and a type. Which of several does not matter: spans are read by one rule from all of them."""
    prefixed = [re.fullmatch(r"([BIESLU])-.+", label, re.DOTALL) for label in labels if label != OUTSIDE]
    if OUTSIDE not in labels or not prefixed or not all(prefixed):
        return None
    found = {match[1] for match in prefixed if match}
    schemes: tuple[Scheme, ...] = ("iob2", "iobes", "bilou")
    return next((scheme for scheme in schemes if found <= set(PREFIXES[scheme])), None)


def check_schemes(source: Scheme | None, target: Scheme | None) -> None:
    """Raise ValueError if labels of no scheme are to be written in one."""
    if target is not None and source is None:
        raise ValueError(f"write_scheme={target} needs to know the scheme that labels are in; set scheme")


def detect_scheme(sequences: Iterable[Sequence[str]]) -> tuple[Scheme, int]:
    """The scheme that sequences break least often, and how often (CoNLL-2003, in iob1, does it twice in training).

    Of equals the first of io, iob2, iob1, iobes, bilou; io only if no label begins with another prefix. The spans are
    the same in all of them. Raises ValueError if there are labels that no scheme has.
    """
    counts: dict[Scheme, int] = dict.fromkeys(("io", "iob2", "iob1", "iobes", "bilou"), 0)
    for labels in sequences:
        for scheme in list(counts):
            if scheme == "io" and any(_PREFIX.match(label) for label in labels):
                del counts[scheme]  # which it would take for types
                continue
            try:
                counts[scheme] += count_violations(labels, scheme)
            except ValueError:
                if len(counts) == 1:
                    raise
                del counts[scheme]
    if not counts:
        raise ValueError("no scheme has all of these labels")
    found = min(counts, key=lambda scheme: counts[scheme])
    return found, counts[found]


def layers(spans: Collection[Span], order: Order = "outer") -> list[list[Span]]:
    """Spans, which may hold or cross one another, as levels without overlaps; each level in order of its words.

    Longer spans come before shorter ones (`inner`: behind them), and each goes to the first level that has room. So
    level 0 holds every outermost (innermost) span, and a span of another level overlaps one of each level before it.
    """
    sign = -1 if order == "outer" else 1
    found: list[list[Span]] = []
    for span in sorted(set(spans), key=lambda one: (sign * (one.end_word - one.start_word), one)):
        level = next((level for level in found if not any(_overlap(span, other) for other in level)), None)
        if level is None:
            found.append(level := [])
        level.append(span)
    return [sorted(level) for level in found]


def columns_of(
    spans: Collection[Span], n: int, scheme: Scheme, *, order: Order = "outer", depth: int | None = None
) -> list[list[str]]:
    """The columns of labels of nested spans; `depth` columns, or as many as they need, at least one.

    Raises ValueError if they need more than `depth`.
    """
    levels = layers(spans, order)
    if depth is not None and len(levels) > depth:
        raise ValueError(f"the spans need {len(levels)} levels, there are {depth}")
    levels += [[] for _ in range((depth or 1) - len(levels))]
    return [labels_of(level, n, scheme) for level in levels]


def spans_of_columns(columns: Iterable[Sequence[str]], scheme: Scheme) -> set[Span]:
    """The spans of all columns. One that stands in two columns is one span."""
    return {span for labels in columns for span in spans_of(labels, scheme)}


def _parsed(labels: Sequence[str], scheme: Scheme) -> list[tuple[str, str]]:
    """Prefix (of O, B, I, E, S) and type of each label."""
    return [_parse(label, place, scheme) for place, label in enumerate(labels)]


def _parse(label: str, place: int, scheme: Scheme) -> tuple[str, str]:
    if label == OUTSIDE:
        return OUTSIDE, ""
    prefix, dash, kind = label.partition("-")
    if len(prefix) == 1 and prefix in PREFIXES[scheme] and (kind or not dash):
        return _CANONICAL.get(prefix, prefix), kind
    if scheme == "io" and label:
        return "I", label
    known = ", ".join(f"{one}-" for one in PREFIXES[scheme])
    raise ValueError(f"label {place + 1} is {label!r}, but {scheme} has O, {known}")


def _may_follow(before: tuple[str, str], label: tuple[str, str], scheme: Scheme) -> bool:
    prefix, kind = label
    inside = before[0] != OUTSIDE and before[1] == kind  # of the same type
    if scheme == "io":
        return True
    if scheme == "iob1":
        return prefix != "B" or inside
    if scheme == "iob2":
        return prefix != "I" or inside
    if before[0] in {"B", "I"}:  # a span that has to go on
        return prefix in {"I", "E"} and inside
    return prefix not in {"I", "E"}


def _prefix(first: bool, last: bool, follows: bool, scheme: Scheme) -> str:
    if scheme == "io":
        return "I"
    if scheme == "iob1":
        return "B" if first and follows else "I"
    if scheme == "iob2" or not (first or last):
        return "B" if first else "I"
    single, end = ("S", "E") if scheme == "iobes" else ("U", "L")
    return single if first and last else "B" if first else end


def _overlap(one: Span, other: Span) -> bool:
    return one.start_word < other.end_word and other.start_word < one.end_word
