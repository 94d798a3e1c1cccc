"""Generation with a network: what it says of its own texts is what scoring says of them."""

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from rnnlm.config import from_dict
from rnnlm.data.tokenizers.sentencepiece import SentencePieceConfig
from rnnlm.decoding import base, waiting
from rnnlm.decoding.base import DecodingConfig, decode
from rnnlm.decoding.greedy import GreedyConfig
from rnnlm.decoding.sampling import SamplingConfig
from rnnlm.inference import packed
from rnnlm.inference.generate import Generator, LanguageModelStepper
from rnnlm.inference.score import Scorer
from tests.corpora import CELLS, TEXTS, save_tiny, sentences, tiny_task

CONF = Path(__file__).resolve().parents[3] / "conf" / "decoding"
STRATEGIES = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(CONF.glob("*.yaml"))}
ROW_NATS = 1e-4  # what scoring promises for a row: float32 products of other shapes round otherwise
PROMPTS = ["", "the", "the cat sat on", "a", "", "dog dog dog", *sentences(30)]


@pytest.fixture(params=STRATEGIES)
def strategy(request):
    return from_dict(DecodingConfig, {**STRATEGIES[request.param], "max_tokens": 12})


@pytest.fixture(scope="module", params=[(cell, layers) for cell in CELLS for layers in (1, 2)], ids=str)
def checkpoint(request, tmp_path_factory):
    cell, num_layers = request.param
    torch.manual_seed(11)
    return save_tiny(tmp_path_factory.mktemp("checkpoint") / "c", tiny_task(cell, num_layers=num_layers, dropout=0.5))


def single(generator, *arguments, **options):
    """The first hypothesis of each prompt."""
    return [first for first, *_ in generator.generate(*arguments, **options)]


def test_a_generated_text_has_the_log_probability_it_says(checkpoint, strategy):
    found = single(Generator(checkpoint), PROMPTS, strategy, seed=5)
    prompts = checkpoint.tokenizer.encode(PROMPTS)
    scorer = Scorer(checkpoint)
    whole = [[*prompt.tolist(), *one.tokens] for prompt, one in zip(prompts, found, strict=True)]
    tokens = scorer.score_tokens([_ids(one) for one in whole], keep_tokens=True).token_logprobs
    for prompt, one, values in zip(prompts, found, tokens, strict=True):
        generated = values[len(prompt) :] if one.finish_reason == "end" else values[len(prompt) : -1]
        assert one.logprob == pytest.approx(float(generated.astype("float64").sum()), abs=ROW_NATS)
    if type(strategy) is SamplingConfig:
        assert {one.finish_reason for one in found} == {"end", "length"}


def _ids(tokens):
    return np.array(tokens, dtype=np.int32)


def test_a_prompt_alone_gives_what_it_gives_in_a_batch(checkpoint, strategy):
    generator = Generator(checkpoint)
    together = single(generator, PROMPTS, strategy, seed=5)
    assert single(generator, PROMPTS, strategy, seed=5) == together
    for row in range(8):
        (alone,) = single(generator, [PROMPTS[row]], strategy, seed=5, row_ids=[row])
        assert (alone.tokens, alone.finish_reason) == (together[row].tokens, together[row].finish_reason)
        assert alone.logprob == pytest.approx(together[row].logprob, abs=ROW_NATS)


def test_the_size_of_batches_and_the_order_of_prompts_change_nothing(tiny_checkpoint, strategy, monkeypatch):
    generator = Generator(tiny_checkpoint)
    expected = [one.tokens for one in single(generator, PROMPTS, strategy, seed=2)]
    monkeypatch.setattr(base, "decode", functools.partial(decode, lanes=5))
    monkeypatch.setattr(waiting, "READ_PROMPTS", 7)
    monkeypatch.setattr(packed, "BLOCK_ROWS", 2)
    monkeypatch.setattr(packed, "CHUNK_POSITIONS", 3)
    assert [one.tokens for one in single(generator, PROMPTS, strategy, seed=2)] == expected
    backwards = single(generator, PROMPTS[::-1], strategy, seed=2, row_ids=list(range(len(PROMPTS)))[::-1])
    assert [one.tokens for one in backwards[::-1]] == expected


@pytest.mark.parametrize("lanes", [1, 4])
def test_more_prompts_than_lanes(checkpoint, strategy, lanes, monkeypatch):
    generator = Generator(checkpoint)
    expected = [single(generator, [prompt], strategy, seed=3, row_ids=[row])[0] for row, prompt in enumerate(PROMPTS)]
    monkeypatch.setattr(base, "decode", functools.partial(decode, lanes=lanes))
    monkeypatch.setattr(waiting, "READ_PROMPTS", 6)
    shares = []
    found = single(generator, PROMPTS, strategy, seed=3, report=shares.append)
    assert [(one.tokens, one.finish_reason) for one in found] == [(one.tokens, one.finish_reason) for one in expected]
    assert [one.logprob for one in found] == pytest.approx([one.logprob for one in expected], abs=ROW_NATS)
    assert shares[-1] == 1.0


def test_the_table_of_first_products_changes_nothing(checkpoint, monkeypatch):
    strategy = SamplingConfig(max_tokens=12)
    expected = [one.tokens for one in single(Generator(checkpoint), PROMPTS, strategy)]
    monkeypatch.setattr(packed, "TABLE_BYTES", 0)
    assert [one.tokens for one in single(Generator(checkpoint), PROMPTS, strategy)] == expected


def test_a_prompt_is_read_as_the_model_reads_it(checkpoint):
    stepper, tokenizer = LanguageModelStepper(checkpoint), checkpoint.tokenizer
    prompts = tokenizer.encode(["", "the cat sat", "a"])
    with torch.inference_mode():
        tokens, state, context = stepper.start(prompts)
        logits, _ = stepper.step(tokens, state, context)
        for row, prompt in enumerate(prompts):
            inputs = torch.tensor([[tokenizer.bos_id, *prompt.tolist()]])
            hidden, _ = checkpoint.model(inputs, checkpoint.model.initial_state(1))
            expected = checkpoint.model.softmax.logits(hidden[:, -1])[0]
            torch.testing.assert_close(logits[row], expected, rtol=0, atol=ROW_NATS)


def test_the_random_numbers_of_a_row_are_those_of_its_id(tiny_checkpoint):
    generator, strategy = Generator(tiny_checkpoint), SamplingConfig(max_tokens=30)
    same = single(generator, ["the"] * 3, strategy, seed=1, row_ids=[7, 7, 8])
    assert same[0] == same[1]
    assert same[0].tokens != same[2].tokens
    assert single(generator, ["the"], strategy, seed=2, row_ids=[7])[0].tokens != same[0].tokens


def test_no_prompts_no_texts(tiny_checkpoint, strategy):
    assert Generator(tiny_checkpoint).generate([], strategy) == []


def test_the_weights_are_not_touched(tiny_checkpoint):
    before = [p.clone() for p in tiny_checkpoint.model.parameters()]
    single(Generator(tiny_checkpoint), PROMPTS, GreedyConfig(max_tokens=3))
    assert all(torch.equal(a, b) for a, b in zip(before, tiny_checkpoint.model.parameters(), strict=True))


def test_the_dropout_of_a_loaded_model_is_off(checkpoint):
    stepper = LanguageModelStepper(checkpoint)
    with torch.inference_mode():
        first, second = (decode(stepper, [_ids([])], GreedyConfig(max_tokens=5), seed=0, row_ids=[0]) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("kind", ["bpe", "unigram", "char"])
def test_a_continuation_stands_behind_its_prompt_blanks_included(tmp_path, kind):
    tokenizer = SentencePieceConfig(model_type=kind, vocab_size=360).train(TEXTS)
    generator = Generator(save_tiny(tmp_path / "c", tokenizer=tokenizer))
    prompts = ["", "The quick brown", "The quick ", "Fü", "  two"]
    for prompt, one in zip(prompts, single(generator, prompts, SamplingConfig(max_tokens=8)), strict=True):
        whole = tokenizer.decode([*tokenizer.encode([prompt])[0].tolist(), *one.tokens])
        assert prompt + generator.continuation(prompt, one.tokens) == whole


def test_a_continuation_of_words_begins_with_a_blank(tiny_checkpoint):
    tokens = tiny_checkpoint.tokenizer.encode(["sat on"])[0].tolist()
    generator = Generator(tiny_checkpoint)
    assert generator.continuation("the cat", tokens) == " sat on"
    assert generator.continuation("", tokens) == "sat on"
    assert generator.continuation("the cat", []) == ""
