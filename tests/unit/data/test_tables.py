"""Delta and Iceberg: a version of a table is a list of Parquet files with columns that the log knows of."""

import builtins
import json
import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.types import DoubleType, LongType

from rnnlm.data.formats.delta import DeltaCorpus
from rnnlm.data.formats.iceberg import IcebergCorpus
from rnnlm.data.formats.snapshot import log_path
from rnnlm.errors import DataError, EnvironmentFailure
from tests.tables import IcebergTable, write_delta


def read(corpus, columns=None):
    listing = corpus.list_units()
    worker = pickle.loads(pickle.dumps(corpus))
    tables = [worker.read_unit(unit, listing.schema, columns) for unit in listing.units]
    return pa.concat_tables(tables)


def rows_of(corpus):
    return sorted(read(corpus).to_pylist(), key=lambda row: row["text"])


FIRST = pa.table({"text": ["a", "b", "c"], "lang": ["en", "a b/%41ü", None], "n": [1, 2, 3]})
SECOND = pa.table({"text": ["d"], "lang": ["en"], "n": [4]})


@pytest.fixture(params=["delta", "iceberg"])
def table(request, tmp_path):
    """A table with two commits, as (corpus of a version, the versions)."""
    folder = tmp_path / "a täble"
    if request.param == "delta":
        versions = [write_delta(folder, rows, partition_by=["lang", "n"]) for rows in (FIRST, SECOND)]
        return lambda version=None: DeltaCorpus(path=str(folder), version=version), versions, folder
    iceberg = IcebergTable(folder, FIRST.schema, partition_by=["lang", "n"])
    versions = [iceberg.append(rows) for rows in (FIRST, SECOND)]
    return lambda version=None: IcebergCorpus(path=str(folder), snapshot=version), versions, folder


def test_a_version_is_its_files_with_the_columns_of_the_table(table):
    corpus_of, versions, _ = table
    assert rows_of(corpus_of(versions[0])) == FIRST.to_pylist()
    assert rows_of(corpus_of(versions[1])) == rows_of(corpus_of()) == [*FIRST.to_pylist(), *SECOND.to_pylist()]
    assert read(corpus_of()).schema.names == ["text", "lang", "n"]
    assert read(corpus_of()).schema.field("n").type == pa.int64()


def test_the_version_that_was_read_belongs_to_the_identity(table):
    corpus_of, versions, _ = table
    assert corpus_of().identity() == corpus_of(versions[1]).identity() != corpus_of(versions[0]).identity()
    assert corpus_of().identity()["version"] == versions[1]


def test_a_commit_after_listing_changes_nothing(table, request):
    corpus_of, versions, folder = table
    corpus = corpus_of()
    listing = corpus.list_units()
    if isinstance(corpus, DeltaCorpus):
        write_delta(folder, SECOND)
    else:
        IcebergTable.load(folder).append(SECOND)
    assert corpus.identity()["version"] == versions[1]
    assert corpus.list_units().files == listing.files
    assert corpus_of().list_units().rows == listing.rows + 1


def test_columns_of_the_log_select_rows_and_can_be_read_alone(table):
    corpus_of, _, _ = table
    assert read(corpus_of(), ["n", "lang"]).column_names == ["n", "lang"]
    corpus = corpus_of().__class__(path=corpus_of().path, where="lang == 'en' and n > 1")
    assert list(corpus.iterate_texts(corpus.list_units())) == ["d"]


def test_a_version_there_is_not_is_named(table):
    corpus_of, _, _ = table
    with pytest.raises(DataError, match=r"(cannot read the Delta table, version 77|has no snapshot 77).* at .*täble; "):
        corpus_of(77).list_units()


@pytest.mark.parametrize("kind", [DeltaCorpus, IcebergCorpus])
def test_a_folder_without_a_table_is_refused(tmp_path, kind):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError, match=r"check corpus.path"):
            kind(path=str(path)).list_units()


@pytest.mark.parametrize(("kind", "package"), [(DeltaCorpus, "deltalake"), (IcebergCorpus, "pyiceberg")])
def test_a_missing_package_is_named_with_what_to_install(tmp_path, monkeypatch, kind, package):
    original = builtins.__import__

    def without(name, *rest, **more):
        if name.partition(".")[0] == package:
            raise ModuleNotFoundError(f"No module named '{package}'")
        return original(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    extra = kind.__name__.removesuffix("Corpus").lower()
    with pytest.raises(EnvironmentFailure, match=rf"needs {package}; pip install rnnlm\[{extra}\]"):
        kind(path=str(tmp_path)).list_units()


def test_a_file_of_the_table_that_is_gone_is_named(table):
    corpus_of, _, _ = table
    listing = corpus_of().list_units()
    Path(listing.files[0].path).unlink()
    with pytest.raises(DataError, match=r"the file is gone at .*parquet"):
        corpus_of().list_units()


# ----- Delta


def test_a_column_added_to_a_delta_table_is_null_in_older_files(tmp_path):
    write_delta(tmp_path, pa.table({"text": ["a"]}))
    write_delta(tmp_path, pa.table({"text": ["b"], "score": [0.5]}), schema_mode="merge")
    corpus = DeltaCorpus(path=str(tmp_path))
    assert rows_of(corpus) == [{"text": "a", "score": None}, {"text": "b", "score": 0.5}]


def test_a_file_with_another_type_than_the_table_is_refused_and_another_width_is_cast(tmp_path):
    for number, rows in enumerate([{"text": ["a"], "n": [1]}, {"text": ["b"], "n": pa.array([2], pa.int16())}]):
        write_delta(tmp_path, pa.table({"text": [""], "n": [0]}))
        newest = max(tmp_path.glob("*.parquet"), key=lambda file: file.stat().st_mtime_ns)
        pq.write_table(pa.table(rows), newest)
        table = read(DeltaCorpus(path=str(tmp_path), version=number))
        assert table.schema.field("n").type == pa.int64()
    assert sorted(table.column("n").to_pylist()) == [1, 2]
    pq.write_table(pa.table({"text": ["c"], "n": ["three"]}), newest)
    with pytest.raises(DataError, match=r"the column is string here and int64 in the table at .*parquet, column 'n'"):
        DeltaCorpus(path=str(tmp_path)).list_units()


def test_a_file_deleted_in_the_log_does_not_count(tmp_path):
    write_delta(tmp_path, pa.table({"text": ["old"]}))
    write_delta(tmp_path, pa.table({"text": ["new"]}), mode="overwrite")
    assert rows_of(DeltaCorpus(path=str(tmp_path))) == [{"text": "new"}]
    assert rows_of(DeltaCorpus(path=str(tmp_path), version=0)) == [{"text": "old"}]


def test_the_values_of_partitions_come_from_the_log_and_not_from_paths(tmp_path):
    write_delta(tmp_path, pa.table({"text": ["a"], "k": ["in the log"]}), partition_by=["k"])
    (file,) = tmp_path.rglob("*.parquet")
    file.rename(tmp_path / "moved.parquet")
    change_log(tmp_path, lambda action: action.get("add", {}).update(path="moved.parquet") if "add" in action else None)
    assert rows_of(DeltaCorpus(path=str(tmp_path))) == [{"text": "a", "k": "in the log"}]


def test_a_delta_table_with_column_mapping_is_refused(tmp_path):
    write_delta(tmp_path, pa.table({"text": ["a"]}))

    def map_columns(action):
        if "metaData" in action:
            action["metaData"]["configuration"] = {"delta.columnMapping.mode": "name"}
            schema = json.loads(action["metaData"]["schemaString"])
            schema["fields"][0]["metadata"] = {
                "delta.columnMapping.id": 1,
                "delta.columnMapping.physicalName": "col-1",
            }
            action["metaData"]["schemaString"] = json.dumps(schema)
        if "protocol" in action:
            action["protocol"] = {"minReaderVersion": 2, "minWriterVersion": 5}

    change_log(tmp_path, map_columns)
    with pytest.raises(DataError, match=r"has column mapping \(delta.columnMapping.mode=name\).*; copy the table"):
        DeltaCorpus(path=str(tmp_path)).list_units()


def test_a_delta_table_with_deletion_vectors_is_refused_if_they_delete_something(tmp_path):
    write_delta(tmp_path, pa.table({"text": ["a", "b"]}))
    features = {
        "minReaderVersion": 3,
        "minWriterVersion": 7,
        "readerFeatures": ["deletionVectors"],
        "writerFeatures": ["deletionVectors"],
    }
    change_log(tmp_path, lambda action: action.update(protocol=features) if "protocol" in action else None)
    assert len(rows_of(DeltaCorpus(path=str(tmp_path)))) == 2
    vector = {"storageType": "i", "pathOrInlineDv": DELETES_ROW_ZERO, "sizeInBytes": 34, "cardinality": 1}
    change_log(tmp_path, lambda action: action["add"].update(deletionVector=vector) if "add" in action else None)
    with pytest.raises(DataError, match=r"have deletion vectors.*REORG TABLE"):
        DeltaCorpus(path=str(tmp_path)).list_units()


DELETES_ROW_ZERO = "^Bg9^0rr910000000000iXQKl0rr91000000000000000"


def change_log(folder, change):
    log = folder / "_delta_log" / "00000000000000000000.json"
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    for action in actions:
        change(action)
    log.write_text("".join(json.dumps(action) + "\n" for action in actions))


# ----- Iceberg


def test_an_iceberg_table_can_be_named_by_its_metadata_file(tmp_path):
    table = IcebergTable(tmp_path, FIRST.schema)
    table.append(FIRST)
    earlier = table.metadata_file
    table.append(SECOND)
    assert rows_of(IcebergCorpus(path=earlier)) == FIRST.to_pylist()
    assert len(rows_of(IcebergCorpus(path=str(tmp_path)))) == 4
    with pytest.raises(DataError, match="there is no file"):
        IcebergCorpus(path=f"{tmp_path}/metadata/v9.metadata.json").list_units()


def test_an_iceberg_table_without_a_snapshot_is_refused(tmp_path):
    IcebergTable(tmp_path, FIRST.schema)
    with pytest.raises(DataError, match=r"has no snapshot at .*; set corpus.snapshot to one there is: none"):
        IcebergCorpus(path=str(tmp_path)).list_units()


def test_a_column_added_to_an_iceberg_table_is_null_in_older_files(tmp_path):
    table = IcebergTable(tmp_path, pa.schema([("text", pa.string())]))
    table.append(pa.table({"text": ["a"]}))
    table.evolve(lambda update: update.add_column("score", DoubleType()))
    table.append(pa.table({"text": ["b"], "score": [0.5]}))
    assert rows_of(IcebergCorpus(path=str(tmp_path))) == [{"text": "a", "score": None}, {"text": "b", "score": 0.5}]


@pytest.mark.parametrize("back", [False, True])
def test_a_column_of_an_iceberg_table_that_has_another_name_in_the_file_is_refused(tmp_path, back):
    table = IcebergTable(tmp_path, FIRST.schema)
    table.append(FIRST)
    table.evolve(lambda update: update.delete_column("n") if back else update.rename_column("n", "m"))
    table.evolve(lambda update: update.add_column("n", LongType()))
    table.append(SECOND if back else SECOND.append_column("m", [[1]]))
    with pytest.raises(DataError, match=r"the column was renamed or replaced since .*parquet, column 'n'; rewrite"):
        IcebergCorpus(path=str(tmp_path)).list_units()


def test_an_iceberg_table_with_delete_files_is_refused(tmp_path):
    table = IcebergTable(tmp_path, FIRST.schema)
    table.append(FIRST)
    table.add_delete_file()
    with pytest.raises(DataError, match=r"has delete files: rows that no longer count at .*parquet; compact"):
        IcebergCorpus(path=str(tmp_path)).list_units()


def test_files_added_to_an_iceberg_table_without_numbers_are_read_by_name(tmp_path):
    table = IcebergTable(tmp_path / "table", FIRST.schema, partition_by=["lang"])
    pq.write_table(FIRST.filter([True, False, False]), tmp_path / "plain.parquet")
    table.add_file(str(tmp_path / "plain.parquet"))
    assert rows_of(IcebergCorpus(path=str(tmp_path / "table"))) == FIRST.to_pylist()[:1]


@pytest.mark.parametrize(
    ("written", "quoted", "expected"),
    [
        ("/a/b%20c", True, "/a/b c"),
        ("/a/b%20c", False, "/a/b%20c"),
        ("file:///a/b c", False, "/a/b c"),
        ("file:/a/b", False, "/a/b"),
        ("s3://bucket/k=a%20b/x", True, "s3://bucket/k=a%20b/x"),
        ("s3a://bucket/k=a%20b/x", False, "s3://bucket/k%3Da%2520b/x"),
    ],
)
def test_paths_of_a_log_become_paths_that_can_be_opened(written, quoted, expected):
    assert log_path(written, quoted=quoted) == expected
