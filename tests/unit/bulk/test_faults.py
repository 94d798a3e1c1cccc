"""What goes wrong while a bulk job runs: files that change, memory that ends, a second driver, a signal."""

import json
import multiprocessing
import os
import shutil
import threading

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rnnlm.bulk import engine
from rnnlm.bulk.engine import execute, prepare, run_here
from rnnlm.bulk.rows import RowGuard
from rnnlm.bulk.work import Processed, Processor
from rnnlm.data.formats.parquet import ParquetCorpus
from rnnlm.errors import FailuresError, RefusedError, TerminatedError
from tests.unit.bulk.toy import CountProcessor, CountWork, parts, run_toy

ROWS = 90


@pytest.fixture
def corpus(tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    for number in range(3):
        rows = range(30 * number, 30 * number + 30)
        table = pa.table({"id": pa.array(rows), "text": pa.array(["x" * (row % 7) for row in rows])})
        pq.write_table(table, folder / f"{number}.parquet", row_group_size=10)
    return folder


@pytest.fixture
def undisturbed(corpus, tmp_path):
    run_toy(corpus, tmp_path / "undisturbed")
    return parts(tmp_path / "undisturbed")


def meddling(after, meddle):
    """A pool that does something to the world after so many shards."""

    def pool(run, shards, on_progress):
        for number, outcome in enumerate(run_here(run, shards, on_progress), start=1):
            yield outcome
            if number == after:
                meddle()

    return pool


def failed_of(output):
    return [json.loads(file.read_text()) for file in sorted((output / "_run/failed").iterdir())]


def test_a_file_deleted_between_plan_and_read_costs_its_shards_alone(corpus, tmp_path, undisturbed):
    kept = (corpus / "2.parquet").read_bytes()
    times = (corpus / "2.parquet").stat()
    with pytest.raises(FailuresError, match=r"3 of 9 shards failed; the first: the file is gone at .*2\.parquet"):
        run_toy(corpus, tmp_path / "out", pool=meddling(1, (corpus / "2.parquet").unlink))
    assert [failure["first_row"] for failure in failed_of(tmp_path / "out")] == [60, 70, 80]
    (corpus / "2.parquet").write_bytes(kept)
    os.utime(corpus / "2.parquet", ns=(times.st_atime_ns, times.st_mtime_ns))
    run_toy(corpus, tmp_path / "out")
    assert parts(tmp_path / "out") == undisturbed


def test_a_file_changed_between_plan_and_read_is_not_mixed_in(corpus, tmp_path):
    def change():
        shutil.copy(corpus / "0.parquet", corpus / "1.parquet")

    with pytest.raises(FailuresError, match="3 of 9 shards failed; the first: the file changed after it was listed"):
        run_toy(corpus, tmp_path / "out", pool=meddling(1, change))
    with pytest.raises(RefusedError, match=r"corpus\.files\..*1\.parquet: '\d+ bytes, changed \d+' -> '\d+ bytes"):
        run_toy(corpus, tmp_path / "out")


def test_a_file_added_later_is_another_corpus(corpus, tmp_path):
    run_toy(corpus, tmp_path / "out")
    shutil.copy(corpus / "0.parquet", corpus / "3.parquet")
    with pytest.raises(RefusedError, match=r"3\.parquet: 'absent' -> "):
        run_toy(corpus, tmp_path / "out")


def test_a_signal_to_end_leaves_what_is_done_and_the_rest_for_later(corpus, tmp_path, undisturbed):
    def terminate():
        raise TerminatedError("terminated")

    with pytest.raises(TerminatedError):
        run_toy(corpus, tmp_path / "out", pool=meddling(4, terminate))
    assert not (tmp_path / "out/_SUCCESS").exists()
    assert run_toy(corpus, tmp_path / "out").resumed_shards == 4
    assert parts(tmp_path / "out") == undisturbed


def test_two_drivers_at_once_do_the_same(corpus, tmp_path, undisturbed):
    meet = threading.Barrier(2)
    warnings = []

    def slowly(run, shards, on_progress):
        for outcome in run_here(run, shards, on_progress):
            meet.wait(timeout=30)
            yield outcome

    drivers = [
        threading.Thread(
            target=run_toy, args=(corpus, tmp_path / "out"), kwargs={"pool": slowly, "warn": warnings.append}
        )
        for _ in range(2)
    ]
    for driver in drivers:
        driver.start()
    for driver in drivers:
        driver.join(timeout=60)
    assert parts(tmp_path / "out") == undisturbed


def test_a_second_driver_is_told_of_the_first(corpus, tmp_path):
    said = []

    def look():
        context = multiprocessing.get_context("spawn")
        seen = context.Queue()
        process = context.Process(target=announce_there, args=(str(tmp_path / "out"), seen))
        process.start()
        said.append(seen.get(timeout=60))
        process.join()

    run_toy(corpus, tmp_path / "out", pool=meddling(2, look))
    assert f"process {os.getpid()} on" in said[0]
    assert "may still be at work" in said[0]


def announce_there(output, seen):
    from rnnlm.bulk.output import OutputFolder
    from rnnlm.storage import open_location

    seen.put(OutputFolder(open_location(output)).announce())


def test_of_two_drivers_with_different_work_one_is_refused(corpus, tmp_path):
    corpus = ParquetCorpus(path=str(corpus))
    first, second = (
        prepare(CountWork(version=version), corpus, str(tmp_path / "out"), target_seconds=10.0) for version in (1, 2)
    )
    execute(first, run_here, on_event=lambda event: None)
    with pytest.raises(RefusedError, match=r"work\.version: 1 -> 2"):
        execute(second, run_here, on_event=lambda event: None)


class Greedy(Processor):
    """Runs out of memory with more than `room` rows, and always at the rows in `never`."""

    def __init__(self, room, never=()):
        self.room, self.never, self.released, self.seen = room, set(never), 0, []

    def process(self, table, rows):
        self.seen.append(len(rows))
        if len(rows) > self.room or self.never & set(rows.tolist()):
            raise MemoryError("out of memory")
        return Processed({"row": pa.array(rows), "error": pa.nulls(len(rows), pa.string())}, len(rows))

    def release_memory(self):
        self.released += 1


FIELDS = [pa.field("row", pa.int64()), pa.field("error", pa.string())]


def test_a_batch_that_does_not_fit_into_memory_is_halved():
    processor = Greedy(room=10)
    guard = RowGuard(processor, FIELDS)
    found = guard.process(pa.table({"text": ["x"] * 33}), np.arange(33))
    assert found.columns["row"].to_pylist() == list(range(33))
    assert found.columns["error"].null_count == 33
    assert found.num_tokens == 33
    assert processor.seen[:2] == [33, 16]
    assert guard.halved == processor.released == 3


def test_a_row_that_never_fits_gets_an_error_of_its_own():
    found = RowGuard(Greedy(room=100, never=[5]), FIELDS).process(pa.table({"text": ["x"] * 9}), np.arange(9))
    errors = found.columns["error"].to_pylist()
    assert errors[5] == "out_of_memory: MemoryError: out of memory"
    assert errors[:5] + errors[6:] == [None] * 8
    assert found.columns["row"].to_pylist() == [0, 1, 2, 3, 4, None, 6, 7, 8]


def test_a_model_that_can_do_nothing_fails_the_shard_not_every_row(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("rnnlm.bulk.rows.HOPELESS_ROWS", 4)

    def broken(self, table, rows):
        raise RuntimeError("the model is broken")

    monkeypatch.setattr(CountProcessor, "process", broken)
    with pytest.raises(FailuresError, match="9 of 9 shards failed; the first: the model is broken"):
        run_toy(corpus, tmp_path / "out")


@pytest.mark.usefixtures("undisturbed")
def test_shards_by_row_group_and_by_file(corpus, tmp_path):
    for kind, count in (("row_group", 9), ("file", 3)):
        finished = run_toy(corpus, tmp_path / kind, kind=kind)
        assert finished.totals.shards == count
        assert pq.read_table(tmp_path / kind / "data").equals(pq.read_table(tmp_path / "undisturbed/data"))


def test_limit_sample_and_filter_decide_by_row_alone(corpus, tmp_path):
    def ids(name, **options):
        run_toy(ParquetCorpus(path=str(corpus), **options), tmp_path / name)
        return pq.read_table(tmp_path / name / "data")["row"].to_pylist()

    assert ids("limit", limit=25) == list(range(25))
    sample = ids("sample", sample=0.3)
    assert 10 < len(sample) < 45
    assert ids("both", sample=0.3, limit=25) == [row for row in sample if row < 25]
    assert ids("where", where="id >= 30 and length(text) == 0") == [row for row in range(30, ROWS) if row % 7 == 0]
    assert ids("nothing", where="id < 0") == []


def test_what_is_left_out_is_counted(corpus, tmp_path):
    finished = run_toy(ParquetCorpus(path=str(corpus), where="id < 40"), tmp_path / "out")
    totals = finished.totals
    assert (totals.planned, totals.skipped, totals.rows, totals.ok) == (ROWS, ROWS - 40, 40, 40)


def test_columns_that_are_not_kept_are_not_in_the_output(corpus, tmp_path):
    run_toy(ParquetCorpus(path=str(corpus), columns=["id"], where="length(text) > 3"), tmp_path / "out")
    assert pq.read_table(tmp_path / "out/data").column_names == ["id", "characters", "row", "error"]


def test_the_driver_says_again_and_again_that_it_lives(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "ANNOUNCE_SECONDS", -1.0)
    seen = []
    driver = tmp_path / "out/_run/driver.json"
    run_toy(corpus, tmp_path / "out", pool=meddling(3, lambda: seen.append(json.loads(driver.read_text()))))
    assert seen[0]["pid"] == os.getpid()
    assert not driver.exists()
