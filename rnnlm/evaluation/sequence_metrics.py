"""How close outputs are to their references; figures of a set of rows, and the counts of each row they are sums of.

    bleu             BLEU of the corpus by sacrebleu, 0 to 100 (Papineni et al. 2002; Post, "A call for clarity", 2018)
    chrf             chrF of the corpus by sacrebleu, 0 to 100 (Popovic 2015)
    exact_match      % of rows that equal a reference, blanks apart
    token_accuracy   % of places with the right word: place n of the output against place n of the reference; the longer
                     of the two counts, so neither too many nor too few words help
    error_rate       edits (insert, delete, substitute) to the closest reference, in % of its length, over all rows:
                     word error rate for words, character error rate for chars, phoneme error rate for phonemes
    miss_rate        % of rows that equal no reference: what spelling to sound calls the word error rate

Where several references count as right, a row is held against the one that takes the fewest edits, the first of equals
(as Yao & Zweig 2015 do for pronunciations); places are counted against the same one. BLEU and chrF have rules of their
own for several references. Words are what white space separates, characters are code points with blanks as one each.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
from rapidfuzz.distance import Levenshtein
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from rnnlm.evaluation.metric_names import CORPUS_METRICS, Unit, metric_name

Counts = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Figure:
    """One metric over a set of rows; `signature` says how it was computed, where that is a matter of convention."""

    metric: str
    name: str
    value: float
    signature: str = ""

    @property
    def is_share(self) -> bool:
        """Whether the value is a percentage of something."""
        return self.metric not in CORPUS_METRICS

    def said(self, digits: int = 2) -> str:
        """The value for people."""
        return f"{self.value:.{digits}f}{' %' if self.is_share else ''}"


@dataclass(frozen=True)
class RowCounts:
    """What each row contributes; arrays with one number a row."""

    edits: Counts  # to the closest reference
    length: Counts  # of that reference, in units
    words: Counts  # of that reference
    output_words: Counts
    in_place: Counts  # words at their place
    places: Counts  # words of the longer of output and reference
    matched: Counts  # 1 where a reference is equalled

    def fraction(self, metric: str) -> tuple[Counts, Counts]:
        """Numerators and denominators whose sums, divided, are the metric as a share."""
        ones = np.ones_like(self.matched)
        return {
            "exact_match": (self.matched, ones),
            "token_accuracy": (self.in_place, self.places),
            "error_rate": (self.edits, self.length),
            "miss_rate": (1.0 - self.matched, ones),
        }[metric]

    def of_rows(self, rows: npt.NDArray[np.int64]) -> "RowCounts":
        """The same of some rows."""
        return RowCounts(*(getattr(self, field.name)[rows] for field in fields(self)))


def count_rows(texts: Sequence[str], references: Sequence[Sequence[str]], unit: Unit) -> RowCounts:
    """Hold each text against the closest of its references."""
    rows = [_count(text, right, unit) for text, right in zip(texts, references, strict=True)]
    table = np.array(rows, dtype=np.float64).reshape(-1, 7)
    return RowCounts(*(table[:, column] for column in range(7)))


def _count(text: str, references: Sequence[str], unit: Unit) -> tuple[int, ...]:
    output = units_of(text, unit)
    best, edits = 0, -1
    for number, reference in enumerate(references):
        distance = Levenshtein.distance(output, units_of(reference, unit))
        if edits < 0 or distance < edits:
            best, edits = number, distance
    reference = references[best]
    words, right = text.split(), reference.split()
    in_place = sum(ours == theirs for ours, theirs in zip(words, right, strict=False))
    matched = any(words == one.split() for one in references)
    places = max(len(words), len(right))
    return edits, len(units_of(reference, unit)), len(right), len(words), in_place, places, matched


def units_of(text: str, unit: Unit) -> Sequence[str]:
    """What edits are counted in."""
    words = text.split()
    return " ".join(words) if unit == "chars" else words


def measure(
    metrics: Sequence[str], texts: Sequence[str], references: Sequence[Sequence[str]], counts: RowCounts, unit: Unit
) -> list[Figure]:
    """The figures of all rows."""
    figures = []
    for metric in metrics:
        name = metric_name(metric, unit)
        if metric in CORPUS_METRICS:
            scorer = corpus_metric(metric)
            score = scorer.corpus_score(list(texts), reference_streams(references)).score
            figures.append(Figure(metric, name, score, str(scorer.get_signature())))
        else:
            above, below = counts.fraction(metric)
            figures.append(Figure(metric, name, share(above.sum(), below.sum())))
    return figures


def corpus_metric(metric: str) -> BLEU | CHRF:
    """sacrebleu's, with its defaults; `force` only keeps it from warnings of tokenized text, as commands are."""
    return BLEU(force=True) if metric == "bleu" else CHRF()


def reference_streams(references: Sequence[Sequence[str]]) -> list[list[Any]]:
    """References as sacrebleu takes them: the first of each row, the second, and so on; None in a row with fewer, which
    its annotations do not tell."""
    most = max(map(len, references))
    return [[right[place] if place < len(right) else None for right in references] for place in range(most)]


def sentence_chrf(texts: Sequence[str], references: Sequence[Sequence[str]]) -> Counts:
    """chrF of each row, 0 to 100."""
    scorer = CHRF()
    scores = [scorer.sentence_score(text, list(right)).score for text, right in zip(texts, references, strict=True)]
    return np.array(scores, dtype=np.float64)


def share(above: float, below: float) -> float:
    """In %; nothing out of nothing is nothing."""
    return 100.0 * float(above) / float(below) if below else 0.0 if not above else 100.0
