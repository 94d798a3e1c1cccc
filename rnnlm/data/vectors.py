"""Word vectors in text files, as word2vec (Mikolov et al. 2013) and GloVe (Pennington et al. 2014) write them.

4 3                     word2vec only: how many, of which size
the 0.1 -0.2 0.3        a word and its numbers, by blanks
. . 0.5 0.1 0.2         a word may have blanks in it
"""

import logging
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rnnlm.data.files import stamp
from rnnlm.data.formats.text_blocks import Lines, scan_lines
from rnnlm.data.tokenizers.base import Tokenizer
from rnnlm.errors import DataError, Place
from rnnlm.storage import open_location

logger = logging.getLogger(__name__)

WORD_START = "\u2581"  # how SentencePiece writes a blank

Vectors = dict[int, npt.NDArray[np.float32]]


def load_vectors(path: str, matrix: Tensor, tokenizer: Tokenizer) -> None:
    """Put the vectors of a file into the rows of `matrix` (V x size); rows of words it does not hold stay."""
    words = words_of(tokenizer)
    vectors = read_vectors(path, matrix.shape[1], words)
    if not vectors:
        raise DataError(f"none of the tokenizer's {len(words):,} words is in {path}", todo="is it the right file?")
    with torch.no_grad():
        matrix[list(vectors)] = torch.from_numpy(np.stack(list(vectors.values()))).to(matrix)
    level = logging.WARNING if 2 * len(vectors) < len(words) else logging.INFO
    logger.log(level, "%s has vectors for %d of the tokenizer's %d words", path, len(vectors), len(words))


def words_of(tokenizer: Tokenizer) -> dict[str, int]:
    """Word -> token, for the tokens that are whole words; where some are marked as the start of a word, only those."""
    pieces = [tokenizer.piece(token) for token in range(tokenizer.vocab_size)]
    if any(piece.startswith(WORD_START) and len(piece) > 1 for piece in pieces):
        return {piece[1:]: token for token, piece in enumerate(pieces) if piece.startswith(WORD_START)}
    return {piece: token for token, piece in enumerate(pieces)}


def read_vectors(path: str, size: int, wanted: Mapping[str, int]) -> Vectors:
    """Token -> vector of `size` numbers, for the words of `wanted` that the file (plain, .gz or .zst) holds; of a word
    that stands there twice, the first. Raises DataError with file and line."""
    if not open_location(path).exists():
        raise DataError(f"there is no file {path}", todo="check task.pretrained_vectors")
    found: Vectors = {}
    first = True
    for block in scan_lines(stamp(path), []):
        for index, line in enumerate(block.lines):
            parts = line.rstrip().split(b" ")
            if first:
                first = False
                is_header = len(parts) == 2 and all(part.isdigit() for part in parts)
                _check_size(int(parts[1]) if is_header else len(parts) - 1, size, block.place(index))
                if is_header:
                    continue
            if len(parts) <= size:
                raise DataError(
                    f"a word and {size} numbers are needed, the line has {len(parts) - 1} numbers",
                    where=block.place(index),
                    todo="was the file's writing or copying cut short?",
                )
            token = wanted.get(b" ".join(parts[:-size]).decode())
            if token is not None and token not in found:
                found[token] = _numbers(parts[-size:], block, index)
    return found


def _check_size(found: int, size: int, where: Place) -> None:
    if found != size:
        raise DataError(
            f"the vectors have {found} numbers, task.embedding_size is {size}",
            where=where,
            todo=f"set task.embedding_size={found}" if found > 0 else "is it word2vec's or GloVe's text format?",
        )


def _numbers(parts: list[bytes], block: Lines, index: int) -> npt.NDArray[np.float32]:
    try:
        numbers = np.array([float(part) for part in parts], dtype=np.float32)
    except ValueError as error:
        raise DataError(f"not a number: {str(error).rpartition(':')[2].strip()}", where=block.place(index)) from error
    if not np.isfinite(numbers).all():
        raise DataError("a number is not finite", where=block.place(index))
    return numbers
