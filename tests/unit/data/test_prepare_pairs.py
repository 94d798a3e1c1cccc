"""The preparation of translation, command and pronunciation pairs, on tiny files of the same formats."""

import gzip
import lzma

import pyarrow.parquet as pq
import pytest

from benchmarks import prepare_pairs
from benchmarks.prepare_pairs import cmudict, cmudict_split, multi30k, scan


def pack(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    opener = {".gz": gzip.open, ".xz": lzma.open}[path.suffix]
    with opener(path, "wb") as stream:
        stream.write(text.encode())


def rows(path):
    return pq.read_table(path).to_pylist()


def test_sentences_pair_by_line_and_lose_the_blanks_around_them(tmp_path):
    for name in ("train", "val", "test_2016_flickr"):
        pack(tmp_path / f"in/{name}.de.gz", "Ein Hund \n Zwei\u2028Hunde\n")
        pack(tmp_path / f"in/{name}.en.gz", "A dog\nTwo\u0085dogs\n")
        pack(tmp_path / f"in/{name}.fr.gz", "Un chien\nDeux chiens\n")
    assert multi30k(tmp_path / "in", tmp_path / "out") == {
        "multi30k/train": 2,
        "multi30k/valid": 2,
        "multi30k/test": 2,
    }
    assert rows(tmp_path / "out/valid.parquet") == [
        {"id": "valid/0", "de": "Ein Hund", "en": "A dog", "fr": "Un chien"},
        {"id": "valid/1", "de": "Zwei\u2028Hunde", "en": "Two\u0085dogs", "fr": "Deux chiens"},
    ]


def test_languages_of_different_lengths_are_refused(tmp_path):
    for name in ("train", "val"):
        for language in ("de", "en", "fr"):
            pack(tmp_path / f"{name}.{language}.gz", "a\nb\n")
    pack(tmp_path / "val.fr.gz", "un\n")
    with pytest.raises(SystemExit, match=r"val do not pair: \{'de': 2, 'en': 2, 'fr': 1\}"):
        multi30k(tmp_path, tmp_path / "out")


def test_commands_are_held_out_by_hash_and_repeated_ones_stay_in_training(tmp_path, monkeypatch):
    train = [f"IN: walk {number} OUT: I_WALK I_{number}" for number in range(400)] + ["IN: jump OUT: I_JUMP"] * 30
    for name in prepare_pairs.SCAN_SPLITS:
        pack(tmp_path / f"in/tasks_train_{name}.txt.xz", "\n".join(train) + "\n")
        pack(tmp_path / f"in/tasks_test_{name}.txt.xz", "IN: jump  twice OUT: I_JUMP I_JUMP\n")
    monkeypatch.setattr(prepare_pairs, "SCAN_VALID_SHARE", 0.5)
    counts = scan(tmp_path / "in", tmp_path / "out")
    assert counts["scan/length"] == 431
    kept, held = (rows(tmp_path / f"out/simple_{part}.parquet") for part in ("train", "valid"))
    assert 150 < len(held) < 250
    assert {"source": "jump", "target": "I_JUMP"} not in held
    assert sorted(f"IN: {row['source']} OUT: {row['target']}" for row in kept + held) == sorted(train)
    assert rows(tmp_path / "out/simple_test.parquet") == [{"source": "jump twice", "target": "I_JUMP I_JUMP"}]


def test_a_line_that_is_no_command_is_named(tmp_path):
    for name in prepare_pairs.SCAN_SPLITS:
        pack(tmp_path / f"tasks_train_{name}.txt.xz", "IN: a OUT: A\nIN: a\n")
        pack(tmp_path / f"tasks_test_{name}.txt.xz", "IN: a OUT: A\n")
    with pytest.raises(SystemExit, match="line 2: not of the form"):
        scan(tmp_path, tmp_path / "out")


def word_in(split):
    return next(word for number in range(10_000) if cmudict_split(word := f"w{number}") == split)


@pytest.mark.parametrize("stress", [False, True])
def test_all_pronunciations_of_a_word_are_in_one_split(tmp_path, stress):
    train, test = word_in("train"), word_in("test")
    lines = [
        f"{train} R EH1 D",
        f"{train}(2) R IY1 D",
        f"{train}(3) R EH0 D # past",
        f"{test} AH0 B",
        f"{test}(2) AH1 B",
    ]
    lines += [f"filler{number} F" for number in range(300)]
    pack(tmp_path / "in/cmudict.dict.xz", "\n".join(lines) + "\n")
    counts = cmudict(tmp_path / "in", tmp_path / "out", stress=stress)
    assert counts == {"cmudict/words": 302, "cmudict/entries": 305}
    found = [row["phonemes"] for row in rows(tmp_path / "out/train.parquet") if row["word"] == train]
    assert found == (["R EH1 D", "R IY1 D", "R EH0 D"] if stress else ["R EH D", "R IY D"])
    assert [row for row in rows(tmp_path / "out/test.parquet") if row["word"] == test] == [
        {
            "word": test,
            "letters": " ".join(test),
            "phonemes": "AH0 B" if stress else "AH B",
            "pronunciations": ["AH0 B", "AH1 B"] if stress else ["AH B"],
        }
    ]
    words = [{row["word"] for row in rows(tmp_path / f"out/{split}.parquet")} for split in ("train", "valid", "test")]
    assert sum(map(len, words)) == len(set.union(*words)) == 302


def test_other_files_than_the_published_ones_are_noticed():
    with pytest.raises(SystemExit, match=r"multi30k/train: 3 instead of 29,000$"):
        prepare_pairs.check_counts({**prepare_pairs.EXPECTED, "multi30k/train": 3})
    prepare_pairs.check_counts(prepare_pairs.EXPECTED)
