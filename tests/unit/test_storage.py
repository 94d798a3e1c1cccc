"""Files by path or URI: whole or not at all, and an error of ours for everything a disk can say."""

import errno
import json
import os
from pathlib import Path

import pytest

from rnnlm.errors import DataError, EnvironmentFailure, RnnlmError
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
    assert folder.list_names() == ["x"]


def test_a_write_that_is_interrupted_leaves_the_old_content_and_nothing_else(folder, monkeypatch):
    folder.join("x").write_bytes(b"old")

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        folder.join("x").write_bytes(b"new")
    monkeypatch.undo()
    assert folder.join("x").read_bytes() == b"old"
    assert folder.list_names() == ["x"]


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
    assert folder.join("d").list_names() == ["a", "b", "c"]
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
