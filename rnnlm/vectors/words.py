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
from rnnlm.vectors.columns import with_direction
from rnnlm.vectors.neighbours import BLOCK_ROWS, Nearest


class WordNeighbours(NamedTuple):
    """A word and its neighbours, the nearest first, each with its cosine."""

    word: str
    neighbours: list[tuple[str, float]]


def nearest_words(
    checkpoint: Checkpoint, words: Sequence[str], k: int, *, min_cosine: float = -1.0
) -> list[WordNeighbours]:
    """The k nearest words of each word, itself left out; of equal cosines the smaller token comes first.

    Raises ConfigError if the model has no embedding of words, DataError if a word is not in the vocabulary or its
    vector has no direction.
    """
    tokenizer, embedding = embedding_of(checkpoint)
    vocabulary = words_of(tokenizer)
    names = {token: word for word, token in vocabulary.items()}
    tokens = np.array([_token(word, vocabulary, tokenizer) for word in words], dtype=np.int64)
    matrix = embedding.weight.detach().float().cpu().numpy()
    queries = with_direction(matrix[tokens], tokens).vectors
    for word, token in zip(words, tokens.tolist(), strict=True):
        if token not in queries.rows:
            raise DataError(f"words: the vector of '{word}' is zero or not finite", todo="leave the word out")
    rows = np.array(sorted(names), dtype=np.int64)
    every = with_direction(matrix[rows], rows).vectors
    nearest = Nearest(queries, k, min_cosine=min_cosine, leave_out_self=True)
    for start in range(0, len(every.rows), BLOCK_ROWS):
        nearest.add(every.part(start, start + BLOCK_ROWS))
    return [
        WordNeighbours(word, [(names[row], cosine) for row, cosine in zip(*found, strict=True) if row >= 0])
        for word, *found in zip(words, nearest.found.rows.tolist(), nearest.found.cosines.tolist(), strict=True)
    ]


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


def _token(word: str, vocabulary: dict[str, int], tokenizer: Tokenizer) -> int:
    """The token of a word, as the model looks it up."""
    token = vocabulary.get(word)
    if token is None and isinstance(tokenizer, LabelTokenizer):
        looked_up = int(tokenizer.word_ids([word])[0])
        token = None if looked_up == tokenizer.unk_id else looked_up
    if token is None:
        close = difflib.get_close_matches(word, vocabulary, n=3)
        raise DataError(
            f"words: '{word}' is none of the {len(vocabulary):,} words of the vocabulary",
            todo=f"did you mean {' or '.join(close)}?" if close else "check words=[...]",
        )
    return token
