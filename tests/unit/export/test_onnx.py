"""ONNX graphs: in onnxruntime they give the library's numbers, for every cell and softmax, batch and length."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from rnnlm.checkpoint import load_checkpoint, save_checkpoint
from rnnlm.config import from_dict
from rnnlm.errors import ConfigError
from rnnlm.export.onnx import SCORER, STEP, TOLERANCE, export_onnx
from rnnlm.inference.precision import Products
from rnnlm.inference.score import Scorer
from rnnlm.nn import products
from rnnlm.nn.cells.lstm import LSTM, LSTMConfig
from rnnlm.nn.layer import LayerConfig
from rnnlm.nn.softmax.adaptive import AdaptiveSoftmaxConfig
from rnnlm.nn.softmax.full import FullSoftmaxConfig
from rnnlm.nn.softmax.mixture import MixtureSoftmaxConfig
from rnnlm.storage import open_location
from rnnlm.tasks.language_model import LanguageModelConfig
from tests.corpora import words_tokenizer
from tests.layers import CELLS, LAYERS

BATCHES = [(1, 0), (3, 1), (2, 7), (5, 40)]  # rows, tokens; traced with 2 rows
UNTIED = FullSoftmaxConfig(tied=False)


def layers(*choices):
    """A language model of these layers; the sizes of tests.layers are 4."""
    stack = [from_dict(LayerConfig, choice) for choice in choices]
    return LanguageModelConfig(layers=stack, embedding_size=4, softmax=UNTIED)


def lstm(softmax=UNTIED, **fields):
    return LanguageModelConfig(cell=LSTMConfig(hidden_size=8), embedding_size=8, softmax=softmax, **fields)


CASES = {
    **{name: layers(cell, cell) for name, cell in CELLS.items()},
    "lstm-peepholes": layers({**CELLS["lstm"], "peepholes": True, "coupled_gates": True, "projection_size": 3}),
    "lstm-projection": layers({**CELLS["lstm"], "projection_size": 3}),
    "residual": layers(CELLS["gru"], LAYERS["residual"]),
    "convolution": layers(LAYERS["convolution"], CELLS["elman"]),
    "one-hot": lstm(one_hot_input=True),
    "one-hot-jordan": LanguageModelConfig(
        cell=from_dict(LayerConfig, CELLS["jordan"]), embedding_size=4, softmax=UNTIED, one_hot_input=True
    ),
    "tied": lstm(FullSoftmaxConfig(), num_layers=2),
    "adaptive": lstm(AdaptiveSoftmaxConfig(tied=False, cutoffs=[3, 6])),
    "mixture": lstm(MixtureSoftmaxConfig(tied=False)),
}


def exported(tmp_path, task):
    """A checkpoint with weights as they are drawn: with larger ones rounding grows from step to step."""
    tokenizer, folder = words_tokenizer(), tmp_path / "onnx"
    model, path = task.build(tokenizer), str(tmp_path / "checkpoint")
    save_checkpoint(open_location(path), task=task, model=model, tokenizer=tokenizer, trained={})
    checkpoint = load_checkpoint(path)
    folder.mkdir()
    export_onnx(checkpoint, open_location(str(folder)), {})
    return checkpoint, folder


def random_tokens(checkpoint, rows, length):
    return np.random.default_rng(length).integers(2, checkpoint.tokenizer.vocab_size, (rows, length))


def library(checkpoint, documents):
    scorer = Scorer(checkpoint, products=Products(kernels="torch"))
    return scorer.score_tokens(documents, keep_tokens=True).token_logprobs


@pytest.mark.parametrize("case", CASES)
def test_both_graphs_give_the_librarys_numbers(case, tmp_path):
    checkpoint, folder = exported(tmp_path, CASES[case])
    scorer = onnxruntime.InferenceSession(folder / SCORER)
    step = onnxruntime.InferenceSession(folder / STEP)
    bos, eos = checkpoint.tokenizer.bos_id, checkpoint.tokenizer.eos_id
    sizes = [(given.name, given.shape[1]) for given in step.get_inputs()[1:]]
    for rows, length in BATCHES:
        tokens = random_tokens(checkpoint, rows, length)
        expected = np.stack(library(checkpoint, list(tokens)))
        (scored,) = scorer.run(None, {"tokens": tokens})
        np.testing.assert_allclose(scored, expected, rtol=0, atol=TOLERANCE)
        framed = np.pad(tokens, ((0, 0), (1, 1)), constant_values=((0, 0), (bos, eos)))
        state = [np.zeros((rows, size), np.float32) for _, size in sizes]
        for time in range(length + 1):
            given = {name: value for (name, _), value in zip(sizes, state, strict=True)}
            logprobs, *state = step.run(None, {"token": framed[:, time], **given})
            found = logprobs[np.arange(rows), framed[:, time + 1]]
            np.testing.assert_allclose(found, expected[:, time], rtol=0, atol=TOLERANCE)
            np.testing.assert_allclose(np.exp(logprobs).sum(1), 1.0, atol=1e-4)


def test_rows_padded_with_eos_count_up_to_it(tmp_path):
    checkpoint, folder = exported(tmp_path, lstm())
    tokens = random_tokens(checkpoint, 2, 6)
    tokens[0, 2:] = checkpoint.tokenizer.eos_id
    (scored,) = onnxruntime.InferenceSession(folder / SCORER).run(None, {"tokens": tokens})
    (expected,) = library(checkpoint, [tokens[0, :2]])
    np.testing.assert_allclose(scored[0, :3], expected, rtol=0, atol=TOLERANCE)


def test_the_files_say_whose_they_are(tmp_path):
    checkpoint, folder = exported(tmp_path, lstm(num_layers=2))
    card = json.loads((folder / "config.json").read_text())
    assert card["tokenizer"] == checkpoint.tokenizer.fingerprint
    assert card["opset"] == "17"
    assert [state["size"] for state in card["states"]] == [8, 8, 8, 8]
    for name in (STEP, SCORER):
        graph = onnx.load(folder / name)
        assert [one.version for one in graph.opset_import] == [17]
        said = {prop.key: prop.value for prop in graph.metadata_props}
        assert said["rnnlm.model"] == checkpoint.fingerprint
        assert said["rnnlm.tokenizer"] == checkpoint.tokenizer.fingerprint
        assert said["rnnlm.bos_id"] == str(checkpoint.tokenizer.bos_id)
    assert (folder / "tokenizer.model").read_bytes() == checkpoint.tokenizer.model_bytes()


def test_large_products_are_traced_too(tmp_path, monkeypatch):
    monkeypatch.setattr(products, "LEAST_WORK", 0)  # every product would go to oneDNN
    before = products.HAS_ONEDNN
    exported(tmp_path, lstm())
    assert before == products.HAS_ONEDNN


def test_a_layer_that_is_bound_to_its_batch_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"\(GRU, CausalAttention\) cannot be written as ONNX"):
        exported(tmp_path, layers(CELLS["gru"], LAYERS["attention"]))
    assert list((tmp_path / "onnx").iterdir()) == []


def test_an_operation_that_onnx_lacks_is_named(tmp_path, monkeypatch):
    def advance(cell, projected, state):
        hidden = torch.special.i0e(projected[:, :8])
        return hidden, (hidden, hidden)

    monkeypatch.setattr(LSTM, "advance", advance)
    with pytest.raises(ConfigError, match=r"\(LSTM\) cannot be written as ONNX: .*i0e"):
        exported(tmp_path, lstm())


def test_a_graph_that_differs_is_refused(tmp_path, monkeypatch):
    right = LSTM.advance

    def wrong(cell, projected, state):
        hidden, state = right(cell, projected, state)
        return (hidden * 1.1 if torch.onnx.is_in_onnx_export() else hidden), state

    monkeypatch.setattr(LSTM, "advance", wrong)
    with pytest.raises(ConfigError, match=r"the graph differs by .* nats a token"):
        exported(tmp_path, lstm())
