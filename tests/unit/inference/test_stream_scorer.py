"""Scoring a stream: the plain figure is the exact one, and each means of strength is what its paper says."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from rnnlm.data.tokenizers.words import WordsConfig
from rnnlm.errors import ConfigError
from rnnlm.inference.ensemble import check_same_tokenizer, ensemble
from rnnlm.inference.stream.adaptation import DynamicEvaluationConfig
from rnnlm.inference.stream.cache import Cache, ContinuousCacheConfig
from rnnlm.inference.stream.fit import fit_cache
from rnnlm.inference.stream.scorer import StreamScorer
from rnnlm.nn.softmax.sampled import SampledSoftmaxConfig
from tests.corpora import save_tiny, sentences, tiny_task, token_table
from tests.reference import stream_positions

FLOAT32 = 1e-4  # log-probabilities down to -20, hidden states made in products of other shapes


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("model"), tiny_task(num_layers=2, dropout=0.5))


@pytest.fixture(scope="module")
def table():
    return token_table(["", *sentences(40)])


def read_naively(checkpoint, table):
    """Hidden states, targets and log-probabilities of the whole stream at once."""
    documents = [table.tokens[a:b].tolist() for a, b in zip(table.offsets[:-1], table.offsets[1:], strict=True)]
    inputs, targets = stream_positions(documents, checkpoint.tokenizer.bos_id, checkpoint.tokenizer.eos_id)
    with torch.no_grad():
        hidden, _ = checkpoint.model.run(torch.tensor([inputs]), checkpoint.model.initial_state(1))
        logprobs = checkpoint.model.softmax.logits(hidden[0]).log_softmax(1)
    return hidden[0], torch.tensor(targets), logprobs


def test_without_help_it_is_the_standard_figure_target_by_target(checkpoint, table):
    seen = []
    found = StreamScorer(checkpoint).logprobs(table, seen.append)
    _, targets, logprobs = read_naively(checkpoint, table)
    np.testing.assert_allclose(found, logprobs[range(len(targets)), targets].numpy(), rtol=0, atol=FLOAT32)
    loss = checkpoint.task.validate(checkpoint.model, table, checkpoint.tokenizer, num_lanes=1)
    assert -found.sum() == pytest.approx(loss.nll.item(), rel=1e-9)
    assert seen[-1] == table.num_targets
    assert seen == sorted(seen)


@pytest.mark.parametrize(
    ("size", "flatness", "weight"), [(7, 1.0, 0.2), (50, 0.3, 0.9), (10_000, 2.0, 0.1), (5, 0.0, 1.0)]
)
def test_the_cache_is_that_of_the_paper(checkpoint, table, size, flatness, weight):
    config = ContinuousCacheConfig(size=size, flatness=flatness, weight=weight)
    found = StreamScorer(checkpoint, cache=config).logprobs(table)
    hidden, targets, logprobs = (tensor.double() for tensor in read_naively(checkpoint, table))
    for place, target in enumerate(targets.long().tolist()):
        expected = logprobs[place, target].exp().item()
        near = range(max(0, place - size), place)
        if near:
            shares = torch.stack([(flatness * hidden[place] @ hidden[i]).exp() for i in near])
            same = torch.tensor([int(targets[i]) == target for i in near])
            expected = (1 - weight) * expected + weight * (shares[same].sum() / shares.sum()).item()
        assert math.exp(found[place]) == pytest.approx(expected, abs=FLOAT32)


def test_with_a_cache_the_probabilities_of_all_tokens_add_up_to_one():
    hidden, vocab_size = torch.randn(30, 8), 11
    kept = torch.randint(vocab_size, (29,))
    model = torch.randn(vocab_size).log_softmax(0)
    total = 0.0
    for token in range(vocab_size):
        cache = Cache(20, 1.0, 0.3)
        cache.mix(hidden[:29], kept, torch.zeros(29))
        total += cache.mix(hidden[29:], torch.tensor([token]), model[token].unsqueeze(0)).exp().item()
    assert total == pytest.approx(1.0, abs=FLOAT32)


def test_windows_of_any_length_give_the_same_cache(checkpoint, table, monkeypatch):
    scorer = StreamScorer(checkpoint, cache=ContinuousCacheConfig(size=30, weight=0.5))
    whole = scorer.logprobs(table)
    for window in (1, 7):
        monkeypatch.setattr("rnnlm.inference.stream.scorer.WINDOW", window)
        np.testing.assert_allclose(scorer.logprobs(table), whole, rtol=0, atol=FLOAT32)


def adapted_naively(checkpoint, table, settings):
    """Dynamic evaluation as the paper's equations have it, parameter by parameter."""
    model = save_copy(checkpoint)
    documents = [table.tokens[a:b].tolist() for a, b in zip(table.offsets[:-1], table.offsets[1:], strict=True)]
    inputs, targets = stream_positions(documents, checkpoint.tokenizer.bos_id, checkpoint.tokenizer.eos_id)
    trained = {name: p.detach().clone() for name, p in model.named_parameters()}
    squares, state, found = {}, model.initial_state(1), []
    for seen, start in enumerate(range(0, len(targets), settings.segment), start=1):
        part = slice(start, start + settings.segment)
        hidden, state = model.run(torch.tensor([inputs[part]]), tuple(s.detach() for s in state))
        logprobs = model.softmax.logits(hidden[0]).log_softmax(1)[range(len(targets[part])), targets[part]]
        found += logprobs.tolist()
        gradients = dict(zip(trained, torch.autograd.grad(-logprobs.mean(), list(model.parameters())), strict=True))
        for name, gradient in gradients.items():
            squares[name] = squares.get(name, 0.0) * (seen - 1) / seen + gradient**2 / seen
        roots = {name: square.sqrt() for name, square in squares.items()}
        mean = torch.cat([root.flatten() for root in roots.values()]).mean()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                back, step = settings.decay, gradients[name]
                if settings.rule == "rms":
                    back = (settings.decay * roots[name] / mean).clamp(max=1.0)
                    step = step / (roots[name] + settings.epsilon)
                parameter += back * (trained[name] - parameter) - settings.learning_rate * step
    return np.array(found)


def save_copy(checkpoint):
    model = checkpoint.task.build_model(checkpoint.tokenizer.vocab_size)
    model.load_state_dict(checkpoint.model.state_dict())
    return model.eval()


@pytest.mark.parametrize("rule", ["rms", "sgd"])
def test_dynamic_evaluation_is_that_of_the_paper(checkpoint, table, rule):
    settings = DynamicEvaluationConfig(segment=6, rule=rule, learning_rate=0.003, decay=0.1, epsilon=1e-3)
    before = {name: p.clone() for name, p in checkpoint.model.state_dict().items()}
    scorer = StreamScorer(checkpoint, adaptation=settings)
    found = scorer.logprobs(table)
    np.testing.assert_allclose(found, adapted_naively(checkpoint, table, settings), rtol=0, atol=2e-4)  # 40 steps
    assert all(torch.equal(before[name], p) for name, p in checkpoint.model.state_dict().items())
    assert np.array_equal(scorer.logprobs(table), found)  # it begins anew


def test_nothing_is_learnt_from_a_target_before_it_is_scored(checkpoint, table):
    plain = StreamScorer(checkpoint).logprobs(table)
    settings = DynamicEvaluationConfig(segment=25, learning_rate=0.01)
    found = StreamScorer(checkpoint, adaptation=settings).logprobs(table)
    np.testing.assert_allclose(found[:25], plain[:25], rtol=0, atol=FLOAT32)
    assert abs(found[25:] - plain[25:]).max() > 0.01


def test_a_learning_rate_of_zero_changes_nothing(checkpoint, table):
    settings = DynamicEvaluationConfig(learning_rate=0.0)
    plain = StreamScorer(checkpoint).logprobs(table)
    np.testing.assert_allclose(
        StreamScorer(checkpoint, adaptation=settings).logprobs(table), plain, rtol=0, atol=FLOAT32
    )


def test_mean_squares_come_from_training_data_if_there_is_some(checkpoint, table):
    settings = DynamicEvaluationConfig(learning_rate=0.01)
    own = StreamScorer(checkpoint, adaptation=settings).logprobs(table)
    given = StreamScorer(checkpoint, adaptation=settings, statistics=token_table(sentences(30, seed=4))).logprobs(table)
    assert abs(own - given).max() > 1e-3


@pytest.mark.parametrize("help_", [{"cache": ContinuousCacheConfig(flatness=0.3, weight=0.3)}, {"adaptation": DynamicEvaluationConfig(learning_rate=0.01)}], ids=["cache", "dynamic"])  # fmt: skip
def test_a_text_that_repeats_itself_becomes_likelier(checkpoint, help_):
    repeated = token_table(["tree tree mat dog tree mat"] * 40)
    plain = StreamScorer(checkpoint).logprobs(repeated).mean()
    assert StreamScorer(checkpoint, **help_).logprobs(repeated).mean() > plain + 0.3


def test_a_sampled_softmax_learns_from_the_exact_gradient_here(tmp_path, table):
    sampled = dataclasses.replace(tiny_task(), softmax=SampledSoftmaxConfig(num_samples=3))
    checkpoint = save_tiny(tmp_path, sampled)
    settings = DynamicEvaluationConfig(learning_rate=0.01)
    found = [StreamScorer(checkpoint, adaptation=settings).logprobs(table) for _ in range(2)]
    assert np.array_equal(*found)


def test_an_ensemble_is_the_mean_of_probabilities(checkpoint, table, tmp_path):
    one = StreamScorer(checkpoint).logprobs(table)
    other = StreamScorer(save_tiny(tmp_path)).logprobs(table)
    np.testing.assert_allclose(np.exp(ensemble([one, other])), (np.exp(one) + np.exp(other)) / 2, rtol=1e-9)
    np.testing.assert_allclose(ensemble([one, one, one]), one, rtol=0, atol=1e-12)
    np.testing.assert_allclose(ensemble([one, other], [1.0, 0.0]), one, rtol=0, atol=1e-12)
    with pytest.raises(ConfigError, match="2 models need as many weights that add up to 1"):
        ensemble([one, other], [0.5, 0.6])


def test_models_of_different_tokens_do_not_vote_together(checkpoint, tmp_path):
    other = save_tiny(tmp_path, tokenizer=WordsConfig().train(["other words"]))
    with pytest.raises(ConfigError, match="models vote on the same tokens only"):
        check_same_tokenizer([checkpoint, checkpoint, other])


def test_a_fitted_cache_is_the_best_of_a_grid(checkpoint):
    text = token_table(["tree tree mat dog tree mat", *sentences(12)] * 3)
    scorer = StreamScorer(checkpoint)
    flatnesses = (0.05, 0.3, 1.0)
    fitted = fit_cache(scorer, text, size=60, flatnesses=flatnesses)
    np.testing.assert_allclose(fitted.plain, scorer.logprobs(text), rtol=0, atol=FLOAT32)
    again = StreamScorer(checkpoint, cache=fitted.config).logprobs(text)
    np.testing.assert_allclose(fitted.mixed, again, rtol=0, atol=FLOAT32)
    for flatness in flatnesses:
        for weight in (0.05, 0.2, 0.5, 0.8):
            other = ContinuousCacheConfig(size=60, flatness=flatness, weight=weight)
            assert StreamScorer(checkpoint, cache=other).logprobs(text).sum() <= fitted.mixed.sum() + 1e-3
    assert fitted.mixed.sum() > fitted.plain.sum()
