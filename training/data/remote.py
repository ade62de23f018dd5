"""The bytes at a data location: a file, or an address that fsspec opens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from inferer.errors import first_line
from training.data.location import is_address, is_web, redacted
from training.errors import DataError


def read_bytes(source: Path | str) -> bytes:
    """Return the bytes at `source`. Raises DataError if it cannot be read, with the package that is missing."""
    if isinstance(source, str) and is_address(source):
        files, path = file_system(source)
        with access(source):
            return bytes(files.cat_file(path))
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise DataError(source, [f"cannot be read: {error.strerror}"]) from error


def file_system(address: str) -> tuple[Any, str]:
    """Return fsspec's file system for `address`, and the path in it. Raises DataError, with the package to install."""
    try:
        import fsspec.core  # not at the top: reading files does not need it
        from fsspec.registry import known_implementations
    except ImportError as error:
        raise DataError(address, ["cannot be read: an address needs fsspec: pip install fsspec"]) from error
    # aiohttp reads the proxy's environment variables only with trust_env.
    options = {"client_kwargs": {"trust_env": True}} if is_web(address) else {}
    try:
        with access(address):
            found: tuple[Any, str] = fsspec.core.url_to_fs(address, **options)
            return found
    except ImportError as error:
        package = known_implementations.get(address.split("://", 1)[0], {}).get("class", "fsspec").split(".")[0]
        hint = "" if package == "fsspec" else f": pip install {package}"  # a protocol that fsspec does not know
        raise DataError(address, [f"cannot be read: {error}{hint}"]) from error


@contextmanager
def access(address: str, verb: str = "read") -> Iterator[None]:
    """Raise every fault of the block as a DataError in one line, except a missing package."""
    try:
        yield
    except (ImportError, DataError):
        raise
    except FileNotFoundError as error:
        missing = "the file does not exist" if verb == "read" else first_line(error)
        raise DataError(address, [f"cannot be {verb}: {missing}"]) from error
    except Exception as error:  # each protocol's package has its own errors for permissions, networks and hosts
        raise DataError(address, [f"cannot be {verb}: {_reason(address, error)}"]) from error


def _reason(address: str, error: Exception) -> str:
    """Return the first line of `error`, without the secrets of the address."""
    status, message = getattr(error, "status", None), getattr(error, "message", None)
    if status is not None and message:  # aiohttp's text repeats the address, spelt differently
        return f"{status}, {message}"
    # The text of a file system's error repeats the path.
    line = error.strerror if isinstance(error, OSError) and error.filename and error.strerror else first_line(error)
    line = line.replace(address, redacted(address))
    return re.sub(r"\?[^\s'\"]*", "", line) if "?" in address else line
