"""Plain text and JSON lines: where lines end, and errors that name file and line."""

import json

import pyarrow as pa
import pytest

from rnnlm.data.formats import jsonl, text_blocks
from rnnlm.data.formats.jsonl import JsonlCorpus
from rnnlm.data.formats.lines import LinesCorpus
from rnnlm.data.formats.text_blocks import Lines
from rnnlm.errors import DataError
from tests.corpora import write_compressed as write


@pytest.fixture
def lines_of(tmp_path):
    def read(content: bytes):
        (tmp_path / "a.txt").write_bytes(content)
        corpus = LinesCorpus(path=str(tmp_path / "a.txt"))
        listing = corpus.list_units()
        return [text for unit in listing.units for text in corpus.read_unit(unit, listing.schema)["text"].to_pylist()]

    return read


@pytest.fixture
def table_of(tmp_path):
    def read(*lines: str, end: str = "\n") -> pa.Table:
        (tmp_path / "a.jsonl").write_bytes("".join(line + end for line in lines).encode())
        corpus = JsonlCorpus(path=str(tmp_path / "a.jsonl"))
        listing = corpus.list_units()
        tables = [corpus.read_unit(unit, listing.schema) for unit in listing.units]
        return pa.concat_tables(tables) if tables else pa.table({})

    return read


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a", ["a"]),
        (b"a\n", ["a"]),
        (b"a\nb", ["a", "b"]),
        (b"a\n\nb\n\n", ["a", "", "b", ""]),
        (b"a\r\nb\r\n", ["a", "b"]),
        (b"a\rb\n", ["a\rb"]),
        (b"a\r\r\n", ["a\r"]),
        ("a\u2028b\u0085c\x0bd\n".encode(), ["a\u2028b\u0085c\x0bd"]),
    ],
)
def test_a_line_ends_at_a_line_feed_and_nothing_else(lines_of, content, lines):
    assert lines_of(content) == lines


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 1000])
def test_the_size_of_blocks_changes_nothing(lines_of, monkeypatch, size):
    content = "a\n\nbc\r\n\u00fc\U0001f600\nlonger than a block is\nend".encode()
    monkeypatch.setattr(text_blocks, "BLOCK_BYTES", size)
    assert lines_of(content) == ["a", "", "bc", "\u00fc\U0001f600", "longer than a block is", "end"]


def test_a_line_across_the_real_border_of_a_block_stays_whole(tmp_path):
    before = [f"{number:08d} " + "x" * 990 for number in range(8_300)]  # 8.3 MB: the border lies in the next line
    lines = [*before, "y" * 700_000, "\u00fc last"]
    (tmp_path / "a.txt").write_bytes("\n".join(lines).encode())
    corpus = LinesCorpus(path=str(tmp_path))
    listing = corpus.list_units()
    assert listing.units[0].rows == len(before)
    assert len(before) * 1000 < text_blocks.BLOCK_BYTES < len(before) * 1000 + 700_000
    assert sum(unit.num_bytes for unit in listing.units) == (tmp_path / "a.txt").stat().st_size
    found = [text for unit in listing.units for text in corpus.read_unit(unit, listing.schema)["text"].to_pylist()]
    assert found == lines


@pytest.mark.parametrize("block", [4, 1 << 20])
@pytest.mark.parametrize("kind", [LinesCorpus, JsonlCorpus])
def test_what_is_not_utf8_is_refused_with_file_and_line(tmp_path, monkeypatch, kind, block):
    monkeypatch.setattr(text_blocks, "BLOCK_BYTES", block)
    file = tmp_path / "bad.any"
    file.write_bytes(b'{"text": "a"}\n' * 41 + b'{"text": "\xff"}\n{}\n')
    with pytest.raises(DataError, match=rf"not valid UTF-8 \(byte 0xff\) at {file}, line 42; convert"):
        kind(path=str(file)).list_units()


def test_a_file_that_changed_after_listing_is_noticed(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("a\nb\nc\n")
    corpus = LinesCorpus(path=str(file))
    listing = corpus.list_units()
    file.write_text("a\n")
    with pytest.raises(DataError, match=r"the file changed after it was listed: 6 bytes, .* -> 2 bytes, .* at .*a.txt"):
        corpus.read_unit(listing.units[0], listing.schema)
    file.unlink()
    with pytest.raises(DataError, match="the file is gone"):
        corpus.read_unit(listing.units[0], listing.schema)


# ----- JSON lines


def test_fields_come_from_all_lines_of_all_units(table_of, monkeypatch):
    monkeypatch.setattr(text_blocks, "BLOCK_BYTES", 8)
    rows = [{"a": 1}, {"b": "x"}, {"a": 2.5}, {"c": [1, None], "d": {"e": 1}}, {"d": {"f": "y"}}, {}, {"a": None}]
    table = table_of(*map(json.dumps, rows))
    assert table.schema.names == ["a", "b", "c", "d"]
    assert table.column("a").to_pylist() == [1.0, None, 2.5, None, None, None, None]
    assert table.column("d").to_pylist()[3:5] == [{"e": 1, "f": None}, {"e": None, "f": "y"}]


def test_several_files_are_one_corpus_in_order(tmp_path):
    for name in ("b", "a"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"text": name}))
    corpus = JsonlCorpus(path=str(tmp_path))
    assert list(corpus.iterate_texts(corpus.list_units())) == ["a", "b"]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_signs_that_look_like_line_ends_stay_inside_a_string(table_of, end):
    texts = ["a\u2028b", "c\u0085d", "e\\n\nf", "g\r"]
    table = table_of(*(json.dumps({"text": text}, ensure_ascii=False) for text in texts), end=end)
    assert table.column("text").to_pylist() == texts


@pytest.mark.parametrize("ending", ["", ".gz", ".xz", ".zst"])
@pytest.mark.parametrize("block", [8, 1 << 20])
@pytest.mark.parametrize(
    ("bad", "said", "column"),
    [
        ('{"a": ', "the JSON object does not end with the line", None),
        ('{"a": }', "not valid JSON lines", None),
        ('{"a": 1, "a": 2}', "specified twice", "a"),
        ("[1]", "not a JSON object, it begins with '\\[1\\]'", None),
        ("5", "not a JSON object", None),
        ("null", "not a JSON object", None),
        ('{"a": "x"}', "changed from number to string", "a"),
        ('{"a": {"b": 1}}', "changed from number to object", "a"),
        ('{"a": 1, "b": [1, "x"]}', "changed from number to string", "b/[]"),
        ('{"a": 1}{"a": 2}', "the line holds more than one object", None),
        ("", "an empty line", None),
        ("  ", "an empty line", None),
        ('{"b": "\\ud800"}', "surrogate", None),
        ('{"a": 1e999}', "too big", None),
    ],
)
def test_a_bad_line_is_named_by_its_number_in_the_file(tmp_path, monkeypatch, bad, said, column, block, ending):
    monkeypatch.setattr(text_blocks, "BLOCK_BYTES", block)
    file = tmp_path / f"a.jsonl{ending}"
    write(file, "".join(line + "\n" for line in ['{"a": 1}', '{"a": 2}', bad, '{"a": 3}']).encode())
    with pytest.raises(DataError, match=rf"{said}.* at {file}, ") as caught:
        JsonlCorpus(path=str(file)).list_units()
    assert (caught.value.where.line, caught.value.where.column) == (3, column)


def test_a_line_that_turned_bad_after_listing_is_named_by_its_number_in_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(text_blocks, "BLOCK_BYTES", 16)
    monkeypatch.setattr(text_blocks, "check_unchanged", lambda file: None)
    for bad, said in [(b'{"t": \x22a}', "Missing a closing quotation"), (b'{"t": "\xff"}', "not valid UTF-8")]:
        file = tmp_path / "a.jsonl"
        file.write_bytes(b'{"t": "a"}\n' * 10)
        corpus = JsonlCorpus(path=str(file))
        listing = corpus.list_units()
        file.write_bytes(b'{"t": "a"}\n' * 7 + bad + b"\n" + b'{"t": "a"}\n' * 2)
        with pytest.raises(DataError, match=said) as caught:
            [corpus.read_unit(unit, listing.schema) for unit in listing.units]
        assert caught.value.where.line == 8


def test_an_integer_that_became_too_large_for_its_column_is_named(tmp_path, monkeypatch):
    """Of a type found in another file; Arrow names no row here."""
    lines = Lines("f", [b'{"a": 1}', b'{"a": 123456789012345678901234567890}'], lambda: 5)
    with pytest.raises(DataError, match=r"Failed to convert JSON to int64.* at f, line 7"):
        jsonl._parse(lines, pa.schema([("a", pa.int64())]))


def test_integers_beyond_64_bits_are_doubles_as_everywhere_in_json(table_of):
    assert table_of('{"a": 1}', '{"a": 123456789012345678901234567890}').column("a").to_pylist() == [
        1.0,
        1.2345678901234568e29,
    ]


def test_a_field_that_changes_its_type_from_file_to_file_is_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"a": "x"}\n')
    (tmp_path / "b.jsonl").write_text('{"a": 5}\n')
    with pytest.raises(DataError, match=r"a field changes its type: .* at .*b.jsonl, column 'a'"):
        JsonlCorpus(path=str(tmp_path)).list_units()


def test_a_string_stays_a_string_whatever_it_looks_like(table_of):
    assert table_of('{"text": "2024-02-29"}').column("text").to_pylist() == ["2024-02-29"]


def test_a_text_that_is_a_date_does_not_change_the_type_of_the_column(table_of, monkeypatch):
    monkeypatch.setattr(text_blocks, "BLOCK_BYTES", 8)
    assert table_of('{"text": "some text"}', '{"text": "2024-02-29"}').num_rows == 2


def test_a_text_column_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": {"body": "x"}}))
    corpus = JsonlCorpus(path=str(tmp_path))
    with pytest.raises(DataError, match=r"text is needed at .*column 'text'; set corpus.text_column"):
        list(corpus.iterate_texts(corpus.list_units()))
