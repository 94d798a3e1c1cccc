"""A network beside n-grams: the splits against sets and loops, the mixture's ends, and the report."""

import dataclasses
import json
import math
from collections import Counter

import numpy as np
import pytest

from jobs.schemas import EvaluateJob
from jobs.strengthen import strengthen
from rnnlm.data.tokens import TokenTable
from rnnlm.evaluation.beside_ngram import WEIGHTS, beside_ngram, measure_curve
from rnnlm.evaluation.beside_ngram_report import plot_curve
from rnnlm.evaluation.report import ReportInputs, write_report
from rnnlm.evaluation.stream import StreamResult, Strengthened, stream_totals
from rnnlm.inference.stream.scorer import StreamScorer
from rnnlm.ngram import NGramConfig, interpolate, save_ngram
from rnnlm.storage import open_location
from tests.corpora import save_tiny, sentences, words_tokenizer
from tests.unit.evaluation.test_stream import write_tokens

ROUNDING = 1e-12  # means of some hundred float64, added up in another order
ORDER, WEIGHT = 3, 0.25
TOKENIZER = words_tokenizer()
TRAIN = TOKENIZER.encode([*sentences(40), "the the the the <eos> cat"])
HELD_OUT = TOKENIZER.encode([*sentences(40, seed=1), "", "the <unk> cat"])
TABLE = TokenTable.from_documents(HELD_OUT)


def framed(document):
    return ["bos", *document.tolist(), TOKENIZER.eos_id]  # which has the id of an <eos> in a text


def ngrams(documents):
    """Every n-gram of every order as a tuple, with its count."""
    return Counter(
        tuple(tokens[end - length : end])
        for tokens in map(framed, documents)
        for end in range(1, len(tokens) + 1)
        for length in range(1, end + 1)
    )


SEEN = ngrams(TRAIN)
TARGETS = [(framed(document), place) for document in HELD_OUT for place in range(1, len(document) + 2)]
"Each target: the document it stands in, framed, and its place."


def naive_longest(tokens, place):
    return max(
        (k for k in range(1, min(ORDER, place + 1) + 1) if SEEN[tuple(tokens[place - k + 1 : place + 1])]), default=0
    )


def naive_seen(tokens, place, k):
    return SEEN[tuple(tokens[max(0, place - k + 1) : place + 1])] > 0


@pytest.fixture(scope="module")
def model():
    return NGramConfig(order=ORDER).train(TokenTable.from_documents(TRAIN), TOKENIZER)


@pytest.fixture(scope="module")
def network():
    """Whatever a network may say."""
    return np.log(np.random.default_rng(0).uniform(0.005, 0.2, size=TABLE.num_targets))


@pytest.fixture(scope="module")
def compared(model, network):
    return beside_ngram(network, model, TABLE, WEIGHT, measure_curve(network, model.table_logprobs(TABLE)))


def check(group, wanted, network, ngram, mixture):
    """A group's figures against those of the targets at `wanted`."""
    assert group.targets == len(wanted)
    assert group.share == len(wanted) / TABLE.num_targets
    if not wanted:
        assert (group.network, group.ngram, group.mixture, group.gain) == (None, None, None, None)
        return
    for found, logprobs in ((group.network, network), (group.ngram, ngram), (group.mixture, mixture)):
        assert found == pytest.approx(-np.mean([logprobs[place] for place in wanted]), rel=ROUNDING)
    assert group.gain == pytest.approx(group.ngram - group.network, rel=1e-9)


def test_targets_are_split_as_sets_and_loops_split_them(model, network, compared):
    beside, mixture = compared
    ngram = model.table_logprobs(TABLE)
    assert np.array_equal(mixture, interpolate(network, ngram, WEIGHT))
    found = (network, ngram, mixture)
    longest = [naive_longest(*target) for target in TARGETS]
    for k, group in enumerate(beside.by_longest):
        check(group, [number for number, length in enumerate(longest) if length == k], *found)
    for k, groups in enumerate(beside.seen, start=1):
        seen = [naive_seen(*target, k) for target in TARGETS]
        for group, wanted in zip(groups, (True, False), strict=True):
            check(group, [number for number, one in enumerate(seen) if one == wanted], *found)
    assert {0, 1, 2, 3} == set(longest)  # each is tried


def test_groups_have_all_targets_between_them(compared):
    beside, _ = compared
    for groups in (beside.by_longest, *beside.seen, beside.by_frequency):
        assert sum(group.targets for group in groups) == TABLE.num_targets
        total = sum(group.targets * group.network for group in groups if group.targets)
        assert total / TABLE.num_targets == pytest.approx(beside.total.network, rel=ROUNDING)
    assert len(beside.by_longest) == ORDER + 1
    assert len(beside.seen) == ORDER


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_occurrences_are_those_of_training(order):
    model = NGramConfig(order=order).train(TokenTable.from_documents(TRAIN), TOKENIZER)
    counts = Counter(int(token) for document in TRAIN for token in [*document, TOKENIZER.eos_id])
    assert model.occurrences().tolist() == [counts[token] for token in range(TOKENIZER.vocab_size)]


def test_a_class_of_frequency_has_the_targets_that_were_seen_so_often(model, network, compared):
    beside, mixture = compared
    counts = Counter(token for document in TRAIN for token in framed(document))
    often = [counts[tokens[place]] for tokens, place in TARGETS]
    found = (network, model.table_logprobs(TABLE), mixture)
    assert [group.name for group in beside.by_frequency[:3]] == ["0", "1 to 9", "10 to 99"]
    for group, (least, end) in zip(beside.by_frequency, [(0, 1), (1, 10), (10, 100)], strict=False):
        check(group, [number for number, count in enumerate(often) if least <= count < end], *found)


def test_the_ends_of_the_curve_are_the_models_and_the_fitted_weight_its_lowest_point(model, network):
    ngram = model.table_logprobs(TABLE)
    curve = measure_curve(network, ngram)
    assert curve.weights == WEIGHTS.tolist()
    assert curve.nll[0] == pytest.approx(-network.mean(), rel=ROUNDING)
    assert curve.nll[-1] == pytest.approx(-ngram.mean(), rel=ROUNDING)
    assert 0.0 < curve.best_weight < 1.0
    assert curve.best_nll <= min(curve.nll)
    lowest = curve.weights[int(np.argmin(curve.nll))]
    assert abs(curve.best_weight - lowest) <= WEIGHTS[1] - WEIGHTS[0]


def test_intervals_hold_the_gain_and_need_documents(model, network, compared):
    beside, _ = compared
    low, high = beside.total.gain_interval
    assert low < beside.total.gain < high
    one = TokenTable.from_documents([np.concatenate(HELD_OUT)])
    alone, _ = beside_ngram(network[: one.num_targets], model, one, WEIGHT, None)
    assert alone.total.gain_interval is None


def test_the_impossible_is_left_out_of_means():
    """A model without discounts holds for impossible what it has not seen."""
    model = NGramConfig(order=1, fallback_discounts=[0.0, 0.0, 0.0]).train(
        TokenTable.from_documents(TOKENIZER.encode(["the cat"] * 9)), TOKENIZER
    )
    table = TokenTable.from_documents(TOKENIZER.encode(["the dog"] * 30))
    beside, _ = beside_ngram(np.full(90, -1.0), model, table, WEIGHT, None)
    assert (beside.total.ngram, beside.total.gain, beside.total.gain_interval) == (None, None, None)
    assert beside.total.mixture == pytest.approx(-np.log([0.75 / math.e + 0.25 / 3] * 2 + [0.75 / math.e]).mean())
    assert beside.curve.nll[-1] is None
    json.dumps(beside.figures(), allow_nan=False)


def test_a_curve_of_what_is_all_but_impossible_is_drawn(compared):
    """An ARPA file writes -99 for impossible, each time a model backs off."""
    beside, _ = compared
    curve = dataclasses.replace(beside.curve, nll=[*beside.curve.nll[:-1], 800.0])
    assert "<svg" in plot_curve(dataclasses.replace(beside, curve=curve)).wide


def test_the_report_shows_it_in_all_three_files(compared, tmp_path):
    beside, mixture = compared
    totals = stream_totals(TABLE, TOKENIZER, -float(mixture.sum()), TABLE.num_targets)
    stream = StreamResult("tokens", 1, totals, Strengthened(["n-grams (weight 0.25)"], totals, beside))
    write_report(ReportInputs(title="Beside", stream=stream), open_location(str(tmp_path)))
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["stream"]["strengthened"]["beside_ngram"] == json.loads(json.dumps(beside.figures()))
    said = f"network {math.exp(beside.total.network):.2f}, 3-grams {math.exp(beside.total.ngram):.2f}, mixture"
    for name in ("report.md", "report.html"):
        text = (tmp_path / name).read_text()
        assert said in text
        assert "2-gram not seen" in text
        assert "Contexts never seen: " in text
        assert "Rare words: of targets with 0 occurrences" in text
    assert text.count("<svg") == 2


def test_the_job_mixes_with_the_weight_that_held_out_text_chose(model, tmp_path):
    checkpoint = save_tiny(tmp_path / "model", tokenizer=TOKENIZER)
    save_ngram(open_location(str(tmp_path / "ngram")), model, TOKENIZER, {})
    (documents, tokens), (fitted_on, fit_on) = (
        write_tokens(tmp_path / name, TOKENIZER, sentences(25, seed=seed)) for name, seed in (("test", 2), ("valid", 3))
    )
    job = EvaluateJob(
        checkpoint=str(tmp_path / "model"),
        tokens=tokens,
        fit_on=fit_on,
        ngram=str(tmp_path / "ngram"),
        output="nowhere",
    )
    found = strengthen(job)
    scorer = StreamScorer(checkpoint)
    (network, ngram), held_out = (
        (scorer.logprobs(table), model.table_logprobs(table))
        for table in map(TokenTable.from_documents, (documents, fitted_on))
    )
    beside = found.beside_ngram
    assert beside.held_out == measure_curve(*held_out)
    assert beside.weight == beside.held_out.best_weight
    assert beside.total.network == pytest.approx(-network.mean(), rel=ROUNDING)
    assert beside.total.ngram == pytest.approx(-ngram.mean(), rel=ROUNDING)
    assert found.totals.nats_per_token == pytest.approx(
        -interpolate(network, ngram, beside.weight).mean(), rel=ROUNDING
    )
