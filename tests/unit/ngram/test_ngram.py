"""The n-gram model: by hand, against a slow truth, and as a distribution."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnlm.config import from_dict
from rnnlm.data.tokenizers import Tokenizer
from rnnlm.data.tokenizers.words import WordsConfig
from rnnlm.data.tokens import TokenTable
from rnnlm.errors import ConfigError, DataError
from rnnlm.ngram import NGramConfig, backoff
from rnnlm.ngram.discounts import estimate_discounts
from tests.unit.ngram.slow import BOS, SlowKneserNey

ROUNDING = 1e-12  # a handful of float64 products and sums
FALLBACK = (0.5, 1.0, 1.5)


class Ids(Tokenizer):
    """All that the model asks of a tokenizer: special ids. Words are the ids that are left."""

    kind, encode, starts, decode, piece, model_bytes = "ids", None, None, None, None, None

    def __init__(self, vocab_size, bos_id, eos_id):
        self.vocab_size, self.bos_id, self.eos_id = vocab_size, bos_id, eos_id
        self.vocabulary = [token for token in range(vocab_size) if token != bos_id or bos_id == eos_id]
        self.words = [token for token in self.vocabulary if token != eos_id]


ONE_SIGN, TWO_SIGNS = Ids(6, 0, 0), Ids(7, 1, 2)


def train(documents, ids, **options):
    table = TokenTable.from_documents([np.array(document, dtype=np.int32) for document in documents])
    return NGramConfig(**options).train(table, ids)


def logprob(found, history, token, ids):
    """Of one token, read off a document that has it there."""
    document = np.array(history if token == ids.eos_id else [*history, token], dtype=np.int32)
    return found.logprobs([document])[0][len(history)]


def zipfian(random, ids, *, documents, length):
    """Documents whose tokens are unevenly frequent, so that counts of every size occur."""
    weights = 1 / np.arange(1, len(ids.words) + 1) ** 1.5
    return [
        random.choice(ids.words, size=random.integers(0, length), p=weights / weights.sum()) for _ in range(documents)
    ]


corpora = st.tuples(st.sampled_from([ONE_SIGN, TWO_SIGNS]), st.integers(1, 5), st.integers(0, 1000), st.integers(1, 30))


def test_a_bigram_model_by_hand():
    tokenizer = WordsConfig().train(["a b", "a"])  # four types: <eos>, a, b, <unk>
    found = NGramConfig(order=2).train(TokenTable.from_documents(tokenizer.encode(["a b", "a"])), tokenizer)
    # Left contexts: a 1 (bos), b 1 (a), <eos> 2 (a, b), so p(w) is (a - D) / 4 + (0.5 + 0.5 + 1) / 4 / 4.
    unigram = {"a": 0.25, "b": 0.25, "<eos>": 0.375, "<unk>": 0.125}
    # Bigrams: bos a 2, a b 1, a <eos> 1, b <eos> 1.
    after_bos = {"a": (2 - 1) / 2 + 0.5 * unigram["a"]}
    after_a = {"b": 0.5 / 2 + 0.5 * unigram["b"], "<eos>": 0.5 / 2 + 0.5 * unigram["<eos>"]}
    after_b = {"b": 0.5 * unigram["b"], "<eos>": 0.5 / 1 + 0.5 * unigram["<eos>"]}
    [scores] = found.logprobs(tokenizer.encode(["a b b <unk> a"]))
    expected = [after_bos["a"], after_a["b"], after_b["b"], 0.5 * unigram["<unk>"], unigram["a"], after_a["<eos>"]]
    assert np.exp(scores) == pytest.approx(expected, rel=ROUNDING)
    [empty] = found.logprobs(tokenizer.encode([""]))
    assert np.exp(empty) == pytest.approx([0.5 * unigram["<eos>"]], rel=ROUNDING)


@given(corpora)
def test_it_agrees_with_the_slow_truth(case):
    ids, order, seed, count = case
    random = np.random.default_rng(seed)
    documents = zipfian(random, ids, documents=count, length=9)
    compared(documents, [*documents[:3], *zipfian(random, ids, documents=4, length=9)], ids, order=order)


def compared(documents, held_out, ids, *, order):
    """The model, after its discounts and its scores of the documents held out were found to be the slow truth's."""
    found = train(documents, ids, order=order)
    slow = SlowKneserNey(documents, order=order, vocabulary=ids.vocabulary, eos=ids.eos_id, fallback=FALLBACK)
    assert [list(one.values) for one in found.discounts] == [
        pytest.approx(discounts[1:], rel=ROUNDING) for discounts in slow.discounts
    ]
    for document, scores in zip(held_out, found.logprobs(held_out), strict=True):
        tokens = document.tolist()
        expected = [
            slow.probability(token, [BOS, *tokens[:place]]) for place, token in enumerate([*tokens, ids.eos_id])
        ]
        assert np.exp(scores) == pytest.approx(expected, rel=ROUNDING)
    return found


@pytest.mark.parametrize("ids", [Ids(120, 0, 0), Ids(120, 3, 4)])
def test_it_agrees_with_the_slow_truth_where_there_is_text_enough_for_discounts(ids):
    documents = zipfian(np.random.default_rng(0), ids, documents=300, length=9)
    agreeing = compared(documents, documents[:20], ids, order=4)
    assert [one.estimated for one in agreeing.discounts] == [True] * 4


@given(case=corpora, history=st.lists(st.integers(0, 10), max_size=6))
def test_a_distribution_adds_up_to_one(case, history):
    ids, order, seed, count = case
    history = [ids.words[number % len(ids.words)] for number in history]
    documents = zipfian(np.random.default_rng(seed), ids, documents=count, length=9)
    found = train(documents, ids, order=order)
    total = np.exp([logprob(found, history, token, ids) for token in ids.vocabulary]).sum()
    assert total == pytest.approx(1.0, rel=ROUNDING)


def test_a_bos_that_is_not_eos_is_never_predicted():
    found = train([[3, 4]], TWO_SIGNS, order=2)
    with np.errstate(all="raise"):
        assert logprob(found, [3], TWO_SIGNS.bos_id, TWO_SIGNS) == -np.inf


def test_a_token_of_the_text_that_looks_like_bos_is_not_the_beginning():
    """`<eos>` written in a text has the id that starts a document, too."""
    found = train([[3, 0, 3], [4]], ONE_SIGN, order=2)
    slow = SlowKneserNey([[3, 0, 3], [4]], order=2, vocabulary=ONE_SIGN.vocabulary, eos=0, fallback=FALLBACK)
    assert np.exp(logprob(found, [0], 4, ONE_SIGN)) == pytest.approx(slow.probability(4, [BOS, 0]), rel=ROUNDING)
    assert slow.probability(4, [BOS, 0]) != pytest.approx(slow.probability(4, [BOS]), rel=0.1)


def test_documents_are_scored_as_each_alone_however_they_are_cut(monkeypatch):
    random = np.random.default_rng(0)
    documents = zipfian(random, ONE_SIGN, documents=40, length=9)
    found = train(documents, ONE_SIGN)
    together = found.logprobs(documents)
    assert [len(scores) for scores in together] == [len(document) + 1 for document in documents]
    monkeypatch.setattr(backoff, "QUERY_TOKENS", 5)
    for document, one, scores in zip(documents, together, found.logprobs(documents), strict=True):
        assert np.array_equal(one, scores)
        assert np.array_equal(one, found.logprobs([document])[0])
    assert found.logprobs([]) == []


def test_a_longer_context_predicts_a_language_of_contexts_better():
    """Each token follows from the last two, and the last alone says nothing."""
    random = np.random.default_rng(0)
    documents = []
    for _ in range(200):
        tokens = random.choice(ONE_SIGN.words, size=2).tolist()
        while len(tokens) < 12:
            tokens.append(1 + (tokens[-1] + 2 * tokens[-2]) % 5)
        documents.append(np.array(tokens))
    per_target = [
        np.mean(np.concatenate(train(documents[:150], ONE_SIGN, order=order).logprobs(documents[150:])))
        for order in (2, 3)
    ]
    assert per_target[0] < per_target[1] - 0.5


# ----- discounts


def test_discounts_by_hand():
    counts = np.repeat([0, 1, 2, 3, 4, 5, 900], [7, 10, 4, 2, 1, 3, 1])
    share = 10 / 18
    found = estimate_discounts(counts, FALLBACK)
    expected = (1 - 2 * share * 4 / 10, 2 - 3 * share * 2 / 4, 3 - 4 * share * 1 / 2)
    assert found.estimated
    assert found.values == pytest.approx(expected, rel=ROUNDING)
    assert found.of(np.array([0, 1, 2, 3, 4, 1000])) == pytest.approx([0.0, *expected, expected[2], expected[2]])


@pytest.mark.parametrize(
    "times",
    [
        (0, 4, 2, 1),
        (10, 0, 2, 1),
        (10, 4, 0, 1),
        (0, 0, 0, 0),
        (10, 4, 20, 1),
        (10, 4, 2, 9),
    ],  # at the end D2 < 0, D3 < 0
)
def test_counts_that_give_no_discounts_take_the_given_ones(times):
    found = estimate_discounts(np.repeat([1, 2, 3, 4], times), (0.1, 0.2, 0.3))
    assert (found.values, found.estimated) == ((0.1, 0.2, 0.3), False)


def test_no_count_of_four_is_no_obstacle():
    found = estimate_discounts(np.repeat([1, 2, 3], (10, 4, 2)), FALLBACK)
    assert (found.values[2], found.estimated) == (3.0, True)


def test_an_order_beyond_a_byte_is_looked_up():
    table = TokenTable.from_documents([np.zeros(300, dtype=np.int32)])
    model = NGramConfig(order=130).train(table, ONE_SIGN)
    assert model.look_up(table).lengths.max() == 130


# ----- refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": 0}, r"^order: .*greater than or equal to 1, got 0"),
        ({"fallback_discounts": [0.5, 1.0]}, r"^fallback_discounts: "),
        ({"fallback_discounts": [0.5, 2.5, 1.0]}, r"^fallback_discounts\[1\]: 2.5 cannot be taken from a count of 2"),
        ({"fallback_discounts": [-0.5, 1.0, 1.0]}, r"^fallback_discounts\[0\]: -0.5 cannot be taken"),
    ],
)
def test_settings_without_sense_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        from_dict(NGramConfig, options)


def test_an_empty_corpus_is_refused():
    with pytest.raises(DataError, match="no document to count n-grams in"):
        train([], ONE_SIGN)
