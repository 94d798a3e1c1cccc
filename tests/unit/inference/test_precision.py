"""Scores in other precisions and by other kernels, for every cell and every softmax; and how a precision is chosen."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
import yaml

from rnnlm.config import from_dict
from rnnlm.errors import EnvironmentFailure
from rnnlm.inference import precision
from rnnlm.inference.precision import TOLERANCE, Products, choose, fast_precisions, product_rate
from rnnlm.inference.score import Scorer
from rnnlm.inference.score_work import ScoreWork
from rnnlm.native.library import has_products, kind, library
from rnnlm.nn.cells.layer_norm_lstm import LayerNormLSTM
from rnnlm.nn.layer import LayerConfig
from rnnlm.nn.softmax.base import SoftmaxConfig
from rnnlm.nn.softmax.full import FullSoftmaxConfig
from rnnlm.tasks.language_model import LanguageModelConfig
from tests.cells import CELLS
from tests.corpora import WORDS, random_documents, save_tiny, sentences

CPU = torch.device("cpu")
SIZE = 48  # wide enough that errors of single products average out as in real models
ROW_NATS = 1e-4  # what score.py promises for a row
ROW_NATS_INT8 = 0.25  # of some hundred tokens
# Random weights give the layer normalisation small numbers to magnify, errors and all; relative, and nats.
MAGNIFIED, MAGNIFIED_NATS = 0.01, 8.0
SOFTMAXES = Path(__file__).resolve().parents[3] / "conf" / "softmax"
YAMLS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(SOFTMAXES.glob("*.yaml"))}
LENGTHS = [0, 1, 2, 300, 3, 0, 150, 40, 7, 7, 41, 0, 1, *range(20)]

native_only = pytest.mark.skipif(library() is None, reason="no C compiler")


def task_of(cell="lstm", softmax=None):
    layer = from_dict(LayerConfig, {**CELLS[cell], "hidden_size": SIZE})
    return LanguageModelConfig(
        layers=[layer, layer],
        embedding_size=SIZE,
        softmax=from_dict(SoftmaxConfig, softmax) if softmax else FullSoftmaxConfig(),
    )


@pytest.fixture(scope="module", params=[("cell", name) for name in CELLS] + [("softmax", name) for name in YAMLS])
def checkpoint(request, tmp_path_factory):
    kind, name = request.param
    torch.manual_seed(5)
    small = {"adaptive": {"cutoffs": [4, 8]}}.get(name, {})
    task = task_of(name) if kind == "cell" else task_of(softmax={**YAMLS[name], **small})
    found = save_tiny(tmp_path_factory.mktemp("checkpoint") / "c", task)
    for parameter in found.model.parameters():
        parameter.data.div_(3.0)  # as they start: thrice as large, relu and identity cells explode
    return found


@pytest.fixture
def lstm(tmp_path):
    return save_tiny(tmp_path / "lstm", task_of())


def logprobs(checkpoint, products, documents=None):
    documents = random_documents(LENGTHS, checkpoint.tokenizer.vocab_size) if documents is None else documents
    return Scorer(checkpoint, products=products).score_tokens(documents).logprob


@native_only
def test_all_kernels_give_the_same_scores(checkpoint):
    plain = logprobs(checkpoint, Products(kernels="torch"))
    for kernels in ("native", "avx512") if has_products("float32") else ("native",):
        np.testing.assert_allclose(logprobs(checkpoint, Products(kernels=kernels)), plain, rtol=0, atol=ROW_NATS)


@pytest.mark.parametrize("kernels", ["avx512", "native", "torch"])
def test_int8_stays_within_its_gate(checkpoint, kernels):
    if kernels == "native" and library() is None:
        pytest.skip("no C compiler")
    if kernels == "avx512" and not has_products("int8"):
        pytest.skip("no C compiler, or no AVX-512")
    exact = logprobs(checkpoint, Products())
    rounded = logprobs(checkpoint, Products(precision="int8", kernels=kernels))
    tokens = sum(LENGTHS) + len(LENGTHS)
    magnifies = any(isinstance(module, LayerNormLSTM) for module in checkpoint.model.modules())
    change = np.expm1((exact.sum() - rounded.sum()) / tokens)
    assert abs(change) <= (MAGNIFIED if magnifies else TOLERANCE)
    assert np.abs(exact - rounded).max() <= (MAGNIFIED_NATS if magnifies else ROW_NATS_INT8)
    assert not np.array_equal(exact, rounded)  # it was int8


@pytest.mark.parametrize("products", [Products(precision="int8"), Products(precision="bfloat16")], ids=["int8", "bf16"])
def test_a_row_does_not_depend_on_its_neighbours(lstm, products):
    documents = random_documents(LENGTHS, lstm.tokenizer.vocab_size)
    together = logprobs(lstm, products, documents)
    alone = [logprobs(lstm, products, [document])[0] for document in documents]
    # In int8 sums are exact; what is left is the rounding of the first layer's table.
    np.testing.assert_allclose(together, alone, rtol=0, atol=ROW_NATS if products.precision == "int8" else 0.5)


def test_probabilities_add_up_to_one_in_int8(lstm):
    words = [word for word in range(lstm.tokenizer.vocab_size) if word != lstm.tokenizer.eos_id]
    documents = [np.array([], dtype=np.int32), *(np.array([word], dtype=np.int32) for word in words)]
    scores = Scorer(lstm, products=Products(precision="int8")).score_tokens(documents, keep_tokens=True)
    first = [np.exp(float(values[0])) for values in scores.token_logprobs]  # the end, or a word
    assert sum(first) == pytest.approx(1.0, abs=1e-5)


def scoring(changes):
    """Stands for a model whose every token changes by so many nats in a precision."""
    tried = []

    def score(products):
        tried.append(products.precision)
        return np.array([-10.0, -20.0, np.nan]) + changes.get(products.precision, 0.0), np.array([2, 8, 1])

    return score, tried


@pytest.mark.parametrize(
    ("changes", "chosen", "tried"),
    [
        ({"int8": 1e-5, "bfloat16": 1.0}, "int8", ["float32", "int8"]),
        ({"int8": 0.1, "bfloat16": -1e-4}, "bfloat16", ["float32", "int8", "bfloat16"]),
        ({"int8": 0.1, "bfloat16": -0.1}, "float32", ["float32", "int8", "bfloat16"]),
    ],
)
def test_the_fastest_precision_that_does_no_harm_is_chosen(monkeypatch, changes, chosen, tried):
    monkeypatch.setattr(precision, "fast_precisions", lambda device: ["int8", "bfloat16"])
    score, seen = scoring(changes)
    found = choose(score, CPU)
    assert (found.precision, seen) == (chosen, tried)
    if chosen == "float32":
        assert found.trial is None
    else:
        assert (found.trial.rows, found.trial.tokens) == (2, 10)
        assert found.trial.perplexity_change == pytest.approx(np.expm1(-2 * changes[chosen] / 10), abs=1e-6)
        assert found.trial.largest_row_change == pytest.approx(abs(changes[chosen]), abs=1e-5)


def test_a_sample_without_a_score_chooses_nothing():
    assert choose(lambda products: (np.zeros(0), np.zeros(0, dtype=np.int32)), CPU) == Products()


def test_fast_precisions_are_those_that_clearly_win_the_fastest_first(monkeypatch):
    rates = {"float32": 100.0, "bfloat16": 150.0, "float16": 110.0, "int8": 400.0}
    monkeypatch.setattr(precision, "product_rate", lambda name, device: rates[name])
    assert fast_precisions(CPU) == ["int8", "bfloat16"]
    assert fast_precisions(torch.device("cuda")) == ["bfloat16"]


def test_the_rate_of_a_product_is_measured():
    assert product_rate("float32", CPU) > 1e8


def test_a_work_tries_on_texts_and_remembers(lstm):
    work = ScoreWork(checkpoint=str(lstm.location.path))
    found = work.choose_products(pa.table({"text": [*sentences(50), " ".join(WORDS * 30)]}))
    assert found.precision == "float32" or abs(found.trial.perplexity_change) <= TOLERANCE
    settled = found.settled(threads=1)
    assert settled.kernels == kind(settled.precision)
    assert found.settled(threads=2).kernels == "torch"
    identity = ScoreWork(checkpoint=str(lstm.location.path), products=settled).identity()
    assert identity["products"]["precision"] == found.precision


def test_kernels_that_cannot_be_had_are_an_error_of_the_machine(lstm, monkeypatch):
    monkeypatch.setattr(precision, "library", lambda: None)
    with pytest.raises(EnvironmentFailure, match="install a C compiler"):
        Scorer(lstm, products=Products(kernels="native"))
