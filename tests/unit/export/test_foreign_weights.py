"""Checkpoints of weights that torch modules were trained to elsewhere: the same logits."""

import itertools
import pickle

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from jobs.import_weights import import_weights
from jobs.schemas import ImportWeightsJob
from rnnlm.checkpoint import load_checkpoint
from rnnlm.data.tokenizers.words import WordsTokenizer
from rnnlm.errors import CheckpointError, RefusedError
from rnnlm.storage import open_location
from tests.corpora import WORDS

VOCAB = ["<eos>", "<unk>", *WORDS]
SAME = 1e-5  # float32 products in another order


class ExampleModel(nn.Module):
    """word_language_model of pytorch/examples."""

    def __init__(self, kind, inputs=6, hidden=6, layers=2, *, tied=False):
        super().__init__()
        self.encoder = nn.Embedding(len(VOCAB), inputs)
        if kind in {"LSTM", "GRU"}:
            self.rnn = getattr(nn, kind)(inputs, hidden, layers)
        else:
            self.rnn = nn.RNN(inputs, hidden, layers, nonlinearity={"RNN_TANH": "tanh", "RNN_RELU": "relu"}[kind])
        self.decoder = nn.Linear(hidden, len(VOCAB))
        if tied:
            self.decoder.weight = self.encoder.weight

    def forward(self, tokens):
        return self.decoder(self.rnn(self.encoder(tokens))[0])


class AwdModel(nn.Module):
    """RNNModel of awd-lstm-lm: single layers of their own sizes, the last as large as the embedding."""

    def __init__(self, sizes=(6, 9, 6)):
        super().__init__()
        self.encoder = nn.Embedding(len(VOCAB), sizes[0])
        self.rnns = nn.ModuleList(nn.LSTM(below, above) for below, above in itertools.pairwise(sizes))
        self.decoder = nn.Linear(sizes[-1], len(VOCAB))
        self.decoder.weight = self.encoder.weight

    def forward(self, tokens):
        hidden = self.encoder(tokens)
        for layer in self.rnns:
            hidden, _ = layer(hidden)
        return self.decoder(hidden)

    def named(self):
        """As WeightDrop stores it: U as trained, and beside it what the last dropout left of it."""
        found = {}
        for name, tensor in self.state_dict().items():
            name = name.replace("rnns.0.", "rnns.0.module.").replace("rnns.1.", "rnns.1.module.")
            found[f"{name}_raw" if "weight_hh" in name else name] = tensor
            if "weight_hh" in name:
                found[name] = torch.zeros_like(tensor)
        return found


@pytest.fixture
def imported(tmp_path):
    """Imports weights, by name of the file."""
    WordsTokenizer(VOCAB).save(open_location(str(tmp_path / "tokenizer")))

    def run(weights, name="weights.safetensors", output="imported", **fields):
        file = tmp_path / name
        if name.endswith(".safetensors"):
            safetensors.torch.save_file({key: one.clone().contiguous() for key, one in weights.items()}, file)
        elif weights is not None:
            torch.save(weights, file)
        folder = tmp_path / output
        import_weights(
            ImportWeightsJob(
                weights=str(file), tokenizer_path=str(tmp_path / "tokenizer"), output=str(folder), **fields
            )
        )
        return load_checkpoint(str(folder))

    return run


def logits(checkpoint, tokens):
    """B T V."""
    model = checkpoint.model
    with torch.inference_mode():
        hidden, _ = model(tokens, model.initial_state(len(tokens)))
        return model.softmax.logits(hidden.flatten(0, 1)).unflatten(0, tokens.shape)


TOKENS = torch.from_numpy(np.random.default_rng(1).integers(0, len(VOCAB), (3, 8)))


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN_TANH", "RNN_RELU"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", ["weights.safetensors", "model.pt"])
def test_the_logits_are_those_of_the_example(imported, kind, tied, name):
    theirs = ExampleModel(kind, tied=tied)
    ours = imported(theirs.state_dict(), name, nonlinearity="relu" if kind == "RNN_RELU" else "tanh")
    torch.testing.assert_close(logits(ours, TOKENS), theirs(TOKENS.t()).transpose(0, 1), rtol=0, atol=SAME)
    assert ours.task.softmax.tied == tied


def test_sizes_may_differ(imported):
    theirs = ExampleModel("LSTM", inputs=5, hidden=7, layers=1)
    torch.testing.assert_close(
        logits(imported(theirs.state_dict()), TOKENS), theirs(TOKENS.t()).transpose(0, 1), rtol=0, atol=SAME
    )


@pytest.mark.parametrize("raw", [True, False])
def test_the_logits_are_those_of_an_awd_lstm(imported, raw):
    theirs = AwdModel()
    ours = imported(theirs.named() if raw else theirs.state_dict())
    torch.testing.assert_close(logits(ours, TOKENS), theirs(TOKENS.t()).transpose(0, 1), rtol=0, atol=SAME)
    assert ours.task.softmax.tied


def test_a_tied_output_may_be_left_out(imported):
    weights = AwdModel().state_dict()
    del weights["decoder.weight"]
    assert imported(weights).task.softmax.tied


def changed(**changes):
    weights = {**ExampleModel("LSTM").state_dict(), **changes}
    return {name: tensor for name, tensor in weights.items() if tensor is not None}


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (changed(**{"encoder.weight": None}), r"missing \['encoder.weight'\]"),
        (changed(**{"rnn.bias_hh_l1": None}), r"missing \['bias_hh of layer 1'\]"),
        (changed(**{"rnns.0.linear.weight": torch.zeros(2, 2)}), r"unknown \['rnns.0.linear.weight'\]"),
        (changed(**{"encoder.weight": torch.zeros(9, 6)}), "has shape .9, 6., the tokenizer 13 tokens"),
        (changed(**{"decoder.weight": torch.zeros(13, 5)}), "has shape .13, 5., .* the top layer 6 outputs"),
        (changed(**{"rnn.weight_hh_l0": torch.zeros(18, 6)}), "weight_ih_l0 has shape .24, 6., .18, 6. is needed"),
        (changed(**{"rnn.weight_hh_l0": torch.zeros(7, 6)}), "neither an LSTM's"),
        (changed(**{"rnn.weight_hh_l0": torch.zeros(6)}), "neither an LSTM's"),
    ],
)
def test_what_does_not_fit_is_named(imported, weights, words):
    with pytest.raises(CheckpointError, match=words):
        imported(weights)


class Payload:
    """What runs when a pickle is trusted."""

    def __reduce__(self):
        return (print, ("this must never be printed",))


def test_no_code_in_a_file_is_run(imported, tmp_path, capsys):
    (tmp_path / "model.pt").write_bytes(pickle.dumps(Payload(), protocol=2))
    with pytest.raises(CheckpointError, match="save the state dict alone"):
        imported(None, "model.pt")
    with pytest.raises(CheckpointError, match="save the state dict alone"):
        imported(ExampleModel("LSTM"), "whole.pt")  # a pickled module
    with pytest.raises(CheckpointError, match="holds no state dict"):
        imported({"model": {}}, "nested.pt")
    assert "never be printed" not in capsys.readouterr().out


def test_other_weights_are_refused_and_the_same_are_not(imported):
    weights = ExampleModel("GRU").state_dict()
    first = imported(weights)
    assert imported(weights).fingerprint == first.fingerprint
    with pytest.raises(RefusedError, match="weights: "):
        imported(ExampleModel("GRU").state_dict())
