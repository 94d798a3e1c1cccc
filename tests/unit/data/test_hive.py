"""Parquet in folders that name columns."""

import pickle

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from rnnlm.data.formats.parquet import ParquetCorpus
from rnnlm.errors import DataError


def write(folder, files):
    for name, columns in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), folder / name, row_group_size=2)


def read(corpus, columns=None):
    corpus = pickle.loads(pickle.dumps(corpus))  # as a worker gets it
    listing = corpus.list_units()
    return pa.concat_tables([corpus.read_unit(unit, listing.schema, columns) for unit in listing.units])


TREE = {
    "lang=en/year=2023/a.parquet": {"text": ["a", "b", "c"]},
    "lang=en/year=2024/a.parquet": {"text": ["d"]},
    "lang=a%2Fb%20%3D/year=2024/a.parquet": {"text": ["e"]},
    "lang=__HIVE_DEFAULT_PARTITION__/year=-1/a.parquet": {"text": ["f"]},
}


def test_folders_are_columns_behind_those_of_the_files(tmp_path):
    write(tmp_path, TREE)
    table = read(ParquetCorpus(path=str(tmp_path)))
    assert table.schema.equals(pa.schema([("text", pa.string()), ("lang", pa.string()), ("year", pa.int64())]))
    rows = {row["text"]: (row["lang"], row["year"]) for row in table.to_pylist()}
    assert rows == {
        **dict.fromkeys("abc", ("en", 2023)),
        "d": ("en", 2024),
        "e": ("a/b =", 2024),
        "f": (None, -1),
    }


def test_arrow_writes_what_is_read(tmp_path):
    values = ["plain", "a b", "50%", "a/b", "x=y", "ü", "%41", None]
    table = pa.table({"text": [str(value) for value in values], "key": values})
    ds.write_dataset(table, tmp_path, format="parquet", partitioning=["key"], partitioning_flavor="hive")
    found = read(ParquetCorpus(path=str(tmp_path)))
    assert sorted(found.to_pylist(), key=lambda row: row["text"]) == sorted(
        table.to_pylist(), key=lambda row: row["text"]
    )


def test_columns_of_folders_can_be_read_alone_and_select_rows(tmp_path):
    write(tmp_path, TREE)
    corpus = ParquetCorpus(path=str(tmp_path), where="lang == 'en' and year > 2023 or lang is None")
    assert read(corpus, ["year", "lang"]).column_names == ["year", "lang"]
    assert read(corpus, ["year"]).num_rows == 6
    assert list(corpus.iterate_texts(corpus.list_units())) == ["f", "d"]


def test_part_of_a_row_group_has_the_columns_too(tmp_path):
    write(tmp_path, {"k=1/a.parquet": {"text": ["a", "b"]}})
    corpus = ParquetCorpus(path=str(tmp_path))
    listing = corpus.list_units()
    (table,) = corpus.read_batches(listing.units[0], listing.schema, start=1, stop=2)
    assert table.to_pylist() == [{"text": "b", "k": 1}]


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("", ["text", "lang", "year"]),
        ("lang=en", ["text", "year"]),
        ("lang=*/year=2024/a.parquet", ["text", "lang", "year"]),
        ("lang=en/*/a.parquet", ["text", "year"]),
        ("lang=en/year=2024/*.parquet", ["text"]),
        ("lang=en/year=2024/a.parquet", ["text"]),
        (["lang=en/year=2023", "lang=en/year=2024"], ["text"]),
    ],
)
def test_folders_above_the_path_do_not_count(tmp_path, path, names):
    write(tmp_path / "above=1", TREE)
    paths = [str(tmp_path / "above=1" / one) for one in ([path] if isinstance(path, str) else path)]
    assert read(ParquetCorpus(path=paths)).column_names == names


def test_the_columns_of_folders_can_be_turned_off_and_belong_to_the_identity(tmp_path):
    write(tmp_path, TREE)
    corpus = ParquetCorpus(path=str(tmp_path), hive=False)
    assert read(corpus).column_names == ["text"]
    assert corpus.identity() != ParquetCorpus(path=str(tmp_path)).identity()


def test_a_column_of_the_file_is_the_files_own(tmp_path):
    write(tmp_path, {"lang=en/a.parquet": {"lang": ["EN"], "text": ["x"]}})
    assert read(ParquetCorpus(path=str(tmp_path))).to_pylist() == [{"lang": "EN", "text": "x"}]
    write(tmp_path, {"lang=de/b.parquet": {"text": ["y"]}})
    with pytest.raises(DataError, match=r"the folders give no columns here and the columns lang in .* at .*a.parquet"):
        read(ParquetCorpus(path=str(tmp_path)))


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["1", "-20", "007"], pa.int64()),
        (["1", "x"], pa.string()),
        (["1", "1.5"], pa.string()),
        (["1", "__HIVE_DEFAULT_PARTITION__"], pa.int64()),
        (["__HIVE_DEFAULT_PARTITION__"], pa.string()),
        (["1", "9" * 30], pa.string()),
        (["\u0661"], pa.string()),
        ([""], pa.string()),
    ],
)
def test_a_column_is_of_integers_if_all_values_are(tmp_path, values, kind):
    write(tmp_path, {f"k={value}/a.parquet": {"text": ["x"]} for value in values})
    assert read(ParquetCorpus(path=str(tmp_path))).schema.field("k").type == kind


@pytest.mark.parametrize("other", ["b.parquet", "year=2024/b.parquet", "lang=en/year=2024/b.parquet"])
def test_folders_that_give_different_columns_are_refused(tmp_path, other):
    write(tmp_path, {"lang=de/a.parquet": {"text": ["x"]}, other: {"text": ["y"]}})
    with pytest.raises(DataError, match=r"the folders give .* here and .* in .*parquet at .*parquet; bring all files"):
        read(ParquetCorpus(path=str(tmp_path)))
    assert read(ParquetCorpus(path=str(tmp_path), hive=False)).num_rows == 2


def test_one_column_named_by_two_folders_is_refused(tmp_path):
    write(tmp_path, {"k=1/k=2/a.parquet": {"text": ["x"]}})
    with pytest.raises(DataError, match=r"two folders of one path name the same column at .*a.parquet, column 'k'"):
        read(ParquetCorpus(path=str(tmp_path)))
