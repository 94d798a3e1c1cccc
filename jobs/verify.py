"""Check a bulk output: every part hashed, every row accounted for, some shards computed again and compared.

python -m jobs.verify output=outputs/scored sample=3
"""

from jobs.app import run_job
from jobs.progress import progress_line
from jobs.schemas import VerifyJob
from rnnlm.bulk.verify import verify_output
from rnnlm.errors import FailuresError

MAX_SHOWN = 20


def verify(job: VerifyJob) -> None:
    """Run it."""
    with progress_line("verify", 1.0) as line:
        findings = verify_output(
            job.output,
            sample=job.sample,
            seed=job.seed,
            on_part=lambda done, parts: line.update(done / parts, f"{done:,} of {parts:,} parts"),
        )
    print(
        f"verify: {findings.parts:,} parts of {findings.num_bytes / 1e6:,.1f} MB hashed, {findings.rows:,} rows "
        f"accounted for, shards computed again: {', '.join(map(str, findings.recomputed)) or 'none'}"
    )
    for note in findings.notes:
        print(f"note: {note}")
    for problem in findings.problems[:MAX_SHOWN]:
        print(f"problem: {problem}")
    if findings.problems:
        raise FailuresError(
            f"{job.output} has {len(findings.problems):,} problems; the first: {findings.problems[0]}",
            todo="run the job again into another folder, or restore the files",
        )


if __name__ == "__main__":
    run_job("verify", VerifyJob, verify)
