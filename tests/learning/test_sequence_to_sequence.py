"""A tiny encoder-decoder learns to turn a sequence round, which only attention or memory of the whole can do."""

import pytest

from rnnlm.checkpoint import load_checkpoint
from rnnlm.decoding.greedy import GreedyConfig
from rnnlm.inference.translate import Translator
from rnnlm.nn.attending.dot import DotConfig
from rnnlm.nn.attending.none import NoAttentionConfig
from rnnlm.nn.cells.gru import GRUConfig
from rnnlm.nn.cells.lstm import LSTMConfig
from rnnlm.tasks.batching import PairsConfig
from rnnlm.training.loop import train
from rnnlm.training.optimizers.adamw import AdamWConfig
from rnnlm.training.settings import LoopConfig, TrainingConfig, TrainingData
from tests.corpora import pair_table, pair_tokenizer, reversals, tiny_translation

KINDS = {
    "LSTM": {"cell": LSTMConfig(hidden_size=32)},
    "GRU, fed": {"cell": GRUConfig(hidden_size=32), "attention": DotConfig(), "input_feeding": True},
    "without attention": {"cell": LSTMConfig(hidden_size=64), "attention": NoAttentionConfig()},
}


@pytest.mark.parametrize("kind", KINDS)
def test_reversal_is_learnt(kind, tmp_path):
    settings = TrainingConfig(
        task=tiny_translation(embedding_size=16, **KINDS[kind]),
        batching=PairsConfig(tokens=256),
        optimizer=AdamWConfig(learning_rate=0.01),
        loop=LoopConfig(max_steps=500, valid_every_steps=500),
    )
    known, unseen = pair_table(reversals(2000, longest=5)), reversals(100, longest=5, seed=1)
    train(settings, TrainingData(known, pair_table(unseen), pair_tokenizer()), str(tmp_path / "run"))
    translator = Translator(load_checkpoint(str(tmp_path / "run")))
    found = translator.generate([source for source, _ in unseen], GreedyConfig(max_tokens=8))
    texts = [translator.continuation("", hypotheses[0].tokens) for hypotheses in found]
    right = sum(text == target for text, (_, target) in zip(texts, unseen, strict=True))
    assert right >= 90
