"""Write a corpus again in parts of equal size, rows and columns as they were, in their order.

python -m jobs.compact corpus.path=outputs/scored/data target_mb=256 output=outputs/compact

A path that holds one of = , [ ] { } needs quotes of its own: "corpus.path='outputs/filtered/data/partition=head'".
"""

from jobs.app import run_job
from jobs.bulk import run_bulk
from jobs.schemas import BulkJob, CompactJob
from rnnlm.bulk.copy_work import SECONDS_PER_BYTE, CopyWork


def compact(job: CompactJob) -> None:
    """Run it."""
    bulk = BulkJob(
        corpus=job.corpus,
        cluster=job.cluster,
        output=job.output,
        shard_seconds=job.target_mb * 1e6 * SECONDS_PER_BYTE,
        dry_run=job.dry_run,
    )
    run_bulk(CopyWork(), bulk, settings=job)


if __name__ == "__main__":
    run_job("compact", CompactJob, compact)
