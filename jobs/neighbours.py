"""Find for each row those whose vectors are most like its own, by cosine: `neighbours`, each with id, row and cosine.

python -m jobs.neighbours vectors=outputs/vectors/data k=10 id_column=id output=outputs/alike
python -m jobs.neighbours vectors=outputs/vectors/data queries=outputs/questions/data min_cosine=0.8 \
    output=outputs/answers
python -m jobs.neighbours checkpoint=outputs/model 'words=[king,paris]' k=10
python -m jobs.neighbours checkpoint=outputs/model 'analogies=[[man,king,woman]]'

The search is exact: every query meets every vector, in products of blocks. With words, those of the vocabulary whose
embeddings are nearest are printed, and written if there is an output; with analogies, those that complete them.
"""

import io
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.app import run_job
from jobs.bulk import run_bulk
from jobs.schemas import BulkJob, NeighboursJob
from rnnlm.checkpoint import load_checkpoint
from rnnlm.data.formats.parquet import ParquetCorpus
from rnnlm.errors import DataError, Place, RefusedError
from rnnlm.storage import open_location
from rnnlm.vectors.analogies import solve_analogies
from rnnlm.vectors.columns import Directions, survey
from rnnlm.vectors.neighbours_work import NeighboursWork
from rnnlm.vectors.words import Ranked, WordEmbeddings, nearest_words

WORDS_FILE, ANALOGIES_FILE = "neighbours.parquet", "analogies.parquet"


def neighbours(job: NeighboursJob) -> None:
    """Run it."""
    if job.vectors is not None and job.output is not None:
        _of_rows(job, job.vectors, job.output)
    elif job.checkpoint is not None:
        _of_words(job, WordEmbeddings(load_checkpoint(job.checkpoint)))


def _of_rows(job: NeighboursJob, vectors: str, output: str) -> None:
    data = ParquetCorpus(path=vectors)
    size, found = survey(data, data.list_units(), job.vector_column)
    _say("vectors", size, found)
    corpus = data
    if job.queries is not None:
        corpus = ParquetCorpus(path=job.queries)
        query_size, found_queries = survey(corpus, corpus.list_units(), job.vector_column)
        _say("queries", query_size, found_queries)
        if query_size != size:
            raise DataError(
                f"the queries have {query_size} numbers each, the vectors {size}",
                where=Place(job.queries, column=job.vector_column),
                todo="make both with one model, layer and pooling",
            )
    work = NeighboursWork(
        vectors=open_location(vectors).address,
        size=size,
        rows=found.rows,
        vector_column=job.vector_column,
        id_column=job.id_column,
        leave_out_self=job.queries is None and not job.include_self,
        k=job.k,
        min_cosine=job.min_cosine,
        threads=job.threads,
    )
    bulk = BulkJob(
        corpus=corpus,
        cluster=job.cluster,
        output=output,
        shard_seconds=job.shard_seconds,
        error_budget=job.error_budget,
        dry_run=job.dry_run,
    )
    finished = run_bulk(work, bulk, settings=job)
    if finished is not None and finished.wall_seconds > 0.0 and not finished.resumed_shards:
        print(f"neighbours: {finished.totals.rows / finished.wall_seconds:,.0f} queries/s")


def _say(name: str, size: int, found: Directions) -> None:
    without = [("null", found.null), ("zero", found.zero), ("not finite", found.non_finite)]
    left_out = ", ".join(f"{count:,} {what}" for what, count in without if count)
    print(f"neighbours: {found.rows:,} {name} of {size} numbers" + (f"; left out: {left_out}" if left_out else ""))


def _of_words(job: NeighboursJob, embeddings: WordEmbeddings) -> None:
    folder = None if job.output is None else open_location(job.output)
    if folder is not None and (there := folder.list_files()):
        raise RefusedError(folder.uri, [f"it holds {', '.join(there[:3])}"])
    tables = {}
    if job.words is not None:
        found = nearest_words(embeddings, job.words, job.k, min_cosine=job.min_cosine)
        _print_words([one.word for one in found], [one.neighbours for one in found])
        tables[WORDS_FILE] = {"word": [one.word for one in found]}, [one.neighbours for one in found]
    if job.analogies is not None:
        solved = solve_analogies(embeddings, job.analogies, job.k, min_cosine=job.min_cosine)
        _print_words([f"{one.a} : {one.b} = {one.c}" for one in solved], [one.answers for one in solved])
        given = {name: [getattr(one, name) for one in solved] for name in ("a", "b", "c")}
        tables[ANALOGIES_FILE] = given, [one.answers for one in solved]
    if folder is not None:
        for name, (given, lists) in tables.items():
            folder.join(name).write_bytes(_parquet(given, lists))
            print(f"output: {job.output}/{name}")


def _print_words(heads: Sequence[str], lists: Sequence[Ranked]) -> None:
    for head, ranked in zip(heads, lists, strict=True):
        print(f"{head}: " + (", ".join(f"{word} {cosine:.3f}" for word, cosine in ranked) or "none"))


def _parquet(given: Mapping[str, list[str]], lists: Sequence[Ranked]) -> bytes:
    """The columns given and `neighbours: list<struct<word, cosine>>`."""
    kind = pa.list_(pa.struct([("word", pa.string()), ("cosine", pa.float32())]))
    structs = [[{"word": word, "cosine": cosine} for word, cosine in ranked] for ranked in lists]
    sink = io.BytesIO()
    pq.write_table(pa.table({**given, "neighbours": pa.array(structs, kind)}), sink, compression="zstd")
    return sink.getvalue()


if __name__ == "__main__":
    run_job("neighbours", NeighboursJob, neighbours)
