"""What a trial of a sweep is judged by, read from its output folder.

The best validation loss of a training run, what a report of jobs.evaluate says first, or how fast a bulk job was.
"""

from collections.abc import Mapping
from typing import Any

from rnnlm.evaluation.leaderboard import Figure
from rnnlm.storage import Location
from rnnlm.training.metrics import METRICS, Row, read_metrics

VALIDATION_LOSS = "validation loss (nats a target)"
LESS_IS_BETTER = {"error_rate", "miss_rate"}  # of the metrics of outputs with references


def trial_figure(output: Location) -> tuple[Figure | None, list[Row]]:
    """The figure of an output folder, and its metrics if it is that of a training run."""
    if output.join(METRICS).exists():
        rows = read_metrics(output.join(METRICS))
        losses = [row["nll"] for row in rows if row["kind"] == "valid"]
        return (Figure(VALIDATION_LOSS, min(losses), less_is_better=True) if losses else None), rows
    for name, read in (("report.json", _of_report), ("labels.json", _of_labels), ("_run/report.json", _of_bulk)):
        if output.join(name).exists():
            return read(output.join(name).read_json()), []
    return None, []


def _of_report(report: Mapping[str, Any]) -> Figure | None:
    judged = (report.get("hypotheses") or {}).get("metrics") or {}
    for name, metric in judged.items():
        return Figure(metric["name"], metric["value"], less_is_better=name in LESS_IS_BETTER)
    if report.get("stream"):
        return Figure("perplexity of the stream", report["stream"]["perplexity"], less_is_better=True)
    total = report.get("total") or {}
    if total.get("bits_per_byte") is not None:
        return Figure("bits per byte", total["bits_per_byte"], less_is_better=True)
    return None


def _of_labels(report: Mapping[str, Any]) -> Figure | None:
    accuracy = (report.get("tags") or {}).get("accuracy")
    return Figure("accuracy", accuracy["value"], less_is_better=False) if accuracy else None


def _of_bulk(report: Mapping[str, Any]) -> Figure | None:
    speed = report.get("tokens_per_second")
    return Figure("tokens a second and worker", speed, less_is_better=False) if speed else None
