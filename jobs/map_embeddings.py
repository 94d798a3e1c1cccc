"""A map of a model's words: their vectors in two dimensions, with how often each occurs and how long its vector is.

python -m jobs.map_embeddings checkpoint=outputs/model tokens=outputs/tokens/train output=outputs/map
"""

from jobs.app import run_job
from jobs.schemas import MapEmbeddingsJob
from rnnlm.checkpoint import load_checkpoint
from rnnlm.data.tokens import read_token_table
from rnnlm.evaluation.plots import check_installed
from rnnlm.storage import open_location
from rnnlm.vectors.map_page import write_map
from rnnlm.vectors.word_map import map_words
from rnnlm.vectors.words import WordEmbeddings


def map_embeddings(job: MapEmbeddingsJob) -> None:
    """Place the words, write the page, and say how much of the variation it shows."""
    check_installed()
    checkpoint = load_checkpoint(job.checkpoint)
    words = map_words(WordEmbeddings(checkpoint), read_token_table(job.tokens, checkpoint.tokenizer), job.words)
    write_map(words, job.title, job.checkpoint, open_location(job.output))
    print(f"map_embeddings: {len(words.words):,} words; the map shows {sum(words.shares):.1%} of their variation")
    print(f"output: {job.output}/map.html")


if __name__ == "__main__":
    run_job("map_embeddings", MapEmbeddingsJob, map_embeddings)
