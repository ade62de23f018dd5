"""The bytes at a path, or at an address with "://" that fsspec opens. No torch here."""

from __future__ import annotations

import re
from pathlib import Path

from training.data.location import is_address, is_web, redacted
from training.errors import DataError

__all__ = ["is_address", "read_bytes"]


def read_bytes(source: Path | str) -> bytes:
    """Return what is at `source`; raises DataError when it cannot be read, and names a package that is missing."""
    if isinstance(source, str) and is_address(source):
        return _read_address(source)
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise DataError(source, [f"cannot be read: {error.strerror}"]) from error


def _read_address(address: str) -> bytes:
    try:
        import fsspec.core  # not at the top: who reads files alone need not have it
    except ImportError as error:
        raise DataError(address, ["cannot be read: an address needs fsspec: pip install fsspec"]) from error
    # A company's proxy is told by the environment, which aiohttp reads only when it is told to.
    options = {"client_kwargs": {"trust_env": True}} if is_web(address) else {}
    try:
        files, path = fsspec.core.url_to_fs(address, **options)
        return bytes(files.cat_file(path))
    except ImportError as error:
        raise DataError(address, [f"cannot be read: {error}{_package(address)}"]) from error
    except FileNotFoundError as error:
        raise DataError(address, ["cannot be read: there is no such file"]) from error
    except Exception as error:  # no permission, no network, no such host: each protocol's package has errors of its own
        raise DataError(address, [f"cannot be read: {_reason(address, error)}"]) from error


def _package(address: str) -> str:
    """Return what to install for the protocol of `address`, as far as fsspec knows it."""
    from fsspec.registry import known_implementations

    protocol = address.split("://", 1)[0]
    package = known_implementations.get(protocol, {}).get("class", "fsspec").split(".")[0]
    return "" if package == "fsspec" else f": pip install {package}"


def _reason(address: str, error: Exception) -> str:
    """Return the first line of `error`, without what is not to be shown of the address."""
    status, message = getattr(error, "status", None), getattr(error, "message", None)
    if status is not None and message:  # aiohttp's own words repeat the address, spelt anew
        return f"{status}, {message}"
    # A file system's own error has the path in its text, which stands in front already.
    said = error.strerror if isinstance(error, OSError) and error.filename else str(error).strip()
    line = (said or type(error).__name__).splitlines()[0].replace(address, redacted(address))
    return re.sub(r"\?[^\s'\"]*", "", line) if "?" in address else line
