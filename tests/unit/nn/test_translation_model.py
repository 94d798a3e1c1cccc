"""The encoder-decoder: one step at a time equals all at once, padding changes nothing, and copies are a distribution."""

import pytest
import torch

from rnnlm.nn.attending.additive import AdditiveConfig
from rnnlm.nn.attending.dot import DotConfig
from rnnlm.nn.attending.multi_head import MultiHeadConfig
from rnnlm.nn.attending.none import NoAttentionConfig
from rnnlm.nn.cells.gru import GRUConfig
from rnnlm.nn.cells.lstm import LSTMConfig
from rnnlm.nn.layers.reading_order import ReadingOrderConfig
from tests.corpora import pair_tokenizer, tiny_translation

ROUNDING = 1e-5

KINDS = {
    "additive": {"attention": AdditiveConfig(size=8)},
    "dot": {"attention": DotConfig()},
    "heads, fed": {"attention": MultiHeadConfig(size=8, num_heads=2), "input_feeding": True},
    "none": {"attention": NoAttentionConfig()},
    "none, fed": {"attention": NoAttentionConfig(), "input_feeding": True},
    "copies": {"copies": True},
    "copies, fed, shared": {"copies": True, "input_feeding": True, "shared_embedding": True},
    "deep GRU": {"cell": GRUConfig(hidden_size=8), "num_layers": 2},
    "read backwards": {"encoder": [ReadingOrderConfig(inner=LSTMConfig(hidden_size=8), order="backward")]},
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def model_of(kind):
    model = tiny_translation(**KINDS[kind]).build(pair_tokenizer()).eval()
    for parameter in model.parameters():
        parameter.data.mul_(2.0)
    return model


def example():
    source = torch.randint(2, 12, (3, 6))
    return source, torch.tensor([6, 3, 1]), torch.randint(2, 12, (3, 5))


def logits_of(model, tokens, state, context):
    read = model.read(tokens, state, context)
    if model.copy_gate is not None:
        return model.with_copies(read.readouts, read.weights, context)
    return model.softmax.logits(read.readouts.flatten(0, 1)).unflatten(0, tokens.shape)


@every_kind
def test_steps_equal_the_whole(kind):
    model = model_of(kind)
    source, lengths, tokens = example()
    with torch.inference_mode():
        state, context = model.encode(source, lengths)
        whole = logits_of(model, tokens, state, context)
        for step in range(tokens.shape[1]):
            logits, state = model.step(tokens[:, step], state, context)
            torch.testing.assert_close(logits, whole[:, step], rtol=0, atol=ROUNDING)


@every_kind
def test_hypotheses_side_by_side_look_at_the_same_source(kind):
    model = model_of(kind)
    source, lengths, tokens = example()
    with torch.inference_mode():
        state, context = model.encode(source, lengths)
        expected, _ = model.step(tokens[:, 0], state, context)
        twice = tuple(part.repeat_interleave(2, 0) for part in state)
        found, _ = model.step(tokens[:, 0].repeat_interleave(2), twice, context)
        torch.testing.assert_close(found, expected.repeat_interleave(2, 0), rtol=0, atol=ROUNDING)


@every_kind
def test_padding_and_neighbours_change_nothing(kind):
    model = model_of(kind)
    source, lengths, tokens = example()
    with torch.inference_mode():
        whole = logits_of(model, tokens, *model.encode(source, lengths))
        for row, length in enumerate(lengths.tolist()):
            alone = model.encode(source[row : row + 1, :length], lengths[row : row + 1])
            found = logits_of(model, tokens[row : row + 1], *alone)
            torch.testing.assert_close(found, whole[row : row + 1], rtol=0, atol=ROUNDING)
        other = source.clone()
        other[1, 3:], other[2, 1:] = 3, 4
        torch.testing.assert_close(
            logits_of(model, tokens, *model.encode(other, lengths)), whole, rtol=0, atol=ROUNDING
        )


@every_kind
def test_the_source_matters(kind):
    model = model_of(kind)
    source, lengths, tokens = example()
    with torch.inference_mode():
        whole = logits_of(model, tokens, *model.encode(source, lengths))
        other = source.clone()
        other[:, 0] = (source[:, 0] - 1) % 10 + 2
        assert not torch.allclose(logits_of(model, tokens, *model.encode(other, lengths)), whole, atol=1e-4)


@pytest.mark.parametrize("kind", ["copies", "copies, fed, shared"])
def test_with_copies_the_probabilities_sum_to_one(kind):
    model = model_of(kind)
    source, lengths, tokens = example()
    with torch.inference_mode():
        logprobs = logits_of(model, tokens, *model.encode(source, lengths))
        torch.testing.assert_close(logprobs.exp().sum(2), torch.ones(3, 5), rtol=0, atol=1e-5)
        model.copy_gate.weight.zero_()
        model.copy_gate.bias.fill_(-20.0)  # only copies
        copied = logits_of(model, tokens, *model.encode(source, lengths)).exp()
        only = torch.zeros_like(copied[:, 0]).scatter_(1, source, 1.0)
        only[1], only[2] = 0, 0
        only[1, source[1, :3]], only[2, source[2, :1]] = 1, 1
        assert copied[only[:, None].expand_as(copied) == 0].max() < 1e-6


@every_kind
def test_every_parameter_learns(kind):
    model = model_of(kind).train()
    source, lengths, tokens = example()
    logits_of(model, tokens, *model.encode(source, lengths)).sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
