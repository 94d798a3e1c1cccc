"""Rules under every strategy: what is forbidden is never there, what is left is what the strategy makes of it."""

import itertools
import re

import numpy as np
import pytest
import torch
import yaml

from rnnlm.config import PlacedError, from_dict
from rnnlm.data.tokenizers.bytes import BytesTokenizer
from rnnlm.data.tokenizers.chars import CharsConfig
from rnnlm.data.tokenizers.sentencepiece import SentencePieceConfig
from rnnlm.data.tokenizers.words import WordsConfig
from rnnlm.decoding.base import DecodingConfig, decode
from rnnlm.decoding.beam import BeamConfig
from rnnlm.decoding.greedy import GreedyConfig
from rnnlm.decoding.rules.automaton import DEAD
from rnnlm.decoding.rules.banned import without
from rnnlm.decoding.rules.min_p import cut_min_p
from rnnlm.decoding.rules.pattern import byte_automaton
from rnnlm.decoding.rules.token_text import token_texts
from rnnlm.decoding.rules.typical_p import cut_typical_p
from rnnlm.decoding.sampling import SamplingConfig
from rnnlm.errors import ConfigError, DataError, RnnlmError
from tests.corpora import TEXTS
from tests.reference import TableStepper
from tests.unit.decoding.tables import ranked
from tests.unit.decoding.test_decode import CONF

LOGPROB = 1e-5  # a few float32 log-probabilities, each of a few nats
PROMPTS = [np.array(tokens, dtype=np.int32) for tokens in ([], [3], [4, 5], [5, 3, 4], [2, 2], [6])] * 4
TOKENIZER = CharsConfig().train(["abcde abcd abc ab a"])  # <eos>, <unk>, a, b, blank, c, d, e
NAMES = sorted(path.stem for path in CONF.glob("*.yaml"))


@pytest.fixture(params=NAMES)
def make(request):
    """A strategy of conf/decoding with some settings changed."""
    data = yaml.safe_load((CONF / f"{request.param}.yaml").read_text())
    small = {"samples": 4} if "samples" in data else {}
    return lambda **changed: from_dict(DecodingConfig, {**data, **small, "max_tokens": 10, **changed})


@pytest.fixture
def stepper():
    return TableStepper(TOKENIZER.vocab_size, bos_id=TOKENIZER.bos_id, eos_id=TOKENIZER.eos_id, seed=5)


def run(stepper, strategy, *, prompts=PROMPTS, lanes=5, tokenizer=TOKENIZER, count=1):
    found = decode(
        stepper,
        prompts,
        strategy,
        num_hypotheses=count,
        seed=2,
        row_ids=range(len(prompts)),
        lanes=lanes,
        tokenizer=tokenizer,
    )
    for prompt, hypotheses in zip(prompts, found, strict=True):
        for one in hypotheses:  # whatever the rules did
            by_hand = stepper.logprob(prompt, one.tokens, end=one.finish_reason == "end")
            assert one.logprob == pytest.approx(by_hand, abs=LOGPROB)
    return [one for hypotheses in found for one in hypotheses]


def texts_of(found):
    return [TOKENIZER.decode(one.tokens) for one in found]


def test_no_text_is_shorter_than_min_tokens(stepper, make):
    stepper.table[..., stepper.eos_id] += 3.0
    assert min(len(one.tokens) for one in run(stepper, make())) < 4
    assert min(len(one.tokens) for one in run(stepper, make(min_tokens=4))) == 4


@pytest.mark.parametrize("n", [1, 2, 3])
def test_no_ngram_is_there_twice(stepper, make, n):
    stepper.table[..., stepper.eos_id] -= 2.0

    def repeats(found):
        for one in found:
            ngrams = list(zip(*(one.tokens[shift:] for shift in range(n)), strict=False))
            yield len(set(ngrams)) < len(ngrams)

    assert any(repeats(run(stepper, make())))
    assert not any(repeats(run(stepper, make(no_repeat_ngram=n, max_tokens=6))))


def test_a_penalty_makes_repetition_rarer_and_is_that_of_the_paper(stepper, make):
    stepper.table[..., stepper.eos_id] -= 2.0
    distinct = [
        sum(len(set(one.tokens)) / max(1, len(one.tokens)) for one in run(stepper, make(repetition_penalty=penalty)))
        for penalty in (1.0, 5.0)
    ]
    assert distinct[1] > distinct[0]


def test_the_penalty_by_hand(stepper):
    for prompt, one in zip(PROMPTS, run(stepper, GreedyConfig(max_tokens=8, repetition_penalty=1.7)), strict=True):
        history, tokens = [stepper.bos_id, stepper.bos_id, *prompt.tolist()], []
        while len(tokens) < 8:
            logits = stepper.table[history[-2], history[-1]].clone()
            for token in set(tokens):
                logits[token] = logits[token] / 1.7 if logits[token] > 0 else logits[token] * 1.7
            token = int(logits.argmax())
            if token == stepper.eos_id:
                break
            tokens.append(token)
            history.append(token)
        assert one.tokens == tokens


def test_banned_strings_are_nowhere(stepper, make):
    banned = ["ab", "c", "dd", "bab"]
    stepper.table[..., stepper.eos_id] -= 2.0
    assert any(word in text for text in texts_of(run(stepper, make())) for word in banned)
    assert not any(word in text for text in texts_of(run(stepper, make(banned=banned))) for word in banned)


def test_only_allowed_texts(stepper, make):
    allowed = ["ab", "abc", "dd d", "e", "edcba"]
    found = texts_of(run(stepper, make(allowed=allowed)))
    assert set(found) <= set(allowed)
    assert len(set(found)) > 1


def test_allowed_texts_from_a_file(stepper, make, tmp_path):
    (tmp_path / "allowed.txt").write_text("ab\ndd d\n")
    strategy = make(allowed=str(tmp_path / "allowed.txt"))
    assert set(texts_of(run(stepper, strategy))) <= {"ab", "dd d"}
    before = strategy.files()
    (tmp_path / "allowed.txt").write_text("ab\n")
    assert strategy.files() != before
    assert make().files() == {}


@pytest.mark.parametrize("pattern", ["a(b|c)*d", "[^a]{3,5}", "(ab?)+", "(a|e)(b|c)", "a.*e"])
def test_a_text_matches_the_pattern(stepper, make, pattern):
    found = texts_of(run(stepper, make(pattern=pattern)))
    assert all(re.fullmatch(pattern, text) for text in found)


def test_a_text_that_does_not_fit_is_finished_in_time(stepper, make):
    stepper.table[..., stepper.eos_id] = -20.0
    found = run(stepper, make(pattern="a+bcd|bb", max_tokens=5))
    assert all(re.fullmatch("a+bcd|bb", text) for text in texts_of(found))
    found = run(stepper, make(allowed=["abcd", "abcdeee", "e"], max_tokens=4))
    assert set(texts_of(found)) <= {"abcd", "e"}


def without_repeated_pairs(tokens):
    pairs = list(itertools.pairwise(tokens))
    return len(set(pairs)) == len(pairs)


ALLOWED = ["a", "ab", "abc", "dd", "ede"]
RULES = {
    "min_tokens": lambda tokens, text: len(tokens) >= 2,
    "no_repeat_ngram": lambda tokens, text: without_repeated_pairs(tokens),
    "banned": lambda tokens, text: "ab" not in text and "c" not in text,
    "allowed": lambda tokens, text: text in ALLOWED,
    "pattern": lambda tokens, text: re.fullmatch("(a|bc)*d?", text) is not None,
}
SETTINGS = {
    "min_tokens": 2,
    "no_repeat_ngram": 2,
    "banned": ["ab", "c"],
    "allowed": ALLOWED,
    "pattern": "(a|bc)*d?",
}


@pytest.mark.parametrize("rule", RULES)
def test_a_wide_beam_finds_exactly_what_a_rule_leaves_in_its_order(stepper, rule):
    strategy = BeamConfig(width=8**3, max_tokens=3, length_penalty=0.0, **{rule: SETTINGS[rule]})
    found = run(stepper, strategy, prompts=PROMPTS[1:2], count=8**3)
    words = [(tokens, reason) for _, tokens, reason in ranked(stepper, PROMPTS[1], 3, 0.0)]
    left = [one for one in words if RULES[rule](one[0], TOKENIZER.decode(one[0]))]
    assert [(one.tokens, one.finish_reason) for one in found] == left


@pytest.mark.parametrize("rule", RULES)
def test_lanes_and_neighbours_change_nothing_under_rules(stepper, make, rule):
    strategy = make(**{rule: SETTINGS[rule]})
    expected = run(stepper, strategy, lanes=1)
    assert run(stepper, strategy, lanes=7) == run(stepper, strategy, lanes=64) == expected


def test_rules_go_together(stepper, make):
    found = texts_of(run(stepper, make(pattern="[a-e]+", banned=["a"], min_tokens=3, no_repeat_ngram=1, max_tokens=4)))
    assert all(re.fullmatch("[b-e]{3,4}", text) and len(set(text)) == len(text) for text in found)


def test_rules_that_leave_nothing_are_the_fault_of_a_row(stepper, make):
    with pytest.raises(DataError, match="leave nothing to go on with"):
        run(stepper, make(allowed=["a"], min_tokens=3))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"allowed": []}, "no text that is allowed"),
        ({"allowed": ["ab", "x"]}, r"allowed\[1\]: 'x' holds what the model's vocabulary lacks"),
        ({"allowed": ["abcdeabcdeabcde"]}, "the shortest text has 15 tokens, more than max_tokens, 10"),
        ({"pattern": "(ab"}, "cannot be used"),
        ({"pattern": r"(?<=a)b"}, "lookbacks are not implemented"),
        ({"pattern": "xyz"}, "no text of the model's tokens"),
        ({"pattern": "a{11}"}, "the shortest text has 11 tokens"),
        ({"banned": [""]}, "the empty text is in every text"),
    ],
)
def test_what_cannot_be_kept_is_refused_when_it_is_built(make, settings, message):
    with pytest.raises(RnnlmError, match=message):
        make(**settings).build(TOKENIZER)


def test_rules_of_text_need_a_tokenizer(stepper, make):
    for settings in ({"pattern": "a"}, {"banned": ["a"]}, {"allowed": ["a"]}):
        with pytest.raises(ConfigError, match="there is no tokenizer"):
            run(stepper, make(**settings), tokenizer=None)


def test_more_tokens_than_the_most_are_refused():
    with pytest.raises((PlacedError, ValueError), match="5 are more than max_tokens, 4"):
        GreedyConfig(max_tokens=4, min_tokens=5)


# ----- texts of tokens, automata


def tokenizers():
    yield "words", WordsConfig().train(TEXTS)
    yield "chars", CharsConfig().train(TEXTS)
    yield "bytes", BytesTokenizer()
    for kind in ("bpe", "unigram", "char"):
        yield kind, SentencePieceConfig(model_type=kind, vocab_size=360).train(TEXTS)


@pytest.mark.parametrize("tokenizer", [pytest.param(one, id=name) for name, one in tokenizers()])
def test_the_bytes_of_tokens_are_those_of_their_text(tokenizer):
    texts = token_texts(tokenizer)
    generator = np.random.default_rng(0)
    plain = [token for token in range(tokenizer.vocab_size) if token not in {tokenizer.bos_id, tokenizer.eos_id}]
    for _ in range(300):
        tokens = generator.choice(plain, size=generator.integers(1, 6)).tolist()
        joined = texts.first[tokens[0]] + b"".join(texts.later[token] for token in tokens[1:])
        try:
            assert tokenizer.decode(tokens) == joined.decode()
        except UnicodeDecodeError:
            assert "\N{REPLACEMENT CHARACTER}" in tokenizer.decode(tokens)
    for text in [*TEXTS[:20], "über 中文 \N{GRINNING FACE}"]:
        tokens = tokenizer.encode([text])[0].tolist()
        if tokens:
            joined = texts.first[tokens[0]] + b"".join(texts.later[token] for token in tokens[1:])
            assert joined.decode() == tokenizer.decode(tokens)


def accepts(automaton, data):
    state = automaton.start
    for byte in data:
        state = int(automaton.transitions[state, byte])
    return state != DEAD and bool(automaton.accepting[state])


PATTERNS = [
    "a*b|c",
    "[^a]",
    ".",
    "[д-ж]+x?",
    "(é|è|ê)*",
    "[^é]{2}",
    "[一-十]",
    "\N{GRINNING FACE}+",
    r"\d{2,3}",
    "",
    "[߿-ࠀ]",
    r"(?i)é|x",
]
SAMPLES = [
    *("".join(chars) for length in range(4) for chars in itertools.product("abcx1é", repeat=length)),
    *(
        chr(point)
        for point in [0, 10, 0x7F, 0x80, 0x7FF, 0x800, 0xFFF, 0x1000, 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x10FFFF]
    ),
    *"гджз一丁十千èê",
    "\N{GRINNING FACE}\N{GRINNING FACE}",
    "\N{GRINNING CAT FACE WITH SMILING EYES}",
    "джд",
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_an_automaton_over_bytes_accepts_what_the_expression_matches(pattern):
    automaton = byte_automaton(pattern)
    for sample in SAMPLES:
        assert accepts(automaton, sample.encode()) == (re.fullmatch(pattern, sample) is not None), sample


def test_bytes_that_are_no_utf8_are_not_accepted():
    automaton = byte_automaton("(.|\n)*")
    for data in (
        b"\x80",
        b"\xc0\x80",
        b"\xe0\x80\x80",
        b"\xed\xa0\x80",
        b"\xf0\x80\x80\x80",
        b"\xf4\x90\x80\x80",
        b"\xff",
        b"\xc3",
    ):
        assert not accepts(automaton, data), data


@pytest.mark.parametrize(
    "banned", [["ab"], ["a", "ab"], ["abc", "bcb", "cc"], ["aab", "ab"], ["é", "x1x"], ["aaa"], []]
)
def test_an_automaton_without_strings_accepts_what_does_not_hold_them(banned):
    automaton = without(banned)
    for sample in SAMPLES:
        assert accepts(automaton, sample.encode()) == (not any(one in sample for one in banned)), sample


# ----- cuts of a distribution


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_cuts_keep_what_their_papers_say(temperature):
    logits = torch.randn(40, 50) * 2
    logits[:, 7] = -torch.inf
    p = (logits / temperature).double().softmax(1)
    assert torch.equal(cut_min_p(logits, 0.1, temperature) > -torch.inf, p >= 0.1 * p.amax(1, keepdim=True))
    for row, kept in zip(p.numpy(), (cut_typical_p(logits, 0.6, temperature) > -torch.inf).numpy(), strict=True):
        information = -np.log(np.maximum(row, 1e-300))
        order = np.argsort(np.abs(information - (row * information).sum()))
        count = int(np.searchsorted(np.cumsum(row[order]), 0.6)) + 1
        assert set(np.flatnonzero(kept)) == set(order[:count].tolist())


def test_samples_are_within_the_cuts():
    logits = torch.randn(200, 300) * 2
    logits[:100] = logits[:1]
    uniforms = torch.rand(200)
    for settings in (
        {"min_p": 0.2},
        {"typical_p": 0.3},
        {"min_p": 0.05, "typical_p": 0.7, "top_k": 20, "temperature": 2.0},
    ):
        strategy = SamplingConfig(**settings)
        chosen = strategy.choose(logits.clone(), uniforms, logits.logsumexp(1))
        left = strategy._cut(logits)
        assert (left.gather(1, chosen.unsqueeze(1)) > -torch.inf).all()
        assert len(set(chosen[:100].tolist())) > 1
