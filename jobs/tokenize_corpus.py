"""Turn a text column, two that belong together, or words and labels (or spans) into a table to learn from, in parallel.

python -m jobs.tokenize_corpus corpus=stdlib tokenizer_path=outputs/tokenizer output=outputs/tokens/train
python -m jobs.tokenize_corpus corpus=parquet corpus.path=pairs.parquet corpus.text_column=de target_column=en \
    tokenizer_path=outputs/pair/tokenizer output=outputs/pair/tokens/train
python -m jobs.tokenize_corpus corpus=conllu corpus.path=train.conllu labels_column=labels \
    tokenizer_path=outputs/tagger/tokenizer output=outputs/tagger/table/train
python -m jobs.tokenize_corpus corpus=conll_columns corpus.path=train.data corpus.labels='[1,2,3,4]' \
    labels_column=entities tokenizer_path=outputs/nested/tokenizer output=outputs/nested/table/train
python -m jobs.tokenize_corpus corpus=word_label_lines corpus.words=seq.in corpus.labels=seq.out corpus.label=label \
    labels_column=labels intents_column=label tokenizer_path=outputs/intents/tokenizer output=outputs/intents/table
"""

from typing import Any

from jobs.app import run_job
from jobs.bulk import run_bulk
from jobs.schemas import TokenizeCorpusJob
from rnnlm.bulk.output import OutputFolder
from rnnlm.bulk.work import WorkConfig
from rnnlm.data.span_table import holds_spans
from rnnlm.inference.tokenize_intents_work import TokenizeIntentsWork
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
        columns: dict[str, Any] = {
            "words_column": job.words_column,
            "labels_column": job.labels_column,
            "labels_of": job.labels_of,
            "keep_columns": job.keep_columns,
        }
        if job.intents_column is not None:
            work = TokenizeIntentsWork(tokenizer=tokenizer, intents_column=job.intents_column, **columns)
        elif holds_spans(listing.schema, job.labels_column):
            work = TokenizeSpansWork(tokenizer=tokenizer, **columns)
        else:
            work = TokenizeLabelsWork(tokenizer=tokenizer, **columns)
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
