"""Log-probabilities of words: those of their tokens, found without the tokenizer's offsets, added up one by one."""

import functools
import io
import math

import numpy as np
import pyarrow as pa
import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

import rnnlm
from rnnlm.data.tokenizers.bytes import BytesConfig
from rnnlm.data.tokenizers.chars import CharsConfig
from rnnlm.data.tokenizers.labels import LabelsConfig
from rnnlm.data.tokenizers.pair import PairTokenizer
from rnnlm.data.tokenizers.sentencepiece import SentencePieceConfig, SentencePieceTokenizer
from rnnlm.data.tokenizers.words import WordsConfig
from rnnlm.inference.score import Scorer
from rnnlm.inference.score_work import ScoreWork
from rnnlm.inference.stream.cache import ContinuousCacheConfig
from rnnlm.inference.surprisal import word_logprobs, words_column
from rnnlm.ngram import NGramConfig, save_ngram
from rnnlm.storage import open_location
from tests.corpora import (
    TEXTS,
    save_tiny,
    save_tiny_translation,
    sentences,
    tiny_task,
    token_table,
    words_tokenizer,
)
from tests.reference import score_naively

NATS = 1e-4  # what score.py promises for a row
BLANK_SIGN = "\u2581"  # SentencePiece's own sign for a blank does not come back
BROKEN = "\ufffd"  # and this one stands for parts of others
KINDS = ["unigram", "bpe", "char", "word", "chars", "bytes", "words"]
# Letters that NFKC takes apart, joins or makes other ones of; each word stays one word.
NFKC_TEXT = (
    "\ufb01ne \u2460\u2461 \u3314 \uff26\uff35\uff2c\uff2c cafe\u0301 \u6771\u4eac\u306f \U0001f600! \u1e9b\u0323"
)
NASTY = [
    "",
    " ",
    "\n\t ",
    "a",
    "  lead and trail  ",
    "tabs\tand\nlines\n\n  of code\n",
    "caf\u00e9 na\u00efve \u6771\u4eac\u306f\u65e5\u672c\u3000\u9996\u90fd \U0001f469\u200d\U0001f680 \U0001f600\U0001f600",
    "no\u00a0break \u2028 line\x1cseparator",
    *TEXTS[:4],
]
any_text = st.one_of(
    st.text(), st.text(alphabet=" \n\t\u3000\u2028\x1cab\u00e9\u6771\U0001f600."), st.sampled_from(NASTY)
)


@functools.cache
def trained(kind):
    if kind == "nfkc":
        model = io.BytesIO()
        corpus = [*TEXTS, "fine 12 FULL \u6771\u4eac\u306f \u30ad\u30ed caf\u00e9 !"] * 3
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(corpus), model_writer=model, vocab_size=120, hard_vocab_limit=False, minloglevel=2
        )
        return SentencePieceTokenizer(model.getvalue())
    own = {"words": WordsConfig, "chars": CharsConfig, "bytes": BytesConfig}
    return (own[kind]() if kind in own else SentencePieceConfig(model_type=kind, vocab_size=360)).train(TEXTS)


@functools.cache
def starts_naively(kind, text):
    """Where tokens begin: how much of the text all tokens before them give back."""
    if kind == "chars":
        return list(range(len(text)))
    if kind == "bytes":
        return [place for place, character in enumerate(text) for _ in character.encode()]
    if kind == "words":
        places, end = [], 0
        for word in text.split():
            places.append(text.index(word, end))
            end = places[-1] + len(word)
        return places
    tokenizer = trained(kind)
    ids = tokenizer.encode([text])[0].tolist()
    if kind == "word":
        return unknown_words_as_wholes(text, {tokenizer.piece(token) for token in range(tokenizer.vocab_size)})
    return [common(tokenizer.decode(ids[:place]), text) for place in range(len(ids))]


def unknown_words_as_wholes(text, vocabulary):
    """Of a model of words: what begins with a blank is a word, and all bytes of an unknown one begin where it does."""
    places, begin = [], 0
    for number, chunk in enumerate(text.split(" ") if text else []):
        places += [begin] * (1 if BLANK_SIGN + chunk in vocabulary else len((BLANK_SIGN + chunk).encode()))
        begin += len(chunk) + (number > 0)
    return places


def common(one, other):
    """How many characters at the beginning are the same."""
    return next((place for place, character in enumerate(one) if other[place : place + 1] != character), len(one))


def word_of(text, start, *, blanks_lead):
    """Number of the word that a token belongs to, character by character; None if to none."""
    step = 1 if blanks_lead else -1
    while 0 <= start < len(text) and text[start].isspace():
        start += step
    if not 0 <= start < len(text):
        return None
    return len((text[:start] + "x").split()) - 1


def words_naively(kind, text, token_logprobs):
    """Sums of the words, None without a token, and the sum of what belongs to none."""
    sums, rest = [None] * len(text.split()), 0.0
    for start, logprob in zip(starts_naively(kind, text), map(float, token_logprobs), strict=True):
        word = word_of(text, start, blanks_lead=trained(kind).blanks_lead)
        if word is None:
            rest += logprob
        else:
            sums[word] = (sums[word] or 0.0) + logprob
    return sums, rest


def check(kind, text, places, found, token_logprobs, total):
    assert [text[start:end] for start, end in places] == text.split()
    sums, rest = words_naively(kind, text, token_logprobs)
    assert [value is None for value in sums] == [math.isnan(value) for value in found]
    known = [value for value in found if not math.isnan(value)]
    assert known == pytest.approx([value for value in sums if value is not None], abs=NATS)
    assert sum(known) + rest == pytest.approx(total, abs=NATS)


@pytest.mark.parametrize("kind", KINDS)
@given(text=any_text)
def test_words_hold_the_tokens_that_begin_in_them(kind, text):
    text = text.replace(BLANK_SIGN, "").replace(BROKEN, "")
    tokenizer = trained(kind)
    (starts,) = tokenizer.starts([text])
    assert starts.dtype == np.int32
    values = -np.random.default_rng(len(text)).random(len(tokenizer.encode([text])[0]))
    places, found = word_logprobs(text, starts, values, blanks_lead=tokenizer.blanks_lead)
    check(kind, text, places.tolist(), found.tolist(), values, values.sum())


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_scores_words_as_prefix_by_prefix(kind, tmp_path):
    checkpoint = save_tiny(tmp_path / "c", tiny_task(), trained(kind))
    tokenizer = checkpoint.tokenizer
    scores = Scorer(checkpoint).score_texts(NASTY, keep_tokens=True)
    column = words_column(NASTY, scores.token_logprobs, tokenizer).to_pylist()
    for text, ids, words, total in zip(NASTY, tokenizer.encode(NASTY), column, scores.logprob, strict=True):
        tokens = score_naively(checkpoint.model, ids, tokenizer.bos_id, tokenizer.eos_id)
        places = [(word["start_char"], word["end_char"]) for word in words]
        found = [math.nan if word["logprob"] is None else word["logprob"] for word in words]
        check(kind, text, places, found, tokens[:-1], total - tokens[-1])


def test_offsets_are_those_of_the_text_before_normalisation(tmp_path):
    checkpoint = save_tiny(tmp_path / "c", tiny_task(), trained("nfkc"))
    tokenizer = checkpoint.tokenizer
    for text in (NFKC_TEXT, f"  {NFKC_TEXT.replace(' ', '  ')} "):  # this model drops further blanks
        scores = Scorer(checkpoint).score_texts([text], keep_tokens=True)
        (words,) = words_column([text], scores.token_logprobs, tokenizer).to_pylist()
        assert [text[word["start_char"] : word["end_char"]] for word in words] == text.split()
        # Each word alone has the tokens that it has among others.
        ids = tokenizer.encode(text.split())
        joined = np.concatenate(ids).tolist()
        assert joined == tokenizer.encode([text])[0].tolist()
        naive = score_naively(checkpoint.model, joined, tokenizer.bos_id, tokenizer.eos_id)
        parts = np.split(naive, np.cumsum([len(one) for one in ids]))
        assert [word["logprob"] for word in words] == pytest.approx([part.sum() for part in parts[:-1]], abs=NATS)
        assert sum(word["logprob"] for word in words) + naive[-1] == pytest.approx(scores.logprob[0], abs=NATS)


def test_where_blanks_and_line_feeds_go():
    values = np.array([-1.0, -2.0, -4.0, -8.0, -16.0, -32.0])
    text, starts = "\na b\n", functools.partial(np.array, dtype=np.int32)
    places, found = word_logprobs(text, starts([0, 1, 2, 3, 4]), values[:5], blanks_lead=False)
    assert (places.tolist(), found.tolist()) == ([[1, 2], [3, 4]], [-6.0, -24.0])  # the first to none
    _, found = word_logprobs(text, starts([0, 0, 1, 2, 3, 4]), values, blanks_lead=True)
    assert found.tolist() == [-7.0, -24.0]  # the last to none
    # One token for "a b" and more: the second word has none of its own.
    _, found = word_logprobs(text, starts([0, 4]), values[:2], blanks_lead=True)
    assert found[0] == -1.0
    assert math.isnan(found[1])


def test_a_vocabulary_of_labels_begins_its_tokens_where_its_words_do():
    labels = LabelsConfig().train_labelled([(["do", "n't", "go"], ["a", "b", "c"])])
    assert labels.starts([" don't  go.", ""])[0].tolist() == [1, 3, 8, 10]


def test_a_pair_of_tokenizers_is_that_of_the_target():
    pair = PairTokenizer(trained("bytes"), trained("unigram"))
    assert pair.blanks_lead
    assert pair.starts(TEXTS)[1].tolist() == trained("unigram").starts(TEXTS)[1].tolist()


# What the job does with it


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return str(save_tiny(tmp_path_factory.mktemp("surprisal") / "c").location.path)


@pytest.fixture(scope="module")
def ngram(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ngram")
    model = NGramConfig(order=2).train(token_table(sentences(50)), words_tokenizer())
    save_ngram(open_location(str(folder)), model=model, tokenizer=words_tokenizer(), trained={})
    return str(folder)


def processed(work, table):
    columns = work.build("cpu").process(table, np.arange(table.num_rows)).columns
    assert {field.name: field.type for field in work.new_fields()} == {name: one.type for name, one in columns.items()}
    return pa.table(columns).to_pylist()


def assert_adds_up(row, text):
    assert [text[word["start_char"] : word["end_char"]] for word in row["words"]] == text.split()
    assert sum(word["logprob"] for word in row["words"]) + row["end_logprob"] == pytest.approx(row["logprob"], abs=NATS)


def test_the_job_adds_words_and_the_end_of_sequence(path, ngram):
    table = pa.table({"text": ["the cat  sat", None, "", "\ta strange word\n"]})
    variants = [{}, {"cache": ContinuousCacheConfig(size=20)}, {"ensemble": [path], "ngram": ngram}]
    for fields in variants:
        rows = processed(ScoreWork(checkpoint=path, words=True, token_logprobs=True, **fields), table)
        for row, text in zip(rows, table["text"].to_pylist(), strict=True):
            if text is None:
                assert (row["words"], row["end_logprob"]) == (None, None)
                continue
            assert_adds_up(row, text)
            # Of this tokenizer words are tokens.
            assert [word["logprob"] for word in row["words"]] == row["token_logprobs"][:-1]
            assert row["end_logprob"] == row["token_logprobs"][-1]
    assert set(processed(ScoreWork(checkpoint=path, words=True), table)[0]) == {
        *("logprob", "num_tokens", "bits_per_byte", "words", "end_logprob", "error")
    }


def test_words_are_of_targets(tmp_path):
    path = save_tiny_translation(tmp_path / "c").location.address
    table = pa.table({"de": ["the cat", "", "dog"], "en": ["cat  the", "dog", "dog sat ran"]})
    rows = processed(ScoreWork(checkpoint=path, words=True, text_column="de", target_column="en"), table)
    assert_adds_up(rows[0], "cat  the")
    assert_adds_up(rows[2], "dog sat ran")
    assert rows[1]["words"] is None
    assert rows[1]["error"].startswith("empty_source")


def test_a_row_without_a_finite_score_has_no_words(path, monkeypatch):
    whole = Scorer.score_texts

    def broken(self, texts, **options):
        scores = whole(self, texts, **options)
        scores.logprob[0] = -np.inf
        return scores

    monkeypatch.setattr(Scorer, "score_texts", broken)
    rows = processed(ScoreWork(checkpoint=path, words=True), pa.table({"text": ["the cat", "a dog"]}))
    assert (rows[0]["words"], rows[0]["end_logprob"]) == (None, None)
    assert_adds_up(rows[1], "a dog")


def test_only_who_asks_has_another_identity(path):
    assert "words" not in ScoreWork(checkpoint=path).identity()
    assert ScoreWork(checkpoint=path, words=True).identity()["words"] is True


def test_the_library_has_them_too(path):
    found = rnnlm.load(path).score(["the cat", None], words=True)
    assert_adds_up(found[0], "the cat")
    assert found[1]["words"] is None
    with pytest.raises(rnnlm.DataError, match="a column 'words' already"):
        rnnlm.load(path).score([{"text": "the cat", "words": ["the", "cat"]}], words=True)
