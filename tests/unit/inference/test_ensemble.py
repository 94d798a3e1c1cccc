"""Rows scored with a cache, by an ensemble, with n-grams: what the same means give token by token."""

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from rnnlm.data.tokenizers.words import WordsConfig
from rnnlm.data.tokens import TokenTable
from rnnlm.errors import ConfigError
from rnnlm.inference.ensemble import EnsembleScorer
from rnnlm.inference.score import Scorer
from rnnlm.inference.score_work import ScoreWork
from rnnlm.inference.stream.cache import ContinuousCacheConfig
from rnnlm.inference.stream.scorer import StreamScorer
from rnnlm.ngram import NGramConfig, load_ngram, save_ngram
from rnnlm.storage import open_location
from tests.corpora import save_tiny, sentences, token_table, words_tokenizer

FLOAT32 = 1e-4  # log-probabilities down to -20
TEXTS = ["the cat sat on the cat", "", *sentences(30, seed=2), "tree " * 400]
CACHE = ContinuousCacheConfig(size=20, flatness=0.5, weight=0.3)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return [save_tiny(folder / name) for name in ("one", "two")]


@pytest.fixture(scope="module")
def ngram(tmp_path_factory):
    folder, config = tmp_path_factory.mktemp("ngram"), NGramConfig(order=2)
    model = config.train(token_table(sentences(50)), words_tokenizer())
    save_ngram(open_location(str(folder)), model=model, tokenizer=words_tokenizer(), trained={})
    return str(folder)


def test_a_row_has_a_cache_of_its_own(checkpoints):
    scores = Scorer(checkpoints[0], cache=CACHE).score_texts(TEXTS, keep_tokens=True)
    reader = StreamScorer(checkpoints[0], cache=CACHE)
    assert len(scores.token_logprobs[TEXTS.index("")]) == 1  # its end; a stream of nothing else there is not
    for text, logprob, found in zip(TEXTS, scores.logprob, scores.token_logprobs, strict=True):
        if not text:
            continue
        expected = reader.logprobs(TokenTable.from_documents(words_tokenizer().encode([text])))
        np.testing.assert_allclose(found, expected, rtol=0, atol=FLOAT32)
        assert logprob == pytest.approx(expected.sum(), abs=FLOAT32 * len(expected))


def test_models_vote_and_ngrams_are_mixed_in(checkpoints, ngram):
    each = [Scorer(one).score_texts(TEXTS, keep_tokens=True).token_logprobs for one in checkpoints]
    partner = load_ngram(ngram)
    for stored, weight in ((None, 0.0), (partner, 0.25)):
        scorer = EnsembleScorer(checkpoints, ngram=stored, ngram_weight=weight)
        scores = scorer.score_texts(TEXTS, keep_tokens=True)
        of_ngram = partner.model.logprobs(words_tokenizer().encode(TEXTS))
        for row, (one, other, third) in enumerate(zip(*each, of_ngram, strict=True)):
            mean = (np.exp(one.astype(np.float64)) + np.exp(other.astype(np.float64))) / 2
            expected = np.log((1 - weight) * mean + weight * np.exp(third))
            np.testing.assert_allclose(scores.token_logprobs[row], expected, rtol=0, atol=FLOAT32)
            assert scores.logprob[row] == pytest.approx(expected.sum(), rel=1e-9)
            assert scores.num_tokens[row] == len(expected)
    assert EnsembleScorer(checkpoints).score_texts([]).logprob.shape == (0,)


def test_it_is_work_over_a_table_and_part_of_its_identity(checkpoints, ngram):
    paths = [checkpoint.location.address for checkpoint in checkpoints]
    plain = ScoreWork(checkpoint=paths[0])
    assert plain.identity().keys() == {"model", "text_column", "token_logprobs", "threads", "products", "torch"}
    strong = dataclasses.replace(plain, cache=CACHE, ensemble=paths[1:], ngram=ngram, token_logprobs=True)
    others = [dataclasses.replace(strong, ngram_weight=0.2), dataclasses.replace(strong, ensemble=[])]
    identities = [work.identity() for work in (plain, strong, *others)]
    assert len({str(identity) for identity in identities}) == len(identities)
    assert strong.cost().seconds_per_row == pytest.approx(2 * plain.cost().seconds_per_row)
    table = pa.table({"text": [None, *TEXTS]})
    found = strong.build("cpu").process(table, np.arange(len(table))).columns["logprob"].to_pylist()
    expected = EnsembleScorer(checkpoints, cache=CACHE, ngram=load_ngram(ngram)).score_texts(TEXTS)
    assert found == [None, *expected.logprob.tolist()]


def test_models_of_other_tokens_are_refused(checkpoints, tmp_path):
    other = WordsConfig().train(["some other words"])
    config = NGramConfig(order=1)
    model = config.train(TokenTable.from_documents(other.encode(["some words"])), other)
    save_ngram(open_location(str(tmp_path / "n")), model=model, tokenizer=other, trained={})
    with pytest.raises(ConfigError, match="train it on the same token tables"):
        EnsembleScorer(checkpoints, ngram=load_ngram(str(tmp_path / "n")))
    with pytest.raises(ConfigError, match="models vote on the same tokens only"):
        EnsembleScorer([*checkpoints, save_tiny(tmp_path / "m", tokenizer=other)])
