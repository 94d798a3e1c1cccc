"""Words of a model's vocabulary that are alike: the nearest by cosine of what it reads of a word, whatever stands
beside it.
"""

import difflib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from torch import nn

from rnnlm.checkpoint import Checkpoint
from rnnlm.data.tokenizers import Tokenizer
from rnnlm.data.tokenizers.labels import LabelTokenizer
from rnnlm.data.tokenizers.pair import PairTokenizer
from rnnlm.data.vectors import words_of
from rnnlm.errors import ConfigError, DataError
from rnnlm.nn.language_model import LanguageModel
from rnnlm.nn.translation_model import TranslationModel
from rnnlm.nn.word_encoder import WordEncoder
from rnnlm.nn.words.embedding import WordEmbedding
from rnnlm.vectors.columns import Vectors, with_direction
from rnnlm.vectors.neighbours import BLOCK_ROWS, Nearest

Ranked = list[tuple[str, float]]  # words, the nearest first, each with its cosine


class WordNeighbours(NamedTuple):
    """A word and its neighbours."""

    word: str
    neighbours: Ranked


class WordEmbeddings:
    """The words of a model's vocabulary and the vector it reads of each.

    Raises ConfigError if the model has no embedding of words.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.tokenizer, embedding = embedding_of(checkpoint)
        self.tokens = words_of(self.tokenizer)
        "Word -> token."
        self.matrix = embedding.weight.detach().float().cpu().numpy()
        "V x D, float32."

    @property
    def words(self) -> dict[int, str]:
        """Token -> word, of those that are whole words."""
        return {token: word for word, token in self.tokens.items()}

    @property
    def pieces(self) -> dict[int, str]:
        """Token -> how the tokenizer spells it, of all."""
        return {token: self.tokenizer.piece(token) for token in range(self.tokenizer.vocab_size)}

    def directions(self, words: Sequence[str], option: str = "words") -> Vectors:
        """The vectors of words, in their order. Raises DataError if a word is not in the vocabulary or its vector has
        no direction; `option` is what the user set the words with."""
        tokens = np.array([_token(word, self.tokens, self.tokenizer, option) for word in words], dtype=np.int64)
        found = with_direction(self.matrix[tokens], tokens).vectors
        for word, token in zip(words, tokens.tolist(), strict=True):
            if token not in found.rows:
                raise DataError(f"{option}: the vector of '{word}' is zero or not finite", todo="leave the word out")
        return found

    def nearest(self, queries: Vectors, k: int, *, min_cosine: float, leave_out_self: bool = False) -> list[Ranked]:
        """The k words nearest to each query, whose row, where it is a word, is its token. Of equal cosines the smaller
        token comes first."""
        names = self.words
        rows = np.array(sorted(names), dtype=np.int64)
        every = with_direction(self.matrix[rows], rows).vectors
        nearest = Nearest(queries, k, min_cosine=min_cosine, leave_out_self=leave_out_self)
        for start in range(0, len(every.rows), BLOCK_ROWS):
            nearest.add(every.part(start, start + BLOCK_ROWS))
        return [
            [(names[row], cosine) for row, cosine in zip(*found, strict=True) if row >= 0]
            for found in zip(nearest.found.rows.tolist(), nearest.found.cosines.tolist(), strict=True)
        ]


def nearest_words(
    embeddings: WordEmbeddings, words: Sequence[str], k: int, *, min_cosine: float = -1.0
) -> list[WordNeighbours]:
    """The k nearest words of each word, itself left out."""
    queries = embeddings.directions(words)
    found = embeddings.nearest(queries, k, min_cosine=min_cosine, leave_out_self=True)
    return [WordNeighbours(word, neighbours) for word, neighbours in zip(words, found, strict=True)]


def embedding_of(checkpoint: Checkpoint) -> tuple[Tokenizer, nn.Embedding]:
    """A language model's embedding of tokens, an encoder-decoder's of those of the source, or an encoder's of words;
    and the tokenizer of its rows. Raises ConfigError if there is none."""
    model, tokenizer = checkpoint.model, checkpoint.tokenizer
    found: object = None
    if isinstance(model, LanguageModel):
        found = model.embedding
    elif isinstance(model, TranslationModel):
        assert isinstance(tokenizer, PairTokenizer)
        tokenizer, found = tokenizer.source, model.source_embedding
    elif isinstance(model, WordEncoder):
        found = next((one.embedding for one in model.words if isinstance(one, WordEmbedding)), None)
    if not isinstance(found, nn.Embedding):
        raise ConfigError("checkpoint: the model has no embedding of words; it reads them one-hot or by their spelling")
    return tokenizer, found


def _token(word: str, vocabulary: dict[str, int], tokenizer: Tokenizer, option: str) -> int:
    """The token of a word, as the model looks it up."""
    token = vocabulary.get(word)
    if token is None and isinstance(tokenizer, LabelTokenizer):
        looked_up = int(tokenizer.word_ids([word])[0])
        token = None if looked_up == tokenizer.unk_id else looked_up
    if token is None:
        close = difflib.get_close_matches(word, vocabulary, n=3)
        raise DataError(
            f"{option}: '{word}' is none of the {len(vocabulary):,} words of the vocabulary",
            todo=f"did you mean {' or '.join(close)}?" if close else f"check {option}=[...]",
        )
    return token
