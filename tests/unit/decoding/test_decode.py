"""Decoding of a table token by token: lanes give what one prompt after another gives, sampling the table's distribution."""

import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from rnnlm.config import from_dict, to_dict
from rnnlm.decoding import waiting
from rnnlm.decoding.base import DecodingConfig, Hypothesis, decode
from rnnlm.decoding.greedy import GreedyConfig
from rnnlm.decoding.sampling import SamplingConfig
from rnnlm.determinism import numpy_generator
from tests.reference import TableStepper, kept_distribution

CONF = Path(__file__).resolve().parents[3] / "conf" / "decoding"
STRATEGIES = {name: yaml.safe_load((CONF / f"{name}.yaml").read_text()) for name in ("greedy", "sampling")}
MAX_TOKENS = 6
PROMPTS = [np.array(tokens, dtype=np.int32) for tokens in ([], [3], [4, 5], [5, 3, 4], [], [0, 0])] * 4
ROW_IDS = list(range(100, 100 + len(PROMPTS)))

FLOAT32_LOGPROB = 1e-5  # a few float32 log-probabilities, each of a few nats


@pytest.fixture(params=STRATEGIES)
def strategy(request):
    return from_dict(DecodingConfig, {**STRATEGIES[request.param], "max_tokens": MAX_TOKENS})


class WideStepper(TableStepper):
    """300 words, of which the first seven are likely and go on with one another."""

    def __init__(self):
        super().__init__(7)
        wide = self.table.new_full((7, 7, 300), -12.0)
        wide[..., :7] = self.table
        self.table, self.vocab_size = wide, 300


@pytest.fixture
def small():
    return TableStepper(7)


@pytest.fixture(params=["small", "wide"])
def stepper(request):
    return TableStepper(7) if request.param == "small" else WideStepper()


def run(stepper, strategy, *, prompts=PROMPTS, seed=1, row_ids=None):
    return [one for (one,) in decode(stepper, prompts, strategy, seed=seed, row_ids=row_ids or ROW_IDS[: len(prompts)])]


def test_a_hypothesis_is_scored_as_the_model_scores_it(stepper, strategy):
    for prompt, found in zip(PROMPTS, run(stepper, strategy), strict=True):
        by_hand = stepper.logprob(prompt, found.tokens, end=found.finish_reason == "end")
        assert found.logprob == pytest.approx(by_hand, abs=FLOAT32_LOGPROB)


def test_hypotheses_end_with_eos_or_at_the_limit_and_hold_neither_bos_nor_eos(stepper, strategy):
    found = run(stepper, strategy)
    assert len(found) == len(PROMPTS)
    for one in found:
        assert not {stepper.bos_id, stepper.eos_id} & set(one.tokens)
        assert (len(one.tokens) == MAX_TOKENS) == (one.finish_reason == "length")
        assert len(one.tokens) <= MAX_TOKENS


def test_the_same_seed_gives_the_same_output_whatever_else_is_in_the_batch(stepper, strategy):
    together = run(stepper, strategy)
    assert run(stepper, strategy) == together
    order = np.random.default_rng(0).permutation(len(PROMPTS)).tolist()
    shuffled = run(stepper, strategy, prompts=[PROMPTS[row] for row in order], row_ids=[ROW_IDS[row] for row in order])
    assert shuffled == [together[row] for row in order]
    for row in range(6):
        assert run(stepper, strategy, prompts=PROMPTS[row : row + 1], row_ids=ROW_IDS[row : row + 1]) == [together[row]]


def decode_naively(stepper, prompts, strategy, *, seed, row_ids):
    """The slow truth: one prompt after another, one token after another."""
    result = []
    for prompt, row_id in zip(prompts, row_ids, strict=True):
        uniforms = numpy_generator(seed, "decoding", row_id).random(strategy.max_tokens, dtype=np.float32)
        token, state, context = stepper.start([prompt])
        tokens, logprob, reason = [], 0.0, "length"
        for uniform in uniforms:
            logits, state = stepper.step(token, state, context)
            whole = logits.logsumexp(1)
            logits[:, stepper.bos_id] = -torch.inf
            token = strategy.choose(logits, torch.tensor([uniform]), logits.logsumexp(1))
            logprob += (logits[0, token.item()] - whole[0]).item()
            if token.item() == stepper.eos_id:
                reason = "end"
                break
            tokens.append(token.item())
        result.append(Hypothesis(tokens, logprob, reason))
    return result


class WatchedStepper(TableStepper):
    """Notes how many prompts are read and how many rows are stepped at a time."""

    def __init__(self):
        super().__init__(7)
        self.read, self.stepped = [], []

    def start(self, prompts):
        self.read.append(len(prompts))
        return super().start(prompts)

    def step(self, tokens, state, context):
        self.stepped.append(len(tokens))
        return super().step(tokens, state, context)


MANY = [PROMPTS[number % len(PROMPTS)] for number in range(150)]


@pytest.mark.parametrize("lanes", [1, 2, 7, 150, 1000])
@pytest.mark.parametrize("read_prompts", [1, 5, 256])
def test_lanes_that_are_refilled_give_what_one_prompt_after_another_gives(
    small, strategy, lanes, read_prompts, monkeypatch
):
    monkeypatch.setattr(waiting, "READ_PROMPTS", read_prompts)
    expected = decode_naively(small, MANY, strategy, seed=4, row_ids=range(150))
    found = decode(small, MANY, strategy, seed=4, row_ids=range(150), lanes=lanes)
    for (mine,), slow in zip(found, expected, strict=True):
        assert (mine.tokens, mine.finish_reason) == (slow.tokens, slow.finish_reason)
        assert mine.logprob == pytest.approx(slow.logprob, abs=FLOAT32_LOGPROB)
    if isinstance(strategy, SamplingConfig):
        assert {one.finish_reason for (one,) in found} == {"end", "length"}


def test_lanes_are_full_while_prompts_wait_and_fewer_when_none_does(strategy, monkeypatch):
    monkeypatch.setattr(waiting, "READ_PROMPTS", 32)
    stepper = WatchedStepper()
    found = decode(stepper, MANY, strategy, seed=4, row_ids=range(150), lanes=10)
    assert stepper.read == [32, 32, 32, 32, 22]
    # Every step of a lane is a token or an end: none is wasted on a text that is done.
    assert sum(stepper.stepped) == sum(len(one.tokens) + (one.finish_reason == "end") for (one,) in found)
    assert stepper.stepped == sorted(stepper.stepped, reverse=True)
    assert stepper.stepped.count(10) > 0.8 * len(stepper.stepped)


def test_the_report_is_the_share_of_prompts_that_is_done(small, strategy):
    shares = []
    decode(small, MANY, strategy, seed=4, row_ids=range(150), lanes=10, report=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len(shares) > 15


def test_memory_does_not_grow_with_prompts_times_the_limit(small):
    small.table[..., small.eos_id] = 20.0
    count, max_tokens = 600, 20_000
    tracemalloc.start()
    decode(small, [PROMPTS[0]] * count, SamplingConfig(max_tokens=max_tokens), seed=0, row_ids=range(count), lanes=8)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < count * max_tokens * 4 / 10  # a tenth of all uniform numbers


def test_no_prompts_no_hypotheses(small, strategy):
    assert decode(small, [], strategy, seed=0, row_ids=[]) == []


def test_bos_is_never_generated_however_likely_it_is(small, strategy):
    small.table[..., small.bos_id] = 20.0
    found = run(small, strategy)
    assert all(small.bos_id not in one.tokens for one in found)
    assert all(one.logprob < -10 for one in found)  # and its probability is not given to the others


def test_where_bos_is_eos_it_ends_the_text(strategy):
    stepper = TableStepper(6, bos_id=2, eos_id=2)
    stepper.table[..., 2] = 20.0
    assert {(tuple(one.tokens), one.finish_reason) for one in run(stepper, strategy)} == {((), "end")}


def test_an_end_that_never_comes_is_cut_at_the_limit(small, strategy):
    small.table[..., small.eos_id] = -1e9
    assert {(len(one.tokens), one.finish_reason) for one in run(small, strategy)} == {(MAX_TOKENS, "length")}


def test_a_smaller_limit_gives_the_beginning_of_the_same_text(small, strategy):
    long = run(small, strategy)
    short = run(small, from_dict(DecodingConfig, {**to_dict(strategy), "max_tokens": 2}))
    assert [one.tokens for one in short] == [one.tokens[:2] for one in long]


def test_greedy_takes_the_best_token_at_every_step(small):
    for prompt, found in zip(PROMPTS, run(small, GreedyConfig(max_tokens=MAX_TOKENS)), strict=True):
        history, tokens = [small.bos_id, small.bos_id, *prompt.tolist()], []
        while len(tokens) < MAX_TOKENS:
            logits = small.table[history[-2], history[-1]].clone()
            logits[small.bos_id] = -1e9
            token = int(logits.argmax())
            if token == small.eos_id:
                break
            tokens.append(token)
            history.append(token)
        assert found.tokens == tokens


def test_another_seed_and_another_row_give_another_sample(small):
    strategy = SamplingConfig(max_tokens=20)
    small.table[..., small.eos_id] = -1e9
    prompts = [PROMPTS[0]] * 8
    texts = [tuple(one.tokens) for seed in (1, 2) for one in run(small, strategy, prompts=prompts, seed=seed)]
    assert len(set(texts)) == 16


SAMPLES = 4000
# The statistic has mean df and variance 2 df; beyond six standard deviations it is no chance, and the seed is fixed.
SIGMAS = 6


def cut_table(stepper, options):
    """The stepper whose own distribution is what sampling with `options` leaves of the other's."""
    result = TableStepper(stepper.vocab_size)
    for before in range(stepper.vocab_size):
        for last in range(stepper.vocab_size):
            kept = kept_distribution(stepper.table[before, last].numpy(), **options)
            result.table[before, last] = stepper.table.new_tensor(np.log(np.maximum(kept, 1e-30)))
    return result


@pytest.mark.parametrize("options", [{}, {"temperature": 0.6}, {"top_k": 3}, {"top_p": 0.7}], ids=str)
def test_whole_samples_have_the_distribution_of_an_enumeration(options):
    options = {"temperature": 1.0, "top_k": None, "top_p": 1.0, **options}
    stepper = TableStepper(5, scale=1.0)
    stepper.table[..., stepper.bos_id] = -1e9  # a table that leaves bos out by itself
    enumerated = cut_table(stepper, options).every_continuation([], 2)
    exact = {key: np.exp(value) for key, value in enumerated.items()}
    assert sum(exact.values()) == pytest.approx(1, abs=1e-5)
    strategy = SamplingConfig(max_tokens=2, **options)
    drawn = decode(stepper, [PROMPTS[0]] * SAMPLES, strategy, seed=3, row_ids=list(range(SAMPLES)))
    counts = Counter((tuple(one.tokens), one.finish_reason) for (one,) in drawn)
    assert sum(count for key, count in counts.items() if exact[key] < 1e-12) == 0
    likely = {key: p for key, p in exact.items() if p * SAMPLES >= 5}
    statistic = sum((counts[key] - p * SAMPLES) ** 2 / (p * SAMPLES) for key, p in likely.items())
    freedom = len(likely) - 1
    assert statistic < freedom + SIGMAS * (2 * freedom) ** 0.5
