"""Runs of jobs.score: their figures over the rows that all scored, and paired tests against the baseline.

Of every run less the baseline, in bits per byte (nats a row where no text is there); below 0 the run is better:

    difference    sum over rows of (-logprob of the run + logprob of the baseline) / (ln 2 x bytes)
    interval      95 % of draws of the rows, the same for all runs (`significance.draw_sums`)
    p-value       paired permutation test of the sum (`significance.permutation_p_values`), adjusted by Holm's method
                  for the number of runs that are compared
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rnnlm.bulk.output import REPORT, OutputFolder
from rnnlm.config import flatten
from rnnlm.evaluation.comparison.differences import RowDifferences
from rnnlm.evaluation.comparison.paired_rows import PairedRows, read_paired
from rnnlm.evaluation.comparison.runs import Run
from rnnlm.evaluation.comparison.same_rows import row_columns
from rnnlm.evaluation.significance import draw_sums, holm, permutation_p_values
from rnnlm.storage import open_location

SIGNIFICANT = 0.05
ROUNDING = 1e-6  # of the baseline's value: float32 products in another order, on another processor, move it by less


@dataclass(frozen=True)
class Difference:
    """A run less the baseline, in the unit of `ScoredComparison`."""

    run: str
    baseline_value: float
    value: float
    low: float
    high: float
    p_value: float
    adjusted_p_value: float
    rows: RowDifferences

    def verdict(self) -> str:
        """In words."""
        if self.adjusted_p_value >= SIGNIFICANT:
            return "no significant difference"
        if abs(self.value) < ROUNDING * abs(self.baseline_value):
            return "no difference but rounding"
        return "better" if self.value < 0 else "worse"


@dataclass(frozen=True)
class ScoredComparison:
    """What is said of scored runs beside their figures."""

    paired: PairedRows
    draws: int
    differences: list[Difference]

    @property
    def unit(self) -> str:
        return self.paired.scale.unit


def compare_scored(
    paths: Mapping[str, str],
    baseline: str,
    *,
    id_column: str | None,
    draws: int,
    on_rows: Callable[[int], None] = lambda _: None,
) -> tuple[list[Run], ScoredComparison]:
    """Read and test. Raises DataError at the first row that is not the same in all runs."""
    plans = {name: OutputFolder(open_location(path)).plan() for name, path in paths.items()}
    texts = {name: _text_column(plan) for name, plan in plans.items()}
    paired = read_paired(paths, row_columns(paths, texts, id_column), baseline, on_rows)
    runs = [_run(name, path, plans[name], paired) for name, path in paths.items()]
    return runs, ScoredComparison(paired, draws, _differences(paired, list(paths), baseline, draws))


def count_rows(path: str) -> int:
    """Rows of an output, as its record says."""
    rows: int = open_location(path).join(REPORT).read_json()["rows"]["rows"]
    return rows


def _differences(paired: PairedRows, names: list[str], baseline: str, draws: int) -> list[Difference]:
    others = [name for name in names if name != baseline]
    if not paired.weights.any():
        return []
    base = paired.nats[names.index(baseline)]
    nats = paired.nats[[names.index(name) for name in others]] - base
    drawn = draw_sums(np.stack([*nats, paired.weights]), draws)
    drawn = drawn[drawn[:, -1] > 0.0]
    lows, highs = np.quantile(drawn[:, :-1] / drawn[:, -1:], [0.025, 0.975], axis=0)
    p_values = permutation_p_values(nats, draws).tolist()
    values = nats.sum(axis=1) / paired.weights.sum()
    base_value = float(base.sum() / paired.weights.sum())
    columns = zip(others, values, lows, highs, p_values, holm(p_values), strict=True)
    return [
        Difference(name, base_value, float(value), float(low), float(high), p, adjusted, paired.differences[name])
        for name, value, low, high, p, adjusted in columns
    ]


def _text_column(plan: Mapping[str, Any]) -> str:
    """The column that was scored; of an encoder-decoder, that of the targets."""
    work = plan["recipe"]["work"]
    return str(work.get("target_column") or work["text_column"])


def _run(name: str, path: str, plan: Mapping[str, Any], paired: PairedRows) -> Run:
    record = open_location(path).join(REPORT).read_json()
    totals = paired.totals[name]
    figures = {
        "bits_per_byte": totals.bits_per_byte,
        "token_perplexity": totals.token_perplexity,
        "word_perplexity": totals.word_perplexity,
        "nats_per_row": -totals.logprob / totals.rows if totals.rows else None,
        "tokens": totals.tokens,
        "errors": paired.errors[name],
        "wall_seconds": None if record.get("resumed_shards") else record.get("wall_seconds"),  # of the last start alone
        "workers": max(1, record.get("workers", 1)),  # 0 are this process
        "worker_seconds": record.get("seconds"),
        "tokens_per_second": record.get("tokens_per_second"),
    }
    recipe, identity = plan["recipe"], plan["identity"]
    settings = {
        **recipe["work"],
        "corpus": recipe["corpus"],
        "fingerprint": {"model": identity["work"]["model"]},
        "versions": {"torch": identity["work"].get("torch"), "pyarrow": identity.get("pyarrow")},
        "hardware": record.get("hardware", {}),
    }
    return Run(name, path, figures, flatten(settings))
