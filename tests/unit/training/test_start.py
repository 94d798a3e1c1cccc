"""Fine-tuning: a run that begins with another's weights, and what it may not begin with."""

import dataclasses
from pathlib import Path

import pytest
import torch
import yaml

from rnnlm.checkpoint import load_checkpoint
from rnnlm.data.tokenizers.words import WordsConfig
from rnnlm.errors import ConfigError
from rnnlm.nn.cells.elman import ElmanConfig
from rnnlm.nn.softmax.full import FullSoftmaxConfig
from rnnlm.nn.softmax.sampled import SampledSoftmaxConfig
from rnnlm.tasks.batching import LanesConfig
from rnnlm.training.loop import train
from rnnlm.training.optimizers.sgd import SGDConfig
from rnnlm.training.settings import LoopConfig, TrainingConfig, TrainingData
from rnnlm.training.start import TRAINING_ONLY
from tests.corpora import save_tiny, sentences, tiny_task, token_table, words_tokenizer


def run(folder, task, *, init_from=None, learning_rate=0.5, max_steps=4):
    settings = TrainingConfig(
        task=task,
        batching=LanesConfig(num_lanes=4, window=5),
        optimizer=SGDConfig(learning_rate=learning_rate, momentum=0.0),
        loop=LoopConfig(max_steps=max_steps),
    )
    data = TrainingData(token_table(sentences(20)), token_table(sentences(7, seed=1)), words_tokenizer())
    return train(settings, data, str(folder), init_from=init_from)


def test_a_run_begins_with_the_weights_it_is_given(tmp_path):
    start = save_tiny(tmp_path / "start")
    run(tmp_path / "run", tiny_task(dropout=0.5), init_from=start, learning_rate=1e-30)
    found = load_checkpoint(str(tmp_path / "run"))
    for name, tensor in found.model.state_dict().items():
        torch.testing.assert_close(tensor, start.model.state_dict()[name], rtol=0, atol=1e-20)  # 0 + 1e-30 is not 0


def test_it_goes_on_from_its_own_checkpoints_and_not_from_the_start_again(tmp_path):
    start = save_tiny(tmp_path / "start")
    first = run(tmp_path / "run", tiny_task(), init_from=start)
    again = run(tmp_path / "run", tiny_task(), init_from=start)
    assert again == first


def test_full_and_sampled_softmax_have_the_same_weights(tmp_path):
    start = save_tiny(tmp_path / "start")
    sampled = dataclasses.replace(tiny_task(), softmax=SampledSoftmaxConfig(num_samples=5))
    run(tmp_path / "sampled", sampled, init_from=start)
    run(tmp_path / "full", tiny_task(), init_from=load_checkpoint(str(tmp_path / "sampled")))
    weights = [load_checkpoint(str(path)).model.softmax.weight for path in (tmp_path / "sampled", tmp_path / "full")]
    assert not torch.equal(*weights)
    assert (weights[0] - start.model.softmax.weight).abs().max() < 1.0  # of weights drawn with a deviation of 1


def test_a_model_that_means_something_else_is_refused_with_the_difference(tmp_path):
    start = save_tiny(tmp_path / "start", tiny_task("elman"))
    relu = dataclasses.replace(tiny_task("elman"), cell=ElmanConfig(hidden_size=8, nonlinearity="relu"))
    with pytest.raises(ConfigError, match=r"its model is another: task.cell.nonlinearity: 'tanh' -> 'relu'"):
        run(tmp_path / "run", relu, init_from=start)
    with pytest.raises(ConfigError, match=r"task.num_layers: 1 -> 2"):
        run(tmp_path / "run", tiny_task("elman", num_layers=2), init_from=start)
    assert not (tmp_path / "run").exists()


def test_another_tokenizer_is_refused(tmp_path):
    other = WordsConfig().train(["some other words"])
    start = save_tiny(tmp_path / "start", tokenizer=other)
    with pytest.raises(ConfigError, match=r"its tokenizer is \w{12} \(5 tokens\), that of this run \w{12} \(13\)"):
        run(tmp_path / "run", tiny_task(), init_from=start)


def test_a_softmax_with_other_weights_is_refused(tmp_path):
    start = save_tiny(tmp_path / "start")
    other = dataclasses.replace(tiny_task(), softmax=FullSoftmaxConfig(bias=False))
    with pytest.raises(ConfigError, match=r"init_from: it has softmax.bias, which this model has not"):
        run(tmp_path / "run", other, init_from=start)


def test_the_fields_that_may_differ_are_fields_of_the_task_and_its_parts():
    conf = Path(__file__).parents[3] / "conf"
    known = set()
    for group in ("task", "cell", "layer"):
        for file in (conf / group).glob("*.yaml"):
            known |= yaml.safe_load(file.read_text()).keys()
    assert known >= TRAINING_ONLY
