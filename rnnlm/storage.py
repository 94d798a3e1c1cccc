"""Files at any location pyarrow knows: a local path, or a URI such as s3://bucket/key.

Writes are atomic everywhere. On a local disk a temporary file is written, flushed to the disk and renamed; on an
object store the final key is written directly, because there a put is atomic and a rename is not.
"""

import json
import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs

from rnnlm.errors import DataError, EnvironmentFailure

TEMPORARY = ".tmp"  # end of the name of a file that is being written


@dataclass(frozen=True)
class Location:
    """A path on a file system; `join` goes down, everything else reads or writes this very path."""

    filesystem: pafs.FileSystem
    path: str
    uri: str

    @property
    def is_local(self) -> bool:
        return isinstance(self.filesystem, pafs.LocalFileSystem)

    @property
    def address(self) -> str:
        """What opens this very place in a process with another working directory."""
        return self.path if self.is_local else self.uri

    def join(self, *parts: str) -> "Location":
        tail = "/".join(parts)
        return Location(self.filesystem, f"{self.path}/{tail}", f"{self.uri.rstrip('/')}/{tail}")

    def info(self) -> pafs.FileInfo:
        try:
            return self.filesystem.get_file_info(self.path)
        except OSError as error:
            raise EnvironmentFailure(f"cannot look at {self.uri}: {_first_line(error)}") from error

    def exists(self) -> bool:
        return bool(self.info().type != pafs.FileType.NotFound)

    def is_dir(self) -> bool:
        return bool(self.info().type == pafs.FileType.Directory)

    def list_names(self) -> list[str]:
        """Names directly below this folder, sorted; empty if there is no such folder."""
        selector = pafs.FileSelector(self.path, allow_not_found=True)
        try:
            return sorted(info.base_name for info in self.filesystem.get_file_info(selector))
        except OSError as error:
            raise DataError(f"{self.uri} is not a folder: {_first_line(error)}", todo="check the path") from error

    def list_files(self) -> list[str]:
        """Paths of all files below this folder, relative to it; what a cut-short write may leave does not count."""
        selector = pafs.FileSelector(self.path, allow_not_found=True, recursive=True)
        infos = [info for info in self.filesystem.get_file_info(selector) if info.type == pafs.FileType.File]
        started = [
            info for info in infos if not (info.base_name.startswith(".") and info.base_name.endswith(TEMPORARY))
        ]
        return sorted(info.path[len(self.path) :].lstrip("/") for info in started)

    def read_bytes(self) -> bytes:
        try:
            with self.filesystem.open_input_stream(self.path, compression=None) as stream:
                return bytes(stream.read())
        except FileNotFoundError as error:
            raise DataError(f"there is no file {self.uri}", todo="check the path") from error
        except OSError as error:
            raise DataError(f"cannot read {self.uri}: {_first_line(error)}", todo="check the path") from error

    def read_json(self) -> Any:
        try:
            return json.loads(self.read_bytes())
        except ValueError as error:
            raise DataError(f"{self.uri} is not valid JSON: {error}", todo="was its writing cut short?") from error

    def write_bytes(self, content: bytes) -> None:
        """Write atomically; whoever looks sees the old content or the new, never a part."""
        try:
            if not self.is_local:
                with self.filesystem.open_output_stream(self.path, compression=None) as stream:
                    stream.write(content)
                return
            target = Path(self.path)
            temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}{TEMPORARY}")
            try:
                _write_synced(temporary, content)
                os.replace(temporary, target)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise EnvironmentFailure(f"cannot write {self.uri}: {_first_line(error)}") from error

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
            raise EnvironmentFailure(f"cannot write {self.uri}: {_first_line(error)}") from error
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
            self.write_bytes(local_file.read_bytes())
        except OSError as error:
            raise EnvironmentFailure(f"cannot write {self.uri}: {_first_line(error)}") from error

    def delete(self) -> None:
        """Delete this file if it is there."""
        if self.exists():
            self.filesystem.delete_file(self.path)

    def write_text(self, content: str) -> None:
        self.write_bytes(content.encode())

    def write_json(self, content: Any) -> None:
        self.write_text(json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n")

    def make_dir(self) -> None:
        try:
            self.filesystem.create_dir(self.path, recursive=True)
        except OSError as error:
            raise EnvironmentFailure(f"cannot make the folder {self.uri}: {_first_line(error)}") from error

    def delete_dir(self) -> None:
        if self.exists():
            self.filesystem.delete_dir(self.path)


def open_location(uri: str) -> Location:
    """The location of a local path (absolute or relative to the working directory) or of a URI."""
    if not uri:
        raise DataError("an empty path was given", todo="give a local path or a URI such as s3://bucket/folder")
    if "://" not in uri:
        return Location(pafs.LocalFileSystem(), os.path.abspath(Path(uri).expanduser()), uri)  # noqa: PTH100 - drops ".."
    try:
        filesystem, path = pafs.FileSystem.from_uri(uri)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot open {uri}: {_first_line(error)}", todo="use a local path, s3:// or gs://") from error
    return Location(filesystem, path, uri)


def _write_synced(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
