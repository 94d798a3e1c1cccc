"""Which files a path stands for."""

import pytest

from rnnlm.data.files import covers, expand_paths, stamp
from rnnlm.errors import DataError
from rnnlm.storage import open_location

NAMES = [
    "a.txt",
    "b.txt",
    "b.md",
    "B.TXT",
    "sub/c.txt",
    "sub/deep/d.txt",
    "sub/deep/x1.txt",
    "sub/deep/x2.txt",
    "_run/e.txt",
    "sub/_tmp/f.txt",
    ".git/g.txt",
    "sub/.h.txt",
    "_SUCCESS.txt",
]


@pytest.fixture
def tree(tmp_path):
    for name in NAMES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def found(tree, path, suffixes=(".txt",)):
    paths = [str(tree / one) for one in ([path] if isinstance(path, str) else path)]
    files = expand_paths(paths[0] if isinstance(path, str) else paths, suffixes)
    return [file.removeprefix(f"{tree}/") for file in files]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", ["a.txt", "b.txt", "sub/c.txt", "sub/deep/d.txt", "sub/deep/x1.txt", "sub/deep/x2.txt"]),
        ("sub/", ["sub/c.txt", "sub/deep/d.txt", "sub/deep/x1.txt", "sub/deep/x2.txt"]),
        ("sub/_tmp", ["sub/_tmp/f.txt"]),  # asked for by name, it is not hidden
        ("b.md", ["b.md"]),  # a file given by name may end in anything
        ("*.txt", ["_SUCCESS.txt", "a.txt", "b.txt"]),
        ("b.*", ["b.md", "b.txt"]),
        ("sub/*.txt", ["sub/.h.txt", "sub/c.txt"]),
        ("sub/*/x?.txt", ["sub/deep/x1.txt", "sub/deep/x2.txt"]),
        ("sub/deep/x[13].txt", ["sub/deep/x1.txt"]),
        ("sub/deep/[!x]*", ["sub/deep/d.txt"]),
        ("sub/**/d.txt", ["sub/deep/d.txt"]),
        ("sub/**/c.txt", ["sub/c.txt"]),  # ** may be no folder at all
        ("**/deep/*1.txt", ["sub/deep/x1.txt"]),
        ("s*b/d*p/d.txt", ["sub/deep/d.txt"]),
        (["b.txt", "a.txt"], ["b.txt", "a.txt"]),  # several paths keep their order
        (["sub/deep", "*.md"], ["sub/deep/d.txt", "sub/deep/x1.txt", "sub/deep/x2.txt", "b.md"]),
    ],
)
def test_a_path_stands_for_its_files_sorted(tree, path, expected):
    assert found(tree, path) == expected


@pytest.mark.parametrize("path", ["", "sub/", "sub/_tmp", "*.txt", "sub/*/x?.txt", "**/deep/*1.txt", "sub/**/d.txt"])
def test_a_file_is_covered_by_a_path_that_would_stand_for_it(tree, path):
    files = {name: open_location(str(tree / name)) for name in NAMES}
    covered = [name for name, file in files.items() if covers(str(tree / path), (".txt",), file)]
    assert sorted(covered) == found(tree, path)
    for file in files.values():  # and before there is such a file
        file.filesystem.delete_file(file.path)
    assert [name for name, file in files.items() if covers(str(tree / path), (".txt",), file)] == covered


def test_several_suffixes(tree):
    assert found(tree, "", (".md", ".TXT")) == ["B.TXT", "b.md"]


def test_paths_may_be_relative_and_uris(tree, monkeypatch):
    monkeypatch.chdir(tree / "sub")
    absolute = [str(tree / "sub/deep/x1.txt"), str(tree / "sub/deep/x2.txt")]
    assert expand_paths("deep/x*.txt", (".txt",)) == absolute
    assert expand_paths(f"file://{tree}/sub/deep/x*.txt", (".txt",)) == absolute
    assert expand_paths("*.txt", (".txt",))[-1] == str(tree / "sub/c.txt")
    assert expand_paths(f"file://{tree}/b.md", ()) == [str(tree / "b.md")]


@pytest.mark.parametrize(
    "paths", [["a.txt", "a.txt"], ["", "sub/c.txt"], ["a.txt", "*.txt"], ["sub/deep", "sub/deep/x?.txt"]]
)
def test_a_file_named_twice_is_refused(tree, paths):
    with pytest.raises(DataError, match=r"the same file is given twice at .*; name each file once"):
        found(tree, paths)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("nowhere", "there is no file or folder .*nowhere"),
        ("*.nothing", "no file matches"),
        ("nowhere/*.txt", "no file matches"),
        ("sub/*.md", "no file matches"),
        ("**/nothing.txt", "no file matches"),
    ],
)
def test_a_path_that_stands_for_nothing_is_refused(tree, path, said):
    with pytest.raises(DataError, match=said + r".*; check the pa"):
        found(tree, path)


def test_a_folder_without_a_fitting_file_names_the_endings(tree):
    with pytest.raises(DataError, match=r"holds no file that ends in \.parquet or \.pq"):
        found(tree, "", (".parquet", ".pq"))


def test_no_path_at_all_is_refused():
    with pytest.raises(DataError, match=r"set corpus.path"):
        expand_paths([], (".txt",))


def test_a_file_that_exists_is_taken_by_its_name(tree):
    (tree / "data[1].txt").write_text("x")
    assert found(tree, "data[1].txt") == ["data[1].txt"]


def test_a_pattern_below_a_file_matches_nothing(tree):
    with pytest.raises(DataError, match="no file matches"):
        found(tree, "a.txt/*.txt")


def test_two_spellings_of_one_file_are_one_file(tree):
    with pytest.raises(DataError, match="twice"):
        found(tree, ["a.txt", "sub/../a.txt"])


def test_a_stamp_changes_with_the_content_and_a_lost_file_is_named(tree):
    file = tree / "a.txt"
    before = stamp(str(file))
    assert (before.path, before.size) == (str(file), 5)
    file.write_text("longer than before")
    assert stamp(str(file)) != before
    file.unlink()
    with pytest.raises(DataError, match=r"the file is gone at .*a.txt"):
        stamp(str(file))
