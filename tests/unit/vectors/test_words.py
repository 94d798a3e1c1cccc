"""Nearest words in the embeddings of every kind of model."""

import numpy as np
import pytest
import torch

from rnnlm.errors import ConfigError, DataError
from rnnlm.nn.words.characters import RecurrentCharactersConfig
from rnnlm.vectors.words import WordEmbeddings, nearest_words
from tests.corpora import save_tiny, save_tiny_translation, tiny_task
from tests.unit.inference.test_embed import save_words
from tests.unit.vectors.test_neighbours import brute_force


def expected_of(matrix, names, word, k):
    token = names.index(word if word in names else word.lower())  # as a vocabulary of labels looks it up
    (found,) = brute_force(matrix[token : token + 1], matrix, k + 1)
    return [(names[row], float(cosine)) for row, cosine in found if row != token][:k]


def test_words_of_every_kind_of_model(tmp_path):
    language = save_tiny(tmp_path / "language")
    pairs = save_tiny_translation(tmp_path / "pairs")
    tagger = save_words(tmp_path / "tagger", "tagging")
    for checkpoint, tokenizer, embedding, words in [
        (language, language.tokenizer, language.model.embedding, ["cat", "mat", "cat"]),
        (pairs, pairs.tokenizer.source, pairs.model.source_embedding, ["cat"]),
        (tagger, tagger.tokenizer, tagger.model.words[0].embedding, ["Mary"]),
    ]:
        names = [tokenizer.piece(token) for token in range(tokenizer.vocab_size)]
        matrix = embedding.weight.detach().numpy()
        found = nearest_words(WordEmbeddings(checkpoint), words, 3)
        assert [one.word for one in found] == words
        for word, neighbours in found:
            assert neighbours == expected_of(matrix, names, word, 3)
    kept = nearest_words(WordEmbeddings(language), ["cat"], 100, min_cosine=0.1)[0].neighbours
    assert kept == [one for one in nearest_words(WordEmbeddings(language), ["cat"], 100)[0].neighbours if one[1] >= 0.1]


def test_a_word_that_is_not_there_is_refused_with_what_looks_like_it(tmp_path):
    checkpoint = save_tiny(tmp_path / "c")
    with pytest.raises(DataError, match="words: 'caat' is none of the 13 words of the vocabulary; did you mean cat"):
        nearest_words(WordEmbeddings(checkpoint), ["cat", "caat"], 3)
    with pytest.raises(DataError, match=r"words: 'zzz' is none of .*; check words="):
        nearest_words(WordEmbeddings(checkpoint), ["zzz"], 3)
    with torch.no_grad():
        checkpoint.model.embedding.weight[checkpoint.tokenizer.encode(["cat"])[0][0]] = 0.0
    with pytest.raises(DataError, match="words: the vector of 'cat' is zero or not finite"):
        nearest_words(WordEmbeddings(checkpoint), ["dog", "cat"], 3)
    assert "cat" not in dict(nearest_words(WordEmbeddings(checkpoint), ["dog"], 100)[0].neighbours)
    assert np.isfinite(
        [cosine for _, cosine in nearest_words(WordEmbeddings(checkpoint), ["dog"], 100)[0].neighbours]
    ).all()


def test_a_model_without_an_embedding_of_words_is_refused(tmp_path):
    one_hot = save_tiny(tmp_path / "language", tiny_task(tied=False, one_hot_input=True))
    spelled = save_words(tmp_path / "tagger", "tagging", words=[RecurrentCharactersConfig(embedding_size=4)])
    for checkpoint in (one_hot, spelled):
        with pytest.raises(ConfigError, match="the model has no embedding of words"):
            nearest_words(WordEmbeddings(checkpoint), ["cat"], 3)
