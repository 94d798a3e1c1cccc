"""Mixing a network's probabilities with those of an n-gram model."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnlm.data.tokens import TokenTable
from rnnlm.errors import DataError
from rnnlm.inference.score import Scorer
from rnnlm.ngram import NGramConfig, fit_weight, interpolate
from tests.corpora import save_tiny, sentences

ROUNDING = 1e-12  # one logarithm of a sum
FLOAT32 = 1e-6
EM_STOPS = 1e-6  # nats a target; it comes close to a weight of 0 or 1 and never quite there
GRID = np.linspace(0.001, 0.999, 999)


def random_logprobs(seed, size=400):
    """Of two models that are good at different targets."""
    random = np.random.default_rng(seed)
    easy = random.random(size) < random.uniform(0.1, 0.9)
    network = np.log(np.where(easy, random.uniform(0.3, 0.9, size), random.uniform(0.001, 0.1, size)))
    ngram = np.log(np.where(easy, random.uniform(0.001, 0.3, size), random.uniform(0.05, 0.5, size)))
    return network, ngram


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_a_mixture_is_the_mean_of_probabilities(weight):
    network, ngram = random_logprobs(0)
    expected = np.log((1 - weight) * np.exp(network) + weight * np.exp(ngram))
    assert interpolate(network, ngram, weight) == pytest.approx(expected, rel=ROUNDING)
    single = interpolate(network.astype(np.float32), ngram, weight)  # as jobs.score keeps them
    assert single.dtype == np.float64
    assert single == pytest.approx(expected, rel=FLOAT32)


def test_what_one_model_holds_for_impossible_the_other_may_still_say():
    network, ngram = np.array([-2000.0, -1.0]), np.array([-1.0, -np.inf])
    assert interpolate(network, ngram, 0.25) == pytest.approx([np.log(0.25) - 1, np.log(0.75) - 1], rel=ROUNDING)
    assert 0.0 < fit_weight(network, ngram) < 1.0


@given(st.integers(0, 1000))
def test_the_fitted_weight_is_the_best_of_all(seed):
    network, ngram = random_logprobs(seed)
    weight = fit_weight(network, ngram)
    best = max(interpolate(network, ngram, one).mean() for one in GRID)
    found = interpolate(network, ngram, weight).mean()
    assert found >= max(best, network.mean(), ngram.mean()) - EM_STOPS


def test_the_fitted_weight_is_the_share_of_targets_that_came_from_a_model():
    """Targets drawn from the mixture 0.3 of two distributions over four tokens; the standard error is 0.005."""
    network, ngram = np.array([0.7, 0.1, 0.1, 0.1]), np.array([0.1, 0.1, 0.2, 0.6])
    drawn = np.random.default_rng(0).choice(4, size=40_000, p=0.7 * network + 0.3 * ngram)
    assert fit_weight(np.log(network[drawn]), np.log(ngram[drawn])) == pytest.approx(0.3, abs=0.02)


def test_a_model_that_is_always_better_gets_all_the_weight():
    better, worse = np.full(100, -1.0), np.full(100, -3.0)
    assert fit_weight(better, worse) == pytest.approx(0.0, abs=1e-6)
    assert fit_weight(worse, better) == pytest.approx(1.0, abs=1e-6)


def test_a_network_and_an_n_gram_model_say_the_same_of_each_document(tmp_path):
    """One number a target, the end of each document among them."""
    checkpoint = save_tiny(tmp_path)
    documents = checkpoint.tokenizer.encode([*sentences(20), "", "the"])
    ngram = NGramConfig(order=2).train(TokenTable.from_documents(documents), checkpoint.tokenizer).logprobs(documents)
    network = Scorer(checkpoint).score_tokens(documents, keep_tokens=True).token_logprobs
    assert [len(scores) for scores in network] == [len(scores) for scores in ngram]
    one, other = np.concatenate(network), np.concatenate(ngram)
    mixed = interpolate(one, other, fit_weight(one, other))
    assert mixed.mean() > max(one.mean(), other.mean()) - EM_STOPS


def test_what_cannot_be_mixed_is_refused():
    with pytest.raises(DataError, match="of 3 targets cannot be mixed with those of 2; score the same documents"):
        interpolate(np.zeros(3), np.zeros(2), 0.5)
    with pytest.raises(DataError, match="3 targets"):
        fit_weight(np.zeros(3), np.zeros(2))
    with pytest.raises(DataError, match="no target to fit"):
        fit_weight(np.zeros(0), np.zeros(0))
    for weight in (-0.1, 1.1, float("nan")):
        with pytest.raises(DataError, match="is no share"):
            interpolate(np.zeros(2), np.zeros(2), weight)
