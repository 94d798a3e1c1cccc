"""What people have: cut, changed, damaged, odd and huge files. Each is read, or refused with its place."""

import json
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rnnlm.data.formats import text_blocks
from rnnlm.data.formats.jsonl import JsonlCorpus
from rnnlm.data.formats.lines import LinesCorpus
from rnnlm.data.formats.parquet import ParquetCorpus
from rnnlm.errors import DataError
from tests.corpora import compressed
from tests.corpora import write_compressed as write

TEXT_FORMATS = [(JsonlCorpus, "jsonl"), (LinesCorpus, "txt")]
CODECS = {".gz": "gzip", ".xz": "xz", ".zst": "zstd"}


def read(corpus, columns=None):
    listing = corpus.list_units()
    return pa.concat_tables([corpus.read_unit(unit, listing.schema, columns) for unit in listing.units])


def jsonl_of(count):
    generator = np.random.default_rng(1)  # noise, so that compressed data are long and end where they end
    return b"".join(b'{"text": "%s"}\n' % generator.bytes(40).hex().encode() for _ in range(count))


# ----- compressed text


@pytest.fixture(params=CODECS)
def ending(request):
    return request.param


def test_a_compressed_file_is_one_unit_of_the_rows_and_bytes_inside(tmp_path, ending):
    content = jsonl_of(100)
    write(tmp_path / f"a.jsonl{ending}", content, member_bytes=1001)
    (unit,) = JsonlCorpus(path=str(tmp_path)).list_units().units
    assert (unit.rows, unit.num_bytes) == (100, len(content))


def test_plain_and_compressed_files_are_one_corpus(tmp_path):
    write(tmp_path / "a.txt", b"a\n")
    write(tmp_path / "b.txt.gz", b"b\r\n\nc")
    write(tmp_path / "c.txt.zst", b"")
    corpus = LinesCorpus(path=str(tmp_path))
    assert read(corpus).column("text").to_pylist() == ["a", "b", "", "c"]
    assert list(corpus.iterate_texts(corpus.list_units())) == ["a", "b", "c"]


@pytest.mark.parametrize("cut", [1, 9, 1000, 4000])
@pytest.mark.parametrize(("kind", "name"), TEXT_FORMATS)
def test_a_compressed_file_cut_short_is_named_with_the_last_line_known(tmp_path, monkeypatch, kind, name, ending, cut):
    monkeypatch.setattr(text_blocks, "BLOCK_BYTES", 500)
    file = tmp_path / f"a.{name}{ending}"
    content = compressed(jsonl_of(200), CODECS[ending])
    file.write_bytes(content[:-cut])
    with pytest.raises(
        DataError, match=r"cannot decompress the file .*(Truncated|ended before).* at .*; was its writing"
    ) as caught:
        kind(path=str(file)).list_units()
    assert caught.value.where.file == str(file)
    line = caught.value.where.line
    assert line is None or 0 < line <= 200
    assert line is not None or cut > 9 or ending == ".zst"  # zstd gives nothing of a block that is not whole


@pytest.mark.parametrize(("kind", "name"), TEXT_FORMATS)
@pytest.mark.parametrize("content", [b'{"text": "not compressed"}\n' * 9, b"\0" * 100])
def test_a_file_that_is_not_what_its_ending_says_is_refused(tmp_path, kind, name, ending, content):
    file = tmp_path / f"a.{name}{ending}"
    file.write_bytes(content)
    with pytest.raises(DataError, match=rf"cannot decompress the file .* at {file}; was its writing"):
        kind(path=str(file)).list_units()


def test_damage_inside_a_gzip_file_is_noticed_by_its_checksum(tmp_path):
    file = tmp_path / "a.jsonl.gz"
    content = bytearray(compressed(jsonl_of(2000), "gzip"))
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(bytes(content))
    with pytest.raises(DataError, match=rf"at {file}"):
        JsonlCorpus(path=str(file)).list_units()


def test_a_compressed_file_of_no_bytes_is_refused_and_one_of_no_lines_is_not(tmp_path, ending):
    file = tmp_path / f"a.txt{ending}"
    file.write_bytes(b"")
    with pytest.raises(DataError, match=r"the file has 0 bytes.* at .*a.txt"):
        LinesCorpus(path=str(file)).list_units()
    write(file, b"")
    assert LinesCorpus(path=str(file)).list_units().rows == 0


def test_a_compressed_file_goes_through_memory_in_blocks(tmp_path, monkeypatch, ending):
    monkeypatch.setattr(text_blocks, "BLOCK_BYTES", 1 << 16)
    write(tmp_path / f"a.txt{ending}", b"some text of forty bytes, no less than so\n" * 400_000)  # 17 MB
    corpus = LinesCorpus(path=str(tmp_path))
    tracemalloc.start()
    listing = corpus.list_units()
    rows = sum(table.num_rows for table in corpus.read_batches(listing.units[0], listing.schema, start=0, stop=399_999))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows == 399_999
    assert peak < (12 if ending == ".xz" else 4) << 20  # xz keeps the last 8 MB for its repetitions


def test_a_compressed_file_that_lost_lines_after_listing_is_noticed(tmp_path, monkeypatch, ending):
    monkeypatch.setattr(text_blocks, "check_unchanged", lambda file: None)
    write(tmp_path / f"a.txt{ending}", b"a\nb\nc\n")
    corpus = LinesCorpus(path=str(tmp_path))
    listing = corpus.list_units()
    write(tmp_path / f"a.txt{ending}", b"a\n")
    with pytest.raises(DataError, match=r"the file changed after it was listed at .*a.txt"):
        corpus.read_unit(listing.units[0], listing.schema)


@pytest.mark.parametrize(("kind", "name"), TEXT_FORMATS)
@pytest.mark.parametrize("suffix", ["", ".gz", ".xz", ".zst"])
def test_what_is_not_utf8_is_named_with_file_and_line(tmp_path, monkeypatch, kind, name, suffix):
    monkeypatch.setattr(text_blocks, "BLOCK_BYTES", 64)
    file = tmp_path / f"a.{name}{suffix}"
    write(file, b'{"text": "a"}\n' * 41 + b'{"text": "\xff"}\n{}\n')
    with pytest.raises(DataError, match=rf"not valid UTF-8 \(byte 0xff\) at {file}, line 42; convert"):
        kind(path=str(file)).list_units()


# ----- long and odd lines


@pytest.mark.parametrize(
    ("name", "suffix"),
    [(name, suffix) for name in ("jsonl", "txt") for suffix in ("", ".gz", ".xz", ".zst")] + [("parquet", "")],
)
def test_a_text_of_ten_megabytes_is_a_text(tmp_path, name, suffix):
    texts = ["before", "\u00fcx " * 2_600_000, "after"]
    file = tmp_path / f"a.{name}{suffix}"
    if name == "jsonl":
        write(file, "".join(json.dumps({"text": text}) + "\n" for text in texts).encode())
    elif name == "txt":
        write(file, "".join(text + "\n" for text in texts).encode())
    else:
        pq.write_table(pa.table({"text": texts}), file)
    kind = {"jsonl": JsonlCorpus, "txt": LinesCorpus, "parquet": ParquetCorpus}[name]
    assert read(kind(path=str(file))).column("text").to_pylist() == texts


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_line_without_end_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(text_blocks, "BLOCK_BYTES", 100)
    monkeypatch.setattr(text_blocks, "MAX_LINE_BYTES", 1 << 20)
    file = tmp_path / f"a.txt{suffix}"
    write(file, b"short\n" + b"x" * (2 << 20))
    with pytest.raises(DataError, match=rf"the line is longer than 1 MB at {file}, line 2"):
        LinesCorpus(path=str(file)).list_units()


def test_objects_that_go_over_lines_are_refused_even_if_their_number_fits(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'{"a": 1}{"a":\n2}\n')
    with pytest.raises(DataError, match=r"the JSON object does not end with the line.* at .*a.jsonl, line 1"):
        JsonlCorpus(path=str(file)).list_units()


# ----- Parquet


def with_bad_text(values):
    """A string array whose bytes nobody checked, as foreign writers leave them."""
    return pa.Array.from_buffers(pa.string(), len(values), pa.array(values, pa.binary()).buffers())


def test_a_text_that_is_not_utf8_costs_its_row_and_not_the_file(tmp_path):
    bad = with_bad_text([b"a", b"b\xff", b"c"])
    pq.write_table(pa.table({"text": bad, "n": [1, 2, 3]}), tmp_path / "a.parquet")
    table = read(ParquetCorpus(path=str(tmp_path)))
    assert table.column("n").to_pylist() == [1, 2, 3]
    assert [table.slice(row, 1).column("text").to_pylist() for row in (0, 2)] == [["a"], ["c"]]
    with pytest.raises(UnicodeDecodeError):  # the bulk engine makes this the error of the row
        table.slice(1, 1).column("text").to_pylist()
    assert table.column("text").cast(pa.binary()).to_pylist() == [b"a", b"b\xff", b"c"]


def test_a_text_that_is_not_utf8_is_named_where_all_texts_are_needed(tmp_path):
    for name, values in [("a", [b"a"]), ("b", [b"", b"x", b"b", None, b"c\xff", b"d"])]:
        pq.write_table(pa.table({"text": with_bad_text(values)}), tmp_path / f"{name}.parquet", row_group_size=3)
    corpus = ParquetCorpus(path=str(tmp_path), where="text != 'b'")
    said = (
        r"not valid UTF-8 \(byte 0xff at byte 1\) at .*b.parquet, row group 1, row 1, column 'text'; write the column"
    )
    with pytest.raises(DataError, match=said):
        list(corpus.iterate_texts(corpus.list_units()))


def test_a_filter_that_meets_what_is_not_utf8_blames_the_data(tmp_path):
    pq.write_table(pa.table({"text": with_bad_text([b"a", b"\xff"])}), tmp_path / "a.parquet")
    corpus = ParquetCorpus(path=str(tmp_path), where="lower(text) == 'a'")
    with pytest.raises(DataError, match=r"corpus.where: .* meets a text that is not valid UTF-8"):
        list(corpus.iterate_texts(corpus.list_units()))


def test_row_groups_without_rows_are_units_without_rows(tmp_path):
    table = pa.table({"text": ["a", "b"]})
    with pq.ParquetWriter(tmp_path / "a.parquet", table.schema) as writer:
        for rows in (0, 2, 0, 1, 0):
            writer.write_table(table.slice(0, rows))
    corpus = ParquetCorpus(path=str(tmp_path))
    listing = corpus.list_units()
    assert [unit.rows for unit in listing.units] == [0, 2, 0, 1, 0]
    assert list(corpus.iterate_texts(listing)) == ["a", "b", "a"]
    assert read(corpus).num_rows == 3


@pytest.mark.parametrize("place", [-8, -7, -6, -5])
def test_a_corrupt_footer_is_named(tmp_path, place):
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["x"] * 100}), file)
    content = bytearray(file.read_bytes())
    content[place] ^= 0x7F
    file.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"not a readable Parquet file: .* at .*a.parquet; was its writing"):
        ParquetCorpus(path=str(tmp_path)).list_units()


def test_a_column_name_that_is_not_utf8_is_damage_too(tmp_path):
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["x"], "nnnn": [1]}), file)
    file.write_bytes(file.read_bytes().replace(b"nnnn", b"nn\xf7n"))
    with pytest.raises(DataError, match=r"not a readable Parquet file: .* at .*a.parquet; was its writing"):
        ParquetCorpus(path=str(tmp_path)).list_units()


def test_one_of_many_files_that_lacks_a_column_is_named(tmp_path):
    for number in range(20):
        rows = {"text": ["a"]} if number == 13 else {"text": ["a"], "score": [1.0]}
        pq.write_table(pa.table(rows), tmp_path / f"{number:02d}.parquet")
    said = r"the column is absent here and double in .*00.parquet at .*13.parquet, column 'score'"
    with pytest.raises(DataError, match=said):
        ParquetCorpus(path=str(tmp_path)).list_units()


@pytest.mark.parametrize("name", ["a.parquet", "a.jsonl", "a.txt", "a.jsonl.gz"])
def test_a_file_of_no_bytes(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    kind = ParquetCorpus if "parquet" in name else LinesCorpus if "txt" in name else JsonlCorpus
    with pytest.raises(DataError, match=rf"at .*{name}"):
        list(kind(path=str(tmp_path)).iterate_texts(kind(path=str(tmp_path)).list_units()))
