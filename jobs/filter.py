"""Divide a scored corpus by its scores, for instance each language into the most fluent third, the middle and the tail.

python -m jobs.filter corpus=parquet corpus.path=outputs/scored/data 'group_by=[language]' output=outputs/filtered

Two passes: one finds the quantiles of each group, one writes `data/partition=head/...` with rows and columns as they
were. `report/report.html` shows the distributions and what went where. keep=[head] writes that partition alone.
"""

import platform
from collections.abc import Iterator

import pyarrow as pa

import rnnlm
from jobs.app import run_job
from jobs.bulk import run_bulk
from jobs.progress import progress_line
from jobs.schemas import FilterJob
from rnnlm.config import to_dict
from rnnlm.data.listing import Listing
from rnnlm.errors import ConfigError
from rnnlm.evaluation.plots import check_installed
from rnnlm.filtering.filter_work import FilterWork
from rnnlm.filtering.groups import GroupedSketch
from rnnlm.filtering.partitions import Cuts, PartitionCounts, check_cuts, cut_at_quantiles, cut_at_thresholds
from rnnlm.filtering.report import FilterReport, write_filter_report
from rnnlm.filtering.scan import ScoresAndGroups, check_score_columns, scan_columns, scores_and_groups
from rnnlm.storage import open_location


def filter_corpus(job: FilterJob) -> None:
    """Run it."""
    quantiles = job.quantiles if job.thresholds is None else None
    check_cuts(quantiles=quantiles, thresholds=job.thresholds, names=job.names)
    unknown = [name for name in job.keep or () if name not in job.names]
    if unknown:
        raise ConfigError(f"keep: there is no partition '{unknown[0]}' among {', '.join(job.names)}")
    check_installed()
    listing = job.corpus.list_units()
    check_score_columns(listing, job.score_column, job.group_by)
    sketches = GroupedSketch()
    for scores, groups in _scan(job, listing, "count"):
        sketches.add(scores, groups)
    if job.thresholds is not None:
        cuts = cut_at_thresholds(job.thresholds, job.names)
    else:
        cuts = cut_at_quantiles(sketches, job.quantiles, job.names, job.min_group_rows)
    work = FilterWork(
        score_column=job.score_column,
        cuts=cuts.to_dict(),
        group_by=job.group_by,
        keep=job.keep,
        column=job.partition_column,
    )
    if run_bulk(work, job, listing=listing) is None:
        return
    counts = PartitionCounts(cuts.names)
    for scores, groups in _scan(job, listing, "report"):
        counts.add(cuts.assign(scores, groups), groups)
    report = FilterReport(
        title=job.title,
        sketches=sketches,
        cuts=cuts,
        counts=counts,
        score=job.score_column,
        settings=to_dict(job),
        versions={"rnnlm": rnnlm.__version__, "Python": platform.python_version(), "pyarrow": pa.__version__},
        notes=_notes(job, cuts),
    )
    write_filter_report(report, open_location(job.output).join("report"))
    print(f"report: {job.output}/report/report.html")


def _scan(job: FilterJob, listing: Listing, title: str) -> Iterator[ScoresAndGroups]:
    """Scores and groups of all rows, a table at a time, with a line of progress."""
    columns = list(dict.fromkeys([job.score_column, *job.group_by]))
    done = 0
    with progress_line(title, float(listing.rows)) as line:

        def passed(rows: int) -> None:
            nonlocal done
            done += rows
            line.update(float(done), f"{done:,} of {listing.rows:,} rows")

        for table in scan_columns(job.corpus, listing, columns, passed):
            yield scores_and_groups(table, job.score_column, job.group_by)


def _notes(job: FilterJob, cuts: Cuts) -> list[str]:
    notes = [f"Score: the column {job.score_column} of {getattr(job.corpus, 'path', 'the corpus')}."]
    if job.keep is not None:
        left_out = [name for name in cuts.names if name not in job.keep]
        notes.append(f"Written: {', '.join(job.keep)}. Not written: {', '.join([*left_out, 'rows without a score'])}.")
    return notes


if __name__ == "__main__":
    run_job("filter", FilterJob, filter_corpus)
