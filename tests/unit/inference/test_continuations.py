"""Continuations: sums over parts of what a scorer gives, and greedy where greedy decoding writes the same."""

import numpy as np
import pytest

from rnnlm.decoding.greedy import GreedyConfig
from rnnlm.errors import ConfigError
from rnnlm.inference.continuations import ContinuationScorer
from rnnlm.inference.generate import Generator
from rnnlm.inference.score import Scorer
from tests.corpora import random_documents, save_tiny_translation


def test_a_continuation_is_a_part_of_the_sum(tiny_checkpoint):
    documents = random_documents([7, 1, 12, 0, 900], tiny_checkpoint.tokenizer.vocab_size)
    cuts = [3, 0, 12, 0, 850]
    before = [one[:cut] for one, cut in zip(documents, cuts, strict=True)]
    after = [one[cut:] for one, cut in zip(documents, cuts, strict=True)]
    found = ContinuationScorer(tiny_checkpoint).score(before, after)
    every = Scorer(tiny_checkpoint).score_tokens(documents, keep_tokens=True).token_logprobs
    expected = [one[cut:-1].sum(dtype=np.float64) for one, cut in zip(every, cuts, strict=True)]
    np.testing.assert_allclose(found.logprob, expected, atol=1e-4)
    assert found.is_greedy[[2, 3]].all()  # nothing follows
    assert not found.is_greedy[4]


def test_what_greedy_decoding_writes_is_greedy_and_nothing_else(tiny_checkpoint):
    prompts = ["the cat", "", "a mat under"]
    tokenizer = tiny_checkpoint.tokenizer
    written = Generator(tiny_checkpoint).generate(prompts, GreedyConfig(max_tokens=5, min_tokens=5))
    eos_free = [(prompt, one[0].tokens) for prompt, one in zip(prompts, written, strict=True)]
    before = [ids.astype(np.int64) for ids in tokenizer.encode([prompt for prompt, _ in eos_free])]
    after = [np.array(tokens, dtype=np.int64) for _, tokens in eos_free]
    scorer = ContinuationScorer(tiny_checkpoint)
    plain = Generator(tiny_checkpoint).generate(prompts, GreedyConfig(max_tokens=5))
    expected = [
        len(one[0].tokens) == 5 and one[0].tokens == tokens.tolist() for one, tokens in zip(plain, after, strict=True)
    ]
    assert scorer.score(before, after).is_greedy.tolist() == expected
    others = [np.append(tokens[:-1], (tokens[-1] + 1) % tokenizer.vocab_size) for tokens in after]
    assert not scorer.score(before, others).is_greedy.any()


def test_other_models_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="is not a language model"):
        ContinuationScorer(save_tiny_translation(tmp_path))
