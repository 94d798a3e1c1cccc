"""A report of jobs.evaluate as a run: the figures of its report.json that others have too."""

from collections.abc import Mapping
from typing import Any

from rnnlm.config import flatten
from rnnlm.errors import DataError
from rnnlm.evaluation.comparison.runs import LABELS_TODO, REPORT, Run
from rnnlm.storage import open_location


def report_run(name: str, path: str) -> Run:
    """Raises DataError if the report has none of the figures that are compared."""
    report = open_location(path).join(REPORT).read_json()
    parts = [report.get(part) or {} for part in ("total", "stream", "hypotheses")] if isinstance(report, dict) else []
    if not any(parts):
        raise DataError(f"{path}/{REPORT} has no figures of scored data, a stream or hypotheses", todo=LABELS_TODO)
    total, stream, judged = parts
    training, scoring = report.get("training") or {}, report.get("scoring") or {}
    figures = {
        "stream_perplexity": stream.get("perplexity"),
        **{key: total.get(key, stream.get(key)) for key in ("bits_per_byte", "token_perplexity", "word_perplexity")},
        **{key: metric["value"] for key, metric in (judged.get("metrics") or {}).items()},
        "rows": total.get("rows", judged.get("rows")),
        "errors": total.get("errors", judged.get("errors")),
        "tokens": total.get("tokens"),
        "stream_tokens": stream.get("targets"),
        "num_bytes": total.get("num_bytes", stream.get("num_bytes")),
        "wall_seconds": training.get("wall_seconds"),
        "tokens_per_second": training.get("targets_per_second"),
        "scored_per_second": scoring.get("tokens_per_second"),
    }
    return Run(name, path, figures, _settings(report, stream))


def _settings(report: Mapping[str, Any], stream: Mapping[str, Any]) -> dict[str, Any]:
    judged = report.get("hypotheses") or {}
    read = {
        "table": stream.get("table"),
        "lanes": stream.get("lanes"),
        "output": judged.get("output"),
        "unit": judged.get("unit"),
    }
    return {
        **flatten({"read": {key: value for key, value in read.items() if value is not None}}),
        **{key: value for key, value in (report.get("settings") or {}).items() if key != "output"},
        **flatten({"corpus": report.get("corpus") or {}, "versions": report.get("versions") or {}}),
    }
