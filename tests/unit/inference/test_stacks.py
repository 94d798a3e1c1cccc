"""Scoring and generation with stacks of every kind of layer: the numbers of the plain model, a row at a time."""

import numpy as np
import pytest
import torch

from rnnlm.config import from_dict, to_dict
from rnnlm.decoding.greedy import GreedyConfig
from rnnlm.decoding.sampling import SamplingConfig
from rnnlm.inference import packed
from rnnlm.inference.generate import Generator
from rnnlm.inference.packed import PackedRunner
from rnnlm.inference.score import Scorer
from rnnlm.nn.layers.feed_forward import FeedForwardConfig
from rnnlm.nn.layers.residual import ResidualConfig
from rnnlm.nn.softmax.full import FullSoftmaxConfig
from rnnlm.tasks.base import TaskConfig
from rnnlm.tasks.batching import LanesConfig
from rnnlm.tasks.language_model import LanguageModelConfig
from tests.corpora import DoubleTask, random_documents, save_tiny, sentences, token_table, words_tokenizer
from tests.layers import CAUSAL, CELL_CONFIGS, CONFIGS, SIZE

FLOAT64_ROUNDING = 1e-9  # models are in float64, so that what differs is a mistake and not the rounding of many layers
FLOAT32_STORED = 1e-6  # relative; token log-probabilities are handed out in float32
FLOAT64_SUM = 1e-12  # relative
LENGTHS = [0, 1, 2, 90, 3, 0, 150, 40, 7, 7, 41, 0, 1]
PROMPTS = ["", "the", "the cat sat on", "a", "", "dog dog dog", *sentences(10)]

KEEPING = [name for name in CAUSAL if CONFIGS[name].output_size(SIZE) == SIZE]
STACKS = {
    "every kind": [*(CONFIGS[name] for name in KEEPING), CONFIGS["layer_norm"]],  # the last keeps logits small
    "attention first": [CONFIGS["residual-of-attention"], CELL_CONFIGS["gru"]],
    "convolution first": [CONFIGS["convolution"], CONFIGS["residual-of-layers"]],
    "no state": [ResidualConfig(inner=FeedForwardConfig(inner_size=6)), CONFIGS["layer_norm"]],
    "sizes": [CONFIGS["convolution-full"], CONFIGS["feed_forward-narrow"], CELL_CONFIGS["lstm"]],
    "one-hot": [CELL_CONFIGS["lstm"], CONFIGS["residual-of-attention"]],
}


def task_of(name, kind=LanguageModelConfig):
    one_hot = name == "one-hot"
    return kind(
        layers=STACKS[name],
        embedding_size=SIZE,
        one_hot_input=one_hot,
        softmax=FullSoftmaxConfig(tied=not one_hot),
        layer_dropout=0.5,
        dropout=0.5,
    )


@pytest.fixture(scope="module", params=STACKS)
def checkpoint(request, tmp_path_factory):
    torch.manual_seed(3)
    found = save_tiny(tmp_path_factory.mktemp("checkpoint") / "c", task_of(request.param))
    found.model.double()
    return found


def documents_of(lengths, checkpoint):
    return random_documents(lengths, checkpoint.tokenizer.vocab_size)


def naively(checkpoint, document):
    """Step after step by the plain model."""
    model, tokenizer = checkpoint.model, checkpoint.tokenizer
    state, found = model.initial_state(1), []
    inputs, targets = [tokenizer.bos_id, *document.tolist()], [*document.tolist(), tokenizer.eos_id]
    with torch.no_grad():
        for token, target in zip(inputs, targets, strict=True):
            hidden, state = model(torch.tensor([[token]]), state)
            found.append(model.softmax.logits(hidden[:, 0]).double().log_softmax(1)[0, target].item())
    return np.array(found), state


@pytest.mark.parametrize("positions", [8192, 23])
def test_scores_are_those_of_the_plain_model(checkpoint, positions, monkeypatch):
    monkeypatch.setattr(packed, "CHUNK_POSITIONS", positions)
    documents = documents_of(LENGTHS, checkpoint)
    scores = Scorer(checkpoint).score_tokens(documents, keep_tokens=True)
    for document, row, tokens in zip(documents, scores.logprob, scores.token_logprobs, strict=True):
        expected, _ = naively(checkpoint, document)
        np.testing.assert_allclose(tokens, expected, rtol=FLOAT32_STORED, atol=FLOAT64_ROUNDING)
        assert row == pytest.approx(expected.sum(), abs=FLOAT64_ROUNDING)


def test_a_whole_row_at_once_gives_the_same(checkpoint):
    model, tokenizer = checkpoint.model, checkpoint.tokenizer
    (document,) = documents_of([140], checkpoint)
    with torch.no_grad():
        hidden, _ = model(torch.tensor([[tokenizer.bos_id, *document.tolist()]]), model.initial_state(1))
        targets = torch.tensor([*document.tolist(), tokenizer.eos_id])
        expected = model.softmax.logprobs(hidden[0], targets).numpy()
    found = Scorer(checkpoint).score_tokens([document], keep_tokens=True).token_logprobs[0]
    np.testing.assert_allclose(found, expected, rtol=FLOAT32_STORED, atol=FLOAT64_ROUNDING)


def test_without_the_table_of_first_products_the_same(checkpoint, monkeypatch):
    documents = documents_of(LENGTHS, checkpoint)
    expected = Scorer(checkpoint).score_tokens(documents).logprob
    monkeypatch.setattr(packed, "TABLE_BYTES", 0)
    found = Scorer(checkpoint).score_tokens(documents).logprob
    np.testing.assert_allclose(found, expected, rtol=0, atol=FLOAT64_ROUNDING)


@pytest.mark.parametrize(("positions", "rows"), [(5, 4), (64, 2), (8192, 256)])
def test_the_state_after_the_last_input_is_that_of_the_plain_model(checkpoint, positions, rows, monkeypatch):
    monkeypatch.setattr(packed, "CHUNK_POSITIONS", positions)
    monkeypatch.setattr(packed, "BLOCK_ROWS", rows)
    documents = documents_of([3, 0, 7, 7, 1, 12], checkpoint)
    tokenizer = checkpoint.tokenizer
    runner = PackedRunner(checkpoint.model, bos_id=tokenizer.bos_id, eos_id=tokenizer.eos_id)
    with torch.inference_mode():
        final = checkpoint.model.initial_state(len(documents))
        for block in runner.blocks(documents):
            for _ in runner.run(documents, block, final):
                pass
        for row, document in enumerate(documents):
            _, expected = naively(checkpoint, document)
            for one, other in zip(final, expected, strict=True):
                torch.testing.assert_close(one[row], other[0], rtol=0, atol=FLOAT64_ROUNDING)


@pytest.mark.parametrize(
    "strategy", [GreedyConfig(max_tokens=12), SamplingConfig(max_tokens=12)], ids=["greedy", "sampling"]
)
def test_a_generated_text_has_the_log_probability_that_scoring_gives_it(checkpoint, strategy):
    found = [one for (one,) in Generator(checkpoint).generate(PROMPTS, strategy, seed=5)]
    prompts = checkpoint.tokenizer.encode(PROMPTS)
    whole = [
        np.array([*prompt.tolist(), *one.tokens], dtype=np.int32) for prompt, one in zip(prompts, found, strict=True)
    ]
    tokens = Scorer(checkpoint).score_tokens(whole, keep_tokens=True).token_logprobs
    for prompt, one, values in zip(prompts, found, tokens, strict=True):
        generated = values[len(prompt) :] if one.finish_reason == "end" else values[len(prompt) : -1]
        assert one.logprob == pytest.approx(float(generated.astype("float64").sum()), rel=FLOAT32_STORED)


def test_a_checkpoint_holds_the_stack_to_the_bit(checkpoint):
    again = from_dict(TaskConfig, to_dict(checkpoint.task))
    assert again == checkpoint.task
    model = again.build_model(checkpoint.tokenizer.vocab_size)
    names = [name for name, _ in model.named_parameters()]
    assert names == [name for name, _ in checkpoint.model.named_parameters()]


@pytest.mark.parametrize("name", STACKS)
def test_training_carries_the_state_from_window_to_window(name):
    tokenizer, table = words_tokenizer(), token_table(sentences(40))
    task = task_of(name, DoubleTask)
    model = task.build_model(tokenizer.vocab_size).eval()  # no dropout
    sums = []
    for window in (4, 12):
        batching = LanesConfig(num_lanes=3, window=window, fresh_state_at_documents=False, shuffle=False)
        stream = task.open_stream(table, tokenizer, batching, seed=1, rank=0, world_size=1)
        state, total = task.initial_state(model, batching, 1), 0.0
        for _ in range(24 // window):
            loss, state = task.loss(model, stream.next(), state)
            assert not any(tensor.requires_grad for tensor in state)
            total += loss.nll.item()
        sums.append(total)
    assert sums[0] == pytest.approx(sums[1], rel=FLOAT64_SUM)
