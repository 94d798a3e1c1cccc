"""The contract of every corpus format: units partition the rows in their order, and rows come back as written."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rnnlm.config import from_dict
from rnnlm.data.formats import text_blocks
from rnnlm.data.formats.base import CorpusConfig, check_text_column
from rnnlm.errors import DataError
from tests.corpora import write_compressed

CONF = Path(__file__).resolve().parents[3] / "conf" / "corpus"
BUILT_ELSEWHERE = {  # make their own rows (test_stdlib.py, test_stdlib_functions.py), or labels (test_labelled_formats.py)
    "stdlib",
    "stdlib_functions",
    "conllu",
    "conll_columns",
    "labelled_tsv",
    "word_label_lines",
    "brat",
}
SMALL_BLOCK = 64  # bytes, so that a few lines make several units

# What a line of text can hold: anything but its end.
LINES = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=30)
# In a table of tabs a tab is no part of a cell.
CANNOT_HOLD = {"tsv": "\t"}
SPECIAL = ["", " ", "a\u2028b\u0085c", "\x0b\x0c\x1c\x1d\x1e", "\ufeff", "\t", '"quoted" \\ {}', "\U0001f600" * 9]


def write_parquet(texts, folder):
    step = max(1, len(texts) // 3)
    for number, start in enumerate(range(0, len(texts), 2 * step)):
        part = texts[start : start + 2 * step]
        pq.write_table(
            pa.table({"text": pa.array(part, pa.string())}), folder / f"{number}.parquet", row_group_size=step
        )
    return {"path": str(folder)}


def write_jsonl(texts, folder):
    import json

    lines = [json.dumps({"text": text}, ensure_ascii=number % 2 == 0) for number, text in enumerate(texts)]
    (folder / "a.jsonl").write_bytes("".join(f"{line}\n" for line in lines).encode())
    return {"path": str(folder)}


def write_lines(texts, folder):
    (folder / "a.txt").write_bytes("".join(f"{text}\n" for text in texts).encode())
    return {"path": str(folder)}


def write_tsv(texts, folder):
    (folder / "a.tsv").write_bytes("".join(f"{text}\n" for text in ["text\tn", *map("{}\t1".format, texts)]).encode())
    return {"path": str(folder)}


def write_tsv_without_header(texts, folder):
    (folder / "a.tsv").write_bytes("".join(f"{text}\t1\n" for text in texts).encode())
    return {"path": str(folder), "names": ["text", "n"]}


def write_parallel(texts, folder):
    for name in ("text", "other"):
        lines = [text if name == "text" else text[:1] * 9 for text in texts]
        (folder / f"{name}.txt").write_bytes("".join(f"{line}\n" for line in lines).encode())
    return {"files": {name: str(folder / f"{name}.txt*") for name in ("text", "other")}}


def write_inline(texts, folder):
    return {"texts": texts}


def write_hive(texts, folder):
    (folder / "key=value").mkdir()
    write_parquet(texts, folder / "key=value")
    return {"path": str(folder)}


def write_delta(texts, folder):
    from deltalake import convert_to_deltalake

    write_parquet(texts, folder)
    convert_to_deltalake(str(folder))
    return {"path": str(folder)}


def write_iceberg(texts, folder):
    from tests.tables import IcebergTable

    write_parquet(texts, folder)
    table = IcebergTable(folder / "table", pa.schema([("text", pa.string())]))
    table.add_file(*(str(file) for file in sorted(folder.glob("*.parquet"))))
    return {"path": str(folder / "table")}


def then_compressed(write, ending):
    """The same file, compressed: in members that end anywhere, as gzip and zstd allow."""

    def write_and_compress(texts, folder):
        settings = write(texts, folder)
        for file in list(folder.iterdir()):
            write_compressed(file.with_name(file.name + ending), file.read_bytes(), member_bytes=100)
            file.unlink()
        return settings

    return write_and_compress


WRITERS = {
    "parquet": write_parquet,
    "parquet in folders": write_hive,
    "delta": write_delta,
    "iceberg": write_iceberg,
    "jsonl": write_jsonl,
    "jsonl .gz": then_compressed(write_jsonl, ".gz"),
    "jsonl .zst": then_compressed(write_jsonl, ".zst"),
    "lines": write_lines,
    "lines .gz": then_compressed(write_lines, ".gz"),
    "lines .zst": then_compressed(write_lines, ".zst"),
    "lines .xz": then_compressed(write_lines, ".xz"),
    "tsv": write_tsv,
    "tsv .gz": then_compressed(write_tsv, ".gz"),
    "tsv without header": write_tsv_without_header,
    "tsv without header .xz": then_compressed(write_tsv_without_header, ".xz"),
    "parallel": write_parallel,
    "parallel .gz": then_compressed(write_parallel, ".gz"),
    "parallel .xz": then_compressed(write_parallel, ".xz"),
    "inline": write_inline,
}


def test_every_format_is_tested():
    tested = {name.partition(" ")[0] for name in WRITERS}
    assert {file.stem for file in CONF.glob("*.yaml")} == tested | BUILT_ELSEWHERE


@pytest.fixture(params=WRITERS)
def corpus_of(request, tmp_path_factory):
    """Writes texts in a format, and gives the config that reads them."""
    data = yaml.safe_load((CONF / f"{request.param.partition(' ')[0]}.yaml").read_text())

    def make(texts) -> CorpusConfig:
        return from_dict(CorpusConfig, {**data, **WRITERS[request.param](texts, tmp_path_factory.mktemp("corpus"))})

    return make


def read(corpus, columns=None):
    listing = corpus.list_units()
    return listing, [corpus.read_unit(unit, listing.schema, columns) for unit in listing.units]


def check(corpus, texts):
    listing, tables = read(corpus)
    assert [table.num_rows for table in tables] == [unit.rows for unit in listing.units]
    assert listing.rows == len(texts)
    assert [text for table in tables for text in table.column("text").to_pylist()] == texts
    assert all(table.schema.equals(listing.schema) for table in tables)
    assert list(corpus.iterate_texts(listing)) == [text for text in texts if text]
    # A unit can be read alone, in any order.
    backwards = [corpus.read_unit(unit, listing.schema) for unit in reversed(listing.units)]
    assert backwards == tables[::-1]


def test_rows_come_back_in_order_from_units_that_partition_them(corpus_of, monkeypatch, request):
    monkeypatch.setattr(text_blocks, "BLOCK_BYTES", SMALL_BLOCK)
    kind = request.node.callspec.params["corpus_of"].partition(" ")[0]
    cannot_hold = CANNOT_HOLD.get(kind, "\n")

    # The first is a word, so that no reader can take the column for anything but text.
    @given(texts=st.lists(st.one_of(LINES, st.sampled_from(SPECIAL)), max_size=12).map(lambda rest: ["word", *rest]))
    def run(texts):
        texts = [text.replace(cannot_hold, "") for text in texts]
        check(corpus_of(texts), texts)

    run()


def test_several_units_are_really_made(corpus_of, monkeypatch, request):
    monkeypatch.setattr(text_blocks, "BLOCK_BYTES", SMALL_BLOCK)
    corpus = corpus_of(["some text of forty characters, no less.."] * 20)
    one_unit = any(name in request.node.name for name in ("inline", "parallel", ".gz", ".xz", ".zst"))
    assert len(corpus.list_units().units) > (0 if one_unit else 3)


def test_a_range_of_rows_can_be_read_from_a_unit(corpus_of, monkeypatch):
    monkeypatch.setattr(text_blocks, "BLOCK_BYTES", SMALL_BLOCK)
    texts = [f"text {number} of some thirty characters" for number in range(12)]
    corpus = corpus_of(texts)
    listing = corpus.list_units()
    first = 0
    for unit in listing.units:
        for start in range(unit.rows):
            for stop in range(start, unit.rows + 1):
                tables = list(corpus.read_batches(unit, listing.schema, start=start, stop=stop))
                found = [text for table in tables for text in table.column("text").to_pylist()]
                assert found == texts[first + start : first + stop]
        first += unit.rows


def test_columns_can_be_chosen(corpus_of):
    corpus = corpus_of(["a", "b"])
    _, tables = read(corpus, ["text"])
    assert [table.column_names for table in tables] == [["text"]] * len(tables)


def test_the_size_of_a_unit_is_about_that_of_its_text(corpus_of):
    short, long = (
        corpus_of(["ab"] * 50).list_units(),
        corpus_of([chr(97 + i % 26) * i for i in range(300)]).list_units(),
    )
    assert 0 < short.num_bytes < long.num_bytes


def test_a_missing_text_column_is_named_with_what_there_is(corpus_of):
    listing = corpus_of(["a"]).list_units()
    with pytest.raises(DataError, match=r"there is no column 'body' among text.*; set corpus.text_column"):
        check_text_column(listing, "body")


def test_an_empty_corpus_is_refused(corpus_of):
    if any(kind in type(corpus_of(["a"])).__name__ for kind in ("Parquet", "Delta", "Iceberg")):
        return  # writes no file at all for no texts; see test_parquet.py
    corpus = corpus_of([])
    with pytest.raises(DataError):
        list(corpus.iterate_texts(corpus.list_units()))


def test_null_and_empty_texts_are_left_out_of_the_texts(tmp_path):
    pq.write_table(pa.table({"text": ["a", None, "", "b"]}), tmp_path / "a.parquet")
    corpus = from_dict(
        CorpusConfig, {"_target_": "rnnlm.data.formats.parquet.ParquetCorpus", "path": str(tmp_path / "a.parquet")}
    )
    assert list(corpus.iterate_texts(corpus.list_units())) == ["a", "b"]
