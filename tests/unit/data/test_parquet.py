"""Parquet: every type comes back, and a file that does not fit is named."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rnnlm.data.formats.parquet import ParquetCorpus
from rnnlm.errors import DataError
from rnnlm.storage import open_location
from tests.corpora import nasty_table


def units_of(path, text_column="text"):
    corpus = ParquetCorpus(path=str(path), text_column=text_column)
    return corpus, corpus.list_units()


def test_every_type_comes_back_as_it_was_written(tmp_path):
    table = nasty_table(50)
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=7)
    corpus, listing = units_of(tmp_path)
    assert [unit.rows for unit in listing.units] == [7] * 7 + [1]
    again = pa.concat_tables([corpus.read_unit(unit, listing.schema) for unit in listing.units])
    assert again.schema.equals(pq.read_schema(tmp_path / "a.parquet"))
    for name in table.column_names:  # Arrow says that NaN differs from NaN; their text does not
        assert str(again.column(name).to_pylist()) == str(table.column(name).to_pylist()), name


def test_the_units_of_many_files_are_in_the_order_of_their_names(tmp_path):
    for name, rows in [("b", 3), ("a", 2)]:
        pq.write_table(pa.table({"text": [f"{name}{row}" for row in range(rows)]}), tmp_path / f"{name}.parquet")
    corpus, listing = units_of(tmp_path)
    assert list(corpus.iterate_texts(listing)) == ["a0", "a1", "b0", "b1", "b2"]
    assert [(file.path[-9:], file.size > 0) for file in listing.files] == [("a.parquet", True), ("b.parquet", True)]


def test_columns_come_in_the_order_asked_for(tmp_path):
    pq.write_table(pa.table({"x": [1], "text": ["a"], "y": [{"z": 2}]}), tmp_path / "a.parquet")
    corpus, listing = units_of(tmp_path)
    for columns in (["text"], ["y", "x"], ["x", "text", "y"]):
        table = corpus.read_unit(listing.units[0], listing.schema, columns)
        assert table.column_names == columns
        assert table.num_rows == 1


def test_files_without_rows_take_part_but_a_corpus_without_rows_is_refused(tmp_path):
    schema = pa.schema([("text", pa.string())])
    pq.write_table(schema.empty_table(), tmp_path / "a.parquet")
    corpus, listing = units_of(tmp_path)
    assert listing.rows == 0
    with pytest.raises(DataError, match=r"the corpus has no rows at .*a.parquet.*; check corpus.path"):
        list(corpus.iterate_texts(listing))
    pq.write_table(pa.table({"text": ["x"]}), tmp_path / "b.parquet")
    corpus, listing = units_of(tmp_path)
    assert list(corpus.iterate_texts(listing)) == ["x"]


@pytest.mark.parametrize("damage", [lambda c: c[:-7], lambda c: c[:40], lambda c: b"", lambda c: b"PAR1 no PAR1"])
def test_a_file_cut_short_is_named_when_the_corpus_is_listed(tmp_path, damage):
    file = tmp_path / "cut.parquet"
    pq.write_table(pa.table({"text": ["x"] * 100}), file)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(DataError, match=r"not a readable Parquet file: .* at .*cut.parquet; was its writing"):
        units_of(tmp_path)


def test_damage_inside_is_named_with_its_row_group(tmp_path):
    file = tmp_path / "damaged.parquet"
    pq.write_table(pa.table({"text": [f"text {row}" for row in range(4000)]}), file, row_group_size=2000)
    content = bytearray(file.read_bytes())
    start = pq.read_metadata(file).row_group(1).column(0).dictionary_page_offset
    content[start : start + 400] = bytes(400)
    file.write_bytes(bytes(content))
    corpus, listing = units_of(tmp_path)
    assert corpus.read_unit(listing.units[0], listing.schema).num_rows == 2000
    with pytest.raises(DataError, match=r"cannot read the row group: .* at .*damaged.parquet, row group 1"):
        corpus.read_unit(listing.units[1], listing.schema)


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ({"text": [1], "x": [1]}, r"the column is int64 here and string in .*a.parquet at .*b.parquet, column 'text'"),
        ({"text": ["b"]}, r"the column is absent here and int64 in .*a.parquet at .*b.parquet, column 'x'"),
        ({"text": ["b"], "x": [1], "y": [1]}, r"the column is int64 here and absent in .* column 'y'"),
        ({"x": [1], "text": ["b"]}, r"the columns stand in another order than in .*a.parquet at .*b.parquet"),
    ],
)
def test_a_schema_that_differs_from_file_to_file_is_refused(tmp_path, second, said):
    pq.write_table(pa.table({"text": ["a"], "x": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table(second), tmp_path / "b.parquet")
    with pytest.raises(DataError, match=said):
        units_of(tmp_path)


def test_schemas_that_differ_in_metadata_only_are_one(tmp_path):
    table = pa.table({"text": ["a"]})
    pq.write_table(table.replace_schema_metadata({"a": "1"}), tmp_path / "a.parquet")
    pq.write_table(table.replace_schema_metadata({"b": "2"}), tmp_path / "b.parquet")
    corpus, listing = units_of(tmp_path)
    tables = [corpus.read_unit(unit, listing.schema) for unit in listing.units]
    assert all(table.schema.equals(listing.schema, check_metadata=False) for table in tables)
    assert pa.concat_tables(tables).num_rows == 2


def test_a_null_in_a_column_that_is_not_nullable_in_the_first_file(tmp_path):
    strict = pa.schema([pa.field("text", pa.string(), nullable=False)])
    pq.write_table(pa.table({"text": ["a"]}, schema=strict), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": ["b", None]}), tmp_path / "b.parquet")
    corpus, listing = units_of(tmp_path)
    tables = [corpus.read_unit(unit, listing.schema) for unit in listing.units]
    assert pa.concat_tables(tables).column("text").to_pylist() == ["a", "b", None]


@pytest.mark.parametrize("kind", [pa.int64(), pa.binary(), pa.list_(pa.string()), pa.dictionary(pa.int8(), pa.int64())])
def test_a_text_column_of_another_type_is_refused(tmp_path, kind):
    pq.write_table(pa.table({"body": pa.array([], kind), "text": pa.array([], pa.string())}), tmp_path / "a.parquet")
    corpus, listing = units_of(tmp_path, "body")
    with pytest.raises(DataError, match=r"the column has type .*, text is needed at .*column 'body'"):
        list(corpus.iterate_texts(listing))


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string()), pa.string_view()]
)
def test_every_kind_of_text_is_text(tmp_path, kind):
    pq.write_table(pa.table({"text": pa.array(["a", None, "b"]).cast(kind)}), tmp_path / "a.parquet")
    corpus, listing = units_of(tmp_path)
    assert list(corpus.iterate_texts(listing)) == ["a", "b"]


def test_a_file_that_is_replaced_is_read_anew_and_its_change_noticed(tmp_path):
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a", "b"]}), file)
    corpus, listing = units_of(tmp_path)
    corpus.read_unit(listing.units[0], listing.schema)
    pq.write_table(pa.table({"text": ["a", "b", "c"]}), file)
    with pytest.raises(DataError, match=r"the file changed after it was listed: .* -> .* at .*a.parquet"):
        corpus.read_unit(listing.units[0], listing.schema)
    file.unlink()
    with pytest.raises(DataError, match="the file is gone"):
        corpus.read_unit(listing.units[0], listing.schema)


@pytest.mark.parametrize(("start", "stop"), [(0, 100), (13, 90)])
def test_a_remote_file_that_fails_in_between_gives_every_row_once(monkeypatch, start, stop):
    folder = open_location("memory://rnnlm-test-retry")
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": [f"text {i}" for i in range(100)]}), sink)
    folder.join("a.parquet").write_bytes(sink.getvalue().to_pybytes())
    monkeypatch.setattr("rnnlm.data.formats.parquet.BATCH_ROWS", 7)
    monkeypatch.setattr("rnnlm.retries.PAUSES_SECONDS", (0.0,))
    real, opened = pq.ParquetFile.iter_batches, []

    def failing(self, **options):
        opened.append(self)
        batches = list(real(self, **options))
        yield from batches[: 2 + 3 * len(opened)]
        if len(opened) < 5:
            raise ConnectionResetError

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", failing)
    corpus = ParquetCorpus(path=folder.address)
    listing = corpus.list_units()
    tables = list(corpus.read_batches(listing.units[0], listing.schema, start=start, stop=stop))
    folder.delete_dir()
    assert pa.concat_tables(tables).column("text").to_pylist() == [f"text {i}" for i in range(start, stop)]
    assert len(set(map(id, opened))) == len(opened) > 2
