"""Continue the prompts of a corpus, or start from nothing: `hypotheses`, `error`.

    python -m jobs.generate checkpoint=outputs/model corpus=lines corpus.path=prompts.txt decoding=sampling \
        decoding.temperature=0.8 output=outputs/generated
"""

from jobs.app import run_job
from jobs.bulk import run_bulk
from jobs.products import settled_products
from jobs.schemas import GenerateJob
from rnnlm.inference.generate_work import GenerateWork
from rnnlm.storage import open_location


def generate(job: GenerateJob) -> None:
    """Run it."""
    work = GenerateWork(
        checkpoint=open_location(job.checkpoint).address,
        text_column=job.corpus.text_column,
        prefix_column=job.prefix_column,
        max_source_tokens=job.max_source_tokens,
        truncate=job.truncate,
        alignment=job.alignment,
        decoding=job.decoding,
        num_hypotheses=job.num_hypotheses,
        seed=job.seed,
        threads=job.threads,
        products=settled_products(job.precision, job, job.threads),
    )
    work.check_model()
    run_bulk(work, job)


if __name__ == "__main__":
    run_job("generate", GenerateJob, generate)
