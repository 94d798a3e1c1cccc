"""A bulk job: every row accounted for, every column as it was, the same bytes after any stop, in any order."""

import hashlib
import json
import os
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rnnlm.bulk.engine import Resumed, prepare, run_here
from rnnlm.bulk.output import DoneRecord
from rnnlm.bulk.shard import Reader, run_shard
from rnnlm.data.formats.parquet import ParquetCorpus
from rnnlm.errors import ConfigError, DataError, EnvironmentFailure, FailuresError, RefusedError
from rnnlm.storage import Location
from tests.corpora import nasty_table
from tests.unit.bulk.toy import CountWork, parts, run_toy

ROWS = 57
TEXTS = [None if row % 11 == 5 else "bad" if row % 13 == 7 else "x" * (row % 9) for row in range(ROWS)]


class KilledError(BaseException):
    """Stands for a SIGKILL: nothing in the code can catch it."""


def die_at(monkeypatch, step, names, *, after=False):
    """Let the writing calls of these names be killed from call number `step` on, that one before or after its effect."""
    steps = iter(range(1000))

    def dying(whole):
        def write(*arguments):
            count = next(steps)
            if count == step and after:
                whole(*arguments)
            if count >= step:
                raise KilledError
            return whole(*arguments)

        return write

    for name in names:
        monkeypatch.setattr(Location, name, dying(getattr(Location, name)))


@pytest.fixture
def corpus(tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    for number, (start, stop) in enumerate([(0, 20), (20, 20), (20, ROWS)]):
        table = pa.table(
            {"id": pa.array(range(start, stop), pa.int64()), "text": pa.array(TEXTS[start:stop], pa.string())}
        )
        pq.write_table(table, folder / f"{number}.parquet", row_group_size=7)
    return folder


@pytest.fixture
def undisturbed(corpus, tmp_path):
    run_toy(corpus, tmp_path / "undisturbed")
    return parts(tmp_path / "undisturbed")


def test_rows_and_columns_and_counts(corpus, tmp_path):
    seen = []
    finished = run_toy(corpus, tmp_path / "out", seen=seen)
    totals = finished.totals
    table = pq.read_table(tmp_path / "out/data")
    assert table.column_names == ["id", "text", "characters", "row", "error"]
    assert table["id"].to_pylist() == table["row"].to_pylist() == list(range(ROWS))
    assert table["text"].to_pylist() == TEXTS
    good = [text is not None and text != "bad" for text in TEXTS]
    assert table["characters"].to_pylist() == [len(t) if g else None for t, g in zip(TEXTS, good, strict=True)]
    nulls = sum(text is None for text in TEXTS)
    assert (totals.planned, totals.skipped, totals.rows) == (ROWS, 0, ROWS)
    assert (totals.ok, totals.null, totals.error) == (sum(good), nulls, ROWS - sum(good) - nulls)
    assert totals.errors == {"bad": totals.error, "null_text": nulls}
    assert totals.tokens == sum(filter(None, table["characters"].to_pylist()))
    assert totals.num_bytes == sum(len(text) for text in TEXTS if text)
    assert finished.resumed_shards == 0
    assert [event.shard for event in seen if isinstance(event, DoneRecord)] == list(range(totals.shards))
    assert totals.shards > 4


def test_a_second_run_does_nothing_and_says_the_same(corpus, tmp_path, undisturbed):
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "undisturbed").rglob("*")}

    def no_pool(run, shards, on_progress):
        raise AssertionError("nothing is pending")

    finished = run_toy(corpus, tmp_path / "undisturbed", pool=no_pool)
    assert finished.totals.rows == ROWS
    assert finished.resumed_shards == finished.totals.shards
    assert {p: t for p, t in times.items() if p.is_file()} == {p: p.stat().st_mtime_ns for p in times if p.is_file()}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", range(20))
def test_killed_at_any_write_and_started_again_the_bytes_are_the_same(
    corpus, tmp_path, undisturbed, monkeypatch, step, after
):
    die_at(monkeypatch, step, ["write_bytes", "create_bytes", "upload"], after=after)
    with pytest.raises(KilledError):
        run_toy(corpus, tmp_path / "out")
    monkeypatch.undo()
    seen = []
    finished = run_toy(corpus, tmp_path / "out", seen=seen)
    # First the listing, the plan and the note of the driver, then a part and its record for each shard, then the mark.
    assert 4 + 2 * finished.totals.shards == 20
    assert finished.resumed_shards == min(finished.totals.shards, max(0, step - 3 + after) // 2)
    assert parts(tmp_path / "out") == undisturbed
    if step < 19 or not after:
        earlier = [record.shard for event in seen if isinstance(event, Resumed) for record in event.records]
        now = [event.shard for event in seen if isinstance(event, DoneRecord)]
        assert sorted(earlier + now) == list(range(8))
        assert len(earlier) == finished.resumed_shards


def test_killed_inside_the_very_first_write_it_can_be_started_again(corpus, tmp_path, undisturbed, monkeypatch):
    def kill(*arguments):
        raise KilledError

    monkeypatch.setattr(os, "fsync", kill)
    with pytest.raises(KilledError):
        run_toy(corpus, tmp_path / "out")
    monkeypatch.undo()
    run_toy(corpus, tmp_path / "out")
    assert parts(tmp_path / "out") == undisturbed


def test_killed_inside_the_write_of_a_part_nothing_stays_among_the_parts(corpus, tmp_path, undisturbed, monkeypatch):
    whole, written = os.replace, iter(range(1000))

    def kill(source, target):
        if next(written) == 4:  # the listing, the note of the driver, a part, its record, then the part that is killed
            raise KilledError
        whole(source, target)

    monkeypatch.setattr(os, "replace", kill)
    monkeypatch.setattr(Path, "unlink", lambda *arguments, **options: None)  # who is killed clears nothing up
    with pytest.raises(KilledError):
        run_toy(corpus, tmp_path / "out")
    monkeypatch.undo()
    assert list((tmp_path / "out/_run/tmp").iterdir())
    assert [file.name for file in (tmp_path / "out/data").iterdir()] == ["part-000000.parquet"]
    run_toy(corpus, tmp_path / "out")
    assert parts(tmp_path / "out") == undisturbed
    assert not (tmp_path / "out/_run/tmp").exists()


def test_a_part_without_a_record_does_not_count(corpus, tmp_path, undisturbed):
    run_toy(corpus, tmp_path / "out")
    (tmp_path / "out/_SUCCESS").unlink()
    (tmp_path / "out/_run/done/000001.json").unlink()
    (tmp_path / "out/data/part-000001.parquet").write_bytes(b"half a file")
    assert run_toy(corpus, tmp_path / "out").resumed_shards == len(undisturbed) - 2
    assert parts(tmp_path / "out") == undisturbed


def test_the_order_of_work_and_doing_it_twice_change_nothing(corpus, tmp_path, undisturbed):
    def wild(run, shards, on_progress):
        # Another worker's order, each shard by two processors, and only the second outcome is reported.
        for shard in random.Random(0).sample(list(shards), len(shards)):
            run_shard(run, shard, run.work.build("cpu"), Reader(run), worker="thought dead")
            yield run_shard(run, shard, run.work.build("cpu"), Reader(run), worker="second")

    run_toy(corpus, tmp_path / "out", pool=wild)
    assert parts(tmp_path / "out") == undisturbed


def test_the_record_of_a_shard_vouches_for_its_part(corpus, tmp_path):
    run_toy(corpus, tmp_path / "out")
    for file in sorted((tmp_path / "out/_run/done").iterdir()):
        record = json.loads(file.read_text())
        (part,) = record["parts"]
        path = tmp_path / "out/data" / part["name"]
        assert part["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert part["num_bytes"] == path.stat().st_size
        assert record["planned"] == record["rows"] + record["skipped"]
        assert record["rows"] == record["ok"] + record["null"] + record["error"] == pq.read_metadata(path).num_rows
        metadata = pq.read_schema(path).metadata
        assert (metadata[b"rnnlm.job"], metadata[b"rnnlm.version"]) == (b"count", b"1")
        assert metadata[b"rnnlm.shard"] == str(record["shard"]).encode()


# ----- failures


@pytest.fixture
def trouble(tmp_path):
    file = tmp_path / "trouble.json"
    file.write_text("[14, 34]")
    return file


def test_a_row_that_raises_costs_itself_alone(corpus, tmp_path, undisturbed, trouble):
    finished = run_toy(corpus, tmp_path / "out", work=CountWork(trouble=str(trouble)))
    assert finished.totals.errors["failed"] == 2
    rows, expected = read(tmp_path / "out"), read(tmp_path / "undisturbed")
    for row, (found, undisturbed_row) in enumerate(zip(rows, expected, strict=True)):
        if row in {14, 34}:
            assert found["error"] == f"failed: ZeroDivisionError: trouble at row {row}"
            assert found["characters"] is None
            assert (found["id"], found["text"]) == (undisturbed_row["id"], undisturbed_row["text"])
        else:
            assert found == undisturbed_row


def test_only_rows_with_an_error_are_tried_again(corpus, tmp_path, undisturbed, trouble):
    work = CountWork(trouble=str(trouble))
    run_toy(corpus, tmp_path / "out", work=work)
    trouble.write_text(json.dumps([row for row in range(ROWS) if row not in {14, 34} and TEXTS[row] != "bad"]))
    finished = run_toy(corpus, tmp_path / "out", work=work)
    assert finished.totals.errors["failed"] == 2  # nothing is tried again unless that is asked for
    finished = run_toy(corpus, tmp_path / "out", work=work, retry_errors=True)
    assert "failed" not in finished.totals.errors  # and no other row was, for it would have failed
    assert finished.totals.tokens == sum(len(t) for t in TEXTS if t and t != "bad")
    assert parts(tmp_path / "out") == undisturbed


@pytest.mark.parametrize("step", range(6))
def test_killed_while_errors_are_tried_again(corpus, tmp_path, undisturbed, trouble, monkeypatch, step):
    work = CountWork(trouble=str(trouble))
    run_toy(corpus, tmp_path / "out", work=work)
    trouble.write_text("[]")
    die_at(monkeypatch, step, ["write_bytes", "upload", "delete"])
    with pytest.raises(KilledError):
        run_toy(corpus, tmp_path / "out", work=work, retry_errors=True)
    monkeypatch.undo()
    run_toy(corpus, tmp_path / "out", work=work, retry_errors=True)
    assert parts(tmp_path / "out") == undisturbed


def test_the_error_budget_stops_a_run(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("rnnlm.bulk.engine.BUDGET_FROM_ROWS", 20)
    with pytest.raises(
        FailuresError, match=r"2 of 2\d rows have an error, the budget is 5.0% \(2 bad\); look at"
    ) as caught:
        run_toy(corpus, tmp_path / "out", error_budget=0.05)
    assert caught.value.exit_code == 3
    assert len(list((tmp_path / "out/_run/done").iterdir())) == 4
    assert not (tmp_path / "out/_SUCCESS").exists()
    run_toy(corpus, tmp_path / "out", error_budget=0.5)
    with pytest.raises(FailuresError, match=r"the budget is 5\.0%"):
        run_toy(corpus, tmp_path / "out", error_budget=0.05)


def read(output):
    return pq.read_table(output / "data").to_pylist()


GROUP_AT = {14: (0, 2), 34: (2, 2)}  # file and row group of two rows


def test_a_failed_shard_is_noted_and_the_others_are_done(corpus, tmp_path, undisturbed, monkeypatch):
    broken = {"rows": {14, 34}}
    whole = ParquetCorpus.read_batches

    def read_batches(self, unit, schema, *, start, stop):
        number = int(Path(unit.path).stem)
        if any((number, unit.index) == GROUP_AT[row] for row in broken["rows"]):
            raise DataError("cannot read the row group")
        yield from whole(self, unit, schema, start=start, stop=stop)

    monkeypatch.setattr(ParquetCorpus, "read_batches", read_batches)
    with pytest.raises(
        FailuresError, match=r"2 of \d+ shards failed; the first: cannot read the row group; see .*/_run/failed"
    ):
        run_toy(corpus, tmp_path / "out")
    failed = [json.loads(file.read_text()) for file in sorted((tmp_path / "out/_run/failed").iterdir())]
    assert [(one["first_row"], one["error"]) for one in failed] == [
        (14, "DataError: cannot read the row group"),
        (34, "DataError: cannot read the row group"),
    ]
    assert all("Traceback" in one["details"] for one in failed)
    assert len(list((tmp_path / "out/_run/done").iterdir())) == len(undisturbed) - 3
    assert not (tmp_path / "out/_SUCCESS").exists()

    broken["rows"] = {34}
    tried = []

    def watched(run, shards, on_progress):
        tried.append([shard.first_row for shard in shards])
        yield from run_here(run, shards, on_progress)

    with pytest.raises(FailuresError, match="1 of"):
        run_toy(corpus, tmp_path / "out", pool=watched)
    assert [file.name for file in (tmp_path / "out/_run/failed").iterdir()] == [f"{failed[1]['shard']:06d}.json"]
    broken["rows"] = set()
    run_toy(corpus, tmp_path / "out", pool=watched)
    assert tried == [[14, 34], [34]]
    assert parts(tmp_path / "out") == undisturbed
    assert not (tmp_path / "out/_run/failed").exists()


def test_a_shard_whose_input_is_damaged_fails_alone(corpus, tmp_path):
    file = corpus / "2.parquet"
    start = pq.read_metadata(file).row_group(2).column(1).data_page_offset
    content = bytearray(file.read_bytes())
    content[start - 20 : start + 30] = bytes(50)
    file.write_bytes(bytes(content))
    with pytest.raises(FailuresError, match=r"1 of \d+ shards failed; .*2.parquet, row group 2"):
        run_toy(corpus, tmp_path / "out")


def test_a_full_disk_stops_the_run(corpus, tmp_path, monkeypatch):
    whole = Location.upload

    def full(self, file):
        if "part-000002" in self.path:
            raise EnvironmentFailure("cannot write: No space left on device")
        whole(self, file)

    monkeypatch.setattr(Location, "upload", full)
    with pytest.raises(EnvironmentFailure, match="No space"):
        run_toy(corpus, tmp_path / "out")
    assert len(list((tmp_path / "out/_run/done").iterdir())) == 2
    assert not list((tmp_path / "out/_run/tmp").iterdir())  # what is unfinished does not fill the disk further


# ----- refusals


def test_another_run_is_refused_and_what_differs_is_shown(corpus, tmp_path):
    run_toy(corpus, tmp_path / "out")
    before = parts(tmp_path / "out")
    with pytest.raises(RefusedError, match=r"out holds another run: work.version: 1 -> 2; choose another output"):
        run_toy(corpus, tmp_path / "out", work=CountWork(version=2))
    with pytest.raises(RefusedError, match=r"plan: '8 shards, .*' -> '1\d shards, "):
        run_toy(corpus, tmp_path / "out", target_seconds=5.0)
    pq.write_table(pa.table({"id": [1], "text": ["changed"]}), corpus / "1.parquet")
    with pytest.raises(RefusedError, match=r"corpus.files.*1.parquet: '\d+ bytes, changed \d+' -> '\d+ bytes"):
        run_toy(corpus, tmp_path / "out")
    (corpus / "1.parquet").unlink()
    with pytest.raises(RefusedError, match=r"1.parquet: .* -> 'absent'"):
        run_toy(corpus, tmp_path / "out")
    assert parts(tmp_path / "out") == before


def test_a_folder_of_something_else_is_refused(corpus, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.tex").write_text("")
    with pytest.raises(RefusedError, match=r"it holds thesis\.tex and no _run/plan.json"):
        run_toy(corpus, tmp_path / "out")


def test_a_column_name_that_is_taken_is_refused(tmp_path):
    pq.write_table(pa.table({"text": ["a"], "error": ["mine"]}), tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match="already has a column 'error', which count would add; leave it out"):
        run_toy(tmp_path / "a.parquet", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_corpus_that_cannot_be_used_is_refused_before_anything_is_written(tmp_path):
    pq.write_table(pa.table({"text": [1]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="text is needed"):
        run_toy(tmp_path / "a.parquet", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_input_inside_the_output_is_refused(corpus, tmp_path):
    for output in (corpus, tmp_path):
        with pytest.raises(ConfigError, match=r"output: the corpus file .*0.parquet lies in the output folder"):
            prepare(CountWork(), ParquetCorpus(path=str(corpus)), str(output), target_seconds=1.0)


@pytest.mark.parametrize("pattern", ["", "/**/*.parquet"])
def test_an_output_inside_the_input_is_refused(corpus, pattern):
    with pytest.raises(ConfigError, match="output"):
        prepare(CountWork(), ParquetCorpus(path=f"{corpus}{pattern}"), str(corpus / "out"), target_seconds=1.0)


def test_an_output_beside_the_file_that_is_read_is_fine(corpus):
    run_toy(corpus / "0.parquet", corpus / "out")
    run_toy(corpus / "0.parquet", corpus / "out")


# ----- columns


@pytest.mark.parametrize("row_group_size", [7, 1000])
def test_every_type_of_column_comes_back_identical(tmp_path, row_group_size):
    table = nasty_table(41).replace_schema_metadata({"author": "somebody"})
    pq.write_table(table, tmp_path / "nasty.parquet", row_group_size=row_group_size)
    written = pq.read_table(tmp_path / "nasty.parquet")
    run_toy(tmp_path / "nasty.parquet", tmp_path / "out", target_seconds=10.0)
    files = sorted((tmp_path / "out/data").iterdir())
    assert len(files) > 3
    found = pa.concat_tables([pq.read_table(file) for file in files])
    assert found.column_names[: len(table.column_names)] == table.column_names
    for name in table.column_names:
        assert found.schema.field(name).equals(written.schema.field(name)), name
        assert str(found[name].to_pylist()) == str(written[name].to_pylist()), name  # NaN included
    assert found.schema.metadata[b"author"] == b"somebody"


@pytest.mark.parametrize("kind", [pa.large_string(), pa.dictionary(pa.int32(), pa.string()), pa.string_view()], ids=str)
def test_every_kind_of_text_can_be_worked_on(tmp_path, kind):
    texts = ["a", None, "\u00fc", "a", ""]
    pq.write_table(pa.table({"text": pa.array(texts).cast(kind)}), tmp_path / "a.parquet", row_group_size=2)
    totals = run_toy(tmp_path / "a.parquet", tmp_path / "out").totals
    assert totals.num_bytes == 4
    found = pq.read_table(tmp_path / "out/data")
    assert found["text"].to_pylist() == texts
    assert found.schema.field("text").type == kind
