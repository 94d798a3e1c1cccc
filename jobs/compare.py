"""Runs of one kind side by side: figures, learning curves, paired tests of scored rows, settings that differ, cost.

python -m jobs.compare 'runs=[outputs/lstm,outputs/gru]' output=outputs/comparison
python -m jobs.compare 'runs=[outputs/a/scored,outputs/b/scored]' 'names=[a,b]' baseline_run=b output=outputs/comparison
"""

import platform
from collections.abc import Mapping

import numpy as np

import rnnlm
from jobs.app import run_job
from jobs.progress import progress_line
from jobs.schemas import CompareJob
from rnnlm.errors import ConfigError
from rnnlm.evaluation.comparison.report import Comparison, difference_sentences, write_comparison
from rnnlm.evaluation.comparison.report_runs import report_run
from rnnlm.evaluation.comparison.runs import Kind, Run, common_kind, name_paths
from rnnlm.evaluation.comparison.scored_runs import ScoredComparison, compare_scored, count_rows
from rnnlm.evaluation.comparison.training_runs import training_run
from rnnlm.evaluation.plots import check_installed
from rnnlm.storage import open_location
from rnnlm.training.metrics import METRICS, read_metrics


def compare(job: CompareJob) -> None:
    """Read the runs, write the page, and say how they differ."""
    check_installed()
    paths = name_paths(job.runs, job.names)
    baseline = next(iter(paths)) if job.baseline_run is None else job.baseline_run
    if baseline not in paths:
        raise ConfigError(f"baseline_run: there is no run '{baseline}' among {', '.join(paths)}")
    kind = common_kind(paths)
    for name in ("id_column", "baseline_run"):
        if kind != "score" and getattr(job, name) is not None:
            raise ConfigError(f"{name} is about outputs of jobs.score; leave it out")
    runs, scored = _compare_scored(job, paths, baseline) if kind == "score" else (_runs(kind, paths), None)
    comparison = Comparison(job.title, kind, runs, baseline, scored, _versions())
    write_comparison(comparison, open_location(job.output))
    for note in comparison.notes:
        print(f"compare: {note.text}")
    for line in difference_sentences(comparison):
        print(f"compare: {line}")
    print(f"output: {job.output}/report.html")


def _runs(kind: Kind, paths: Mapping[str, str]) -> list[Run]:
    if kind == "evaluate":
        return [report_run(name, path) for name, path in paths.items()]
    return [training_run(name, path, read_metrics(open_location(path).join(METRICS))) for name, path in paths.items()]


def _compare_scored(job: CompareJob, paths: Mapping[str, str], baseline: str) -> tuple[list[Run], ScoredComparison]:
    rows = max(map(count_rows, paths.values()))
    with progress_line("compare", rows) as line:
        return compare_scored(
            paths,
            baseline,
            id_column=job.id_column,
            draws=job.draws,
            on_rows=lambda done: line.update(done, f"{done:,} of {rows:,} rows"),
        )


def _versions() -> dict[str, str]:
    return {"rnnlm": rnnlm.__version__, "Python": platform.python_version(), "numpy": np.__version__}


if __name__ == "__main__":
    run_job("compare", CompareJob, compare)
