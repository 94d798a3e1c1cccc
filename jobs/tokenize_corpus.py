"""Turn a text column, two that belong together, or words and labels (or spans) into a table to learn from, in parallel.

python -m jobs.tokenize_corpus corpus=stdlib tokenizer_path=outputs/tokenizer output=outputs/tokens/train
python -m jobs.tokenize_corpus corpus=parquet corpus.path=pairs.parquet corpus.text_column=de target_column=en \
    tokenizer_path=outputs/pair/tokenizer output=outputs/pair/tokens/train
python -m jobs.tokenize_corpus corpus=conllu corpus.path=train.conllu labels_column=labels \
    tokenizer_path=outputs/tagger/tokenizer output=outputs/tagger/table/train
python -m jobs.tokenize_corpus corpus=conll_columns corpus.path=train.data corpus.labels='[1,2,3,4]' \
    labels_column=entities tokenizer_path=outputs/nested/tokenizer output=outputs/nested/table/train
"""

from jobs.app import run_job
from jobs.bulk import run_bulk
from jobs.schemas import TokenizeCorpusJob
from rnnlm.bulk.output import OutputFolder
from rnnlm.bulk.work import WorkConfig
from rnnlm.data.span_table import holds_spans
from rnnlm.inference.tokenize_labels_work import TokenizeLabelsWork
from rnnlm.inference.tokenize_spans_work import TokenizeSpansWork
from rnnlm.inference.tokenize_work import TokenizeWork
from rnnlm.storage import open_location


def tokenize_corpus(job: TokenizeCorpusJob) -> None:
    """Run it."""
    tokenizer = open_location(job.tokenizer_path).address
    work: WorkConfig
    listing = None
    if job.labels_column is not None:
        listing = job.corpus.list_units(OutputFolder(open_location(job.output)).known_listing())
        work_type = TokenizeSpansWork if holds_spans(listing.schema, job.labels_column) else TokenizeLabelsWork
        work = work_type(
            tokenizer=tokenizer,
            words_column=job.words_column,
            labels_column=job.labels_column,
            labels_of=job.labels_of,
            keep_columns=job.keep_columns,
        )
    else:
        work = TokenizeWork(
            tokenizer=tokenizer,
            text_column=job.corpus.text_column,
            target_column=job.target_column,
            keep_columns=job.keep_columns,
        )
    run_bulk(work, job, listing=listing)


if __name__ == "__main__":
    run_job("tokenize_corpus", TokenizeCorpusJob, tokenize_corpus)
