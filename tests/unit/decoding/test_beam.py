"""Beam search: wide enough it is exhaustive search; narrow it is what a plain search finds; lanes change nothing."""

import numpy as np
import pytest
import torch

from rnnlm.decoding import waiting
from rnnlm.decoding.base import decode
from rnnlm.decoding.beam import BeamConfig
from rnnlm.decoding.greedy import GreedyConfig
from rnnlm.errors import ConfigError
from tests.reference import TableStepper
from tests.unit.decoding.tables import SourceTableStepper, ranked

LOGPROB = 1e-5  # a few float32 log-probabilities, each of a few nats
PROMPTS = [np.array(tokens, dtype=np.int32) for tokens in ([], [3], [4, 3], [3, 3, 4], [4], [0, 0])] * 5


def search(stepper, strategy, count=1, *, prompts=PROMPTS, lanes=64):
    return decode(stepper, prompts, strategy, num_hypotheses=count, seed=0, row_ids=range(len(prompts)), lanes=lanes)


@pytest.fixture(params=[TableStepper, SourceTableStepper])
def stepper(request):
    return request.param(5, scale=1.5, seed=3)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.5])
@pytest.mark.parametrize("max_tokens", [1, 3])
def test_a_beam_as_wide_as_all_texts_is_exhaustive_search(stepper, alpha, max_tokens):
    width = stepper.vocab_size**max_tokens
    strategy = BeamConfig(width=width, max_tokens=max_tokens, length_penalty=alpha)
    for prompt, found in zip(PROMPTS[:6], search(stepper, strategy, width, prompts=PROMPTS[:6]), strict=True):
        exact = ranked(stepper, prompt, max_tokens, alpha)
        assert len(found) == len(exact)
        scores = [one.logprob / ((5 + len(one.tokens) + (one.finish_reason == "end")) / 6) ** alpha for one in found]
        assert scores == pytest.approx([score for score, _, _ in exact], abs=LOGPROB)
        assert {(tuple(one.tokens), one.finish_reason) for one in found} == {
            (tuple(tokens), reason) for _, tokens, reason in exact
        }
        assert (found[0].tokens, found[0].finish_reason) == tuple(exact[0][1:])


def plain_beam(stepper, prompt, strategy, count):
    """The slow truth: Python lists, one hypothesis at a time, to the limit."""
    live, ended = [((), 0.0)], []
    alpha = strategy.length_penalty
    for length in range(1, strategy.max_tokens + 1):
        normaliser = ((5 + length) / 6) ** alpha
        grown = []
        for tokens, total in live:
            for token in range(stepper.vocab_size):
                if token != stepper.bos_id:
                    gain = stepper.logprob(prompt, [*tokens, token], end=False) - stepper.logprob(
                        prompt, tokens, end=False
                    )
                    grown.append(((*tokens, token), total + gain))
        grown.sort(key=lambda one: -one[1])
        ended += [
            (total / normaliser, tokens[:-1], total, "end")
            for tokens, total in grown[: strategy.width]
            if tokens[-1] == stepper.eos_id
        ]
        live = [one for one in grown if one[0][-1] != stepper.eos_id][: strategy.width]
    ended += [(total / normaliser, tokens, total, "length") for tokens, total in live]
    return sorted(ended, key=lambda one: -one[0])[:count]


@pytest.mark.parametrize("alpha", [0.0, 0.8])
@pytest.mark.parametrize(("width", "count"), [(1, 1), (2, 2), (3, 1), (4, 4)])
def test_a_narrow_beam_finds_what_a_plain_one_finds(stepper, width, count, alpha):
    strategy = BeamConfig(width=width, max_tokens=6, length_penalty=alpha)
    for prompt, found in zip(PROMPTS[:6], search(stepper, strategy, count, prompts=PROMPTS[:6]), strict=True):
        plain = plain_beam(stepper, prompt, strategy, count)
        assert [(tuple(one.tokens), one.finish_reason) for one in found] == [(one[1], one[3]) for one in plain]
        assert [one.logprob for one in found] == pytest.approx([one[2] for one in plain], abs=LOGPROB)


@pytest.mark.parametrize("width", [1, 3, 8])
@pytest.mark.parametrize("read_prompts", [1, 7, 256])
def test_lanes_and_neighbours_change_nothing(stepper, width, read_prompts, monkeypatch):
    strategy = BeamConfig(width=width, max_tokens=8)
    expected = [search(stepper, strategy, width, prompts=[prompt], lanes=1)[0] for prompt in PROMPTS[:6]] * 5
    monkeypatch.setattr(waiting, "READ_PROMPTS", read_prompts)
    for lanes in (1, 2 * width, 64, 1000):
        assert search(stepper, strategy, width, lanes=lanes) == expected


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
def test_stopping_early_changes_nothing_and_saves_steps(alpha):
    steps = []

    class Watched(TableStepper):
        def step(self, tokens, state, context):
            steps.append(len(tokens))
            return super().step(tokens, state, context)

    found, taken = [], []
    for early in (True, False):
        for seed in range(5):
            stepper = Watched(9, scale=2.0, seed=seed)
            stepper.table[..., stepper.eos_id] += 2.0
            strategy = BeamConfig(width=4, max_tokens=30, length_penalty=alpha, early_stopping=early)
            found.append(search(stepper, strategy, 2))
        taken.append(sum(steps))
        steps.clear()
    assert found[:5] == found[5:]
    assert taken[0] < taken[1]


def test_a_beam_of_one_is_greedy_if_the_first_end_is_taken(stepper):
    greedy = search(stepper, GreedyConfig(max_tokens=7))
    narrow = search(stepper, BeamConfig(width=1, max_tokens=7, length_penalty=0.0))
    assert [one.tokens for (one,) in narrow] == [one.tokens for (one,) in greedy]
    assert [one.logprob for (one,) in narrow] == pytest.approx([one.logprob for (one,) in greedy], abs=LOGPROB)


def test_equal_texts_come_in_the_same_order_whoever_stands_beside():
    stepper = TableStepper(6)
    stepper.table.zero_()
    strategy = BeamConfig(width=5, max_tokens=4)
    expected = search(stepper, strategy, 5, prompts=PROMPTS[:1], lanes=1)[0]
    assert search(stepper, strategy, 5, lanes=64) == [expected] * len(PROMPTS)


def test_hypotheses_of_a_prompt_are_different_and_fall(stepper):
    strategy = BeamConfig(width=6, max_tokens=5, length_penalty=0.0)
    for found in search(stepper, strategy, 6):
        assert len({(tuple(one.tokens), one.finish_reason) for one in found}) == 6
        assert [one.logprob for one in found] == sorted((one.logprob for one in found), reverse=True)


def test_more_hypotheses_than_the_beam_is_wide_are_refused(stepper):
    with pytest.raises(ConfigError, match="num_hypotheses: beam search finds 4 of each prompt at the most, not 5"):
        search(stepper, BeamConfig(), 5)
    with pytest.raises(ConfigError, match="num_hypotheses: greedy decoding finds 1"):
        search(stepper, GreedyConfig(), 2)


def test_a_vocabulary_of_two():
    stepper = TableStepper(2, bos_id=0, eos_id=0)
    (found,) = search(stepper, BeamConfig(width=3, max_tokens=2, length_penalty=0.0), 3, prompts=PROMPTS[:1])
    texts = [(tuple(one.tokens), one.finish_reason) for one in found]
    assert sorted(texts) == [((), "end"), ((1,), "end"), ((1, 1), "length")]


def test_in_half_precision_too():
    class Half(TableStepper):
        def step(self, tokens, state, context):
            logits, state = super().step(tokens, state, context)
            return logits.to(torch.bfloat16), state

    found = search(Half(9), BeamConfig(max_tokens=6), 4)
    assert all(len(one) == 4 for one in found)
