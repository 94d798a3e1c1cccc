"""Files by path or URI: whole or not at all, and an error of ours for everything a disk can say."""

import errno
import json
import os
import pickle
import sys
from pathlib import Path

import pyarrow.fs as pafs
import pytest

from rnnlm import retries
from rnnlm.data.files import expand_paths
from rnnlm.data.formats.lines import LinesCorpus
from rnnlm.errors import DataError, EnvironmentFailure, RnnlmError, without_secrets
from rnnlm.retries import Attempts, with_retries
from rnnlm.storage import open_location


@pytest.fixture
def folder(tmp_path):
    return open_location(str(tmp_path))


def test_what_is_written_is_read(folder):
    file = folder.join("a", "b", "c.bin")
    file.write_bytes(b"\0\xff")
    assert file.read_bytes() == b"\0\xff"
    file.write_bytes(b"")
    assert file.read_bytes() == b""
    file.write_text("\u00fc\n")
    assert file.read_bytes() == b"\xc3\xbc\n"


def test_json_is_sorted_readable_and_ends_with_a_line_feed(folder):
    content = {"b": [1, None, 1e-300], "a": {"\u00fc": True}}
    file = folder.join("x.json")
    file.write_json(content)
    assert file.read_json() == content
    text = file.read_bytes().decode()
    assert text == json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_content_and_nothing_else(folder, monkeypatch, failing):
    folder.join("x").write_bytes(b"old")

    def fail(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(EnvironmentFailure, match=r"cannot write .*/x: .*No space left"):
        folder.join("x").write_bytes(b"new" * 1000)
    monkeypatch.undo()
    assert folder.join("x").read_bytes() == b"old"
    assert [path.name for path in Path(folder.path).iterdir()] == ["x"]


def test_a_write_that_is_interrupted_leaves_the_old_content_and_nothing_else(folder, monkeypatch):
    folder.join("x").write_bytes(b"old")

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        folder.join("x").write_bytes(b"new")
    monkeypatch.undo()
    assert folder.join("x").read_bytes() == b"old"
    assert [path.name for path in Path(folder.path).iterdir()] == ["x"]


def test_the_content_is_on_the_disk_before_the_name_is(folder, monkeypatch):
    steps = []
    real_fsync, real_replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (steps.append("fsync"), real_fsync(handle))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (steps.append("replace"), real_replace(a, b))[1])
    folder.join("x").write_bytes(b"1")
    assert steps == ["fsync", "replace"]


def test_listing_is_sorted_by_name_and_a_missing_folder_is_empty(folder):
    for name in ("b", "a", "c"):
        folder.join("d", name).write_bytes(b"")
    (Path(folder.path) / "d" / ".b.0123.tmp").write_bytes(b"of a write that was killed")
    assert folder.join("d").list_names() == ["a", "b", "c"]
    assert folder.join("d").list_files() == ["a", "b", "c"]
    assert folder.join("nowhere").list_names() == []


def test_existence_and_kind(folder):
    file = folder.join("x")
    assert (file.exists(), file.is_dir(), folder.exists(), folder.is_dir()) == (False, False, True, True)
    file.write_bytes(b"1")
    assert (file.exists(), file.is_dir(), file.info().size) == (True, False, 1)


def test_folders_are_made_and_deleted_with_all_below(folder):
    deep = folder.join("d", "e")
    deep.make_dir()
    deep.make_dir()
    deep.join("f").write_bytes(b"1")
    folder.join("d").delete_dir()
    assert not folder.join("d").exists()
    folder.join("d").delete_dir()


def test_a_path_is_local_absolute_or_relative_or_from_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for given, found in [
        ("x/y", tmp_path / "x/y"),
        (str(tmp_path / "z"), tmp_path / "z"),
        ("~/a", tmp_path / "home/a"),
    ]:
        location = open_location(given)
        assert location.is_local
        assert Path(location.path) == found
        assert location.uri == given


def test_a_file_uri_is_the_same_file(tmp_path):
    location = open_location(f"file://{tmp_path}").join("x")
    location.write_bytes(b"1")
    assert location.is_local
    assert location.uri == f"file://{tmp_path}/x"
    assert open_location(str(tmp_path / "x")).read_bytes() == b"1"


def test_another_file_system_is_written_without_a_rename(tmp_path):
    location = open_location("mock:///d")
    assert not location.is_local
    location.make_dir()
    location.join("x").write_bytes(b"12")
    assert location.join("x").read_bytes() == b"12"
    assert location.list_names() == ["x"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("uri", ["", "nothing://x", "://", "file://host/x", "file:///a b", "http://x/y"])
def test_what_cannot_be_opened_is_a_data_error_with_advice(uri):
    with pytest.raises(DataError, match=r"; (use|give) a local path"):
        open_location(uri)


def test_files_that_cannot_be_read_are_data_errors(folder):
    with pytest.raises(DataError, match=r"there is no file .*/x; check the path"):
        folder.join("x").read_bytes()
    for content in (b"", b"{", b"\xff\xfe{", b"nonsense"):
        folder.join("x").write_bytes(content)
        with pytest.raises(DataError, match=r"/x is not valid JSON"):
            folder.join("x").read_json()


def test_places_that_cannot_be_written_are_environment_failures(folder):
    folder.join("x").write_bytes(b"1")
    for action in (folder.join("x", "y").make_dir, lambda: folder.join("x", "y").write_bytes(b"2")):
        with pytest.raises(EnvironmentFailure, match="cannot"):
            action()
    with pytest.raises(EnvironmentFailure, match="cannot write"):
        folder.write_bytes(b"over a folder")
    with pytest.raises(EnvironmentFailure, match="cannot write"):
        folder.join("x" * 300).write_bytes(b"")


@pytest.mark.parametrize("act", [lambda d: d.read_bytes(), lambda d: d.join("x").list_names()], ids=["read", "list"])
def test_a_folder_for_a_file_or_a_file_for_a_folder_is_an_error_of_ours(folder, act):
    folder.join("x").write_bytes(b"1")
    with pytest.raises(RnnlmError):
        act(folder)


class Failing:
    """Fails so many times, then gives 7."""

    def __init__(self, error, times):
        self.error, self.times, self.calls = error, times, 0

    def __call__(self):
        self.calls += 1
        if self.calls <= self.times:
            raise self.error
        return 7


AWS = "When reading information for key 'a/x' in bucket 'b': AWS Error {} during HeadObject operation: {}"
PASSING = [
    OSError(AWS.format("SLOW_DOWN", "Please reduce your request rate.")),
    OSError(AWS.format("INTERNAL_FAILURE", "We encountered an internal error")),
    OSError(AWS.format("SERVICE_UNAVAILABLE", "")),
    OSError(AWS.format("UNKNOWN (HTTP status 503)", "No response body.")),
    OSError(AWS.format("UNKNOWN (HTTP status 429)", "No response body.")),
    OSError(AWS.format("NETWORK_CONNECTION", "curlCode: 7, Could not connect to server")),
    OSError(AWS.format("REQUEST_TIMEOUT", "")),
    OSError("google::cloud::Status(UNAVAILABLE: try later)"),
    OSError(errno.ECONNRESET, "Connection reset by peer"),
    ConnectionResetError(),
    TimeoutError(),
]
LASTING = [
    FileNotFoundError("x"),
    OSError(AWS.format("INVALID_OBJECT_STATE", "")),
    OSError("When reading key '503 slow_down timeout' in bucket 'internal_error': odd"),
    OSError(errno.ENOSPC, "No space left on device"),
]
REFUSED = [
    OSError(AWS.format("ACCESS_DENIED", "No response body.")),
    OSError(AWS.format("SIGNATURE_DOES_NOT_MATCH", "")),
    OSError(AWS.format("INVALID_ACCESS_KEY_ID", "")),
    OSError(AWS.format("UNKNOWN (HTTP status 403)", "")),
    OSError("google::cloud::Status(PERMISSION_DENIED: no)"),
    PermissionError("no"),
]


@pytest.mark.parametrize("error", PASSING, ids=str)
def test_a_passing_trouble_is_tried_again_with_growing_pauses(error):
    slept = []
    action = Failing(error, len(retries.PAUSES_SECONDS))
    assert with_retries(action, Attempts("s3://b/x", sleep=slept.append)) == 7
    assert len(slept) == len(retries.PAUSES_SECONDS)
    for seconds, pause in zip(slept, retries.PAUSES_SECONDS, strict=True):
        assert (1 - retries.JITTER) * pause <= seconds <= (1 + retries.JITTER) * pause


def test_a_trouble_that_stays_is_an_environment_failure():
    slept = []
    with pytest.raises(EnvironmentFailure, match=r"s3://b/x failed 4 times: .*SLOW_DOWN.*; .*run the command again"):
        with_retries(Failing(PASSING[0], 100), Attempts("s3://b/x", sleep=slept.append))
    assert len(slept) == 3


@pytest.mark.parametrize("error", LASTING, ids=str)
def test_what_does_not_pass_is_not_tried_again(error):
    action = Failing(error, 100)
    with pytest.raises(OSError) as raised:  # noqa: PT011 - the very one
        with_retries(action, Attempts("s3://b/x", sleep=pytest.fail))
    assert raised.value is error
    assert action.calls == 1


@pytest.mark.parametrize("error", REFUSED, ids=str)
def test_a_refusal_is_an_environment_failure_at_once(error):
    with pytest.raises(EnvironmentFailure, match=r"access to s3://b/x is refused: .*; check the credentials"):
        with_retries(Failing(error, 100), Attempts("s3://b/x", sleep=pytest.fail))


@pytest.mark.parametrize("said", [AWS.format("NO_SUCH_BUCKET", ""), "Bucket 'b' not found. To create buckets, enable"])
def test_a_missing_bucket_is_a_data_error_at_once(said):
    with pytest.raises(DataError, match=r"there is no bucket for s3://b/x.*; check the name"):
        with_retries(Failing(OSError(said), 100), Attempts("s3://b/x", sleep=pytest.fail))


def test_local_files_are_never_tried_again(folder):
    action = Failing(ConnectionResetError(), 100)
    with pytest.raises(ConnectionResetError):
        folder.retrying(action)
    assert action.calls == 1


@pytest.mark.parametrize("path", ["a\0b", "s3://b/a\0b", "/a\0"])
def test_a_nul_character_is_a_data_error(path):
    with pytest.raises(DataError, match=r"has a NUL character in it; check the path"):
        open_location(path)


@pytest.fixture
def s3_location(monkeypatch):
    """A bucket that nobody asks for anything."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return open_location("s3://key:s%2Fcret@b/a b/c#d?scheme=http&endpoint_override=localhost:1&region=r")


def test_going_down_keeps_the_query_and_quotes_the_names(s3_location):
    below = s3_location.join("x=1", "y ?z")
    assert below.path == "b/a b/c#d/x=1/y ?z"
    assert (
        below.address == "s3://key:s%2Fcret@b/a b/c#d/x=1/y%20%3Fz?scheme=http&endpoint_override=localhost:1&region=r"
    )
    assert "cret" not in below.uri
    again = open_location(below.address)
    assert (again.path, again.filesystem) == (below.path, below.filesystem)
    copy = pickle.loads(pickle.dumps(below))
    assert (copy.path, copy.uri, copy.address) == (below.path, below.uri, below.address)
    assert s3_location.under(below.path) == below
    assert below.ancestor(2).path == s3_location.path
    assert s3_location.holds(below.address)
    assert not s3_location.holds(s3_location.address)
    assert not s3_location.join("x").holds(below.address)


def test_a_local_location_is_opened_again_elsewhere(folder, monkeypatch):
    file = folder.join("what?", "x y#[1]%20")
    file.write_bytes(b"1")
    assert open_location(file.address).read_bytes() == pickle.loads(pickle.dumps(file)).read_bytes() == b"1"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("s3://key:secret@b/x?region=r", "s3://b/x?region=r"),
        ("see s3://k:s/e+c%2F@b/x and s3://k:s@c", "see s3://b/x and s3://c"),
        ("abfs://a@b/x?sas_token=1&y=2&account_key=3", "abfs://a@b/x?y=2&"),
        ("hdfs://host:8020/a@b", "hdfs://host:8020/a@b"),
        ("gs://anonymous@b/x", "gs://anonymous@b/x"),
        ("s3://b/a:b@c", "s3://b/a:b@c"),
        ("/a:b@c?key=1", "/a:b@c?key=1"),
    ],
)
def test_secrets_are_taken_out_of_uris(text, left):
    assert without_secrets(text) == left
    assert str(DataError(text, todo=text)) == f"{left}; {left}"


def test_records_hold_no_secrets(folder):
    folder.join("x").write_json({"s3://key:secret@b/x": ["s3://key:secret@b/y?region=r"]})
    assert folder.join("x").read_json() == {"s3://b/x": ["s3://b/y?region=r"]}


def test_a_scheme_that_pyarrow_does_not_know_is_opened_by_fsspec(tmp_path):
    folder = open_location("memory://rnnlm-test/a b")
    try:
        assert isinstance(folder.filesystem, pafs.PyFileSystem)
        folder.join("in", "x%20.txt").write_text("one\ntwo")
        (tmp_path / "part").write_bytes(b"part")
        folder.join("part").upload(tmp_path / "part")
        assert folder.list_files() == ["in/x%20.txt", "part"]
        again = pickle.loads(pickle.dumps(folder.join("part")))
        assert open_location(again.address).read_bytes() == again.read_bytes() == b"part"
        corpus = LinesCorpus(path=folder.join("in").address)
        assert list(corpus.iterate_texts(corpus.list_units())) == ["one", "two"]
        assert expand_paths("memory://rnnlm-test/a b/*/x*", ()) == [folder.join("in", "x%20.txt").address]
        folder.join("part").delete()
        assert not folder.join("part").exists()
        with pytest.raises(DataError, match="there is no file"):
            folder.join("part").read_bytes()
    finally:
        folder.delete_dir()


@pytest.mark.parametrize(("uri", "package", "module"), [
    ("hf://datasets/a/b", "huggingface_hub", "huggingface_hub"),
    ("memory://a", "fsspec", "fsspec.core"),
])  # fmt: skip
def test_a_missing_package_is_named(uri, package, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(EnvironmentFailure, match=rf"needs a package that is missing.*; pip install {package}$"):
        open_location(uri)
