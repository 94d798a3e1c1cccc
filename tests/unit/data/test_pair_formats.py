"""Tables of tabs and line-aligned files: what a row is, and errors that name file and line."""

import lzma

import pyarrow as pa
import pytest

from rnnlm.config import from_dict
from rnnlm.data.formats import text_blocks
from rnnlm.data.formats.base import CorpusConfig
from rnnlm.data.formats.parallel import ParallelCorpus
from rnnlm.data.formats.tsv import TsvCorpus
from rnnlm.data.listing import Listing
from rnnlm.errors import ConfigError, DataError
from tests.corpora import write_compressed


def rows(corpus):
    listing = corpus.list_units()
    return pa.concat_tables(
        [listing.schema.empty_table(), *(corpus.read_unit(unit, listing.schema) for unit in listing.units)]
    ).to_pylist()


def tsv(folder, content, **fields):
    (folder / "a.tsv").write_bytes(content.encode())
    return TsvCorpus(path=str(folder / "a.tsv"), **fields)


def parallel(folder, **contents):
    for name, content in contents.items():
        (folder / f"a.{name}").write_bytes(content.encode())
    return ParallelCorpus(files={name: str(folder / f"a.{name}") for name in contents})


# ----- tables of tabs


def test_a_cell_holds_anything_but_a_tab_and_a_line_end(tmp_path):
    corpus = tsv(tmp_path, 'de\ten\r\n"a" b\tc\u2028d\r\n\te\n')
    assert rows(corpus) == [{"de": '"a" b', "en": "c\u2028d"}, {"de": "", "en": "e"}]


def test_the_mark_of_byte_order_is_no_part_of_a_name(tmp_path):
    assert rows(tsv(tmp_path, "\ufeffde\ten\na\tb\n")) == [{"de": "a", "en": "b"}]


def test_given_names_make_the_first_line_a_row(tmp_path):
    assert rows(tsv(tmp_path, "a\tb\n", names=["de", "en"])) == [{"de": "a", "en": "b"}]


@pytest.mark.parametrize("header", [True, False])
def test_a_header_is_found_from_any_unit(tmp_path, monkeypatch, header):
    monkeypatch.setattr(text_blocks, "BLOCK_BYTES", 16)
    lines = [f"line {number}\t{number}" for number in range(30)]
    corpus = tsv(tmp_path, "\n".join((["a\tb"] if header else []) + lines), names=None if header else ["a", "b"])
    listing = corpus.list_units()
    assert len(listing.units) > 10
    assert listing.rows == 30
    reverse = [corpus.read_unit(unit, listing.schema, ["b"]) for unit in reversed(listing.units)]
    assert pa.concat_tables(reverse[::-1])["b"].to_pylist() == list(map(str, range(30)))


@pytest.mark.parametrize("block", [8, 1 << 20])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a\tb\nc\td\n1\n", r"the line has 1 cell, 2 are needed \(a, b\) at .*a.tsv, line 3; separate"),
        ("a\tb\nc\td\te\n", r"has 3 cells, 2 are needed \(a, b\) at .*a.tsv, line 2"),
        ("a\tb\n\n", r"has 1 cell, 2 are needed \(a, b\) at .*a.tsv, line 2"),
        ("a\ta\n", r"does not name the columns: 'a' stands there twice at .*a.tsv, line 1; write a header, or set"),
        ("a\t\n", r"does not name the columns: a name is empty at .*a.tsv, line 1"),
        ("", r"the file is empty, its first line should name the columns at .*a.tsv"),
    ],
)
def test_what_is_no_table_is_named_with_its_line(tmp_path, monkeypatch, content, said, block):
    monkeypatch.setattr(text_blocks, "BLOCK_BYTES", block)
    with pytest.raises(DataError, match=said):
        tsv(tmp_path, content).list_units()


def test_files_may_differ_in_the_order_of_columns_but_not_in_the_columns(tmp_path):
    (tmp_path / "a.tsv").write_text("de\ten\nein\tone\n")
    (tmp_path / "b.tsv").write_text("en\tde\ntwo\tzwei\n")
    corpus = TsvCorpus(path=str(tmp_path))
    assert rows(corpus) == [{"de": "ein", "en": "one"}, {"de": "zwei", "en": "two"}]
    (tmp_path / "c.tsv").write_text("de\tfr\ntrois\tdrei\n")
    with pytest.raises(DataError, match=r"no column 'en', but in .*a.tsv there is at .*c.tsv.*same columns"):
        corpus.list_units()


def test_names_that_cannot_be_columns_are_refused():
    with pytest.raises(ConfigError, match="'a' stands there twice"):
        from_dict(CorpusConfig, {"_target_": "rnnlm.data.formats.tsv.TsvCorpus", "path": "a.tsv", "names": ["a", "a"]})


# ----- line-aligned files


def test_lines_pair_by_their_number(tmp_path, monkeypatch):
    monkeypatch.setattr(text_blocks, "BLOCK_BYTES", 16)  # so that blocks of the files end at other lines
    de, en = [f"{n} " + "lang" * n for n in range(20)], [f"short {n}" for n in range(20)]
    write_compressed(tmp_path / "a.de.xz", "\n".join(de).encode())
    (tmp_path / "a.en").write_text("\n".join(en))
    corpus = ParallelCorpus(files={"de": str(tmp_path / "a.de.xz"), "en": str(tmp_path / "a.en")})
    assert rows(corpus) == [{"de": left, "en": right} for left, right in zip(de, en, strict=True)]
    listing = corpus.list_units()
    assert [file.path[-4:] for file in listing.files] == ["e.xz", "a.en"]
    assert len(listing.units) == 1
    assert corpus.list_units(Listing.from_bytes(listing.to_bytes())).units == listing.units


def test_several_files_pair_in_their_order(tmp_path):
    for name in ("de", "en"):
        (tmp_path / name).mkdir()
        for number in (2, 1):
            (tmp_path / name / f"{number}.txt").write_text(f"{name} {number}\n")
    corpus = ParallelCorpus(files={"de": str(tmp_path / "de"), "en": str(tmp_path / "en/*.txt")})
    assert rows(corpus) == [{"de": "de 1", "en": "en 1"}, {"de": "de 2", "en": "en 2"}]
    (tmp_path / "de/3.txt").write_text("de 3\n")
    with pytest.raises(DataError, match=r"different numbers of files: 3 for de, 2 for en; check corpus.files"):
        corpus.list_units()


def test_files_that_do_not_pair_are_named_with_their_lines(tmp_path):
    corpus = parallel(tmp_path, de="a\nb\nc\n", en="a\nb\n")
    with pytest.raises(DataError, match=r"the files do not pair: 3 lines in .*a.de, 2 in .*a.en; give files"):
        corpus.list_units()


def test_a_file_beside_another_that_changes_after_listing_is_noticed(tmp_path):
    corpus = parallel(tmp_path, de="a\nb\n", en="a\nb\n")
    listing = corpus.list_units()
    (tmp_path / "a.en").write_text("b\na \n")
    with pytest.raises(DataError, match=r"the files beside this one changed after they were listed at .*a.de"):
        corpus.read_unit(listing.units[0], listing.schema)


def test_one_file_is_no_pair_and_no_file_pairs_with_itself(tmp_path):
    (tmp_path / "a.txt").write_text("a\n")
    path = str(tmp_path / "a.txt")
    with pytest.raises(ConfigError, match="files"):
        from_dict(CorpusConfig, {"_target_": "rnnlm.data.formats.parallel.ParallelCorpus", "files": {"de": path}})
    with pytest.raises(DataError, match=r"the same file is given for two columns at .*a.txt"):
        ParallelCorpus(files={"de": path, "en": path}).list_units()


@pytest.mark.parametrize("damage", [lambda content: content[:-20], lambda content: content[:60] + b"x" * 40])
def test_damaged_xz_is_refused_when_it_is_listed(tmp_path, damage):
    content = lzma.compress("\n".join(f"{n * 7919}" for n in range(400)).encode())
    (tmp_path / "a.de.xz").write_bytes(damage(content))
    (tmp_path / "a.en").write_text("\n".join(map(str, range(400))))
    with pytest.raises(DataError, match=r"cannot decompress the file \(xz\).*a.de.xz.*; was its writing or copying"):
        ParallelCorpus(files={"de": str(tmp_path / "a.de.xz"), "en": str(tmp_path / "a.en")}).list_units()
