"""Every strategy of conf/decoding keeps the contract: rows are independent, log-probabilities the model's, limits kept."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from rnnlm.config import from_dict
from rnnlm.data.tokenizers.chars import CharsConfig
from rnnlm.decoding import waiting
from rnnlm.decoding.base import DecodingConfig, decode
from rnnlm.errors import ConfigError
from tests.reference import TableStepper
from tests.unit.decoding.tables import SourceTableStepper

CONF = Path(__file__).resolve().parents[2] / "conf" / "decoding"
STRATEGIES = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(CONF.glob("*.yaml"))}
TOKENIZER = CharsConfig().train(["abcde abcd abc ab a"])
MAX_TOKENS = 7
PROMPTS = [np.array(tokens, dtype=np.int32) for tokens in ([], [3], [4, 5], [5, 3, 4], [7, 6, 6, 2, 3], [2, 2])] * 11
ROW_IDS = list(range(500, 500 + len(PROMPTS)))
ROUNDING = 1e-5  # a few float32 log-probabilities, each of a few nats
MODEL_NATS = 1e-4  # what every strategy promises of its log-probabilities


@pytest.fixture(params=STRATEGIES)
def strategy(request):
    return from_dict(DecodingConfig, {**STRATEGIES[request.param], "max_tokens": MAX_TOKENS})


@pytest.fixture(params=[TableStepper, SourceTableStepper], ids=["prompts", "sources"])
def stepper(request):
    return request.param(TOKENIZER.vocab_size, bos_id=1, eos_id=0, seed=8)


def most(strategy):
    return min(strategy.most_hypotheses() or 3, 3)


def run(stepper, strategy, rows=None, *, seed=1, lanes=64, count=None):
    rows = range(len(PROMPTS)) if rows is None else rows
    return decode(
        stepper,
        [PROMPTS[row] for row in rows],
        strategy,
        num_hypotheses=count or most(strategy),
        seed=seed,
        row_ids=[ROW_IDS[row] for row in rows],
        tokenizer=TOKENIZER,
        lanes=lanes,
    )


def same(found, expected):
    """Whether texts are equal, and log-probabilities but for rounding: torch's log of a vector rounds its last elements
    otherwise than the others."""
    for mine, other in zip(found, expected, strict=True):
        assert [(one.tokens, one.finish_reason) for one in mine] == [(one.tokens, one.finish_reason) for one in other]
        assert [one.logprob for one in mine] == pytest.approx([one.logprob for one in other], abs=ROUNDING)
    return True


def test_a_batch_of_one_gives_what_a_batch_of_64_gives(stepper, strategy, monkeypatch):
    together = run(stepper, strategy)
    for row in (0, 1, 4, 33, 65):
        assert same(run(stepper, strategy, [row]), [together[row]])
    monkeypatch.setattr(waiting, "READ_PROMPTS", 3)
    assert same(run(stepper, strategy, lanes=1), together)


def test_rows_do_not_depend_on_their_neighbours(stepper, strategy):
    together = run(stepper, strategy)
    order = np.random.default_rng(0).permutation(len(PROMPTS)).tolist()
    assert same(run(stepper, strategy, order, lanes=10), [together[row] for row in order])


def test_a_log_probability_is_the_models_own(stepper, strategy):
    for prompt, hypotheses in zip(PROMPTS, run(stepper, strategy), strict=True):
        for one in hypotheses:
            by_hand = stepper.logprob(prompt, one.tokens, end=one.finish_reason == "end")
            assert one.logprob == pytest.approx(by_hand, abs=MODEL_NATS)


def test_the_limit_is_kept_and_neither_bos_nor_eos_is_written(stepper, strategy):
    for hypotheses in run(stepper, strategy):
        for one in hypotheses:
            assert not {stepper.bos_id, stepper.eos_id} & set(one.tokens)
            assert len(one.tokens) < MAX_TOKENS if one.finish_reason == "end" else len(one.tokens) == MAX_TOKENS


def test_the_seed_decides(stepper, strategy):
    assert run(stepper, strategy) == run(stepper, strategy)
    if getattr(strategy, "draws", False):
        assert run(stepper, strategy, seed=2) != run(stepper, strategy)


def test_there_are_as_many_hypotheses_as_asked_for_and_no_more_can_be(stepper, strategy):
    count = most(strategy)
    for hypotheses in run(stepper, strategy):
        assert 1 <= len(hypotheses) <= count
    if strategy.most_hypotheses() is not None:
        with pytest.raises(ConfigError, match="num_hypotheses"):
            run(stepper, strategy, count=strategy.most_hypotheses() + 1)


def test_nothing_gives_nothing(stepper, strategy):
    assert run(stepper, strategy, []) == []


def test_bos_is_never_written_however_likely(stepper, strategy):
    stepper.table[..., stepper.bos_id] = 20.0
    assert all(one.logprob < -10 for hypotheses in run(stepper, strategy) for one in hypotheses)


def test_the_report_ends_with_all(stepper, strategy):
    shares = []
    decode(stepper, PROMPTS, strategy, seed=0, row_ids=ROW_IDS, tokenizer=TOKENIZER, lanes=8, report=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
