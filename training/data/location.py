"""Data locations: a Path, or a str for an address such as s3://bucket/file.csv (a Path would collapse its slashes)."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

_CONTAINERS = ("abfs://", "abfss://", "az://", "adl://")  # the part before @ is a container, not a user


def is_address(value: Path | str) -> bool:
    """Return whether `value` is an address rather than a path."""
    return isinstance(value, str) and "://" in value


def is_web(source: str) -> bool:
    """Return whether `source` is an address of the web, which may have a query."""
    return source.lower().startswith(("http://", "https://"))


def parse_location(value: str) -> Path | str:
    """Return a user's input as a location: an address unchanged, anything else as a path."""
    return value if is_address(value) else Path(value)


def redacted(source: Path | str) -> str:
    """Return `source` fit for messages and files: an address without user, password and query (a signature's place)."""
    if not isinstance(source, str):
        return str(source)
    return "::".join(map(_redacted_part, source.split("::")))  # fsspec chains protocols with ::


def _redacted_part(part: str) -> str:
    if is_web(part):
        part = re.split("[?#]", part, maxsplit=1)[0]
    protocol, found, rest = part.partition("://")
    if not found or part.startswith(_CONTAINERS):
        return part
    # user:password@, which may contain a slash or another @; or a user alone, before the first slash.
    secret = re.match("[^/@:]+:.*@", rest) or re.match("[^/]*@", rest)
    return f"{protocol}://{rest[secret.end() :]}" if secret else part


def file_name(source: Path | str) -> str:
    """Return the name of the file at `source`, without its folder."""
    return PurePosixPath(redacted(source).rpartition("://")[2]).name
