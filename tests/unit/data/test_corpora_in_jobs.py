"""Corpora of every kind through a whole bulk job: planned, split, read on demand, started again."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rnnlm.data.formats import text_blocks
from rnnlm.data.formats.delta import DeltaCorpus
from rnnlm.data.formats.iceberg import IcebergCorpus
from rnnlm.data.formats.jsonl import JsonlCorpus
from rnnlm.data.formats.parallel import ParallelCorpus
from rnnlm.data.formats.parquet import ParquetCorpus
from rnnlm.data.formats.tsv import TsvCorpus
from rnnlm.errors import FailuresError, RefusedError
from tests.corpora import write_compressed
from tests.tables import IcebergTable, write_delta
from tests.unit.bulk.toy import parts, run_toy

ROWS = pa.table({"text": [f"text {row}" for row in range(40)], "lang": ["en", "de"] * 20, "n": range(40)})


def rows_in(output):
    return sorted(
        (row["text"], row["lang"], row["n"], row["characters"]) for row in pq.read_table(output / "data").to_pylist()
    )


EXPECTED = sorted((f"text {row}", ["en", "de"][row % 2], row, len(f"text {row}")) for row in range(40))


@pytest.mark.parametrize("ending", [".gz", ".xz", ".zst"])
def test_a_compressed_file_is_split_into_shards_by_rows(tmp_path, monkeypatch, ending):
    monkeypatch.setattr(text_blocks, "BLOCK_BYTES", 100)
    lines = "".join(json.dumps(row) + "\n" for row in ROWS.to_pylist()).encode()
    write_compressed(tmp_path / f"a.jsonl{ending}", lines, member_bytes=333)
    run_toy(JsonlCorpus(path=str(tmp_path / f"a.jsonl{ending}")), tmp_path / "out", target_seconds=7.0)
    assert len(list((tmp_path / "out/data").iterdir())) > 4
    assert rows_in(tmp_path / "out") == EXPECTED


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_tables_of_tabs_and_aligned_files_reach_the_output_as_any_corpus(tmp_path, monkeypatch, ending):
    monkeypatch.setattr(text_blocks, "BLOCK_BYTES", 100)
    columns = {"text": ROWS["text"].to_pylist(), "lang": ROWS["lang"].to_pylist(), "n": list(map(str, range(40)))}
    lines = ["\t".join(columns), *map("\t".join, zip(*columns.values(), strict=True))]
    write_compressed(tmp_path / f"a.tsv{ending}", "\n".join(lines).encode())
    for name, values in columns.items():
        write_compressed(tmp_path / f"a.{name}{ending}", "\n".join(values).encode(), member_bytes=50)
    corpora = [
        TsvCorpus(path=str(tmp_path / f"a.tsv{ending}"), where="lang == 'de'"),
        ParallelCorpus(files={name: str(tmp_path / f"a.{name}{ending}") for name in columns}, where="lang == 'de'"),
    ]
    for number, corpus in enumerate(corpora):
        run_toy(corpus, tmp_path / f"out{number}", target_seconds=7.0)
        assert len(parts(tmp_path / f"out{number}")) > 2
        found = [(text, lang, int(n), size) for text, lang, n, size in rows_in(tmp_path / f"out{number}")]
        assert sorted(found) == [row for row in EXPECTED if row[1] == "de"]


def test_columns_that_changed_places_are_another_corpus(tmp_path):
    for name in ("de", "en"):
        (tmp_path / f"a.{name}").write_text(f"{name} one\n{name} two\n")
    paths = [str(tmp_path / "a.de"), str(tmp_path / "a.en")]
    straight = ParallelCorpus(files=dict(zip(("de", "text"), paths, strict=True)))
    run_toy(straight, tmp_path / "out")
    with pytest.raises(RefusedError, match="names"):
        run_toy(ParallelCorpus(files=dict(zip(("text", "de"), paths, strict=True))), tmp_path / "out")


def test_folders_that_are_columns_reach_the_output(tmp_path):
    pq.write_to_dataset(ROWS, tmp_path / "in", partition_cols=["lang"])
    corpus = ParquetCorpus(path=str(tmp_path / "in"), where="lang == 'de'")
    run_toy(corpus, tmp_path / "out", target_seconds=7.0)
    assert rows_in(tmp_path / "out") == [row for row in EXPECTED if row[1] == "de"]


@pytest.mark.parametrize("kind", ["delta", "iceberg"])
def test_a_table_is_read_as_of_one_version_and_a_rerun_after_a_commit_is_refused(tmp_path, kind):
    if kind == "delta":
        version = write_delta(tmp_path / "in", ROWS, partition_by=["lang"])
        newest, fixed = (DeltaCorpus(path=str(tmp_path / "in"), version=one) for one in (None, version))
    else:
        table = IcebergTable(tmp_path / "in", ROWS.schema, partition_by=["lang"])
        version = table.append(ROWS)
        newest, fixed = (IcebergCorpus(path=str(tmp_path / "in"), snapshot=one) for one in (None, version))
    run_toy(newest, tmp_path / "out", target_seconds=7.0)
    assert rows_in(tmp_path / "out") == EXPECTED
    before = parts(tmp_path / "out")
    write_delta(tmp_path / "in", ROWS) if kind == "delta" else table.append(ROWS)
    with pytest.raises(RefusedError, match=rf"corpus.*version.*: {version} -> "):
        run_toy(type(newest)(path=newest.path), tmp_path / "out", target_seconds=7.0)
    run_toy(fixed, tmp_path / "out", target_seconds=7.0)  # the same rows as before, asked for by their version
    assert parts(tmp_path / "out") == before


@pytest.mark.parametrize("as_dictionary", [False, True])
def test_a_text_that_is_not_utf8_is_an_error_row_and_goes_to_the_output_as_it_was(tmp_path, as_dictionary):
    values = [b"a", b"b\xff", None, b"c"]
    text = pa.Array.from_buffers(pa.string(), 4, pa.array(values, pa.binary()).buffers())
    (tmp_path / "in").mkdir()
    column = text.dictionary_encode() if as_dictionary else text
    pq.write_table(pa.table({"text": column, "note": text}), tmp_path / "in/a.parquet")
    finished = run_toy(tmp_path / "in", tmp_path / "out")
    assert (finished.totals.ok, finished.totals.null, finished.totals.error) == (2, 1, 1)
    table = pq.read_table(tmp_path / "out/data")
    assert table["characters"].to_pylist() == [1, None, None, 1]
    assert table["error"][1].as_py().startswith("failed: UnicodeDecodeError")
    assert table["note"].cast(pa.binary()).to_pylist() == values


def test_a_filter_that_meets_what_is_not_utf8_fails_its_shard_with_the_reason(tmp_path):
    text = pa.Array.from_buffers(pa.string(), 2, pa.array([b"a", b"\xff"], pa.binary()).buffers())
    pq.write_table(pa.table({"text": text}), tmp_path / "a.parquet")
    with pytest.raises(FailuresError, match="meets a text that is not valid UTF-8"):
        run_toy(ParquetCorpus(path=str(tmp_path / "a.parquet"), where="lower(text) == 'a'"), tmp_path / "out")
