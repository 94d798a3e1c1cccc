"""Vectors as a tensor: `.safetensors` with `vectors` (V x D, floating point), held in memory while it is read.

The words stand in the file's metadata under `words`, V of them with a line feed between two.
"""

import json
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import safetensors.numpy
from safetensors import SafetensorError

from rnnlm.data.vector_files.base import Check, Matrix, VectorBlock
from rnnlm.errors import DataError, Place
from rnnlm.storage import open_location

VECTORS, WORDS, BETWEEN = "vectors", "words", "\n"
LENGTH_BYTES = 8  # of the length of the header, which comes first


class TensorBlock(VectorBlock):
    """All words of a file."""

    def __init__(self, path: str, words: list[str], vectors: npt.NDArray[np.floating]) -> None:
        self._path, self._vectors, self.words = path, vectors, words

    def raw_numbers(self, places: Sequence[int]) -> Matrix:
        return self._vectors[list(places)].astype(np.float32)

    def fail(self, problem: str, place: int) -> DataError:
        return DataError(f"word {self.words[place]!r}: {problem}", where=Place(self._path, row=place))


def read_safetensors(path: str, check: Check) -> Iterator[TensorBlock]:
    """The one block of a file. Raises DataError that says what it lacks."""
    content = open_location(path).read_bytes()
    try:
        tensors = safetensors.numpy.load(content)
    except SafetensorError as error:
        raise _error(path, f"it cannot be read as safetensors: {error}") from error
    header = json.loads(content[LENGTH_BYTES : LENGTH_BYTES + int.from_bytes(content[:LENGTH_BYTES], "little")])
    vectors = tensors.get(VECTORS)
    if vectors is None:
        raise _error(path, f"there is no tensor '{VECTORS}' among {', '.join(sorted(tensors)) or 'none'}")
    if vectors.ndim != 2 or not np.issubdtype(vectors.dtype, np.floating) or not vectors.shape[1]:
        raise _error(path, f"'{VECTORS}' is {vectors.dtype} of shape {list(vectors.shape)}, not numbers V x D")
    joined = header.get("__metadata__", {}).get(WORDS)
    if joined is None:
        raise _error(path, f"its metadata have no '{WORDS}'")
    words = joined.split(BETWEEN) if len(vectors) else []
    if len(words) != len(vectors):
        raise _error(path, f"there are {len(words):,} words and {len(vectors):,} vectors")
    check(vectors.shape[1], Place(path))
    yield TensorBlock(path, words, vectors)


def write_safetensors(path: str, words: Sequence[str], vectors: npt.NDArray[np.floating]) -> None:
    """Write words and their vectors (V x D), atomically. Raises ValueError if they cannot be told apart again."""
    if len(words) != len(vectors) or any(BETWEEN in word for word in words):
        raise ValueError("a word without a line feed is needed for each vector")
    content = safetensors.numpy.save({VECTORS: np.ascontiguousarray(vectors)}, metadata={WORDS: BETWEEN.join(words)})
    open_location(path).write_bytes(content)


def _error(path: str, problem: str) -> DataError:
    return DataError(
        problem, where=Place(path), todo="write it with rnnlm.data.vector_files.safetensors.write_safetensors"
    )
