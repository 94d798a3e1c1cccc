"""The AWD-LSTM recipe, which is meant for a GPU, on a CPU: at its full width it runs, learns, and goes on after a stop."""

import json
import math

import pytest
import safetensors.torch

from rnnlm.storage import open_location
from rnnlm.training.metrics import METRICS, read_metrics
from tests.integration.pipeline import run_well

STEPS = 200


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    """A megabyte of the standard library by words."""
    folder = tmp_path_factory.mktemp("words")
    run_well(
        "train_tokenizer", "corpus=stdlib", "tokenizer=words", "max_bytes=1000000", f"output={folder / 'tokenizer'}"
    )
    for split, limit in (("train", 400), ("valid", 30)):
        run_well(
            "tokenize_corpus", "corpus=stdlib", f"corpus.split={split}", f"corpus.limit={limit}", "cluster=here",
            f"tokenizer_path={folder / 'tokenizer'}", f"output={folder / split}",
        )  # fmt: skip
    return folder


@pytest.mark.slow
def test_two_hundred_steps_on_a_cpu(tokens, tmp_path):
    arguments = [
        "experiment=wikitext2/awd_lstm/train", f"train_tokens={tokens / 'train'}", f"valid_tokens={tokens / 'valid'}",
        f"tokenizer_path={tokens / 'tokenizer'}", "device=cpu", "tracker=none", "batching.num_lanes=8",
        "batching.window=35", "averaging.patience=2", "loop.valid_every_steps=20", f"output={tmp_path / 'run'}",
    ]  # fmt: skip
    run_well("train", *arguments, f"loop.max_steps={STEPS}")
    rows = read_metrics(open_location(str(tmp_path / "run" / METRICS)))
    valid = [row["nll"] for row in rows if row["kind"] == "valid"]
    assert rows[-1]["step"] == STEPS
    assert all(math.isfinite(row["nll"]) for row in rows)
    assert min(valid) < valid[0] - 0.2
    assert len({row["learning_rate"] for row in rows if row["kind"] == "train"}) > 3  # it follows the jittered windows
    index = json.loads((tmp_path / "run/checkpoints/index.json").read_text())
    weights = safetensors.torch.load_file(tmp_path / "run/checkpoints" / index["best"] / "weights.safetensors")
    assert weights["stack.layers.1.fused.weight_hh_l0"].shape == (4 * 1150, 1150)
