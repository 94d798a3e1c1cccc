"""Neighbours in bulk: ids, rows that are their own queries, rows without a direction, the same bytes after a stop."""

import itertools

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rnnlm.bulk.engine import execute, prepare, run_here
from rnnlm.data.formats.parquet import ParquetCorpus
from rnnlm.errors import ConfigError, RefusedError, TerminatedError
from rnnlm.vectors import neighbours_work
from rnnlm.vectors.neighbours_work import NO_DIRECTION, NeighboursWork
from tests.unit.bulk.toy import parts
from tests.unit.vectors.test_neighbours import brute_force

ROWS, SIZE, K = 60, 6, 4
NULL, ZERO = 7, 20


@pytest.fixture(scope="module")
def values():
    found = np.random.default_rng(3).normal(size=(ROWS, SIZE)).astype(np.float32)
    found[30:40] = found[0]
    found[ZERO], found[NULL] = 0.0, np.nan  # the second is written as null
    return found


@pytest.fixture(scope="module")
def data(values, tmp_path_factory):
    folder = tmp_path_factory.mktemp("vectors")
    for number, rows in enumerate(np.array_split(np.arange(ROWS), 2)):
        vectors = [None if row == NULL else values[row].tolist() for row in rows]
        table = pa.table(
            {
                "name": pa.array([f"row {row}" for row in rows]).dictionary_encode(),
                "vector": pa.array(vectors, pa.list_(pa.float32(), SIZE)),
            }
        )
        pq.write_table(table, folder / f"{number}.parquet", row_group_size=9)
    return str(folder)


def work_of(data, **options):
    return NeighboursWork(**{"vectors": data, "size": SIZE, "rows": ROWS - 2, "k": K, **options})


def run(work, corpus, output, *, pool=run_here):
    plan = prepare(work, ParquetCorpus(path=corpus), str(output), target_seconds=1.0, kind="row_group")
    return execute(plan, pool, on_event=lambda event: None)


def test_every_row_has_the_neighbours_that_looking_at_all_pairs_finds(data, values, tmp_path, monkeypatch):
    monkeypatch.setattr(neighbours_work, "QUERY_ROWS", 4)
    monkeypatch.setattr(neighbours_work, "BLOCK_ROWS", 10)
    finished = run(work_of(data, leave_out_self=True, id_column="name"), data, tmp_path / "out")
    assert (finished.totals.ok, finished.totals.null, finished.totals.error) == (ROWS - 2, 1, 1)
    rows = pq.read_table(tmp_path / "out/data").to_pylist()
    assert list(rows[0]) == ["name", "neighbours", "error"]
    expected = brute_force(values, values, K, leave_out_self=True)
    for number, (row, right) in enumerate(zip(rows, expected, strict=True)):
        assert row["name"] == f"row {number}"
        if number in (NULL, ZERO):
            assert row["neighbours"] is None
            assert row["error"] == (NO_DIRECTION if number == ZERO else "null_text: the text is null")
            continue
        found = [(one["row"], np.float32(one["cosine"])) for one in row["neighbours"]]
        assert found == right
        assert [one["id"] for one in row["neighbours"]] == [f"row {one}" for one, _ in right]


def test_without_ids_rows_are_named_by_their_numbers(data, values, tmp_path):
    run(work_of(data, min_cosine=0.9), data, tmp_path / "out")
    rows = pq.read_table(tmp_path / "out/data").to_pylist()
    assert [row["id"] for row in rows] == list(range(ROWS))
    assert [one["row"] for one in rows[35]["neighbours"]] == [0, 30, 31, 32]
    assert all(one["id"] == one["row"] for row in rows for one in row["neighbours"] or [])
    assert all(one["cosine"] >= 0.9 for row in rows for one in row["neighbours"] or [])


def test_other_queries_and_lists_without_neighbours(data, values, tmp_path):
    pq.write_table(pa.table({"vector": [(-values[0]).tolist(), values[1].tolist(), None]}), tmp_path / "q.parquet")
    run(work_of(data, min_cosine=0.999), str(tmp_path / "q.parquet"), tmp_path / "out")
    rows = pq.read_table(tmp_path / "out/data").to_pylist()
    assert [row["neighbours"] and [one["row"] for one in row["neighbours"]] for row in rows] == [[], [1], None]


def test_a_run_that_was_stopped_ends_with_the_same_bytes(data, tmp_path):
    def stopped(plan, shards, on_progress):
        yield from itertools.islice(run_here(plan, shards, on_progress), 3)
        raise TerminatedError("terminated")

    run(work_of(data), data, tmp_path / "whole")
    with pytest.raises(TerminatedError):
        run(work_of(data), data, tmp_path / "out", pool=stopped)
    assert run(work_of(data), data, tmp_path / "out").resumed_shards == 3
    assert parts(tmp_path / "out") == parts(tmp_path / "whole")
    with pytest.raises(RefusedError, match=r"work\.k: 4 -> 5"):
        run(work_of(data, k=5), data, tmp_path / "out")


def test_a_foreign_folder_and_a_missing_id_are_refused(data, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/notes.txt").write_text("mine")
    with pytest.raises(RefusedError, match=r"it holds notes\.txt"):
        run(work_of(data), data, tmp_path / "out")
    with pytest.raises(ConfigError, match="id_column: queries has no column 'id'; it has name, vector"):
        run(work_of(data, id_column="id"), data, tmp_path / "other")


def test_identity_names_what_decides_the_output(data):
    def identity(**changed):
        return work_of(data, **changed).identity()

    assert identity() == identity(threads=2)
    for changed in [
        {"id_column": "name"},
        {"leave_out_self": True},
        {"k": 5},
        {"min_cosine": 0.5},
        {"vector_column": "h"},
    ]:
        assert identity(**changed) != identity(), changed
