"""Whether one output is better than another: the paired bootstrap (Koehn, "Statistical significance tests for machine
translation evaluation", 2004).

Rows are drawn with replacement, the same ones for both outputs, and the metric is taken of each draw. BLEU and chrF
are tested by sacrebleu, which has the seed in its signature; the others here, by sums over the drawn rows. The p-value
is of the hypothesis that the outputs are equally good: the share of draws whose difference lies as far from the mean
difference as the true one lies from zero. It counts draws on both sides; sacrebleu's counts one, and is about half as
large. Equal texts have p = 1, which sacrebleu would call significant.

Sums over rows are also tested by permutation; p-values of several tests are adjusted by `holm`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sacrebleu.significance import PairedTest, Result

from rnnlm.determinism import derive_seed
from rnnlm.evaluation.hypotheses import Outputs
from rnnlm.evaluation.metric_names import CORPUS_METRICS, LESS_IS_BETTER, Unit, metric_name
from rnnlm.evaluation.sequence_metrics import (
    Counts,
    RowCounts,
    corpus_metric,
    reference_streams,
    share,
)

SEED = 1
MAX_CORPUS_ROWS = 20_000  # sacrebleu holds 40 to 50 bytes a row and draw at once: 1 GB for 1,000 draws


@dataclass(frozen=True)
class Comparison:
    """One metric of two outputs. `interval` holds 95 % of the draws of its own output: value +- half its width."""

    metric: str
    name: str
    ours: float
    ours_interval: float
    theirs: float
    theirs_interval: float
    p_value: float
    signature: str = ""

    @property
    def difference(self) -> float:
        return self.ours - self.theirs

    @property
    def better(self) -> bool:
        """Whether ours is the better one, significantly or not."""
        return self.difference < 0 if self.metric in LESS_IS_BETTER else self.difference > 0

    @property
    def significant(self) -> bool:
        return self.p_value < 0.05

    def verdict(self) -> str:
        """In words."""
        if not self.significant:
            return "no significant difference"
        return "better" if self.better else "worse"


def compare(
    metrics: Sequence[str],
    ours: Outputs,
    theirs: Outputs,
    counts: tuple[RowCounts, RowCounts],
    unit: Unit,
    draws: int,
) -> list[Comparison]:
    """Each metric that can be tested, in the order of `metrics`; see `untested`."""
    skipped = untested(metrics, ours.rows)
    corpus = [metric for metric in metrics if metric in CORPUS_METRICS and metric not in skipped]
    found = {one.metric: one for one in _compare_corpus(corpus, ours, theirs, draws)} if corpus else {}
    own = [metric for metric in metrics if metric not in CORPUS_METRICS]
    if own:
        found |= {one.metric: one for one in _compare_fractions(own, counts, unit, draws)}
    return [found[metric] for metric in metrics if metric in found]


def untested(metrics: Sequence[str], rows: int) -> list[str]:
    """The metrics for which there are too many rows."""
    return [metric for metric in metrics if metric in CORPUS_METRICS and rows > MAX_CORPUS_ROWS]


def _compare_corpus(metrics: Sequence[str], ours: Outputs, theirs: Outputs, draws: int) -> list[Comparison]:
    test = PairedTest(
        [("theirs", theirs.texts), ("ours", ours.texts)],
        {metric: corpus_metric(metric) for metric in metrics},
        references=reference_streams(ours.references),
        test_type="bs",
        n_samples=draws,
    )
    signatures, scores = test()
    found = []
    for metric, label in zip(metrics, signatures, strict=True):  # sacrebleu goes by names of its own, in our order
        base, own = scores[label]
        assert isinstance(base, Result)
        assert isinstance(own, Result)
        p_value = 1.0 if ours.texts == theirs.texts else _number(own.p_value)
        found.append(
            Comparison(
                metric,
                metric_name(metric, "words"),
                _number(own.score),
                _number(own.ci),
                _number(base.score),
                _number(base.ci),
                p_value,
                str(signatures[label]),
            )
        )
    return found


def _compare_fractions(
    metrics: Sequence[str], counts: tuple[RowCounts, RowCounts], unit: Unit, draws: int
) -> list[Comparison]:
    """All metrics over the same draws."""
    fractions = [[one.fraction(metric) for one in counts] for metric in metrics]
    table = np.stack([part for metric in fractions for fraction in metric for part in fraction])
    drawn = draw_sums(table, draws).reshape(draws, len(metrics), 2, 2)
    found = []
    for number, metric in enumerate(metrics):
        values = _shares(drawn[:, number, :, 0], drawn[:, number, :, 1])
        ours, theirs = (share(above.sum(), below.sum()) for above, below in fractions[number])
        own, base = _interval(values[:, 0]), _interval(values[:, 1])
        probability = p_value(values[:, 0] - values[:, 1], ours - theirs)
        found.append(Comparison(metric, metric_name(metric, unit), ours, own, theirs, base, probability))
    return found


def _number(value: Any) -> float:
    assert value is not None
    return float(value)


def _shares(above: Counts, below: Counts) -> Counts:
    return 100.0 * above / np.maximum(below, 1.0)


def _interval(values: Counts) -> float:
    low, high = np.quantile(values, [0.025, 0.975])
    return float(high - low) / 2.0


def p_value(differences: Counts, true_difference: float) -> float:
    """Of draws of a difference, two-sided. Equal outputs are as far from one another as any draw: 1."""
    as_far = np.abs(differences - differences.mean()) >= abs(true_difference) - 1e-12
    return float(as_far.sum() + 1) / (len(differences) + 1)


def draw_sums(table: Counts, draws: int) -> Counts:
    """(draws, k): the sums of `table` (k, rows) over rows drawn with replacement, as many as there are."""
    rows = table.shape[1]
    random = np.random.default_rng(derive_seed(SEED, "bootstrap"))
    sums = np.empty((draws, len(table)))
    for draw in range(draws):  # how often each row was drawn, so that no draw copies the table
        sums[draw] = table @ np.bincount(random.integers(0, rows, rows), minlength=rows)
    return sums


def permutation_p_values(differences: Counts, draws: int) -> Counts:
    """(k,): for `differences` (k, rows) of paired rows, the p-value of their sum, two-sided.

    Approximate randomization (Noreen 1989; Yeh, "More accurate tests for the statistical significance of result
    differences", 2000): if two systems are equally good, which of them gave which value of a row is chance, so each
    difference may as well have the other sign. p = (1 + draws of signs whose sum is as far from 0) / (1 + draws).
    """
    random = np.random.default_rng(derive_seed(SEED, "permutation"))
    slack = 1e-12 * np.abs(differences).sum(axis=1)  # sums of the same numbers in another order are the same
    true = np.abs(differences.sum(axis=1)) - slack
    as_far = np.zeros(len(differences))
    for _ in range(draws):
        signs = random.integers(0, 2, differences.shape[1], dtype=np.int8) * 2.0 - 1.0
        as_far += np.abs(differences @ signs) >= true
    p_values: Counts = (as_far + 1.0) / (draws + 1)
    return p_values


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the order given: the chance of any false finding among all is held at their level.

    The i-th smallest of m is max over j <= i of min(1, (m - j + 1) p_j) (Holm, "A simple sequentially rejective
    multiple test procedure", 1979).
    """
    adjusted, highest = [0.0] * len(p_values), 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = highest
    return adjusted
