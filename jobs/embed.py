"""Give each row of a corpus a vector: the hidden state of a model that has read it, as `vector`; `error`.

python -m jobs.embed checkpoint=outputs/model corpus=parquet corpus.path=documents.parquet output=outputs/vectors
python -m jobs.embed checkpoint=outputs/model corpus.path=documents.parquet pooling=mean layer=1 normalise=true \
    output=outputs/vectors
python -m jobs.embed checkpoint=outputs/tagger/model corpus=conllu corpus.path=test.conllu output=outputs/vectors

For rows that are alike, give the output to jobs.neighbours.
"""

from jobs.app import run_job
from jobs.bulk import run_bulk
from jobs.products import settled_products
from jobs.schemas import EmbedJob
from rnnlm.bulk.output import OutputFolder
from rnnlm.checkpoint import loaded
from rnnlm.inference.embed_work import EmbedWork, reads_words
from rnnlm.inference.predict_work import reads
from rnnlm.storage import open_location

WORDS = "words"  # the column of words, if none is named


def embed(job: EmbedJob) -> None:
    """Run it."""
    listing = job.corpus.list_units(OutputFolder(open_location(job.output)).known_listing())
    checkpoint = open_location(job.checkpoint).address
    words_column = job.words_column or (WORDS if reads_words(loaded(checkpoint)) else None)
    work = EmbedWork(
        checkpoint=checkpoint,
        text_column=job.corpus.text_column,
        words_column=words_column,
        pooling=job.pooling,
        layer=job.layer,
        normalise=job.normalise,
        vector_column=job.vector_column,
        threads=job.threads,
        products=settled_products(job.precision, job, job.threads),
    )
    work.check_model()
    if words_column is not None:
        reads(listing.schema, words_column, job.corpus.text_column)
    run_bulk(work, job, listing=listing)


if __name__ == "__main__":
    run_job("embed", EmbedJob, embed)
