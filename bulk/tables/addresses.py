"""Files at an address that fsspec opens, such as s3://bucket/reviews.csv, with the few methods of Path in use here."""

from __future__ import annotations

import glob
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from bulk.errors import JobError
from training.data.location import file_name, redacted
from training.data.remote import access, file_system
from training.errors import DataError

_BUFFER = 1 << 20
# What the stores call the version of a file in fsspec's `info`.
_VERSIONS = (
    "ETag", "etag", "Content-MD5", "md5Hash", "content_md5", "LastModified", "Last-Modified", "last_modified", "mtime",
    "created",
)  # fmt: skip
# Object stores, which show a file only once it is complete.
_OBJECT_STORES = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "oci", "oss", "r2", "tos", "obs", "hf"}


@dataclass(frozen=True)
class RemoteFile:
    """A file at an address. files: fsspec's file system; path: in it. Every fault of a method is a JobError."""

    address: str
    files: Any
    path: str

    def __str__(self) -> str:
        return redacted(self.address)

    @property
    def name(self) -> str:
        """The last part of the address."""
        return file_name(self.address)

    @property
    def stem(self) -> str:
        """The name without its ending."""
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        """The ending of the name, with its dot."""
        return PurePosixPath(self.name).suffix

    def open(self, _mode: str = "rb") -> IO[bytes]:
        """Open it for reading."""
        with _told(self.address):
            return io.BufferedReader(_Bytes(self.files.open(self.path, "rb"), self.address), _BUFFER)

    def version(self) -> str | None:
        """Return a text that another content would change; None where the store tells none."""
        with _told(self.address):
            info = self.files.info(self.path)
        return next((f"{info.get('size')} {info[name]}" for name in _VERSIONS if info.get(name)), None)

    def exists(self) -> bool:
        """Return whether there is a file."""
        with _told(self.address):
            return bool(self.files.exists(self.path))

    def upload(self, source: Path) -> None:
        """Write the bytes of `source`; the name appears when they are whole."""
        with _told(self.address, "written"):
            if _OBJECT_STORES & {*self._protocols()}:
                self.files.put_file(str(source), self.path)
            else:
                self.files.put_file(str(source), self._unfinished)
                self.files.mv(self._unfinished, self.path)

    def check_writable(self) -> None:
        """Write an empty file beside it, and delete that."""
        with _told(self.address, "written"):
            self.files.pipe_file(self._unfinished, b"")
            self.files.rm_file(self._unfinished)

    @property
    def _unfinished(self) -> str:
        return f"{self.path}.unfinished"

    def _protocols(self) -> tuple[str, ...]:
        protocol = self.files.protocol
        return (protocol,) if isinstance(protocol, str) else tuple(protocol)


def remote_file(address: str) -> RemoteFile:
    """Return the file at `address`, whether or not it exists. Raises JobError where its store cannot be used."""
    with _told(address):
        return RemoteFile(address, *file_system(address))


def find_remote(address: str) -> tuple[list[RemoteFile], str | None]:
    """Return the files of `address`, a file, a folder or a glob, by name, and the folder's path if it is one.

    Raises JobError where there are none.
    """
    one = remote_file(address)
    files, path = one.files, one.path
    with _told(address):
        if files.isfile(path):  # first: the web has no folders, and asking for one would download the file
            return [one], None
        if files.isdir(path):
            found, folder = files.find(path), path
        else:
            found, folder = files.glob(path) if glob.has_magic(path) else [], None
        inside = [RemoteFile(files.unstrip_protocol(name), files, name) for name in sorted(found)]
    if not inside:
        problem = "the folder is empty" if folder else "no file matches" if glob.has_magic(path) else "does not exist"
        raise JobError(f"{one}: {problem}")
    return inside, folder


class _Bytes(io.RawIOBase):
    """The bytes of a remote file."""

    def __init__(self, file: Any, address: str) -> None:
        self._file, self._address = file, address

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._file.seekable())

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        with _told(self._address):
            data: bytes = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        self._file.close()
        super().close()


@contextmanager
def _told(address: str, verb: str = "read") -> Iterator[None]:
    """Raise every fault of the block as a JobError in one line."""
    try:
        with access(address, verb):
            yield
    except (DataError, ImportError) as error:
        raise JobError(str(error)) from error
