"""Files of vectors that are written: what is read back is the same to the bit, in every layout."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from rnnlm.data.vector_files.read import read_blocks
from rnnlm.data.vector_files.write import can_hold, name_problem, write_vectors

WORDS = ["the", "café", "2.5", "▁", "東京"]
VECTORS = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32) * np.float32(1e-6)
VECTORS[0] = [0.1, -1e30, 1.0]


@pytest.mark.parametrize(
    ("name", "layout"), [("v.txt", "word2vec"), ("v.bin", "word2vec"), ("v.safetensors", "safetensors")]
)
def test_readers_give_back_what_was_written(tmp_path, name, layout):
    write_vectors(str(tmp_path / name), layout, WORDS, range(5), VECTORS)
    words, numbers = [], []
    for block in read_blocks(str(tmp_path / name), option="an option"):
        words += block.words
        numbers.append(block.numbers(range(len(block.words))))
    assert words == WORDS
    assert np.concatenate(numbers).tobytes() == VECTORS.tobytes()


def test_parquet_keeps_tokens_and_any_word(tmp_path):
    words = ["", " ", "a b", "\n", "x"]
    write_vectors(str(tmp_path / "v.parquet"), "parquet", words, [4, 7, 1, 2, 3], VECTORS)
    table = pq.read_table(tmp_path / "v.parquet")
    assert table["word"].to_pylist() == words
    assert table["token"].to_pylist() == [4, 7, 1, 2, 3]
    assert np.array(table["vector"].to_pylist(), np.float32).tobytes() == VECTORS.tobytes()


@pytest.mark.parametrize(
    ("layout", "word", "holds"),
    [
        ("word2vec", "a", True),
        ("word2vec", "", False),
        ("word2vec", "a b", False),
        ("word2vec", "a\n", False),
        ("word2vec", "\u3000", False),
        ("safetensors", "a b", True),
        ("safetensors", "a\nb", False),
        ("parquet", "a\nb", True),
    ],
)
def test_what_a_layout_can_hold(layout, word, holds):
    assert can_hold(layout, word) is holds


@pytest.mark.parametrize(
    ("layout", "path", "fine"),
    [
        ("word2vec", "a/v.txt", True),
        ("word2vec", "a.b/vectors", True),
        ("word2vec", "v.bin", True),
        ("word2vec", "v.txt.gz", False),
        ("word2vec", "v.parquet", False),
        ("parquet", "v.parquet", True),
        ("parquet", "v.txt", False),
        ("safetensors", "v.safetensors", True),
        ("safetensors", "v.bin", False),
    ],
)
def test_names_that_readers_would_misread_are_problems(layout, path, fine):
    assert (name_problem(path, layout) is None) is fine
