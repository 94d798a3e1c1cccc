"""The hub's folder: weights byte for byte, a card with the numbers of the run."""

import json
import math

import pytest
import yaml

from jobs.export import export
from jobs.schemas import ExportJob
from rnnlm.checkpoint import load_checkpoint, save_checkpoint
from rnnlm.errors import ConfigError, RefusedError
from rnnlm.storage import open_location
from tests.corpora import save_tiny, save_tiny_translation, tiny_task, words_tokenizer


def exported(checkpoint, folder):
    export(ExportJob(checkpoint=str(checkpoint), output=str(folder)))
    return folder


@pytest.fixture
def run(tmp_path):
    """A run folder with one checkpoint."""
    folder = tmp_path / "run"
    task, tokenizer = tiny_task(), words_tokenizer()
    trained = {"step": 1200, "tokens": 34567, "best_valid_nll": 2.5}
    save_checkpoint(
        open_location(str(folder / "checkpoints" / "step-1")),
        task=task,
        model=task.build(tokenizer),
        tokenizer=tokenizer,
        trained=trained,
    )
    (folder / "checkpoints" / "index.json").write_text('{"best": "step-1", "last": "step-1"}')
    (folder / "run.json").write_text(json.dumps({"train_tokens": "aa11", "valid_tokens": "bb22"}))
    return folder


def test_the_card_has_the_numbers_of_the_run(run, tmp_path):
    text = (exported(run, tmp_path / "hub") / "README.md").read_text()
    parameters = sum(one.numel() for one in load_checkpoint(str(run)).model.parameters())
    for line in (
        f"| parameters | {parameters:,} |",
        "| validation nll (nats a target) | 2.5000 |",
        f"| validation perplexity | {math.exp(2.5):.2f} |",
        "| training steps | 1,200 |",
        "| training targets | 34,567 |",
        "| training data (SHA-256) | `aa11` |",
        "| validation data (SHA-256) | `bb22` |",
    ):
        assert line in text
    head = yaml.safe_load(text.split("---")[1])
    assert head["library_name"] == "rnnlm"
    assert head["pipeline_tag"] == "text-generation"


def test_the_weights_are_those_of_the_checkpoint_byte_for_byte(run, tmp_path):
    folder = exported(run, tmp_path / "hub")
    weights = run / "checkpoints" / "step-1" / "weights.safetensors"
    assert (folder / "model.safetensors").read_bytes() == weights.read_bytes()
    assert json.loads((folder / "config.json").read_text())["model_type"] == "rnnlm"
    assert sorted(one.name for one in folder.iterdir()) == [
        "README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer.model"
    ]  # fmt: skip


def test_what_is_not_known_is_left_out(tmp_path):
    save_tiny_translation(tmp_path / "checkpoint")
    text = (exported(tmp_path / "checkpoint", tmp_path / "hub") / "README.md").read_text()
    assert "validation" not in text
    assert "training data" not in text
    assert "pipeline_tag: translation" in text


def test_the_same_export_again_is_the_same_and_another_is_refused(run, tmp_path):
    folder = exported(run, tmp_path / "hub")
    before = {one.name: one.read_bytes() for one in folder.iterdir()}
    exported(run, folder)
    assert {one.name: one.read_bytes() for one in folder.iterdir()} == before
    save_tiny(tmp_path / "other")
    with pytest.raises(RefusedError, match="model: "):
        exported(tmp_path / "other", folder)
    with pytest.raises(RefusedError, match="it holds"):
        exported(tmp_path / "other", run)


def test_onnx_is_for_language_models(tmp_path):
    save_tiny_translation(tmp_path / "checkpoint")
    with pytest.raises(ConfigError, match="format=onnx is for language models; it is a TranslationModel"):
        export(ExportJob(checkpoint=str(tmp_path / "checkpoint"), output=str(tmp_path / "out"), format="onnx"))
    assert not (tmp_path / "out" / "config.json").exists()
