"""Files of word vectors in every layout: the same words and numbers, and every way a file can be wrong."""

import json

import numpy as np
import pytest
import safetensors.numpy

from rnnlm.data.formats import text_blocks
from rnnlm.data.vector_files.read import read_blocks, read_words
from rnnlm.data.vector_files.safetensors import write_safetensors
from rnnlm.errors import DataError
from tests.corpora import write_compressed

WORDS = ["the", "café", "2.5", "of"]
VECTORS = np.array([[1, 2, 3], [-1e-3, 0, 1], [4, 5, 6.5], [0.1, 0.2, 0.3]], dtype=np.float32)


def as_text(words=WORDS, vectors=VECTORS, header=""):
    lines = [" ".join([word, *map(str, row)]) for word, row in zip(words, vectors.tolist(), strict=True)]
    return "".join(f"{line}\n" for line in [*header, *lines]).encode()


def as_binary(words=WORDS, vectors=VECTORS, header=b"4 3\n", end=b"\n"):
    rows = zip(words, vectors, strict=True)
    return header + b"".join(word.encode() + b" " + row.astype("<f4").tobytes() + end for word, row in rows)


def as_tensor(words=WORDS, **tensors):
    metadata = {} if words is None else {"words": "\n".join(words)}
    return safetensors.numpy.save(tensors or {"vectors": VECTORS}, metadata=metadata)


LAYOUTS = {
    "v.txt": as_text(),
    "v.vec.xz": as_text(header=["4 3"]),
    "v.bin": as_binary(),
    "v.bin.gz": as_binary(end=b""),
    "v.bin.xz": as_binary(),
    "v.bin.zst": as_binary(),
    "v.safetensors": as_tensor(),
    "half.safetensors": as_tensor(vectors=VECTORS.astype(np.float16)),
}


def written(folder, name, content):
    write_compressed(folder / name, content)
    return str(folder / name)


def read(path):
    """All words, all numbers, and the sizes that were told."""
    sizes, words, parts = [], [], [np.zeros((0, 3), dtype=np.float32)]
    for block in read_blocks(path, option="an option", check=lambda size, where: sizes.append(size)):
        words += block.words
        if block.words:
            parts.append(block.numbers(range(len(block.words))))
    return words, np.concatenate(parts), sizes


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("block_bytes", [7, 40, 1 << 20])
def test_every_layout_gives_words_and_numbers_whatever_its_blocks(tmp_path, monkeypatch, name, block_bytes):
    monkeypatch.setattr(text_blocks, "BLOCK_BYTES", block_bytes)
    words, numbers, sizes = read(written(tmp_path, name, LAYOUTS[name]))
    assert words == WORDS
    np.testing.assert_allclose(numbers, VECTORS, rtol=1e-3 if name.startswith("half") else 0)
    assert numbers.dtype == np.float32
    assert sizes == [3]
    assert list(read_words(str(tmp_path / name), 2, option="an option")) == WORDS[:2]


def test_only_the_numbers_that_are_asked_for_are_read(tmp_path):
    broken = as_text() + b"never 1 2 x\n"
    (block,) = read_blocks(written(tmp_path, "v.txt", broken), option="an option")
    assert block.numbers([3, 0]).tolist() == VECTORS[[3, 0]].tolist()
    with pytest.raises(DataError, match=r"not a number: 'x' at .*v.txt, line 5"):
        block.numbers([0, 4])


def test_a_tensor_is_written_and_found_again(tmp_path):
    path = str(tmp_path / "v.safetensors")
    write_safetensors(path, WORDS, VECTORS)
    words, numbers, _ = read(path)
    assert words == WORDS
    assert (numbers == VECTORS).all()
    write_safetensors(path, [], VECTORS[:0])
    assert read(path)[0] == []
    for words in (WORDS[:2], [*WORDS[:3], "a\nb"]):
        with pytest.raises(ValueError, match="a word without a line feed"):
            write_safetensors(path, words, VECTORS)


NAN = np.where(VECTORS == 5, np.nan, VECTORS)
LONG = np.zeros((1, 1 << 15), dtype=np.float32)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        (
            "v.txt",
            as_text() + b"cut 1 2\n",
            r"a word and 3 numbers are needed, the line has 2 numbers at .*, line 5; w",
        ),
        ("v.txt", as_text(header=["4 3"]) + b"a 1 2,5 3\n", r"not a number: '2,5' at .*v.txt, line 6"),
        ("v.txt", as_text() + b"a 1  3\n", r"not a number: '' at .*v.txt, line 5"),
        ("v.txt", as_text(vectors=NAN), r"a number is not finite at .*v.txt, line 3"),
        ("v.txt", as_text() + b"\xff 1 2 3\n", r"not valid UTF-8 \(byte 0xff\) at .*v.txt, line 5"),
        ("v.txt", b"4 0\na\n", r"the vectors have 0 numbers, at least 1 is needed at .*v.txt, line 1; is it"),
        ("v.bin", as_text(), r"the first line \(byte 0\) does not say how many words .*; is it word2vec's binary"),
        ("v.bin", b"\0" * 99, r"the first line \(byte 0\) does not say"),
        ("v.bin", b"4 0\n", r"the first line \(byte 0\) does not say"),
        ("v.bin", b"", r"ends at byte 0; still to come: a header at .*v.bin; was its writing"),
        ("v.bin", as_binary()[:-5], r"ends at byte 68; still to come: words, 1 of them at .*v.bin; was its writing"),
        ("v.bin", as_binary() + b"of ", r"something follows the last word \(byte 72\) at .*; is the number of words"),
        ("v.bin", as_binary().replace(b"caf", b"c\xfff"), r"the word is not valid UTF-8 \(byte 21\) at .*v.bin; is it"),
        ("v.bin", as_binary(vectors=NAN), r"word '2.5': a number is not finite \(byte 44\) at .*v.bin"),
        ("v.bin", b"9 3\n" + b"x" * (1 << 17), r"no word ends within 65,536 bytes \(byte 4\) at .*v.bin; is it"),
        ("v.safetensors", b"no", r"it cannot be read as safetensors: .* at .*v.safetensors; write it with rnnlm"),
        ("v.safetensors", as_tensor()[:-4], r"it cannot be read as safetensors"),
        ("v.safetensors", as_tensor(x=VECTORS), r"there is no tensor 'vectors' among x at .*; write it with"),
        ("v.safetensors", as_tensor(vectors=VECTORS[0]), r"'vectors' is float32 of shape \[3\], not numbers V x D at"),
        ("v.safetensors", as_tensor(vectors=VECTORS.astype(int)), r"'vectors' is int64 of shape \[4, 3\], not numbers"),
        ("v.safetensors", as_tensor(vectors=VECTORS[:, :0]), r"of shape \[4, 0\], not numbers V x D"),
        ("v.safetensors", as_tensor(None), r"its metadata have no 'words' at .*; write it with"),
        ("v.safetensors", as_tensor(WORDS[:3]), r"there are 3 words and 4 vectors at"),
        ("v.safetensors", as_tensor(vectors=NAN), r"word '2.5': a number is not finite at .*v.safetensors, row 2"),
    ],
)
def test_a_file_that_cannot_be_used_says_where_and_why(tmp_path, name, content, problem):
    with pytest.raises(DataError, match=problem):
        read(written(tmp_path, name, content))


def test_what_was_compressed_and_cut_says_how_far_it_could_be_read(tmp_path):
    path = written(tmp_path, "v.bin.gz", as_binary(WORDS[:1], LONG, b"1 32768\n"))
    content = (tmp_path / "v.bin.gz").read_bytes()
    (tmp_path / "v.bin.gz").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"cannot decompress the file \(gzip\) behind byte .*v.bin.gz; was its writing"):
        read(path)


def test_a_file_that_is_not_there_names_the_option(tmp_path):
    with pytest.raises(DataError, match=r"there is no file .*nowhere.bin; check an option"):
        read(str(tmp_path / "nowhere.bin"))


def test_a_header_that_is_no_table_of_tensors(tmp_path):
    header = json.dumps({"__metadata__": {"words": "a"}}).encode()
    path = written(tmp_path, "v.safetensors", len(header).to_bytes(8, "little") + header)
    with pytest.raises(DataError, match="there is no tensor 'vectors' among none"):
        read(path)
