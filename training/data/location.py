"""What data is called before it is opened: a Path, or a str for an address such as s3://bucket/file.csv.

A Path would make one slash of an address's two. Nothing is opened here, and no error raised.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

_CHAIN = "::"  # fsspec's, between what unpacks and what fetches
_CONTAINERS = ("abfs://", "abfss://", "az://", "adl://")  # their address has the container where others have the user
_WEB = ("http://", "https://")


def is_address(value: str) -> bool:
    """Return whether `value` is an address and no path."""
    return "://" in value


def is_web(source: Path | str) -> bool:
    """Return whether `source` is an address of the web, which may have a query behind its path."""
    return isinstance(source, str) and source.lower().startswith(_WEB)


def parse_location(value: str) -> Path | str:
    """Return what a user typed as a source: an address as it is, anything else as a path."""
    return value if is_address(value) else Path(value)


def redacted(source: Path | str) -> str:
    """Return `source` as it may be printed and kept: an address without user, password and query.

    A signed address holds its signature in the query.
    """
    if isinstance(source, Path) or not is_address(source):
        return str(source)
    return _CHAIN.join(_shown_part(part) for part in source.split(_CHAIN))


def _shown_part(part: str) -> str:
    if is_web(part):
        part = re.split("[?#]", part, maxsplit=1)[0]
    protocol, found, rest = part.partition("://")
    if not found or part.startswith(_CONTAINERS):
        return part
    # user:password@, which may hold a slash or another @; or a user alone, before the first slash.
    secret = re.match("[^/@:]+:.*@", rest) or re.match("[^/]*@", rest)
    return f"{protocol}://{rest[secret.end() :]}" if secret else part


def file_name(source: Path | str) -> str:
    """Return the name of the file at `source`, without its folder."""
    if isinstance(source, Path) or not is_address(source):
        return Path(source).name
    return PurePosixPath(redacted(source).rpartition("://")[2]).name
