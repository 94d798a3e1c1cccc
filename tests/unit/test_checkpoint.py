"""Checkpoints: what is saved comes back to the bit; whatever is damaged or mixed up is said, with what to do."""

import hashlib
import io
import json
import os
import pickle
import shutil

import pytest
import safetensors.torch
import torch

from rnnlm.checkpoint import (
    TrainingState,
    load_checkpoint,
    load_training_state,
    loaded,
    resolve_checkpoint,
    save_checkpoint,
)
from rnnlm.config import to_dict
from rnnlm.data.tokenizers.words import WordsConfig
from rnnlm.errors import CheckpointError, ConfigError, RnnlmError
from rnnlm.storage import open_location
from tests.corpora import CELLS, save_tiny, tiny_task, words_tokenizer

MOST_LINES = 3  # what errors.py promises of a message


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "checkpoint"


def edit(folder, **changed):
    card = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**card, **changed}))


def replace_weights(folder, content):
    """Other weights that are vouched for."""
    (folder / "weights.safetensors").write_bytes(content)
    edit(folder, weights_sha256=hashlib.sha256(content).hexdigest())


def refused(path, said, kind=CheckpointError):
    with pytest.raises(kind, match=said) as caught:
        load_checkpoint(str(path))
    assert len(str(caught.value).splitlines()) <= MOST_LINES
    return caught.value


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_a_checkpoint_comes_back_to_the_bit(folder, cell, tied, num_layers):
    task, tokenizer = tiny_task(cell, tied=tied, num_layers=num_layers, dropout=0.25), words_tokenizer()
    model = task.build_model(tokenizer.vocab_size)
    trained = {"step": 3, "tokens": 17, "best_valid_nll": None}
    save_checkpoint(open_location(str(folder)), task=task, model=model, tokenizer=tokenizer, trained=trained)
    found = load_checkpoint(str(folder))
    assert found.task == task
    assert found.trained == trained
    assert found.tokenizer.fingerprint == tokenizer.fingerprint
    assert not found.model.training
    expected = model.state_dict()
    assert found.model.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.model.state_dict().items())
    assert (found.model.softmax.weight is found.model.embedding.weight) == tied


def test_a_tied_matrix_is_stored_once(tmp_path):
    for name, tied in [("tied", True), ("untied", False)]:
        save_tiny(tmp_path / name, tiny_task(tied=tied))
    names = {
        name: set(safetensors.torch.load_file(tmp_path / name / "weights.safetensors")) for name in ("tied", "untied")
    }
    assert names["untied"] - names["tied"] == {"softmax.weight"}


def test_the_fingerprint_is_that_of_task_weights_and_tokenizer(tmp_path):
    first = save_tiny(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "elsewhere")
    assert load_checkpoint(str(tmp_path / "elsewhere")).fingerprint == first.fingerprint
    other_weights = save_tiny(tmp_path / "b")
    torch.manual_seed(1234)
    other_task = save_tiny(tmp_path / "c", tiny_task(dropout=0.5))
    torch.manual_seed(1234)
    words = WordsConfig().train(["eleven other words than those and of the same number precisely"])
    assert words.vocab_size == first.tokenizer.vocab_size
    other_words = save_tiny(tmp_path / "d", tokenizer=words)
    assert len({c.fingerprint for c in (first, other_weights, other_task, other_words)}) == 4


FILES = ["weights.safetensors", "tokenizer.model", "tokenizer.json", "config.json"]


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder, name):
    save_tiny(folder)
    (folder / name).unlink()
    assert name in str(refused(folder, name))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_file_cut_short_is_noticed(folder, name, kept):
    save_tiny(folder)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(len(content) * kept)])
    refused(folder, r"checkpoint|JSON|saved", kind=RnnlmError)


def test_a_single_changed_bit_in_the_weights_is_noticed(folder):
    save_tiny(folder)
    content = bytearray((folder / "weights.safetensors").read_bytes())
    content[-7] ^= 1
    (folder / "weights.safetensors").write_bytes(bytes(content))
    refused(folder, r"weights.safetensors \(\d+ bytes\) is not what was saved: .*; copy the checkpoint again")


@pytest.mark.parametrize("version", [None, 0, 2, "1"])
def test_another_format_version_is_refused(folder, version):
    save_tiny(folder)
    edit(folder, format_version=version)
    refused(folder, rf"has format version {version}, this rnnlm reads 1; use the rnnlm it was written with")


def test_a_tokenizer_swapped_for_another_is_refused_with_both_sizes(folder):
    save_tiny(folder)
    WordsConfig().train(["other words"]).save(open_location(str(folder)))
    refused(folder, r"trained with tokenizer \w{12} \(13 tokens\), it holds \w{12} \(4 tokens\); restore the tokenizer")


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (tiny_task(hidden_size=16), "size mismatch"),
        (tiny_task("gru"), "size mismatch"),
        (tiny_task(num_layers=2), r"missing \['stack.layers.1"),
        (tiny_task(tied=False), "size mismatch|missing"),
    ],
    ids=["size", "cell", "layers", "tie"],
)
def test_weights_of_another_network_are_refused(folder, task, said):
    save_tiny(folder)
    edit(folder, task=to_dict(task))
    refused(
        folder, rf"the weights in .* do not fit: .*{said}.*; were config.json and weights.safetensors written by the"
    )


def test_weights_beyond_the_network_are_refused(folder):
    save_tiny(folder, tiny_task(num_layers=2))
    edit(folder, task=to_dict(tiny_task(num_layers=1)))
    refused(folder, r"unexpected \['stack.layers.1")


class Malice:
    """Runs a command when it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.system, (f"touch {self.file}",)


def torch_saved(malice):
    sink = io.BytesIO()
    torch.save({"weight": malice}, sink)
    return sink.getvalue()


@pytest.mark.parametrize("write", [pickle.dumps, torch_saved], ids=["pickle", "torch.save"])
def test_a_pickle_in_place_of_weights_is_refused_and_not_run(folder, tmp_path, write):
    save_tiny(folder)
    replace_weights(folder, write(Malice(tmp_path / "pwned")))
    refused(folder, "do not fit: .*deserializing")
    (folder / "training.safetensors").write_bytes(write(Malice(tmp_path / "pwned")))
    (folder / "training.json").write_text("{}")
    with pytest.raises(CheckpointError, match="is not what was saved"):
        load_training_state(open_location(str(folder)))
    assert not (tmp_path / "pwned").exists()


def test_a_config_that_names_foreign_code_is_refused_and_not_imported(folder):
    save_tiny(folder)
    edit(folder, task={"_target_": "os.system"})
    refused(folder, "not below a trusted prefix", kind=ConfigError)


@pytest.mark.parametrize("content", ["[]", '{"format_version": 1}'])
def test_a_config_that_is_something_else_is_refused(folder, content):
    save_tiny(folder)
    (folder / "config.json").write_text(content)
    refused(folder, "config.json", kind=RnnlmError)


# ----- run folders


def test_a_run_folder_stands_for_its_best_or_its_last(tmp_path):
    for name in ("step-1", "step-2"):
        save_tiny(tmp_path / "run/checkpoints" / name)
    index = {"best": "step-1", "last": "step-2"}
    (tmp_path / "run/checkpoints/index.json").write_text(json.dumps(index))
    run = str(tmp_path / "run")
    assert resolve_checkpoint(run).path.endswith("step-1")
    assert resolve_checkpoint(run, "last").path.endswith("step-2")
    assert load_checkpoint(run).location.path.endswith("step-1")
    assert resolve_checkpoint(str(tmp_path / "run/checkpoints/step-2")).path.endswith("step-2")


def test_a_path_that_is_no_checkpoint_says_what_is_expected(tmp_path):
    said = (
        r"is not a checkpoint or a run folder \(no config.json, no checkpoints/index.json\); give the output folder of"
    )
    refused(tmp_path, said)
    refused(tmp_path / "nowhere", r"nowhere does not exist \(no config.json")


def test_a_pointer_to_a_lost_checkpoint_is_named(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/index.json").write_text('{"best": "step-1", "last": "step-1"}')
    refused(tmp_path, "step-1")


def test_a_checkpoint_is_read_once_a_process_until_it_is_rewritten(folder):
    save_tiny(folder)
    first = loaded(str(folder))
    assert loaded(str(folder)) is first
    save_tiny(folder, tiny_task("gru"))
    assert loaded(str(folder)).task.cell == tiny_task("gru").cell


# ----- training state


def test_training_state_comes_back(folder):
    saved = TrainingState(
        {"step": 3, "nll": 0.1 + 0.2, "best": None, "stream": {"epoch": 1}},
        {
            "lanes.0": torch.randn(3, 2),
            "random_state": torch.get_rng_state().unsqueeze(0),
            "optimizer.0.step": torch.tensor(3.0),
        },
    )
    task, tokenizer = tiny_task(), words_tokenizer()
    save_checkpoint(
        open_location(str(folder)),
        task=task,
        model=task.build_model(tokenizer.vocab_size),
        tokenizer=tokenizer,
        trained={},
        training=saved,
    )
    found = load_training_state(open_location(str(folder)))
    assert found.values == saved.values
    assert found.tensors.keys() == saved.tensors.keys()
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in saved.tensors.items())


def test_a_checkpoint_without_training_state_cannot_be_gone_on_with(folder):
    save_tiny(folder)
    with pytest.raises(CheckpointError, match="holds no training state; start a new run"):
        load_training_state(open_location(str(folder)))
