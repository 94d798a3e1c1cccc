"""Sequence to sequence as a task of the loop: the loss is what the model says, rows and workers add up, bad settings are
refused, and a run that is killed goes on."""

import pytest
import torch

from rnnlm.checkpoint import load_checkpoint
from rnnlm.config import from_dict, to_dict
from rnnlm.data.tokenizers.chars import CharsConfig
from rnnlm.data.tokenizers.pair import PairTokenizer
from rnnlm.errors import ConfigError
from rnnlm.nn.attending.dot import DotConfig
from rnnlm.nn.attending.none import NoAttentionConfig
from rnnlm.nn.cells.lstm import LSTMConfig
from rnnlm.nn.layers.bidirectional import BidirectionalConfig
from rnnlm.nn.softmax.full import FullSoftmaxConfig
from rnnlm.tasks.batching import LanesConfig, PairsConfig
from rnnlm.tasks.language_model import LanguageModelConfig
from rnnlm.tasks.translation import TranslationConfig, target_logprobs
from rnnlm.training.loop import train
from rnnlm.training.settings import Hooks, LoopConfig, TrainingConfig, TrainingData
from tests.corpora import pair_table, pair_tokenizer, reversals, tiny_translation, words_tokenizer

TABLE = pair_table(reversals(30))
KINDS = {
    "plain": {},
    "fed": {"input_feeding": True},
    "copies": {"copies": True, "shared_embedding": True},
    "no attention": {"attention": NoAttentionConfig()},
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def batch_of(task, tokens=200):
    stream = task.open_stream(TABLE, pair_tokenizer(), PairsConfig(tokens=tokens), seed=1, rank=0, world_size=1)
    return stream.next()


@every_kind
def test_the_loss_is_what_the_model_says_of_the_targets(kind):
    task = tiny_translation(**KINDS[kind])
    model, batch = task.build(pair_tokenizer()).train(), batch_of(task)
    loss, state = task.loss(model, batch, ())
    assert state == ()
    assert loss.num_targets == int(batch.mask.sum()) == task.num_targets(batch)
    with torch.no_grad():
        expected = -target_logprobs(model.eval(), batch)[batch.mask].sum()
    assert loss.nll.item() == pytest.approx(expected.item(), rel=1e-5)
    loss.objective.backward()


@every_kind
def test_validation_sees_every_target_once_on_any_number_of_workers(kind):
    task = tiny_translation(**KINDS[kind])
    model = task.build(pair_tokenizer())
    whole = task.validate(model, TABLE, pair_tokenizer(), num_lanes=1)
    assert whole.num_targets == TABLE.num_targets
    parts = [task.validate(model, TABLE, pair_tokenizer(), num_lanes=1, rank=rank, world_size=3) for rank in range(3)]
    assert sum(part.num_targets for part in parts) == TABLE.num_targets
    assert sum(part.nll.item() for part in parts) == pytest.approx(whole.nll.item(), rel=1e-6)


def test_scheduled_sampling_puts_in_what_the_model_would_have_written():
    task = tiny_translation(scheduled_sampling=1.0)
    model, batch = task.build(pair_tokenizer()).train(), batch_of(task)
    seen = []
    read = model.read
    model.read = lambda tokens, *rest: (seen.append(tokens), read(tokens, *rest))[1]
    task.loss(model, batch, ())
    first, second = seen
    assert (first == batch.inputs).all()
    assert (second[:, 0] == batch.inputs[:, 0]).all()
    with torch.no_grad():
        state, context = model.encode(batch.source, batch.lengths)
        best = model.softmax.logits(read(batch.inputs, state, context).readouts.flatten(0, 1)).argmax(1)
    assert (second[:, 1:] == best.unflatten(0, batch.inputs.shape)[:, :-1]).all()


def test_the_config_comes_back_and_says_what_does_not_fit():
    task = tiny_translation(encoder=[BidirectionalConfig(forward=LSTMConfig(hidden_size=4))])
    assert from_dict(TranslationConfig, to_dict(task)) == task
    for fields, problem in [
        ({"cell": LSTMConfig(hidden_size=7)}, "cannot be halved"),
        ({"attention": DotConfig(), "encoder": [LSTMConfig(hidden_size=6)]}, "dot attention needs"),
        ({"readout_size": 5}, "a tied softmax needs task.readout_size"),
        ({"copies": True, "attention": NoAttentionConfig()}, "set another attention"),
        ({"copies": True, "softmax": FullSoftmaxConfig(label_smoothing=0.1)}, "without label_smoothing"),
        ({"shared_embedding": True, "source_embedding_size": 5}, "leave it null"),
    ]:
        with pytest.raises(ValueError, match=problem):
            tiny_translation(**fields)
    with pytest.raises(ConfigError, match="needs a tokenizer for pairs"):
        tiny_translation().build(words_tokenizer())
    uneven = PairTokenizer(CharsConfig().train(["some text"]), words_tokenizer())
    with pytest.raises(ConfigError, match="joint=true"):
        tiny_translation(shared_embedding=True).build(uneven)


def test_batches_of_another_kind_are_refused():
    with pytest.raises(ValueError, match="set batching=pairs"):
        TrainingConfig(task=tiny_translation(), batching=LanesConfig())
    with pytest.raises(ValueError, match="set batching=lanes or documents"):
        TrainingConfig(task=LanguageModelConfig(), batching=PairsConfig())
    assert PairsConfig(max_rows=1).problems(2)


def test_a_run_that_was_stopped_ends_with_the_same_weights(tmp_path):
    settings = TrainingConfig(
        task=tiny_translation(dropout=0.2, input_feeding=True),
        batching=PairsConfig(tokens=60),
        loop=LoopConfig(max_steps=12, save_every_steps=1, valid_every_steps=6),
    )
    data = TrainingData(TABLE, TABLE, pair_tokenizer())
    train(settings, data, str(tmp_path / "whole"))
    steps = iter([False] * 4 + [True])
    with pytest.raises(Exception, match="stopped after step"):
        train(settings, data, str(tmp_path / "cut"), hooks=Hooks(should_stop=lambda: next(steps)))
    train(settings, data, str(tmp_path / "cut"))
    whole, cut = (load_checkpoint(str(tmp_path / name)) for name in ("whole", "cut"))
    assert whole.fingerprint == cut.fingerprint


@every_kind
@pytest.mark.parametrize("world_size", [2, 3])
def test_the_gradients_of_ranks_add_up_to_that_of_one(kind, world_size):
    task = tiny_translation(**KINDS[kind])
    model = task.build(pair_tokenizer()).train()

    def gradients(rank, size):
        stream = task.open_stream(TABLE, pair_tokenizer(), PairsConfig(tokens=20), seed=1, rank=rank, world_size=size)
        model.zero_grad()
        for _ in range(stream.steps_per_epoch):  # among them batches of fewer pairs than ranks
            task.loss(model, stream.next(), ())[0].objective.backward()
        return [parameter.grad.clone() for parameter in model.parameters()]

    whole = gradients(0, 1)
    parts = [gradients(rank, world_size) for rank in range(world_size)]
    for expected, *found in zip(whole, *parts, strict=True):
        torch.testing.assert_close(sum(found), expected, rtol=1e-4, atol=1e-4)
