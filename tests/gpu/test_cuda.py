"""On a real GPU: the same scores, states and texts as on the processor."""

import numpy as np
import pytest
import torch

from rnnlm.checkpoint import load_checkpoint, save_checkpoint
from rnnlm.decoding.greedy import GreedyConfig
from rnnlm.inference import packed
from rnnlm.inference.devices import put_on_device
from rnnlm.inference.generate import Generator
from rnnlm.inference.packed import PackedRunner
from rnnlm.inference.precision import Products
from rnnlm.inference.score import Scorer
from rnnlm.inference.stream.cache import ContinuousCacheConfig
from rnnlm.inference.translate import Translator
from rnnlm.nn.cells.base import FusedCell
from rnnlm.nn.cells.elman import ElmanConfig
from rnnlm.nn.cells.gru import GRUConfig
from rnnlm.nn.cells.lstm import LSTMConfig
from rnnlm.nn.cells.min_gru import MinGRUConfig
from rnnlm.nn.layer import Layer
from rnnlm.nn.softmax.full import FullSoftmaxConfig
from rnnlm.storage import open_location
from rnnlm.tasks.language_model import LanguageModelConfig
from tests.corpora import (
    random_documents,
    reversals,
    save_tiny_translation,
    sentences,
    tiny_translation,
    words_tokenizer,
)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]

TOKEN_NATS = 1e-3  # what float32 on two devices may differ by
PERPLEXITY = 0.01  # what bfloat16 may change
SIZE = 64
CELLS = {
    "lstm": LSTMConfig(hidden_size=SIZE),
    "gru": GRUConfig(hidden_size=SIZE),
    "elman": ElmanConfig(hidden_size=SIZE),
    "min_gru": MinGRUConfig(hidden_size=SIZE),
    "lstm-projection": LSTMConfig(hidden_size=SIZE, projection_size=SIZE // 2),
}
IN_ONE_CALL = ("lstm", "gru", "elman")
LENGTHS = [0, 1, 2, 600, 3, 0, 150, 40, 7, 7, 41, 0, 1]


@pytest.fixture(scope="module", params=CELLS)
def pair(request, tmp_path_factory):
    """A name, and one checkpoint on the processor and on the GPU."""
    torch.manual_seed(7)
    folder = tmp_path_factory.mktemp("checkpoint") / "c"
    softmax = FullSoftmaxConfig(tied=False)
    task = LanguageModelConfig(cell=CELLS[request.param], num_layers=2, embedding_size=SIZE, softmax=softmax)
    tokenizer = words_tokenizer()
    model = task.build_model(tokenizer.vocab_size)
    model.softmax.weight.data.mul_(5.0)  # far from uniform; U stays small, lest rounding grow over 600 steps
    save_checkpoint(
        open_location(str(folder)), task=task, model=model, tokenizer=tokenizer, trained={"step": 0, "tokens": 0}
    )
    return request.param, load_checkpoint(str(folder)), on_gpu(folder)


def on_gpu(folder):
    checkpoint = load_checkpoint(str(folder))
    put_on_device(checkpoint, "cuda")
    return checkpoint


def token_logprobs(checkpoint, **options):
    documents = random_documents(LENGTHS, checkpoint.tokenizer.vocab_size)
    return np.concatenate(Scorer(checkpoint, **options).score_tokens(documents, keep_tokens=True).token_logprobs)


@pytest.fixture(params=["whole", "chunks"])
def chunks(request, monkeypatch):
    if request.param == "chunks":
        monkeypatch.setattr(packed, "GPU_CHUNK_POSITIONS", 50)
        monkeypatch.setattr(packed, "GPU_BLOCK_ROWS", 4)


@pytest.mark.usefixtures("chunks")
def test_float32_scores(pair, monkeypatch):
    name, here, there = pair
    expected = token_logprobs(here)
    stepped, original = [], Layer.advance_packed
    monkeypatch.setattr(FusedCell, "advance_packed", lambda *given: stepped.append(given) or original(*given))
    np.testing.assert_allclose(token_logprobs(there), expected, rtol=0, atol=TOKEN_NATS)
    assert not (stepped and name in IN_ONE_CALL)


@pytest.mark.usefixtures("chunks")
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precisions_keep_the_perplexity(pair, precision):
    _, here, there = pair
    found, expected = token_logprobs(there, products=Products(precision=precision)), token_logprobs(here)
    assert abs(np.expm1(expected.mean() - found.mean())) < PERPLEXITY


def test_scores_mixed_with_a_cache(pair):
    _, here, there = pair
    options = {"cache": ContinuousCacheConfig()}
    np.testing.assert_allclose(token_logprobs(there, **options), token_logprobs(here, **options), rtol=0, atol=1e-3)


@pytest.mark.usefixtures("chunks")
def test_the_state_after_the_last_input(pair):
    _, here, there = pair
    found, expected = last_states(there), last_states(here)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        torch.testing.assert_close(one.cpu(), other, rtol=0, atol=1e-4)


def last_states(checkpoint):
    documents = random_documents(LENGTHS, checkpoint.tokenizer.vocab_size)
    runner = PackedRunner(checkpoint.model, bos_id=1, eos_id=1)
    with torch.inference_mode():
        final = checkpoint.model.initial_state(len(documents))
        for block in runner.blocks(documents):
            for _ in runner.run(documents, block, final):
                pass
    return final


def test_the_same_texts_are_written(pair):
    _, here, there = pair
    prompts, strategy = sentences(20), GreedyConfig(max_tokens=10)
    found, expected = ([one.tokens for (one,) in Generator(c).generate(prompts, strategy)] for c in (there, here))
    assert sum(one == other for one, other in zip(found, expected, strict=True)) >= 19  # one tie may break otherwise


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_targets_behind_a_bidirectional_encoder(tmp_path, precision, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    here = save_tiny_translation(tmp_path / "c", tiny_translation())
    there = on_gpu(tmp_path / "c")
    sources, targets = (list(side) for side in zip(*reversals(40, longest=9, seed=5), strict=True))
    found, expected = (
        np.concatenate(
            Translator(checkpoint, products=products)
            .score_tokens(*(here.tokenizer.source.encode(side) for side in (sources, targets)), keep_tokens=True)
            .token_logprobs
        )
        for checkpoint, products in ((there, Products(precision=precision)), (here, None))
    )
    if precision == "float32":
        np.testing.assert_allclose(found, expected, rtol=0, atol=TOKEN_NATS)
    else:
        assert abs(np.expm1(expected.mean() - found.mean())) < PERPLEXITY
