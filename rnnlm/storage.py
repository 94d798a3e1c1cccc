"""Files at a local path or a URI: s3://bucket/key, gs:// and abfs:// by pyarrow, hf:// and others by fsspec.

Writes are atomic. On a local disk a temporary file is written, flushed to the disk and renamed; on an object store the
final key is written directly, because there a put is atomic and a rename is not.

What a remote store refuses for the moment is tried again. Credentials belong into the environment; those in a URI reach
other processes by `Location.address` and are in no message and no record.
"""

import importlib
import json
import os
import re
import string
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import pyarrow as pa
import pyarrow.fs as pafs

from rnnlm.errors import DataError, EnvironmentFailure, without_secrets
from rnnlm.retries import Attempts, first_line, with_retries

TEMPORARY = ".tmp"  # end of the name of a file that is being written
CHUNK_BYTES = 8 << 20  # of an upload

USE = "use a local path, s3://, gs:// or abfs://"
_WEB = ("http", "https")  # fsspec reads them, but they have no folders and cannot be written

T = TypeVar("T")


@dataclass(frozen=True)
class Location:
    """A path on a file system; `join` goes down, everything else reads or writes this very path.

    `uri` is for people, without credentials; `address` opens this very place in any process. Both may be pickled.
    """

    filesystem: pafs.FileSystem
    path: str
    uri: str
    address: str

    def __reduce__(self) -> tuple[object, ...]:
        return (_reopened, (self.address, self.uri))

    @property
    def is_local(self) -> bool:
        return isinstance(self.filesystem, pafs.LocalFileSystem)

    def join(self, *parts: str) -> "Location":
        tail = "/".join(parts)
        if not tail:
            return self
        path = f"{self.path.rstrip('/')}/{tail}" if self.path else tail
        if self.is_local:
            return Location(self.filesystem, path, f"{self.uri.rstrip('/')}/{tail}", path)
        # pyarrow takes a URI for quoted, fsspec does not.
        shown = tail if self._by_fsspec else quote(tail, safe="/=:,@")
        return Location(self.filesystem, path, _below(self.uri, shown), _below(self.address, shown))

    def under(self, path: str) -> "Location":
        """The location of a path that a listing of this folder gave."""
        return self.join(path[len(self.path) :].strip("/"))

    def holds(self, address: str) -> bool:
        """Whether the address of a file lies below this folder."""
        if self.is_local:
            return address.startswith(self.path.rstrip("/") + "/")
        ours, theirs = (without_secrets(one).partition("?")[0] for one in (self.address, address))
        return theirs.startswith(ours.rstrip("/") + "/")

    def ancestor(self, levels: int) -> "Location":
        """The folder so many levels up."""
        path = self.path.rstrip("/").rsplit("/", levels)[0]
        if self.is_local:
            return Location(self.filesystem, path or "/", path or "/", path or "/")
        return Location(self.filesystem, path, _above(self.uri, levels), _above(self.address, levels))

    def retrying(self, action: Callable[[], T]) -> T:
        """What `action`, which reads or writes here, gives; if this is remote, tried again while the store is busy.

        Raises EnvironmentFailure if the store refuses the credentials or stays out of reach, DataError if there is no
        such bucket; any other OSError as it is.
        """
        return with_retries(action, self.attempts())

    def attempts(self) -> "Attempts":
        """A fresh count of attempts at something that is done here."""
        return Attempts(self.uri, remote=not self.is_local)

    def info(self) -> pafs.FileInfo:
        try:
            return self.retrying(lambda: self.filesystem.get_file_info(self.path))
        except OSError as error:
            raise EnvironmentFailure(f"cannot look at {self.uri}: {first_line(error)}") from error

    def exists(self) -> bool:
        return bool(self.info().type != pafs.FileType.NotFound)

    def is_dir(self) -> bool:
        return bool(self.info().type == pafs.FileType.Directory)

    def list_infos(self, *, recursive: bool) -> list[pafs.FileInfo]:
        """What is below this folder; empty if there is no such folder. Raises DataError if it is a file."""
        selector = pafs.FileSelector(self.path, allow_not_found=True, recursive=recursive)
        try:
            found: list[pafs.FileInfo] = self.retrying(lambda: self.filesystem.get_file_info(selector))
        except OSError as error:
            raise DataError(f"{self.uri} is not a folder: {first_line(error)}", todo="check the path") from error
        return found

    def list_names(self) -> list[str]:
        """Names directly below this folder, sorted, without what a cut-short write may leave; empty if there is no such
        folder."""
        return sorted(info.base_name for info in self.list_infos(recursive=False) if not _is_unfinished(info))

    def list_files(self) -> list[str]:
        """Paths of all files below this folder, relative to it; what a cut-short write may leave does not count."""
        infos = [info for info in self.list_infos(recursive=True) if info.type == pafs.FileType.File]
        return sorted(info.path[len(self.path) :].lstrip("/") for info in infos if not _is_unfinished(info))

    def open_input(self) -> pa.NativeFile:
        """The file, open for reading at any place. Raises OSError as `retrying` does; wrap reading in that, too."""
        return self.retrying(lambda: self.filesystem.open_input_file(self.path))

    def read_range(self, start: int, length: int) -> bytes:
        """Up to so many bytes from byte `start`. Raises DataError if the file cannot be read."""

        def read() -> bytes:
            with self.filesystem.open_input_file(self.path) as stream:
                return bytes(stream.read_at(length, start))

        return self._reading(read)

    def read_bytes(self) -> bytes:
        def read() -> bytes:
            with self.filesystem.open_input_stream(self.path, compression=None) as stream:
                return bytes(stream.read())

        return self._reading(read)

    def read_json(self) -> Any:
        try:
            return json.loads(self.read_bytes())
        except ValueError as error:
            raise DataError(f"{self.uri} is not valid JSON: {error}", todo="was its writing cut short?") from error

    def write_bytes(self, content: bytes) -> None:
        """Write atomically; whoever looks sees the old content or the new, never a part."""
        try:
            if not self.is_local:
                by_fsspec = self._by_fsspec
                self._put(lambda: self._fsspec.pipe_file(self.path, content) if by_fsspec else self._stream(content))
                return
            target = Path(self.path)
            temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}{TEMPORARY}")
            try:
                _write_synced(temporary, content)
                os.replace(temporary, target)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise EnvironmentFailure(f"cannot write {self.uri}: {first_line(error)}") from error

    def create_bytes(self, content: bytes) -> bool:
        """Write unless the file exists, also if another process is about to; whether this call wrote it.

        Exclusive on a local disk; on an object store whoever writes last stays, so read back what counts.
        """
        if self.exists():
            return False
        if not self.is_local:
            self.write_bytes(content)
            return True
        target = Path(self.path)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}{TEMPORARY}")
        try:
            _write_synced(temporary, content)
            os.link(temporary, target)
        except FileExistsError:
            return False
        except OSError as error:
            raise EnvironmentFailure(f"cannot write {self.uri}: {first_line(error)}") from error
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def upload(self, local_file: Path) -> None:
        """Put the content of a finished local file here, atomically; on the same disk the file itself moves here."""
        try:
            if self.is_local:
                Path(self.path).parent.mkdir(parents=True, exist_ok=True)
                with local_file.open("rb") as stream:
                    os.fsync(stream.fileno())
                os.replace(local_file, self.path)
                return
            if self._by_fsspec:
                self._put(lambda: self._fsspec.put_file(str(local_file), self.path))
                return
            with pa.memory_map(str(local_file)) as mapped:
                content = mapped.read_buffer()
                self._put(lambda: self._stream(content))
        except OSError as error:
            raise EnvironmentFailure(f"cannot write {self.uri}: {first_line(error)}") from error

    def delete(self) -> None:
        """Delete this file if it is there."""
        if self.exists():
            self._changing("delete", lambda: self.filesystem.delete_file(self.path), gone_is_done=True)

    def write_text(self, content: str) -> None:
        """A record or report; credentials in URIs are left out."""
        self.write_bytes(without_secrets(content).encode())

    def write_json(self, content: Any) -> None:
        """A record or report as `write_text` has it, easy to compare."""
        self.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n")

    def make_dir(self) -> None:
        self._changing("make the folder", lambda: self.filesystem.create_dir(self.path, recursive=True))

    def delete_dir(self) -> None:
        if self.exists():
            self._changing("delete", lambda: self.filesystem.delete_dir(self.path), gone_is_done=True)

    @property
    def _by_fsspec(self) -> bool:
        return isinstance(self.filesystem, pafs.PyFileSystem)

    @property
    def _fsspec(self) -> Any:
        """For writing whole files: each file system has its own way to put one, better than a stream."""
        found = self.filesystem.handler.fs
        found.makedirs(self.path.rpartition("/")[0], exist_ok=True)
        return found

    def _reading(self, read: Callable[[], bytes]) -> bytes:
        try:
            return self.retrying(read)
        except FileNotFoundError as error:
            raise DataError(f"there is no file {self.uri}", todo="check the path") from error
        except OSError as error:
            raise DataError(f"cannot read {self.uri}: {first_line(error)}", todo="check the path") from error

    def _changing(self, what: str, change: Callable[[], None], *, gone_is_done: bool = False) -> None:
        try:
            self.retrying(change)
        except OSError as error:
            if gone_is_done and isinstance(error, FileNotFoundError):
                return  # another process was faster, or an attempt that seemed to fail
            raise EnvironmentFailure(f"cannot {what} {self.uri}: {first_line(error)}") from error

    def _put(self, put: Callable[[], None]) -> None:
        """Write to a remote store, in a thread of its own, since a signal raises in the main thread only.

        What a signal broke off in `_stream` would become visible: pyarrow's stream completes the upload when it is
        closed or collected, whatever happened before. Only a part that the store refused makes it give up.
        """
        with ThreadPoolExecutor(1) as thread:
            self.retrying(lambda: thread.submit(put).result())

    def _stream(self, content: Any) -> None:
        """All of it is at hand before the upload begins (a mapped file, for one): nothing but the store can fail."""
        buffer = pa.py_buffer(content)
        with self.filesystem.open_output_stream(self.path, compression=None) as stream:
            for start in range(0, buffer.size, CHUNK_BYTES):
                stream.write(buffer.slice(start, min(CHUNK_BYTES, buffer.size - start)))


def open_location(uri: str) -> Location:
    """The location of a local path (absolute or relative to the working directory) or of a URI.

    Raises DataError if it cannot be one, EnvironmentFailure if a package for its scheme is missing.
    """
    if not uri:
        raise DataError("an empty path was given", todo="give a local path or a URI such as s3://bucket/folder")
    if "\0" in uri:
        raise DataError(f"the path {uri!r} has a NUL character in it", todo="check the path")
    if "://" not in uri:
        path = os.path.abspath(Path(uri).expanduser())  # noqa: PTH100 - drops ".."
        return Location(pafs.LocalFileSystem(), path, uri, path)
    shown = without_secrets(uri)
    typed = _as_pyarrow_reads(uri)
    try:
        filesystem, path = with_retries(lambda: pafs.FileSystem.from_uri(typed), Attempts(shown))
    except (OSError, ValueError, ImportError) as error:
        if isinstance(error, ImportError) or "Unrecognized filesystem type" in str(error):
            return _open_by_fsspec(uri)
        raise DataError(f"cannot open {shown}: {first_line(error)}", todo=USE) from error
    if isinstance(filesystem, pafs.LocalFileSystem):
        return Location(filesystem, path, uri, path)
    return Location(filesystem, path, shown, uri)


def _as_pyarrow_reads(uri: str) -> str:
    """A name may be typed as it is; pyarrow wants those signs quoted that a URI cannot have.

    It also asks S3 for the region of the bucket (and holds every other thread meanwhile), whatever the environment
    says of it.
    """
    scheme, _, rest = uri.partition("://")
    if scheme == "file":
        return uri
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if scheme == "s3" and region and not re.search(r"[?&](region|endpoint_override)=", rest):
        uri += f"{'&' if '?' in rest else '?'}region={region}"
    return quote(uri, safe="".join(set(string.punctuation) - set('#[]{}<>|\\^`"')))


def _open_by_fsspec(uri: str) -> Location:
    scheme, shown = uri.partition("://")[0], without_secrets(uri)
    if scheme in _WEB:
        raise DataError(f"cannot open {shown}: a web address is no file system", todo=USE)
    try:
        fsspec = importlib.import_module("fsspec.core")
        # A kept listing would not show what another worker has written.
        filesystem, path = fsspec.url_to_fs(uri, use_listings_cache=False)
    except ImportError as error:
        # An entry point of a package whose import fails names its module.
        named = re.search(r"install (\w[\w.-]*)|value='(\w+)", str(error), re.IGNORECASE)
        package = (named[1] or named[2]) if named else (error.name or scheme).partition(".")[0]
        raise EnvironmentFailure(
            f"{scheme}:// needs a package that is missing: {first_line(error)}", todo=f"pip install {package}"
        ) from error
    except (OSError, ValueError) as error:
        raise DataError(f"cannot open {shown}: {first_line(error)}", todo=USE) from error
    return Location(pafs.PyFileSystem(pafs.FSSpecHandler(filesystem)), path, shown, uri)


def _reopened(address: str, uri: str) -> Location:
    found = open_location(address)
    return Location(found.filesystem, found.path, uri, found.address)


def _below(uri: str, tail: str) -> str:
    """The path of a URI ends where its query begins."""
    head, mark, query = uri.partition("?")
    return f"{head.rstrip('/')}/{tail}{mark}{query}"


def _above(uri: str, levels: int) -> str:
    head, mark, query = uri.partition("?")
    return f"{head.rstrip('/').rsplit('/', levels)[0]}{mark}{query}"


def _is_unfinished(info: pafs.FileInfo) -> bool:
    """Whether this is the temporary file of a write: that of a process that works, or of one that was killed."""
    name: str = info.base_name
    return name.startswith(".") and name.endswith(TEMPORARY)


def _write_synced(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
