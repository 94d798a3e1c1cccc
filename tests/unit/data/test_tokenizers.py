"""Tokenizers: texts come back from their ids, vocabularies are what was asked for, damaged files are noticed."""

import functools
import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rnnlm.data.tokenizers import Tokenizer, load_tokenizer, sentencepiece
from rnnlm.data.tokenizers.bytes import BytesConfig
from rnnlm.data.tokenizers.chars import CharsConfig, CharsTokenizer
from rnnlm.data.tokenizers.sentencepiece import SentencePieceConfig
from rnnlm.data.tokenizers.words import WordsConfig, WordsTokenizer
from rnnlm.errors import DataError, TokenizerError
from rnnlm.storage import open_location
from tests.corpora import TEXTS

BLANK_SIGN = "\u2581"  # SentencePiece's own sign for a blank: the one character that does not come back
KINDS = ["unigram", "bpe", "char", "word"]
LOSSLESS = [*KINDS, "bytes"]
VOCAB_SIZE = 360


@functools.cache
def trained(kind) -> Tokenizer:
    if kind == "words":
        return WordsConfig().train(TEXTS)
    if kind == "chars":
        return CharsConfig().train(TEXTS)
    if kind == "bytes":
        return BytesConfig().train(TEXTS)
    return SentencePieceConfig(model_type=kind, vocab_size=VOCAB_SIZE).train(TEXTS)


@pytest.mark.parametrize("kind", LOSSLESS)
@given(text=st.one_of(st.text(), st.text(alphabet=" \n\t\r\u2028\u0085ab<>/s\0"), st.sampled_from(TEXTS)))
def test_any_text_comes_back_from_its_ids(kind, text):
    tokenizer = trained(kind)
    text = text if kind == "bytes" else text.replace(BLANK_SIGN, "")
    ids = tokenizer.encode([text])[0].tolist()
    assert tokenizer.decode(ids) == text
    assert not {tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id} & set(ids)
    assert all(0 <= token < tokenizer.vocab_size for token in ids)


def test_the_sign_of_a_blank_comes_back_as_a_blank():
    assert trained("unigram").decode(trained("unigram").encode([BLANK_SIGN])[0].tolist()) == " "


@pytest.mark.parametrize("kind", LOSSLESS)
@given(texts=st.lists(st.text(max_size=8), max_size=5))
def test_many_texts_are_encoded_as_each_alone(kind, texts):
    together = trained(kind).encode(texts)
    assert [ids.tolist() for ids in together] == [trained(kind).encode([text])[0].tolist() for text in texts]
    assert all(ids.dtype == np.int32 for ids in together)


@pytest.mark.parametrize("kind", [*LOSSLESS, "words", "chars"])
@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
@given(chunks=st.lists(st.lists(st.one_of(st.text(), st.sampled_from(TEXTS)))))
def test_a_column_is_encoded_as_its_texts(kind, dtype, chunks):
    tokenizer = trained(kind)
    column = pa.chunked_array(chunks, pa.large_string())
    flat, lengths = tokenizer.encode_column(column, dtype)
    expected = tokenizer.encode([text for chunk in chunks for text in chunk])
    assert flat.dtype == dtype
    assert lengths.tolist() == list(map(len, expected))
    assert flat.tolist() == [token for ids in expected for token in ids.tolist()]


@pytest.mark.parametrize("problem", [None, AttributeError, TypeError, "other ids"])
def test_sentencepiece_is_asked_directly_only_if_it_answers_as_the_package_does(problem, monkeypatch):
    def ask(processor, texts):
        if isinstance(problem, str):
            return [np.zeros(1, dtype=np.int32) for _ in texts]
        raise problem

    if problem is not None:
        monkeypatch.setattr(sentencepiece, "_ask_binding", ask)
    tokenizer = sentencepiece.SentencePieceTokenizer(trained("unigram").model_bytes())
    texts = [*TEXTS, ""] * (1 + sentencepiece.JOINED_TEXTS // len(TEXTS))  # more than are joined at a time
    flat, lengths = tokenizer.encode_column(pa.chunked_array([texts], pa.large_string()), np.uint16)
    expected = tokenizer.encode(texts)
    assert tokenizer._direct == (problem is None)
    assert lengths.tolist() == list(map(len, expected))
    assert np.array_equal(flat, np.concatenate(expected))


@pytest.mark.parametrize("kind", ["bpe", "words", "chars", "bytes"])
def test_bos_and_eos_give_no_text(kind):
    tokenizer = trained(kind)
    ids = tokenizer.encode(["the lazy"])[0].tolist()
    assert tokenizer.decode([tokenizer.bos_id, *ids, tokenizer.eos_id]) == "the lazy"
    assert tokenizer.decode([]) == ""
    assert tokenizer.encode([]) == []
    assert tokenizer.encode([""])[0].shape == (0,)


def test_special_ids_are_where_the_docstring_says():
    for tokenizer in map(trained, KINDS):
        assert (tokenizer.unk_id, tokenizer.bos_id, tokenizer.eos_id) == (0, 1, 2)
        assert [tokenizer.piece(token) for token in range(3)] == ["<unk>", "<s>", "</s>"]


def test_vocabularies_are_as_large_as_asked_and_for_char_at_most():
    sizes = {kind: trained(kind).vocab_size for kind in KINDS}
    assert [sizes[kind] for kind in ("unigram", "bpe", "word")] == [VOCAB_SIZE] * 3
    assert 3 + 256 < sizes["char"] <= VOCAB_SIZE


@pytest.mark.parametrize("kind", ["unigram", "bpe", "word"])
def test_a_vocabulary_too_large_for_the_text_is_refused_with_advice(kind):
    with pytest.raises(TokenizerError, match=r"cannot train 9000 .* too high .* <= \d+.*; lower tokenizer.vocab_size"):
        SentencePieceConfig(model_type=kind, vocab_size=9000).train(TEXTS)


def test_a_vocabulary_too_small_for_the_characters_is_refused_with_advice():
    with pytest.raises(TokenizerError, match=r"(?i); raise tokenizer.vocab_size"):
        SentencePieceConfig(vocab_size=8).train(TEXTS)


@pytest.mark.parametrize("config", [SentencePieceConfig(vocab_size=300), WordsConfig(), CharsConfig(), BytesConfig()])
@pytest.mark.parametrize("texts", [[], ["", ""]])
def test_no_text_is_refused(config, texts):
    with pytest.raises(TokenizerError):
        config.train(texts)


def test_an_error_of_the_corpus_comes_through():
    def texts():
        yield from TEXTS
        raise DataError("line 7 is not valid UTF-8")

    with pytest.raises(DataError, match="line 7"):
        SentencePieceConfig(vocab_size=300).train(texts())


def test_training_twice_gives_the_same_tokenizer():
    again = SentencePieceConfig(model_type="unigram", vocab_size=VOCAB_SIZE).train(iter(TEXTS))
    assert again.fingerprint == trained("unigram").fingerprint
    assert len({trained(kind).fingerprint for kind in KINDS}) == len(KINDS)


# ----- chars


@given(text=st.one_of(st.text(), st.sampled_from(TEXTS)))
def test_a_character_is_a_token_and_one_never_seen_is_unknown(text):
    tokenizer, known = trained("chars"), set("".join(TEXTS))
    ids = tokenizer.encode([text])[0].tolist()
    assert len(ids) == len(text)
    assert [tokenizer.piece(token) for token in ids] == [c if c in known else "<unk>" for c in text]


def test_characters_are_ordered_by_frequency_then_by_themselves():
    tokenizer = CharsConfig().train(["cabbb", "\n\U0001f600b"])
    assert [tokenizer.piece(token) for token in range(tokenizer.vocab_size)] == [
        *("<eos>", "<unk>", "b", "\n", "a", "c", "\U0001f600")
    ]
    assert CharsConfig(min_count=2).train(["cabbb"]).vocab_size == 3


@pytest.mark.parametrize("characters", [["ab"], ["a", "a"], [""]])
def test_a_character_list_that_is_none_is_refused(characters):
    with pytest.raises(TokenizerError, match="distinct single characters"):
        CharsTokenizer(characters)


# ----- bytes


@given(text=st.one_of(st.text(), st.sampled_from(TEXTS)))
def test_a_byte_is_a_token_and_its_id_is_its_value(text):
    assert trained("bytes").encode([text])[0].tolist() == list(text.encode())


def test_bytes_are_written_so_that_a_person_can_tell_them_apart():
    tokenizer = trained("bytes")
    assert (tokenizer.vocab_size, tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id) == (257, 256, 256, -1)
    assert [tokenizer.piece(token) for token in (10, 32, 65, 195, 256)] == ["<0x0A>", "<0x20>", "A", "<0xC3>", "<eos>"]
    assert len({tokenizer.piece(token) for token in range(257)}) == 257


def test_bytes_that_are_no_text_become_the_replacement_character():
    assert trained("bytes").decode([65, 0xC3, 66]) == "A\N{REPLACEMENT CHARACTER}B"


def test_half_a_surrogate_pair_is_refused_with_its_place():
    with pytest.raises(TokenizerError, match=r"character 3 of a text is U\+D83D, .*; repair the text"):
        trained("bytes").encode(["fine", "ab\ud83d"])


def test_bytes_read_no_more_texts_than_the_card_is_measured_on():
    read = []
    texts = (read.append(number) or ("" if number < 1500 else "x") for number in range(5000))
    BytesConfig().train(texts)
    assert len(read) == 1501  # on to the first that is not empty
    read.clear()
    BytesConfig().train(read.append(number) or "x" for number in range(5000))
    assert len(read) == 1000


# ----- words


def test_words_are_counted_most_frequent_first_and_ties_go_by_the_word():
    tokenizer = WordsConfig().train(["b a b", "c a", "", "\u2028d\td\n d"])
    # <eos> is counted once a text, <unk> not at all.
    assert [tokenizer.piece(token) for token in range(tokenizer.vocab_size)] == ["<eos>", "d", "a", "b", "c", "<unk>"]
    assert tokenizer.bos_id == tokenizer.eos_id == 0
    assert tokenizer.unk_id == 5


def test_a_benchmark_that_holds_unk_counts_it():
    tokenizer = WordsConfig().train(["<unk> a <unk>", "<unk> a"])
    assert [tokenizer.piece(token) for token in range(tokenizer.vocab_size)] == ["<unk>", "<eos>", "a"]
    assert tokenizer.encode(["a z <unk>"])[0].tolist() == [2, 0, 0]
    assert tokenizer.decode([2, 0, 1]) == "a <unk>"


@given(
    texts=st.lists(st.text(alphabet="abc ", max_size=12), min_size=1).filter(lambda texts: "".join(texts).strip()),
    max_words=st.one_of(st.none(), st.integers(2, 5)),
    random=st.randoms(),
)
def test_the_order_of_the_texts_does_not_matter(texts, max_words, random):
    shuffled = list(texts)
    random.shuffle(shuffled)
    config = WordsConfig(max_words=max_words)
    assert config.train(texts).model_bytes() == config.train(shuffled).model_bytes()


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"min_count": 2}, ["a", "b"]),
        ({"min_count": 4}, []),
        ({"max_words": 3}, ["a"]),
        ({"max_words": 2}, []),
        ({"max_words": 99}, ["a", "b", "c"]),
    ],
)
def test_rare_words_become_unknown(options, kept):
    tokenizer = WordsConfig(**options).train(["a a a b b c"])
    words = [tokenizer.piece(token) for token in range(tokenizer.vocab_size)]
    assert [word for word in words if not word.startswith("<")] == kept
    assert {"<eos>", "<unk>"} <= set(words)
    unknown = [word for word in "abc" if word not in kept]
    assert all(tokenizer.encode([word])[0].tolist() == [tokenizer.unk_id] for word in unknown)


@pytest.mark.parametrize("words", [["a"], ["<eos>", "a"], ["<unk>", "a"], ["<eos>", "<unk>", "a", "a"], []])
def test_a_word_list_needs_its_specials_and_no_word_twice(words):
    with pytest.raises(TokenizerError, match="distinct words"):
        WordsTokenizer(words)


# ----- files


@pytest.fixture(params=[*LOSSLESS, "words", "chars"])
def saved(request, tmp_path):
    tokenizer = trained(request.param)
    folder = open_location(str(tmp_path / "tokenizer"))
    tokenizer.save(folder, sample=TEXTS)
    return tokenizer, folder


def test_a_tokenizer_comes_back_from_its_folder(saved):
    tokenizer, folder = saved
    again = load_tokenizer(folder)
    assert type(again) is type(tokenizer)
    assert again.fingerprint == tokenizer.fingerprint
    assert (again.vocab_size, again.bos_id, again.eos_id, again.unk_id) == (
        *(tokenizer.vocab_size, tokenizer.bos_id, tokenizer.eos_id, tokenizer.unk_id),
    )
    assert [ids.tolist() for ids in again.encode(TEXTS)] == [ids.tolist() for ids in tokenizer.encode(TEXTS)]


def test_the_card_tells_the_truth(saved):
    tokenizer, folder = saved
    sample = folder.join("tokenizer.json").read_json()["sample"]
    ids = tokenizer.encode(TEXTS)
    tokens = sum(map(len, ids))
    assert sample["texts"] == len(TEXTS)
    assert sample["bytes_per_token"] == round(sum(len(text.encode()) for text in TEXTS) / tokens, 4)
    assert sample["unknown_share"] == round(sum((one == tokenizer.unk_id).sum() for one in ids) / tokens, 6)
    restored = [tokenizer.decode(one.tolist()) == text for one, text in zip(ids, TEXTS, strict=True)]
    assert sample["restored_share"] == round(sum(restored) / len(TEXTS), 4)


def test_a_file_cut_short_anywhere_is_noticed(saved):
    tokenizer, folder = saved
    content = folder.join("tokenizer.model").read_bytes()
    for length in [*range(0, len(content), max(1, len(content) // 40)), len(content) - 1]:
        cut = content[:length]
        if tokenizer is trained("words"):  # a cut inside a character is the next test
            cut = cut.decode(errors="ignore").encode()
        folder.join("tokenizer.model").write_bytes(cut)
        with pytest.raises(TokenizerError):
            load_tokenizer(folder)


def test_a_word_list_cut_inside_a_character_is_noticed(tmp_path):
    folder = open_location(str(tmp_path))
    WordsConfig().train(["\u00fc"]).save(folder)
    content = folder.join("tokenizer.model").read_bytes()
    folder.join("tokenizer.model").write_bytes(content[: content.index(b"\xbc")])
    with pytest.raises(TokenizerError):
        load_tokenizer(folder)


def test_a_changed_file_is_noticed(saved):
    _, folder = saved
    content = bytearray(folder.join("tokenizer.model").read_bytes())
    content[len(content) // 2] ^= 1
    folder.join("tokenizer.model").write_bytes(bytes(content))
    with pytest.raises(TokenizerError):
        load_tokenizer(folder)


def test_another_tokenizers_model_is_noticed(saved):
    tokenizer, folder = saved
    other = WordsConfig().train(["other"]) if tokenizer is trained("words") else trained("char")
    if tokenizer is other:
        other = trained("bpe")
    folder.join("tokenizer.model").write_bytes(other.model_bytes())
    with pytest.raises(TokenizerError):
        load_tokenizer(folder)


def test_a_folder_without_a_card_or_with_an_unknown_kind_says_so(tmp_path):
    folder = open_location(str(tmp_path))
    with pytest.raises(TokenizerError, match=r"there is no tokenizer in .*; make one with python -m jobs"):
        load_tokenizer(folder)
    (tmp_path / "tokenizer.json").write_text(json.dumps({"kind": "magic"}))
    (tmp_path / "tokenizer.model").write_bytes(b"")
    with pytest.raises(TokenizerError, match=r"unknown kind of tokenizer: 'magic'"):
        load_tokenizer(folder)
