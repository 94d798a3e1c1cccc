"""Add the log-probability of each text to a corpus: `logprob`, `num_tokens`, `bits_per_byte`, `error`.

With words=true also `words`, the log-probability of each word (its surprisal is the negative), and `end_logprob`.

python -m jobs.score checkpoint=outputs/model corpus=parquet corpus.path=documents.parquet output=outputs/scored
python -m jobs.score checkpoint=outputs/translator corpus=parquet corpus.path=pairs.parquet corpus.text_column=de \
    target_column=en output=outputs/scored
"""

from dataclasses import replace

from jobs.app import run_job
from jobs.bulk import run_bulk
from jobs.products import begun_products, settled_products, tried_products
from jobs.schemas import ScoreJob
from rnnlm.inference.precision import Products
from rnnlm.inference.score_work import ScoreWork
from rnnlm.storage import open_location


def score(job: ScoreJob) -> None:
    """Run it."""
    given = None if job.precision == "auto" else settled_products(job.precision, job, job.threads)
    products = given or begun_products(job)
    work = ScoreWork(
        checkpoint=open_location(job.checkpoint).address,
        text_column=job.corpus.text_column,
        target_column=job.target_column,
        cache=job.cache,
        ensemble=[open_location(path).address for path in job.ensemble],
        ngram=open_location(job.ngram).address if job.ngram else None,
        ngram_weight=job.ngram_weight,
        token_logprobs=job.token_logprobs,
        words=job.words,
        threads=job.threads,
        products=products or Products().settled(job.threads),
    )
    work.check_model()
    if products is None:
        work = replace(work, products=tried_products(work, job))
    run_bulk(work, job)


if __name__ == "__main__":
    run_job("score", ScoreJob, score)
