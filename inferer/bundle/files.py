"""A bundle's files. The bytes that are used are the bytes that were hashed.

A file may be replaced or rewritten at any time, so a check of one reading says nothing about the next.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from inferer.errors import BundleError, shown

MANIFEST = "inferer.json"

_MOST_BYTES = 2**31  # an ONNX file cannot be larger
_MOST_IN_MEMORY = 2**28  # the largest tokenizers known have a tenth of this
MOST_JSON_BYTES = 2**26  # ten times those of any known bundle; parsed, they can take 20 times as much memory
_CHUNK = 2**18
# The names under which a process can open its own pipes; the first one is Linux's, the other macOS's.
_DESCRIPTORS = ("/proc/self/fd", "/dev/fd")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _open_at_once(path: str, flags: int) -> int:
    # Without the flag, the open of a named pipe waits for a writer.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


@contextmanager
def opened(path: Path, most_bytes: int = _MOST_BYTES) -> Iterator[BufferedReader]:
    """Open a bundle's file; raises BundleError where it is missing, unreadable, not a regular file or too large."""
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            about = os.fstat(file.fileno())
            if not stat.S_ISREG(about.st_mode):
                raise BundleError(path.parent, f"{path.name} is not a regular file")
            if about.st_size > most_bytes:
                problem = f"{path.name} has {about.st_size} bytes, expected at most {most_bytes}"
                raise BundleError(path.parent, problem)
            yield file
    except FileNotFoundError:
        raise BundleError(path.parent, f"{path.name} is missing") from None
    except OSError as error:
        raise BundleError(path.parent, f"{path.name} cannot be read: {error.strerror}") from error


def check_hash(path: Path, found: str, expected: object) -> None:
    """Raise BundleError unless the SHA-256 `found` is `expected`."""
    if found != expected:
        hashes = f"its SHA-256 is {found[:12]}…, {MANIFEST} says {shown(expected)[1:13]}…"
        raise BundleError(path.parent, f"{path.name} is damaged: {hashes}")


def contents(path: Path, sha256: object = None, most_bytes: int = _MOST_IN_MEMORY) -> bytes:
    """Return a file's bytes, which must have the SHA-256 `sha256` (None: any); raises BundleError."""
    with opened(path, most_bytes) as file:
        data = file.read(most_bytes)
    if sha256 is not None:
        check_hash(path, hashlib.sha256(data).hexdigest(), sha256)
    return data


@contextmanager
def streamed(path: Path, sha256: object) -> Iterator[str | bytes]:
    """Yield the name of a pipe from which a file can be read once; at the end its bytes must have had the SHA-256.

    The bytes are hashed on their way. A copy of them would take the memory of a whole model just when loading takes the
    most. Yields the checked bytes themselves where pipes have no names. Raises BundleError, also in place of an error
    that damaged bytes have caused.
    """
    names = next((names for names in _DESCRIPTORS if Path(names).is_dir()), None)
    if names is None:
        yield contents(path, sha256, _MOST_BYTES)
        return
    with opened(path) as file, ThreadPoolExecutor(1, "bundle") as pool:
        reader, writer = os.pipe()
        try:
            fed = _submitted(pool, file, writer)
            try:
                yield f"{names}/{reader}"
            finally:
                while os.read(reader, _CHUNK):  # what a failed load has left
                    pass
                check_hash(path, fed.result(), sha256)
        finally:
            os.close(reader)  # ends a thread that still writes


def _submitted(pool: ThreadPoolExecutor, file: BufferedReader, writer: int) -> Future[str]:
    try:
        return pool.submit(_feed, file, writer)
    except RuntimeError:  # no thread is left
        os.close(writer)
        raise


def _feed(file: BufferedReader, writer: int) -> str:
    """Write a file into a pipe and close that; return the SHA-256."""
    digest = hashlib.sha256()
    with os.fdopen(writer, "wb") as pipe:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            pipe.write(chunk)
    return digest.hexdigest()
