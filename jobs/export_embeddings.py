"""Write the vectors of a model's words into a file of vectors, in the order of their tokens.

python -m jobs.export_embeddings checkpoint=outputs/model output=outputs/words.txt
python -m jobs.export_embeddings checkpoint=outputs/model output=outputs/words.parquet format=parquet pieces=true

Of a tokenizer of subwords the whole words are written, without the mark of their beginning; with pieces=true all.
"""

import sys

from jobs.app import run_job
from jobs.schemas import ExportEmbeddingsJob
from rnnlm.checkpoint import load_checkpoint
from rnnlm.data.vector_files.write import can_hold, name_problem, write_vectors
from rnnlm.errors import ConfigError, DataError, RefusedError
from rnnlm.storage import open_location
from rnnlm.vectors.words import WordEmbeddings


def export_embeddings(job: ExportEmbeddingsJob) -> None:
    """Write the file, and say what it holds."""
    problem = name_problem(job.output, job.format)
    if problem is not None:
        raise ConfigError(f"output: {problem}")
    if open_location(job.output).exists():
        raise RefusedError(job.output, ["it is there already"])
    embeddings = WordEmbeddings(load_checkpoint(job.checkpoint))
    named = embeddings.pieces if job.pieces else embeddings.words
    kept = [(token, word) for token, word in sorted(named.items()) if can_hold(job.format, word)]
    if not kept:
        raise DataError(f"none of the {len(named):,} words can be written", todo="choose format=parquet")
    tokens, words = zip(*kept, strict=True)
    write_vectors(job.output, job.format, words, tokens, embeddings.matrix[list(tokens)])
    if len(kept) < len(named):
        left_out = f"{len(named) - len(kept):,} that are empty or hold white space, which format={job.format} cannot"
        print(f"export_embeddings: left out {left_out}", file=sys.stderr)
    print(f"export_embeddings: {len(kept):,} words, {embeddings.matrix.shape[1]:,} numbers each")
    print(f"output: {job.output}")


if __name__ == "__main__":
    run_job("export_embeddings", ExportEmbeddingsJob, export_embeddings)
