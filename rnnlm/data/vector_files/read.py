"""Which layout a file of word vectors has: its name says so."""

from collections.abc import Iterator
from itertools import islice

from rnnlm.data.formats.text_blocks import codec_of
from rnnlm.data.vector_files.base import Check, VectorBlock
from rnnlm.data.vector_files.safetensors import read_safetensors
from rnnlm.data.vector_files.text import read_text
from rnnlm.data.vector_files.word2vec_binary import read_word2vec_binary
from rnnlm.errors import DataError, Place
from rnnlm.storage import open_location


def any_size(size: int, where: Place) -> None:
    """The check that lets all files pass."""


def read_blocks(path: str, *, option: str, check: Check = any_size) -> Iterator[VectorBlock]:
    """The blocks of a file: `.bin` is word2vec's binary layout, `.safetensors` a tensor, all else text; each but the
    tensor may be compressed. Raises DataError; `option` is what the user set the path with."""
    location = open_location(path)
    if not location.exists():
        raise DataError(f"there is no file {path}", todo=f"check {option}")
    name = location.path
    if codec_of(path) is not None:
        name = name.rpartition(".")[0]
    if name.endswith(".bin"):
        return read_word2vec_binary(path, check)
    return read_safetensors(path, check) if name.endswith(".safetensors") else read_text(path, check)


def read_words(path: str, most: int | None, *, option: str) -> Iterator[str]:
    """The words of a file in its order, or the first of them."""
    return islice((word for block in read_blocks(path, option=option) for word in block.words), most)
