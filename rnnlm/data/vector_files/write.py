"""Word vectors written in the layouts that `read.py` reads, and as a Parquet table. The same floats come back."""

import io
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rnnlm.data.formats.text_blocks import codec_of
from rnnlm.data.vector_files.base import Matrix
from rnnlm.data.vector_files.safetensors import BETWEEN, write_safetensors
from rnnlm.data.vector_files.word2vec_binary import NUMBER
from rnnlm.storage import open_location

VectorFormat = Literal["word2vec", "parquet", "safetensors"]


def name_problem(path: str, layout: VectorFormat) -> str | None:
    """What is wrong with the name of a file, which is what readers know the layout by; None if nothing is."""
    ending = path.rpartition(".")[2]
    if layout != "word2vec":
        return None if ending == layout else f"format={layout} needs a name that ends in .{layout}"
    if ending in {"parquet", "safetensors"} or codec_of(path) is not None:
        return f"format=word2vec writes text, or binary as .bin, and not .{ending}"
    return None


def can_hold(layout: VectorFormat, word: str) -> bool:
    """Whether a layout can tell the word from what stands beside it: word2vec's readers part words by white space."""
    if layout == "word2vec":
        return len(word.split()) == 1 and word == word.strip()
    return layout == "parquet" or BETWEEN not in word


def write_vectors(
    path: str, layout: VectorFormat, words: Sequence[str], tokens: Sequence[int], vectors: Matrix
) -> None:
    """Write V words that the layout can hold, with their tokens, which only Parquet keeps, and vectors (V x D)."""
    if layout == "safetensors":
        write_safetensors(path, words, vectors)
        return
    sink = io.BytesIO()
    if layout == "parquet":
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
        ids = pa.array(tokens, pa.int32())
        pq.write_table(pa.table({"token": ids, "word": pa.array(words, pa.string()), "vector": column}), sink)
    else:
        sink.write(f"{len(words)} {vectors.shape[1]}\n".encode())
        binary = path.endswith(".bin")
        for word, vector in zip(words, vectors, strict=True):
            numbers = vector.astype(NUMBER).tobytes() if binary else _as_text(vector)
            sink.write(word.encode() + b" " + numbers + b"\n")
    open_location(path).write_bytes(sink.getvalue())


def _as_text(vector: np.ndarray) -> bytes:
    """Nine digits, with which a float32 comes back as it was."""
    return " ".join([f"{number:.9g}" for number in vector.tolist()]).encode()
