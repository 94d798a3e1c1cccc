"""Tiny networks, trained from nothing to a checkpoint on disk, learn what such a network must be able to learn."""

import numpy as np
import pytest

from rnnlm.checkpoint import load_checkpoint
from rnnlm.data.tokenizers.words import WordsConfig
from rnnlm.data.tokens import TokenTable
from rnnlm.decoding.greedy import GreedyConfig
from rnnlm.inference.generate import Generator
from rnnlm.inference.score import Scorer
from rnnlm.tasks.batching import LanesConfig
from rnnlm.training.loop import train
from rnnlm.training.optimizers.adamw import AdamWConfig
from rnnlm.training.schedules import CosineConfig
from rnnlm.training.settings import LoopConfig, TrainingConfig, TrainingData
from tests.corpora import CELLS, tiny_task

LEARNT = 0.05  # nats a token: the right one has a probability above 0.95


def learn(folder, cell, texts, *, steps, hidden_size, window):
    tokenizer = WordsConfig().train(texts)
    table = TokenTable.from_documents(tokenizer.encode(texts))
    settings = TrainingConfig(
        task=tiny_task(cell, hidden_size=hidden_size),
        batching=LanesConfig(num_lanes=16, window=window),
        optimizer=AdamWConfig(learning_rate=0.02),
        schedule=CosineConfig(warmup_steps=10),
        loop=LoopConfig(max_steps=steps, valid_every_steps=steps, log_every_steps=steps),
    )
    train(settings, TrainingData(table, table, tokenizer), str(folder))
    return load_checkpoint(str(folder))


@pytest.mark.parametrize("cell", CELLS)
def test_a_pattern_that_repeats_is_copied(cell, tmp_path):
    # After "a" come b, c or d: the last word alone does not tell which.
    pattern = ["a", "b", "a", "c", "a", "d"]
    texts = [" ".join((pattern * 6)[: 30 + number % 7]) for number in range(40)]
    checkpoint = learn(tmp_path / "run", cell, texts, steps=400, hidden_size=16, window=20)
    (values,) = Scorer(checkpoint).score_texts([" ".join(pattern * 5)], keep_tokens=True).token_logprobs
    assert -values[:30].mean() < LEARNT
    ((found,),) = Generator(checkpoint).generate(["a b a c"], GreedyConfig(max_tokens=20))
    assert Generator(checkpoint).continuation("a b a c", found.tokens).split() == (pattern * 6)[4:24]


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_word_is_remembered_over_a_gap(cell, tmp_path):
    keys, gap = [f"k{number}" for number in range(5)], ["x"] * 6
    random = np.random.default_rng(0)
    texts = [" ".join([key, *gap, key]) for key in random.choice(keys, size=400)]
    checkpoint = learn(tmp_path / "run", cell, texts, steps=700, hidden_size=48, window=27)
    examples = [" ".join([key, *gap, key]) for key in keys]
    scores = Scorer(checkpoint).score_texts(examples, keep_tokens=True).token_logprobs
    assert max(-values[-2] for values in scores) < LEARNT
    wrong = " ".join([keys[0], *gap, keys[1]])
    assert (
        Scorer(checkpoint).score_texts([wrong]).logprob[0] < Scorer(checkpoint).score_texts(examples).logprob.max() - 3
    )
