"""Vocabularies with words of a file of vectors and with pieces of words, and the pieces of the words of a table."""

import numpy as np
import pytest

from rnnlm.config import from_dict
from rnnlm.data.labelled import LabelledTable
from rnnlm.data.labelled_stream import LabelledReader
from rnnlm.data.tokenizers import load_tokenizer
from rnnlm.data.tokenizers.labels import LabelsConfig, LabelTokenizer
from rnnlm.data.tokenizers.sentencepiece import SentencePieceConfig, SentencePieceTokenizer
from rnnlm.errors import ConfigError, DataError, TokenizerError
from rnnlm.storage import open_location

# The fingerprint of this vocabulary before there were words of vectors and subwords.
ROWS = [(["The", "cat", "saw", "42", "cats"], ["D", "N", "V", "M", "N"]), (["the", "Cat"], ["D", "N"])]
BEFORE = "218b9fdda5288b09"
STEMS, ENDINGS = ["walk", "jump", "read", "sing"], ["ing", "ed", "er", "s"]
WORDS = [stem + ending for stem in STEMS for ending in ENDINGS]
PIECES = SentencePieceConfig(model_type="bpe", vocab_size=300)


def vocabulary_of(**fields):
    return LabelsConfig(**fields).train_labelled([(WORDS, ["N"] * len(WORDS))])


@pytest.fixture(scope="module")
def vocabulary():
    return vocabulary_of(subwords=PIECES)


@pytest.fixture
def vectors(tmp_path):
    path = tmp_path / "v.txt"
    path.write_text("".join(f"{word} 1 2\n" for word in ["the", "Dog", "DOG", "1999", "cats", "zoo"]))
    return str(path)


def test_a_vocabulary_without_subwords_is_what_it_was():
    assert LabelsConfig().train_labelled(ROWS).fingerprint.startswith(BEFORE)


def test_words_of_a_file_stand_behind_those_of_the_corpus_in_the_form_that_is_looked_up(vectors):
    own = LabelsConfig().train_labelled(ROWS).words
    found = LabelsConfig(vectors=vectors).train_labelled(ROWS)
    assert found.words == [*own, "dog", "0000", "zoo"]
    assert found.word_ids(["DoG", "2024", "lion"]).tolist() == [len(own), len(own) + 1, found.unk_id]
    assert LabelsConfig(vectors=vectors, vectors_max_words=2).train_labelled(ROWS).words == [*own, "dog"]
    cased = LabelsConfig(vectors=vectors, lower=False, zero_digits=False).train_labelled(ROWS)
    assert cased.words[-4:] == ["Dog", "DOG", "1999", "zoo"]
    rare = LabelsConfig(vectors=vectors, min_count=2).train_labelled(ROWS)
    assert rare.words == ["<unk>", "cat", "the", "dog", "0000", "cats", "zoo"]  # cats was too rare for its own sake


def test_what_cannot_be_is_refused(tmp_path):
    target = "rnnlm.data.tokenizers.labels.LabelsConfig"
    with pytest.raises(ConfigError, match="vectors_max_words: there is no file of vectors; set vectors"):
        from_dict(LabelsConfig, {"_target_": target, "vectors_max_words": 3})
    with pytest.raises(ConfigError, match=r"subwords._target_: WordsConfig does not fit here"):
        from_dict(LabelsConfig, {"subwords": {"_target_": "rnnlm.data.tokenizers.words.WordsConfig"}})
    with pytest.raises(DataError, match=r"there is no file .*; check tokenizer.vectors"):
        vocabulary_of(vectors=str(tmp_path / "none.txt"))
    with pytest.raises(TokenizerError, match=r"cannot train 9 bpe pieces .*raise tokenizer.subwords.vocab_size"):
        vocabulary_of(subwords=SentencePieceConfig(model_type="bpe", vocab_size=9, byte_fallback=False))


def test_pieces_are_learned_from_words_as_often_as_they_stand_in_the_corpus():
    options = LabelsConfig(subwords=SentencePieceConfig(model_type="bpe", vocab_size=266))
    for counts, most, least in (((50, 1), "aa", "bc"), ((1, 50), "bc", "aa")):
        words = ["aaab"] * counts[0] + ["bcbc", "cbbc", "ccbb"] * counts[1]
        found = options.train_labelled([(words, ["N"])]).subwords
        pieces = {found.piece(token) for token in range(found.vocab_size)}
        assert most in pieces
        assert least not in pieces


@pytest.mark.parametrize("model_type", ["bpe", "unigram"])
def test_subwords_are_kept_and_found_again(tmp_path, model_type):
    made = vocabulary_of(subwords=SentencePieceConfig(model_type=model_type, vocab_size=280))
    folder = open_location(str(tmp_path / "vocabulary"))
    made.save(folder)
    found = load_tokenizer(folder)
    assert isinstance(found, LabelTokenizer)
    assert isinstance(found.subwords, SentencePieceTokenizer)
    assert found.fingerprint == made.fingerprint != vocabulary_of().fingerprint
    assert [ids.tolist() for ids in found.subwords.encode(WORDS)] == [
        ids.tolist() for ids in made.subwords.encode(WORDS)
    ]
    assert found.with_intents(["ask"]).subwords.fingerprint == made.subwords.fingerprint
    with pytest.raises(ValueError, match="ASCII"):
        LabelTokenizer.from_bytes(made.model_bytes().replace(b'"subwords": "', b'"subwords": "\\u00e9'))


def test_a_batch_has_the_pieces_of_its_spellings_in_their_order(vocabulary):
    rows = [["walking", "reads", ""], [], ["singer", "walking", "é"]]
    table = LabelledTable.from_rows(rows, None, vocabulary)
    batch = LabelledReader(table, pieces=True).read(np.array([2, 0, 1, -1]))
    for row, words in enumerate([rows[2], rows[0]]):
        for place, word in enumerate(words):
            spelling = int(batch.spelling[row, place])
            found = batch.pieces[spelling, : batch.piece_lengths[spelling]].tolist()
            assert found == (vocabulary.subwords.encode([word])[0].tolist() or [0])
    assert len(batch.pieces) == len(batch.spellings) == 5
    assert batch.pieces.shape[1] == max(len(ids) for ids in vocabulary.subwords.encode([*rows[0], *rows[2]]))
    empty = LabelledReader(table, pieces=True).read(np.array([1]))
    assert (empty.pieces.tolist(), empty.piece_lengths.tolist()) == ([[0]], [1])


def test_words_are_cut_when_somebody_asks_and_once_a_table(vocabulary, monkeypatch):
    calls = []
    encode = SentencePieceTokenizer.encode
    monkeypatch.setattr(SentencePieceTokenizer, "encode", lambda *given: calls.append(given) or encode(*given))
    table = LabelledTable.from_rows([WORDS, WORDS[:3]], None, vocabulary)
    batch = LabelledReader(table).read(np.arange(2))
    assert batch.pieces.shape == (len(WORDS), 0)
    assert not calls
    reader = LabelledReader(table, pieces=True)
    for row in (0, 1, 1):
        reader.read(np.array([row]))
    assert len(calls) == 1
