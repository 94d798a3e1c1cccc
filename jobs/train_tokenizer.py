"""Learn a vocabulary from the texts of a corpus: `tokenizer.model` and its card `tokenizer.json`.

python -m jobs.train_tokenizer corpus=stdlib tokenizer=unigram tokenizer.vocab_size=8192 output=outputs/tokenizer
python -m jobs.train_tokenizer corpus=parquet corpus.path=pairs.parquet corpus.text_column=de target_column=en \
    tokenizer=bpe tokenizer.vocab_size=8000 output=outputs/pair/tokenizer
python -m jobs.train_tokenizer corpus=conllu corpus.path=train.conllu tokenizer=labels labels_column=labels \
    output=outputs/tagger/tokenizer
"""

import dataclasses
from collections.abc import Iterator
from itertools import chain

from jobs.app import run_job
from jobs.schemas import TrainTokenizerJob
from rnnlm.config import to_dict
from rnnlm.data.formats.base import CorpusConfig
from rnnlm.data.intent_table import IntentColumns
from rnnlm.data.labelled import LabelledColumns
from rnnlm.data.labels.schemes import Span
from rnnlm.data.listing import Listing
from rnnlm.data.span_table import SpanColumns, holds_spans
from rnnlm.data.tokenizers import Tokenizer
from rnnlm.data.tokenizers.base import CARD_FILE, MODEL_FILE, SAMPLE_TEXTS
from rnnlm.data.tokenizers.labels import LabelledWords, LabelsConfig, LabelTokenizer
from rnnlm.data.tokenizers.pair import PairTokenizer
from rnnlm.determinism import derive_seed
from rnnlm.errors import ConfigError, DataError, RefusedError
from rnnlm.storage import open_location


def train_tokenizer(job: TrainTokenizerJob) -> None:
    """Train, save, and say how well it does."""
    folder = open_location(job.output)
    foreign = [name for name in folder.list_files() if name != MODEL_FILE]  # the model is written before its card
    if foreign and not folder.join(CARD_FILE).exists():
        raise RefusedError(folder.uri, [f"it holds {', '.join(foreign[:3])} and no {CARD_FILE}"])
    head: list[str] = []  # of what the card's figures are measured on: the targets, if there are some
    tokenizer: Tokenizer
    if job.labels_column is not None:
        tokenizer = _labelled(job, job.labels_column)
    elif job.target_column is None:
        tokenizer = job.tokenizer.train(_sample(job, job.corpus, head))
    else:
        tokenizer = _pair(job, job.target_column, head)
    if folder.join(CARD_FILE).exists() and folder.join(CARD_FILE).read_json()["fingerprint"] != tokenizer.fingerprint:
        raise RefusedError(folder.uri, ["fingerprint: the tokenizer there is another one"])
    tokenizer.save(folder, sample=head)
    folder.join("settings.json").write_json(to_dict(job))
    if isinstance(tokenizer, LabelTokenizer):
        intents = f", {len(tokenizer.intents):,} intents" if tokenizer.intents else ""
        print(
            f"train_tokenizer: {len(tokenizer.words):,} words, {len(tokenizer.characters):,} characters, "
            f"{len(tokenizer.labels):,} labels{intents}\noutput: {job.output}"
        )
        return
    card = tokenizer.card(head)
    source = f"{tokenizer.source.vocab_size:,} source and " if isinstance(tokenizer, PairTokenizer) else ""
    print(
        f"train_tokenizer: {source}{card['vocab_size']:,} tokens, {card['sample']['bytes_per_token']:.2f} bytes each, "
        f"unknown {card['sample']['unknown_share']:.2%}, restored exactly {card['sample']['restored_share']:.1%}\n"
        f"output: {job.output}"
    )


def _labelled(job: TrainTokenizerJob, labels_column: str) -> LabelTokenizer:
    """A vocabulary of the whole corpus, since a label that is left out can never be predicted. Of spans the labels are
    their types."""
    if not isinstance(job.tokenizer, LabelsConfig):
        raise ConfigError("labels_column: words and labels make a vocabulary of their own; set tokenizer=labels")
    listing = job.corpus.list_units()
    if job.intents_column is not None:
        return _with_intents(
            job,
            job.tokenizer,
            IntentColumns(listing.schema, job.words_column, labels_column, job.intents_column),
            listing,
        )
    columns: LabelledColumns | SpanColumns
    if holds_spans(listing.schema, labels_column):
        columns = SpanColumns(listing.schema, job.words_column, labels_column)
    else:
        columns = LabelledColumns(listing.schema, job.words_column, labels_column, job.labels_of)

    def rows() -> Iterator[LabelledWords]:
        for table, _, _ in job.corpus.iterate_tables(listing, [job.words_column, labels_column]):
            for words, labels, error in zip(*columns.rows(table), strict=True):
                if error is None and words is not None and labels is not None:
                    yield words, [one.type if isinstance(one, Span) else one for one in labels]

    return job.tokenizer.train_labelled(rows())


def _with_intents(
    job: TrainTokenizerJob, options: LabelsConfig, columns: IntentColumns, listing: Listing
) -> LabelTokenizer:
    """The same, with the intents of rows."""
    found: set[str] = set()

    def rows() -> Iterator[LabelledWords]:
        for table, _, _ in job.corpus.iterate_tables(listing, columns.names):
            for words, labels, intents, error in zip(*columns.rows(table), strict=True):
                if error is None and words is not None and labels is not None and intents is not None:
                    found.update(intents)
                    yield words, labels

    return options.train_labelled(rows()).with_intents(found)


def _pair(job: TrainTokenizerJob, target_column: str, head: list[str]) -> PairTokenizer:
    """A tokenizer for the texts and one for their targets, or one for both."""
    targets = dataclasses.replace(job.corpus, text_column=target_column)
    if job.joint:
        both = job.tokenizer.train(chain(_sample(job, job.corpus, []), _sample(job, targets, head)))
        return PairTokenizer(both, both)
    source: Tokenizer = job.tokenizer.train(_sample(job, job.corpus, []))
    return PairTokenizer(source, (job.target_tokenizer or job.tokenizer).train(_sample(job, targets, head)))


def _sample(job: TrainTokenizerJob, corpus: CorpusConfig, head: list[str]) -> Iterator[str]:
    """An evenly spread, reproducible sample of documents; its first texts also go to `head`."""
    listing: Listing = corpus.list_units()
    share = min(1.0, job.max_bytes / max(1, listing.num_bytes))
    threshold = int(share * (1 << 63))
    found = False
    for index, text in enumerate(corpus.iterate_texts(listing)):
        if share >= 1.0 or derive_seed(job.seed, "tokenizer sample", index) < threshold:
            found = True
            if len(head) < SAMPLE_TEXTS:
                head.append(text)
            yield text
    if not found:
        raise DataError("the corpus has no text that is not empty", todo="check corpus.path and corpus.text_column")


if __name__ == "__main__":
    run_job("train_tokenizer", TrainTokenizerJob, train_tokenizer)
