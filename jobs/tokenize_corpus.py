"""Turn a text column, or two that belong together, into a token table, in parallel.

python -m jobs.tokenize_corpus corpus=stdlib tokenizer_path=outputs/tokenizer output=outputs/tokens/train
python -m jobs.tokenize_corpus corpus=parquet corpus.path=pairs.parquet corpus.text_column=de target_column=en \
    tokenizer_path=outputs/pair/tokenizer output=outputs/pair/tokens/train
"""

from jobs.app import run_job
from jobs.bulk import run_bulk
from jobs.schemas import TokenizeCorpusJob
from rnnlm.inference.tokenize_work import TokenizeWork
from rnnlm.storage import open_location


def tokenize_corpus(job: TokenizeCorpusJob) -> None:
    """Run it."""
    work = TokenizeWork(
        tokenizer=open_location(job.tokenizer_path).address,
        text_column=job.corpus.text_column,
        target_column=job.target_column,
        keep_columns=job.keep_columns,
    )
    run_bulk(work, job)


if __name__ == "__main__":
    run_job("tokenize_corpus", TokenizeCorpusJob, tokenize_corpus)
