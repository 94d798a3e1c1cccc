"""Reading and writing s3:// as a bulk job does, against a real server that at times refuses."""

import pickle
import signal
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rnnlm import retries
from rnnlm.bulk.part import PartWriter
from rnnlm.data.files import expand_paths
from rnnlm.data.formats.lines import LinesCorpus
from rnnlm.data.formats.parquet import ParquetCorpus
from rnnlm.errors import DataError, EnvironmentFailure, RefusedError, TerminatedError
from rnnlm.storage import open_location
from tests.servers import READER, READER_SECRET, SECRET
from tests.unit.bulk.toy import CountWork, run_toy

pytestmark = pytest.mark.s3

ROWS = 1500
MANY = 10**9  # faults: until the test is over


@pytest.fixture
def no_pauses(monkeypatch):
    """Ours; the client library still tries for seconds of its own."""
    monkeypatch.setattr(retries, "PAUSES_SECONDS", (0.0, 0.0, 0.0))


def texts(rows=ROWS):
    return pa.table({"text": [f"text {i} " + "x" * (i % 50) for i in range(rows)], "number": range(rows)})


def parquet(folder, rows=ROWS, files=2):
    """A corpus of several files with several row groups each."""
    table = texts(rows)
    for index in range(files):
        sink = pa.BufferOutputStream()
        first, last = rows * index // files, rows * (index + 1) // files
        pq.write_table(table.slice(first, last - first), sink, row_group_size=400)
        folder.join(f"file {index} ü.parquet").write_bytes(sink.getvalue().to_pybytes())


def test_what_is_written_is_read_listed_and_deleted(s3):
    folder = open_location(s3.uri("a b", "c#d"))
    names = ["x", "y=ü/z", "100%", "q?r", "[s]", "t+u"]
    for name in names:
        folder.join(name).write_bytes(name.encode() * 10)
    for name in names:
        again = open_location(folder.join(name).address)
        assert again.read_bytes() == pickle.loads(pickle.dumps(again)).read_bytes() == name.encode() * 10
    assert folder.list_files() == sorted(names)
    assert s3.keys() == sorted(f"a b/c#d/{name}" for name in names)
    assert folder.join("x").read_range(0, 1) == b"x"
    for name in names:
        folder.join(name).delete()
        folder.join(name).delete()
    assert not any(folder.join(name).exists() for name in names)
    with pytest.raises(DataError, match="there is no file"):
        folder.join("x").read_bytes()
    folder.delete_dir()
    assert folder.list_names() == []


def test_a_folder_a_file_and_a_glob_of_a_full_uri_keep_what_leads_to_them(s3, monkeypatch):
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    folder = open_location(s3.full_uri("in"))
    parquet(folder.join("deep"))
    whole = expand_paths(s3.full_uri("in"), (".parquet",))
    assert len(whole) == 2
    assert expand_paths(s3.full_uri("in", "*", "f*1 ü.parquet"), (".parquet",)) == whole[1:]
    assert expand_paths(s3.full_uri("in", "**", "file [01]*"), (".parquet",)) == whole
    assert expand_paths(whole[0], ()) == whole[:1]
    assert SECRET not in folder.join("x").uri
    assert open_location(whole[0]).read_bytes() == pickle.loads(pickle.dumps(open_location(whole[0]))).read_bytes()


@pytest.mark.parametrize("kind", ["environment", "uri"])
def test_a_bulk_job_from_s3_to_s3_gives_the_bytes_of_a_local_one(s3, tmp_path, kind):
    uri = s3.uri if kind == "environment" else s3.full_uri
    parquet(open_location(uri("in")))
    parquet(open_location(str(tmp_path / "in")))
    work = CountWork()
    output = open_location(uri("out"))
    run_toy(ParquetCorpus(path=str(tmp_path / "in")), tmp_path / "out", work=work, target_seconds=500)
    run_toy(ParquetCorpus(path=uri("in")), uri("out"), work=work, target_seconds=500)
    names = [f"data/{name}" for name in output.join("data").list_names()] + ["_SUCCESS"]
    assert len(names) > 3
    for name in names:
        assert output.join(*name.split("/")).read_bytes() == (tmp_path / "out" / name).read_bytes(), name
    everything = b"".join(output.join(*name.split("/")).read_bytes() for name in output.list_files())
    assert SECRET.encode() not in everything
    assert b"endpoint_override" in everything or kind == "environment"
    run_toy(ParquetCorpus(path=uri("in")), uri("out"), work=work, target_seconds=500)  # it is done, and known to be
    with pytest.raises(RefusedError) as refused:
        run_toy(ParquetCorpus(path=uri("in")), uri("out"), work=CountWork(version=2), target_seconds=500)
    assert SECRET not in str(refused.value)


def test_a_part_is_streamed_and_a_part_that_fails_is_not_visible(s3, tmp_path, no_pauses):
    folder = open_location(s3.uri("out"))
    content = np.random.default_rng(1).bytes(25 << 20)
    local = tmp_path / "part"
    local.write_bytes(content)
    folder.join("old").write_bytes(b"old")
    s3.fail(r"PUT .*partNumber=2", count=MANY, status=400, code="Odd")
    for name in ("new", "old"):
        with pytest.raises(EnvironmentFailure, match=f"cannot write .*{name}"):
            folder.join(name).upload(local)
    s3.faults.clear()
    assert s3.keys() == ["out/old"]
    assert folder.join("old").read_bytes() == b"old"
    s3.fail(r"PUT .*partNumber=2", count=2)
    folder.join("new").upload(local)
    assert folder.join("new").read_bytes() == content


@pytest.mark.parametrize("seconds", [0.01, 0.1])
def test_an_upload_that_a_signal_interrupts_is_visible_whole_or_not_at_all(s3, tmp_path, seconds):
    content = bytes(25 << 20)
    (tmp_path / "part").write_bytes(content)
    file = open_location(s3.uri("part"))

    def terminate(*arguments):
        raise TerminatedError("now")

    def upload_and_wait():
        file.upload(tmp_path / "part")
        time.sleep(5)

    before = signal.signal(signal.SIGALRM, terminate)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        with pytest.raises(TerminatedError):
            upload_and_wait()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert s3.keys() == [] or file.info().size == len(content)


def test_a_part_that_is_not_finished_is_nowhere(s3, tmp_path):
    folder = open_location(s3.uri("out"))
    writer = PartWriter("p.parquet", folder.join("data", "p.parquet"), folder.join("tmp"), texts().schema)
    writer.write(texts())
    writer.close()
    assert s3.keys() == []


@pytest.mark.parametrize("status", [503, 500, 0], ids=["slow down", "internal error", "reset"])
def test_a_short_trouble_is_waited_for(s3, status):
    file = open_location(s3.uri("x"))
    code = "SlowDown" if status == 503 else "InternalError"
    for method in ("PUT|POST", "HEAD", "GET"):
        s3.fail(f"^({method}) ", count=2, status=status, code=code)
    file.write_bytes(b"1" * 1000)
    assert file.read_bytes() == b"1" * 1000
    assert file.exists()
    assert open_location(s3.uri()).list_names() == ["x"]
    assert sum(s3.failed.values()) == 6


def test_a_trouble_that_outlasts_the_client_library_is_waited_for(s3, no_pauses):
    parquet(open_location(s3.uri("in")), files=1)
    corpus = ParquetCorpus(path=s3.uri("in"))
    listing = corpus.list_units()
    rows = iter(corpus.read_batches(listing.units[0], listing.schema, start=0, stop=400))
    began = time.monotonic()
    s3.fail("^GET .*parquet", count=40)  # the library asks five times a second, for six seconds
    assert pa.Table.from_batches(next(rows).to_batches()).num_rows == 400
    assert time.monotonic() - began > 6.0
    assert s3.failed.total() == 40


def test_text_is_read_in_blocks_through_troubles(s3, monkeypatch):
    monkeypatch.setattr("rnnlm.data.formats.text_blocks.BLOCK_BYTES", 1000)
    lines = [f"line {i}" for i in range(500)]
    open_location(s3.uri("in", "a.txt")).write_text("\n".join(lines))
    s3.fail("^GET .*a.txt", count=2)
    s3.fail("^HEAD .*a.txt", count=2, status=0)
    corpus = LinesCorpus(path=s3.uri("in"))
    assert list(corpus.iterate_texts(corpus.list_units())) == lines


ACTIONS = {
    "look": lambda file: file.exists(),
    "list": lambda file: file.list_names(),
    "read": lambda file: file.read_bytes(),
    "write": lambda file: file.write_bytes(b"1"),
    "delete": lambda file: file.delete(),
    "corpus": lambda file: ParquetCorpus(path=file.address).list_units(),
}


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("wrong", ["key", "secret"])
def test_refused_credentials_are_named_and_not_shown(s3, action, wrong):
    parquet(open_location(s3.uri("in")), rows=10, files=1)
    began = time.monotonic()
    with pytest.raises(EnvironmentFailure, match=r"refused: .*AWS_ACCESS_KEY_ID") as refused:
        ACTIONS[action](open_location(s3.full_uri("in", **{wrong: "not-the-one"})))
    assert "not-the-one" not in str(refused.value)
    assert refused.value.exit_code == 4
    assert time.monotonic() - began < 2.0  # not tried again


def test_who_may_only_read_is_refused_to_write(s3):
    open_location(s3.uri("x")).write_bytes(b"1")
    file = open_location(s3.full_uri("x", key=READER, secret=READER_SECRET))
    assert file.read_bytes() == b"1"
    for act in (lambda: file.write_bytes(b"2"), file.delete):
        with pytest.raises(EnvironmentFailure, match="refused"):
            act()
    assert file.read_bytes() == b"1"


def test_a_bucket_that_is_not_there_is_a_data_error(s3):
    there_is_none = open_location("s3://no-such-bucket-here/x")
    for act in (
        there_is_none.read_bytes,
        lambda: there_is_none.write_bytes(b"1"),
        there_is_none.make_dir,
        lambda: ParquetCorpus(path=there_is_none.address).list_units(),
    ):
        with pytest.raises(DataError, match="there is no"):
            act()
