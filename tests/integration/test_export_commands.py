"""Export and import by command."""

import safetensors.torch
import torch

import rnnlm
from rnnlm.storage import open_location
from tests.corpora import save_tiny, words_tokenizer
from tests.integration.pipeline import refusal, run_well


def test_a_model_goes_out_and_comes_back(tmp_path):
    checkpoint = save_tiny(tmp_path / "model")
    said = run_well("export", f"checkpoint={tmp_path / 'model'}", f"output={tmp_path / 'hub'}")
    assert "export: LanguageModel as config.json, model.safetensors" in said
    assert rnnlm.load(str(tmp_path / "hub")).fingerprint == checkpoint.fingerprint
    asked = [f"checkpoint={tmp_path / 'hub'}", "format=onnx"]  # jobs read the hub's folders, too
    run_well("export", *asked, f"output={tmp_path / 'onnx'}")
    assert (tmp_path / "onnx" / "scorer.onnx").exists()
    assert "it holds" in refusal(2, "export", *asked, f"output={tmp_path}")


def test_weights_of_others_become_a_checkpoint(tmp_path):
    tokenizer = words_tokenizer()
    tokenizer.save(open_location(str(tmp_path / "tokenizer")))
    rnn, size = torch.nn.LSTM(8, 8), tokenizer.vocab_size
    weights = {f"rnn.{name}": tensor.detach().clone() for name, tensor in rnn.named_parameters()}
    weights |= {"encoder.weight": torch.randn(size, 8), "decoder.weight": torch.randn(size, 8)}
    safetensors.torch.save_file(weights, tmp_path / "weights.safetensors")
    asked = [f"weights={tmp_path / 'weights.safetensors'}", f"tokenizer_path={tmp_path / 'tokenizer'}"]
    said = run_well("import_weights", *asked, f"output={tmp_path / 'model'}")
    assert "import_weights: embedding 8, LSTM 8, softmax untied, 13 tokens" in said
    assert rnnlm.load(str(tmp_path / "model")).score(["the cat"])[0]["error"] is None
