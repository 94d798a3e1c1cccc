"""Word vectors from text files: both formats, awkward words, and every way a file can be wrong."""

import logging

import numpy as np
import pytest
import torch

from rnnlm.data.tokenizers.sentencepiece import SentencePieceConfig
from rnnlm.data.vectors import load_vectors, read_vectors, words_of
from rnnlm.errors import DataError
from rnnlm.tasks.language_model import LanguageModelConfig
from tests.corpora import TEXTS, tiny_task, token_table, words_tokenizer, write_compressed

WANTED = {"the": 0, "a b": 1, "café": 2, "none": 3}
GLOVE = "the 1 2 3\na b 4 5 6.5\ncafé -1e-3 0 1\nother 7 7 7\nthe 9 9 9\n"
WORD2VEC = "5 3\n" + GLOVE.replace("\n", " \n")
EXPECTED = {0: [1, 2, 3], 1: [4, 5, 6.5], 2: [-1e-3, 0, 1]}


def written(folder, content, name="vectors.txt"):
    write_compressed(folder / name, content.encode() if isinstance(content, str) else content)
    return str(folder / name)


@pytest.mark.parametrize("content", [GLOVE, WORD2VEC], ids=["glove", "word2vec"])
@pytest.mark.parametrize("name", ["v.txt", "v.txt.gz", "v.txt.zst"])
def test_both_formats_plain_and_compressed(tmp_path, content, name):
    found = read_vectors(written(tmp_path, content, name), 3, WANTED)
    assert {token: vector.tolist() for token, vector in found.items()} == {
        token: np.float32(numbers).tolist() for token, numbers in EXPECTED.items()
    }


@pytest.mark.parametrize(
    ("content", "size", "words"),
    [
        (
            GLOVE,
            4,
            r"the vectors have 3 numbers, task.embedding_size is 4 at .*v.txt, line 1; set task.embedding_size=3",
        ),
        (WORD2VEC, 2, r"the vectors have 3 numbers, task.embedding_size is 2 at .*v.txt, line 1; set"),
        (GLOVE + "cut 1 2\n", 3, r"a word and 3 numbers are needed, the line has 2 numbers at .*v.txt, line 6; was"),
        (GLOVE + "none 1 x 2\n", 3, r"not a number: .*'x' at .*v.txt, line 6"),
        (GLOVE + "none 1 nan 2\n", 3, r"a number is not finite at .*v.txt, line 6"),
        (GLOVE.encode() + b"\xff 1 2 3\n", 3, r"not valid UTF-8 \(byte 0xff\) at .*v.txt, line 6"),
        ("prose\n", 3, r"the vectors have 0 numbers, .* line 1; is it word2vec's or GloVe's text format"),
    ],
)
def test_a_file_that_cannot_be_used_says_where_and_why(tmp_path, content, size, words):
    with pytest.raises(DataError, match=words):
        read_vectors(written(tmp_path, content, "v.txt"), size, WANTED)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"there is no file .*nowhere.txt; check task.pretrained_vectors"):
        read_vectors(str(tmp_path / "nowhere.txt"), 3, WANTED)


def test_pieces_that_begin_a_word_are_words_and_pieces_inside_are_not():
    tokenizer = SentencePieceConfig(model_type="bpe", vocab_size=400).train(TEXTS)
    words = words_of(tokenizer)
    for word, token in words.items():
        assert tokenizer.piece(token) == "\u2581" + word
    assert set(words_of(words_tokenizer())) >= {"the", "cat", "<eos>"}


def test_rows_that_are_found_are_replaced_and_counted(tmp_path, caplog):
    tokenizer = words_tokenizer()
    path = written(tmp_path, "the 1 2 3\ncat 4 5 6\nzebra 0 0 0\n")
    before = torch.randn(tokenizer.vocab_size, 3)
    matrix = before.clone()
    with caplog.at_level(logging.INFO):
        load_vectors(path, matrix, tokenizer)
    (said,) = caplog.records
    assert said.getMessage() == f"{path} has vectors for 2 of the tokenizer's {tokenizer.vocab_size} words"
    assert said.levelno == logging.WARNING  # few
    the, cat = (int(tokenizer.encode([word])[0][0]) for word in ("the", "cat"))
    assert matrix[the].tolist() == [1, 2, 3]
    assert matrix[cat].tolist() == [4, 5, 6]
    others = [token for token in range(tokenizer.vocab_size) if token not in {the, cat}]
    assert torch.equal(matrix[others], before[others])
    with pytest.raises(DataError, match=r"none of the tokenizer's 13 words is in .*\.txt; is it the right file"):
        load_vectors(written(tmp_path, "zebra 0 0 0\n"), matrix, tokenizer)


def test_a_new_run_begins_with_them(tmp_path):
    tokenizer, path = words_tokenizer(), written(tmp_path, "cat " + "0.5 " * 8 + "\n")
    plain = tiny_task()
    task = LanguageModelConfig(cell=plain.cell, embedding_size=8, pretrained_vectors=path)
    model = task.build_model(tokenizer.vocab_size)
    task.prepare(model, token_table(["the cat sat"]), tokenizer)
    (cat,) = tokenizer.encode(["cat"])[0].tolist()
    assert model.embedding.weight[cat].tolist() == [0.5] * 8
    assert model.embedding.weight.requires_grad
    assert model.softmax.weight is model.embedding.weight


def test_of_many_words_of_one_form_the_first_counts(tmp_path):
    wanted = {"1990": 0, "1991": 1, "Is": 2, "is": 3}
    path = written(tmp_path, "2000 0 0 2\n1991 0 0 1\n1992 0 0 9\nIS 0 0 5\nis 0 0 4\niS 0 0 6\n1991 0 0 8\n")
    found = read_vectors(path, 3, wanted, loosely=True)
    assert {token: vector[2] for token, vector in found.items()} == {0: 2, 1: 1, 2: 5, 3: 4}
    assert read_vectors(path, 3, wanted).keys() == {1, 3}
    assert read_vectors(path, 3, {}, loosely=True) == {}
