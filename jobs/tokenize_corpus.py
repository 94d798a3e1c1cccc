"""Turn a text column, two that belong together, or words and labels into a table to learn from, in parallel.

python -m jobs.tokenize_corpus corpus=stdlib tokenizer_path=outputs/tokenizer output=outputs/tokens/train
python -m jobs.tokenize_corpus corpus=parquet corpus.path=pairs.parquet corpus.text_column=de target_column=en \
    tokenizer_path=outputs/pair/tokenizer output=outputs/pair/tokens/train
python -m jobs.tokenize_corpus corpus=conllu corpus.path=train.conllu labels_column=labels \
    tokenizer_path=outputs/tagger/tokenizer output=outputs/tagger/table/train
"""

from jobs.app import run_job
from jobs.bulk import run_bulk
from jobs.schemas import TokenizeCorpusJob
from rnnlm.bulk.work import WorkConfig
from rnnlm.inference.tokenize_labels_work import TokenizeLabelsWork
from rnnlm.inference.tokenize_work import TokenizeWork
from rnnlm.storage import open_location


def tokenize_corpus(job: TokenizeCorpusJob) -> None:
    """Run it."""
    tokenizer = open_location(job.tokenizer_path).address
    work: WorkConfig
    if job.labels_column is not None:
        work = TokenizeLabelsWork(
            tokenizer=tokenizer,
            words_column=job.words_column,
            labels_column=job.labels_column,
            keep_columns=job.keep_columns,
        )
    else:
        work = TokenizeWork(
            tokenizer=tokenizer,
            text_column=job.corpus.text_column,
            target_column=job.target_column,
            keep_columns=job.keep_columns,
        )
    run_bulk(work, job)


if __name__ == "__main__":
    run_job("tokenize_corpus", TokenizeCorpusJob, tokenize_corpus)
