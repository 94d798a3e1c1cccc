"""Which files a path stands for: a file, a folder (searched to any depth), or a glob; local or by URI."""

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow.fs as pafs

from rnnlm.errors import DataError, Place
from rnnlm.storage import Location, open_location

GLOB_SIGNS = "*?["


@dataclass(frozen=True, slots=True)
class FileStamp:
    """What a file looked like when it was listed; another stamp means other content."""

    path: str
    size: int
    mtime_ns: int

    def __str__(self) -> str:
        return f"{self.size} bytes, changed {self.mtime_ns}"


def list_files(path: str | Sequence[str], suffixes: tuple[str, ...]) -> list[FileStamp]:
    """The files that `path` (or each of several) stands for, each once, sorted within a path; none is opened.

    In a folder only names with one of `suffixes` count, and nothing below a name that starts with `_` or `.`, the
    sign of records and unfinished work. Raises DataError if a path stands for nothing or for a file twice.
    """
    files: list[FileStamp] = []
    for one in [path] if isinstance(path, str) else path:
        files.extend(_expand(one, suffixes))
    seen: set[str] = set()
    for file in files:
        if file.path in seen:
            raise DataError("the same file is given twice", where=Place(file.path), todo="name each file once")
        seen.add(file.path)
    if not files:
        raise DataError("no path was given", todo="set corpus.path=...")
    return files


def expand_paths(path: str | Sequence[str], suffixes: tuple[str, ...]) -> list[str]:
    """The paths of `list_files`."""
    return [file.path for file in list_files(path, suffixes)]


def covers(path: str | Sequence[str], suffixes: tuple[str, ...], file: Location) -> bool:
    """Whether `file`, once it exists, would be one of those that `path` stands for."""
    for one in [path] if isinstance(path, str) else path:
        location = open_location(one)
        if location.is_dir():
            inside = file.path.startswith(location.path.rstrip("/") + "/") and file.path.endswith(suffixes)
            if inside and not _hidden(file.path[len(location.path) :]):
                return True
        elif _is_pattern(location) and _matches(file.path, location.path):
            return True
    return False


def search_folders(path: str | Sequence[str]) -> list[str]:
    """Below which of these a file of `list_files` lies, as paths on their file system."""
    folders: list[Location] = []
    for location in map(open_location, [path] if isinstance(path, str) else path):
        folders.extend([location, _fixed_folder(location)] if _is_pattern(location) else [location])
    return [folder.path.rstrip("/") for folder in folders]


def stamp(path: str) -> FileStamp:
    """Size and time of last change of a listed file."""
    info = open_location(path).info()
    if info.type == pafs.FileType.NotFound:
        raise DataError("the file is gone", where=Place(path), todo="was it deleted after it was listed?")
    return _stamped(path, info)


def check_unchanged(file: FileStamp) -> None:
    """Raise DataError if a listed file is gone or is another one now: its rows would not be those of the plan."""
    found = stamp(file.path)
    if found != file:
        raise DataError(
            f"the file changed after it was listed: {file} -> {found}",
            where=Place(file.path),
            todo="do not change a corpus while it is read; start again with another output folder",
        )


def _stamped(path: str, info: pafs.FileInfo) -> FileStamp:
    return FileStamp(path, info.size or 0, info.mtime_ns or 0)


def _expand(path: str, suffixes: tuple[str, ...]) -> list[FileStamp]:
    location = open_location(path)
    info = location.info()
    kind = info.type
    if kind == pafs.FileType.NotFound and _is_pattern(location):
        return _expand_glob(location)
    if kind == pafs.FileType.NotFound:
        raise DataError(f"there is no file or folder {path}", todo="check the path")
    if kind == pafs.FileType.File:
        return [_stamped(location.address, info)]
    found = [
        _stamped(location.under(info.path).address, info)
        for info in location.list_infos(recursive=True)
        if info.type == pafs.FileType.File
        and info.path.endswith(suffixes)
        and not _hidden(info.path[len(location.path) :])
    ]
    if not found:
        raise DataError(f"the folder {path} holds no file that ends in {' or '.join(suffixes)}", todo="check the path")
    return sorted(found, key=lambda file: file.path)


def _fixed_folder(pattern: Location) -> Location:
    """The folder above the first part of a pattern that has a sign."""
    full = pattern.path
    first = min(full.index(sign) for sign in GLOB_SIGNS if sign in full)
    if not pattern.is_local and "/" not in full[:first]:
        raise DataError(f"the pattern {pattern.uri} leaves the bucket open", todo="name the bucket")
    return pattern.ancestor(full.count("/", first) + 1)


def _expand_glob(pattern: Location) -> list[FileStamp]:
    full, folder = pattern.path, _fixed_folder(pattern)
    infos = folder.list_infos(recursive=True) if folder.is_dir() else []
    found = [
        _stamped(folder.under(info.path).address, info)
        for info in infos
        if info.type == pafs.FileType.File and _matches(info.path, full)
    ]
    if not found:
        raise DataError(f"no file matches {pattern.uri}", todo="check the pattern")
    return sorted(found, key=lambda file: file.path)


def _is_pattern(location: Location) -> bool:
    """By the path itself: the `?` of a URI begins its query."""
    return any(sign in location.path for sign in GLOB_SIGNS)


def _matches(path: str, pattern: str) -> bool:
    """Glob by path component: `*` stays within a name, `**` crosses folders."""
    return _match_parts(path.split("/"), pattern.split("/"))


def _match_parts(parts: list[str], patterns: list[str]) -> bool:
    if not patterns:
        return not parts
    if patterns[0] == "**":
        return any(_match_parts(parts[skip:], patterns[1:]) for skip in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], patterns[0]) and _match_parts(parts[1:], patterns[1:])


def _hidden(relative: str) -> bool:
    return any(part.startswith(("_", ".")) for part in relative.strip("/").split("/"))
