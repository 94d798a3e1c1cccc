"""Pretrained word vectors for the words of a vocabulary; the layouts of files are in `rnnlm.data.vector_files`.

A word has the vector of the same word in the file. Matched `loosely`, one that is not there has that of a word which is
the same in lower case, or else in lower case and with every digit as 0 (as Lample et al. 2016 look words up); capitals
and digits may be on either side.
"""

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rnnlm.data.tokenizers.base import Tokenizer
from rnnlm.data.tokenizers.labels import LabelTokenizer, looked_up
from rnnlm.data.vector_files.read import read_blocks
from rnnlm.errors import DataError, Place

logger = logging.getLogger(__name__)

WORD_START = "\u2581"  # how SentencePiece writes a blank

Vectors = dict[int, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Options:
    """How the user calls the path of a file and the size of its vectors."""

    path: str
    size: str


OF_TOKENS = Options("task.pretrained_vectors", "task.embedding_size")
OF_WORDS = Options("pretrained (task.words)", "size (task.words)")


class _Wanted:
    """Words that vectors are looked for, by each of the forms in which a file may have them, the best form first."""

    def __init__(self, words: Mapping[str, int], *, loosely: bool) -> None:
        self._loosely = loosely
        self._tokens: list[dict[str, list[int]]] = [defaultdict(list) for _ in self._forms("")]
        for word, token in words.items():
            for tokens, form in zip(self._tokens, self._forms(word), strict=True):
                tokens[form].append(token)

    def take(self, word: str) -> Iterator[tuple[int, int]]:
        """Token and rank (0 is exact) of the words that a word of a file may stand for, no other having stood for them
        in the same form before: the first one counts, and thousands of numbers have one form without their digits."""
        for rank, (tokens, form) in enumerate(zip(self._tokens, self._forms(word), strict=True)):
            for token in tokens.pop(form, ()):
                yield token, rank

    def _forms(self, word: str) -> list[str]:
        if not self._loosely:
            return [word]
        lower = looked_up(word, lower=True, zero_digits=False)
        return [word, lower, looked_up(lower, lower=False, zero_digits=True)]


def load_vectors(
    path: str, matrix: Tensor, tokenizer: Tokenizer, *, options: Options = OF_TOKENS, loosely: bool = False
) -> list[int]:
    """Put the vectors of a file into the rows of `matrix` (V x size); rows of words it does not hold stay. The tokens
    that were found. Raises DataError if none is."""
    words = words_of(tokenizer)
    vectors = read_vectors(path, matrix.shape[1], words, options=options, loosely=loosely)
    if not vectors:
        raise DataError(f"none of the tokenizer's {len(words):,} words is in {path}", todo="is it the right file?")
    with torch.no_grad():
        matrix[list(vectors)] = torch.from_numpy(np.stack(list(vectors.values()))).to(matrix)
    level = logging.WARNING if 2 * len(vectors) < len(words) else logging.INFO
    logger.log(level, "%s has vectors for %d of the tokenizer's %d words", path, len(vectors), len(words))
    return list(vectors)


def words_of(tokenizer: Tokenizer) -> dict[str, int]:
    """Word -> token, for the tokens that are whole words; where some are marked as the start of a word, only those."""
    pieces = [tokenizer.piece(token) for token in range(tokenizer.vocab_size)]
    marked = not isinstance(tokenizer, LabelTokenizer)  # whose words are whole, whatever they begin with
    if marked and any(piece.startswith(WORD_START) and len(piece) > 1 for piece in pieces):
        return {piece[1:]: token for token, piece in enumerate(pieces) if piece.startswith(WORD_START)}
    return {piece: token for token, piece in enumerate(pieces)}


def read_vectors(
    path: str, size: int, wanted: Mapping[str, int], *, options: Options = OF_TOKENS, loosely: bool = False
) -> Vectors:
    """Token -> vector of `size` numbers, for the words of `wanted` that the file holds; of several words of the file
    that fit one, the best, and of equally good ones the first. Raises DataError with file and place."""

    def check(found: int, where: Place) -> None:
        if found != size:
            raise DataError(
                f"the vectors have {found} numbers, {options.size} is {size}",
                where=where,
                todo=f"set {options.size}={found}",
            )

    words = _Wanted(wanted, loosely=loosely)
    vectors: Vectors = {}
    ranks: dict[int, int] = {}
    for block in read_blocks(path, option=options.path, check=check):
        chosen: dict[int, int] = {}  # token -> place in the block
        for place, word in enumerate(block.words):
            for token, rank in words.take(word):
                if rank < ranks.get(token, rank + 1):
                    ranks[token], chosen[token] = rank, place
        places = list(dict.fromkeys(chosen.values()))
        if places:
            numbers = dict(zip(places, block.numbers(places), strict=True))
            vectors.update((token, numbers[place]) for token, place in chosen.items())
    return vectors
