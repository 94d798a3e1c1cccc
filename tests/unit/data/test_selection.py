"""What a corpus leaves out: by expression, by share, by number; and the listing that is kept."""

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from rnnlm.data.formats.parquet import ParquetCorpus
from rnnlm.data.listing import Listing
from rnnlm.data.row_filter import RowFilter
from rnnlm.errors import ConfigError
from tests.corpora import nasty_table

TABLE = pa.table(
    {
        "text": ["short", "a longer text", None, "", "x"],
        "language": pa.array(["en", "de", "en", None, "fr"]).dictionary_encode(),
        "score": [0.5, None, 2.0, float("nan"), -1.0],
        "a name": [1, 2, 3, 4, 5],
    }
)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("language == 'en'", [0, 2]),
        ("language != 'en'", [1, 4]),  # null is neither equal nor unequal
        ("language in ['de', 'fr']", [1, 4]),
        ("language not in ['de', 'fr']", [0, 2, 3]),
        ("language is None or score is None", [1, 3]),
        ("text is not None and length(text) > 4", [0, 1]),
        ("0 < score <= 2", [0, 2]),
        ("not score > 0", [3, 4]),
        ("score * 2 == 1.0 or -score > 0", [0, 4]),
        ("col('a name') >= 4", [3, 4]),
        ("startswith(text, 'a') or endswith(text, 't') or contains(text, 'x')", [0, 1, 4]),
        ("matches(text, '^[sx]') and lower(text) == text", [0, 4]),
        ("is_finite(score)", [0, 2, 4]),
        ("True", [0, 1, 2, 3, 4]),
    ],
)
def test_a_filter_selects_rows(where, expected):
    mask = RowFilter(where).mask(TABLE)
    assert [row for row, keep in enumerate(mask.to_pylist()) if keep] == expected


@pytest.mark.parametrize(
    ("where", "problem"),
    [
        ("language =", "cannot read"),
        ("langage == 'en'", "no column 'langage' among text, language"),
        ("score", "gives double, a condition is needed"),
        ("text > 3", "does not fit the columns"),
        ("__import__('os').system('true')", "no column '__import__'"),
        ("text.upper() == 'A'", "cannot use"),
        ("[x for x in text]", "no column 'x'"),
        ("startswith(text, language)", "must be a string"),
        ("length(text, 'a') > 1", r"length\(\) takes 1"),
        ("language in 'en'", "is not a list"),
        ("language is 'en'", "write == for other values"),
    ],
)
def test_a_filter_that_cannot_be_used_is_refused(where, problem):
    with pytest.raises(ConfigError, match=problem):
        RowFilter(where).check(TABLE.schema)


def corpus_of(folder, **options):
    pq.write_table(
        pa.table({"text": [f"t{i}" for i in range(1000)], "n": range(1000)}), folder / "a.parquet", row_group_size=130
    )
    return ParquetCorpus(path=str(folder), **options)


def read_all(corpus):
    listing = corpus.list_units()
    first, tables, rows = 0, [], []
    for unit in listing.units:
        selected, numbers = corpus.select_rows(corpus.read_unit(unit, listing.schema), first)
        tables.append(selected)
        rows.extend(numbers.tolist())
        first += unit.rows
    return pa.concat_tables(tables), rows


def test_a_sample_is_a_share_of_the_rows_and_the_same_every_time(tmp_path):
    table, rows = read_all(corpus_of(tmp_path, sample=0.2))
    assert table["n"].to_pylist() == rows
    assert 150 < len(rows) < 250
    assert read_all(corpus_of(tmp_path, sample=0.2))[1] == rows
    assert read_all(corpus_of(tmp_path, sample=0.2, sample_seed=2))[1] != rows
    assert set(rows) < set(read_all(corpus_of(tmp_path, sample=0.5))[1])  # a larger one holds the smaller


def test_sample_and_filter_go_together(tmp_path):
    _, sampled = read_all(corpus_of(tmp_path, sample=0.2))
    _, both = read_all(corpus_of(tmp_path, sample=0.2, where="n > 500"))
    assert both == [row for row in sampled if row > 500]


def test_texts_are_those_of_the_selected_rows(tmp_path):
    corpus = corpus_of(tmp_path, where="n > 100", limit=140)
    assert list(corpus.iterate_texts(corpus.list_units())) == [f"t{i}" for i in range(101, 140)]


def test_a_column_to_keep_must_be_there(tmp_path):
    with pytest.raises(ConfigError, match=r"corpus.columns: there is no column 'm' among text, n"):
        corpus_of(tmp_path, columns=["m"]).list_units()


@pytest.mark.parametrize(("start", "stop"), [(0, 41), (0, 1), (7, 19), (40, 41), (13, 41)])
def test_a_range_of_rows_is_that_range(tmp_path, monkeypatch, start, stop):
    monkeypatch.setattr("rnnlm.data.formats.parquet.BATCH_ROWS", 6)
    pq.write_table(nasty_table(41), tmp_path / "a.parquet")
    corpus = ParquetCorpus(path=str(tmp_path))
    listing = corpus.list_units()
    batches = list(corpus.read_batches(listing.units[0], listing.schema, start=start, stop=stop))
    assert all(0 < batch.num_rows <= 6 for batch in batches)
    whole = pq.read_table(tmp_path / "a.parquet").slice(start, stop - start)
    assert str(pa.concat_tables(batches).to_pylist()) == str(whole.to_pylist())
    assert batches[0].schema.equals(listing.schema)


def test_a_listing_comes_back_from_its_bytes(tmp_path):
    pq.write_table(nasty_table(41), tmp_path / "a.parquet", row_group_size=9)
    pq.write_table(nasty_table(3), tmp_path / "b.parquet")
    listing = ParquetCorpus(path=str(tmp_path)).list_units()
    again = Listing.from_bytes(listing.to_bytes())
    assert again == listing
    assert again.schema.equals(listing.schema, check_metadata=True)
    assert again.units[0].file is again.files[0]
    empty = Listing((), (), pa.schema([]))
    assert Listing.from_bytes(empty.to_bytes()) == empty


def test_a_known_listing_saves_opening_files(tmp_path, monkeypatch):
    corpus = corpus_of(tmp_path)
    listing = corpus.list_units()
    monkeypatch.setattr("rnnlm.data.formats.parquet._open", None)
    assert corpus.list_units(listing) is listing
    monkeypatch.undo()
    corpus_of(tmp_path)  # written again
    assert corpus.list_units(listing) is not listing
    assert pc.sum(pa.array([unit.rows for unit in listing.units])).as_py() == 1000
