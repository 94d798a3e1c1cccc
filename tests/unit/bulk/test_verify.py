"""Looking at outputs: what verify finds, what inspect tells, what copying keeps, what an estimate expects."""

import hashlib
import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rnnlm.bulk.copy_work import SECONDS_PER_BYTE, CopyWork
from rnnlm.bulk.engine import execute, prepare, run_here
from rnnlm.bulk.estimate import estimate_run
from rnnlm.bulk.inspect import inspect_data, inspect_output
from rnnlm.bulk.verify import verify_output
from rnnlm.data.formats.parquet import ParquetCorpus
from rnnlm.errors import DataError, FailuresError
from rnnlm.inference.score_work import ScoreWork
from tests.corpora import nasty_table
from tests.unit.bulk.toy import run_toy


@pytest.fixture
def corpus(tmp_path):
    rows = range(100)
    texts = [None if row % 10 == 3 else "bad" if row % 25 == 7 else "x" * (row % 9) for row in rows]
    pq.write_table(pa.table({"id": pa.array(rows), "text": texts}), tmp_path / "corpus.parquet", row_group_size=10)
    return tmp_path / "corpus.parquet"


@pytest.fixture
def made(tmp_path, corpus, tiny_checkpoint):
    """A scored output: its work can be built again from its plan, as a toy of the tests cannot."""
    work = ScoreWork(checkpoint=tiny_checkpoint.location.address)
    plan = prepare(work, ParquetCorpus(path=str(corpus)), str(tmp_path / "out"), target_seconds=1e-9, kind="row_group")
    execute(plan, run_here, on_event=lambda event: None)
    return tmp_path / "out"


def test_a_sound_output_has_no_problems(made):
    findings = verify_output(str(made), sample=3, seed=1)
    assert (findings.problems, findings.notes) == ([], [])
    assert (findings.parts, findings.rows) == (10, 100)
    assert findings.num_bytes == sum(file.stat().st_size for file in (made / "data").iterdir())
    assert len(set(findings.recomputed)) == 3


def flip_a_byte(made):
    file = made / "data/part-000002.parquet"
    content = bytearray(file.read_bytes())
    content[100] ^= 1
    file.write_bytes(content)


def rewrite(made, change):
    """Change a part and the hash in its record, as one who wants to deceive would."""
    file, record = made / "data/part-000002.parquet", made / "_run/done/000002.json"
    pq.write_table(change(pq.read_table(file)), file, compression="zstd")
    content = json.loads(record.read_text())
    content["parts"][0].update(num_bytes=file.stat().st_size, sha256=hashlib.sha256(file.read_bytes()).hexdigest())
    record.write_text(json.dumps(content))


def other_scores(table):
    place = table.column_names.index("logprob")
    return table.set_column(place, "logprob", pa.compute.subtract(table["logprob"], 0.5))


def edit(made, name, **changes):
    content = json.loads((made / name).read_text())
    (made / name).write_text(json.dumps({**content, **changes}))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (flip_a_byte, r"data/part-000002\.parquet has other content than was written"),
        (lambda made: (made / "data/part-000004.parquet").unlink(), r"data/part-000004\.parquet is missing"),
        (lambda made: (made / "data/part-000001.parquet").write_bytes(b"PAR1"), r"has 4 bytes, [\d,]+ were written"),
        (lambda made: (made / "data/part-000010.parquet").write_bytes(b""), r"part-000010\.parquet belongs to no record"),
        (lambda made: (made / "_run/done/000003.json").unlink(), r"1 of 10 shards are not done, 3 the first"),
        (lambda made: (made / "_SUCCESS").unlink(), "the run is not finished"),
        (lambda made: edit(made, "_SUCCESS", rows=99), "_SUCCESS and the records differ: rows: 99 -> 100"),
        (lambda made: edit(made, "_run/done/000005.json", ok=3), "shard 5: the counts of rows do not add up"),
        (lambda made: rewrite(made, lambda table: table.slice(1)), r"shard 2: 10 rows, but 10|part-000002.* 9 rows"),
        (lambda made: rewrite(made, other_scores), r"computed again, is another: column 'logprob' by at most 5\.0e-01"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_found(made, damage, said):
    damage(made)
    findings = verify_output(str(made), sample=10, seed=1)
    assert any(re.search(said, problem) for problem in findings.problems), findings.problems


def test_without_the_corpus_the_parts_are_checked_all_the_same(made, corpus):
    corpus.unlink()
    findings = verify_output(str(made), sample=3, seed=1)
    assert findings.problems == []
    assert findings.recomputed == []
    assert "cannot be planned: there is no file" in findings.notes[0]


def test_only_outputs_can_be_verified(tmp_path):
    with pytest.raises(DataError, match="is not the output of a bulk job"):
        verify_output(str(tmp_path), sample=1, seed=1)


def test_the_state_of_an_output(corpus, tmp_path):
    with pytest.raises(FailuresError):
        run_toy(corpus, tmp_path / "out", error_budget=0.01)
    state = inspect_output(str(tmp_path / "out"))
    assert state["state"] == "unfinished"
    assert (state["done"], state["shards"]) == (10, 10)
    totals = state["totals"]
    assert (totals["rows"], totals["null"], totals["error"], totals["errors"]) == (
        100,
        10,
        4,
        {"bad": 4, "null_text": 10},
    )
    run_toy(corpus, tmp_path / "out")
    assert inspect_output(str(tmp_path / "out"))["state"] == "finished"
    assert inspect_output(str(tmp_path)) is None


def test_what_a_data_set_is(corpus, tmp_path):
    found = inspect_data(str(corpus))
    assert (found["files"], found["row_groups"], found["rows"]) == (1, 10, 100)
    assert found["columns"] == {"id": "int64", "text": "string"}
    assert found["rows_of_a_row_group"] == {"fewest": 10, "most": 10}


def test_a_copy_holds_the_same_rows_in_parts_of_the_size_asked_for(tmp_path):
    table = nasty_table(2000)
    (tmp_path / "many").mkdir()
    for number in range(20):
        pq.write_table(table.slice(number * 100, 100), tmp_path / f"many/{number:02d}.parquet")
    sizes = [file.stat().st_size for file in (tmp_path / "many").iterdir()]
    plan = prepare(
        CopyWork(),
        ParquetCorpus(path=str(tmp_path / "many")),
        str(tmp_path / "out"),
        target_seconds=5.5 * max(sizes) * SECONDS_PER_BYTE,
    )
    execute(plan, run_here, on_event=lambda event: None)
    assert 2 <= len(list((tmp_path / "out/data").iterdir())) <= 4
    found, written = pq.read_table(tmp_path / "out/data"), pq.read_table(tmp_path / "many")
    assert found.schema.equals(written.schema)
    assert str(found.to_pylist()) == str(written.to_pylist())  # NaN included


def test_an_estimate_expects_what_comes(corpus, tmp_path, tiny_checkpoint):
    work = ScoreWork(checkpoint=tiny_checkpoint.location.address)
    plan = prepare(work, ParquetCorpus(path=str(corpus)), str(tmp_path / "out"), target_seconds=1e-5)
    estimate = estimate_run(plan.run, plan.shards, sample_seconds=0.05)
    assert not (tmp_path / "out").exists()
    totals = execute(plan, run_here, on_event=lambda event: None).totals
    assert estimate.rows == estimate.selected_rows == totals.rows
    assert estimate.sampled_rows <= totals.rows
    assert estimate.tokens == pytest.approx(totals.tokens, rel=0.3)
    assert estimate.seconds > 0
