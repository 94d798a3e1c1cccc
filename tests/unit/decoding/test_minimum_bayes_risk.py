"""Minimum Bayes risk: chrF as sacrebleu counts it, and the draw with the highest."""

import numpy as np
import pytest
from sacrebleu.metrics import CHRF

from rnnlm.decoding.base import decode
from rnnlm.decoding.chrf import chrf_of_pairs
from rnnlm.decoding.minimum_bayes_risk import MinimumBayesRiskConfig
from rnnlm.decoding.sampling import SamplingConfig
from rnnlm.errors import ConfigError
from tests.corpora import TEXTS
from tests.unit.decoding.test_rules import PROMPTS, TOKENIZER, TableStepper

ROUNDING = 1e-9
ODD = ["", " ", "a", "ab", "a b", "aaaaaaaaaa", "The cat.", "the cat", "  the   cat ", "Füße", "中文字", "\t\n", "a"]


@pytest.mark.parametrize("texts", [ODD, TEXTS[:12], ["", ""], ["same text"] * 3, ["one"]])
def test_chrf_is_that_of_sacrebleu(texts):
    found = chrf_of_pairs(texts)
    metric = CHRF()
    for row, hypothesis in enumerate(texts):
        for column, reference in enumerate(texts):
            expected = metric.sentence_score(hypothesis, [reference]).score / 100
            assert found[row, column] == pytest.approx(expected, abs=ROUNDING), (hypothesis, reference)


@pytest.fixture
def stepper():
    return TableStepper(TOKENIZER.vocab_size, bos_id=TOKENIZER.bos_id, eos_id=TOKENIZER.eos_id, seed=5)


def run(stepper, strategy, count, lanes=7):
    return decode(
        stepper,
        PROMPTS,
        strategy,
        num_hypotheses=count,
        seed=3,
        row_ids=range(len(PROMPTS)),
        lanes=lanes,
        tokenizer=TOKENIZER,
    )


def test_the_best_draw_is_the_one_that_the_others_resemble(stepper):
    draws = run(stepper, SamplingConfig(max_tokens=6, top_k=4), 8)
    found = run(stepper, MinimumBayesRiskConfig(max_tokens=6, top_k=4, samples=8), 1)
    metric = CHRF()
    for hypotheses, (best,) in zip(draws, found, strict=True):
        texts = [TOKENIZER.decode(one.tokens) for one in hypotheses]
        expected = [np.mean([metric.sentence_score(one, [other]).score for other in texts]) for one in texts]
        assert best == hypotheses[int(np.argmax(np.round(expected, 9)))]


def test_hypotheses_are_different_draws_and_lanes_change_nothing(stepper):
    strategy = MinimumBayesRiskConfig(max_tokens=6, samples=8)
    found = run(stepper, strategy, 8)
    assert run(stepper, strategy, 8, lanes=200) == found
    assert [one[0] for one in found] == [one for (one,) in run(stepper, strategy, 1)]
    for hypotheses in found:
        assert 1 <= len({tuple(one.tokens) for one in hypotheses}) == len(hypotheses) <= 8


def test_what_it_cannot_do_is_refused(stepper):
    with pytest.raises(ConfigError, match="minimum Bayes risk finds 4 of each prompt at the most, not 5"):
        run(stepper, MinimumBayesRiskConfig(samples=4), 5)
    with pytest.raises(ConfigError, match="no tokenizer"):
        decode(stepper, PROMPTS, MinimumBayesRiskConfig(), seed=0, row_ids=range(len(PROMPTS)))
