"""HTTP/1 by hand, for what does not need gunicorn's parser: requests that are refused, and the look at those that come.

Under overload most requests are refused, and each system call on the way is a chance to lose Python's lock: by one
look, one read and one send a refusal takes a third of the time.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from gunicorn.util import http_date

# A request that is longer, head and body, goes the ordinary way.
LARGEST = 65536

_HEAD = re.compile(
    rb"(GET|POST) (/[!-\"$->@-~]*)(?:\?[!-~]*)? HTTP/1\.([01])\r\n"
    rb"((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*\r\n)*)\r\n"
)
# Blanks around a value are stripped, not matched: a pattern for them takes seconds on thousands in the middle.
_HEADER = re.compile(rb"([^:\r\n]+):([^\r\n]*)\r\n")
_LENGTH = re.compile(rb"[0-9]{1,9}")  # few digits: Python refuses to read numbers of thousands of them
_FRAMING = (b"content-length", b"connection", b"host")  # at most one of each
_NOT_SIMPLE = (b"transfer-encoding", b"expect")
_READ = {b"x-request-id": "HTTP_X_REQUEST_ID", b"origin": "HTTP_ORIGIN"}


@dataclass(frozen=True, slots=True)
class Simple:
    """A request that is there whole: its size in bytes, what a refusal needs of it, whether its connection is kept."""

    size: int
    environ: dict[str, Any]
    keep: bool


def simple_request(data: bytes) -> Simple | None:
    """Return the request that `data` begins with, or None where it is not whole, or leaves any doubt how long it is."""
    head = _HEAD.match(data)
    if head is None:
        return None
    environ: dict[str, Any] = {"REQUEST_METHOD": head[1].decode(), "PATH_INFO": unquote(head[2], "latin-1")}
    framing: dict[bytes, bytes] = {}
    for name, given in _HEADER.findall(head[4]):
        lowered, value = name.lower(), given.strip(b"\t ")
        if lowered in _NOT_SIMPLE or lowered in framing:
            return None
        if lowered in _FRAMING:
            framing[lowered] = value.lower()
        elif lowered in _READ:
            environ[_READ[lowered]] = value.decode("latin-1")
    length = framing.get(b"content-length", b"0")
    if not _LENGTH.fullmatch(length) or head.end() + int(length) > len(data):
        return None
    keep = framing.get(b"connection", b"keep-alive" if head[3] == b"1" else b"close") == b"keep-alive"
    return Simple(head.end() + int(length), environ, keep)


def reply(status: str, headers: Iterable[tuple[str, str]], body: bytes, *, keep: bool) -> bytes:
    """Return a reply with the headers that gunicorn adds to each."""
    lines = [
        f"HTTP/1.1 {status}",
        "Server: gunicorn",
        f"Date: {http_date()}",
        f"Connection: {'keep-alive' if keep else 'close'}",
        *(f"{name}: {value}" for name, value in headers),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def exchange(connection: socket.socket, size: int, answer: bytes) -> None:
    """Take the `size` bytes of a request that are there, and send `answer`; raises OSError where that would wait."""
    while size:
        taken = len(connection.recv(size))
        if not taken:
            raise ConnectionResetError("the client is gone")
        size -= taken
    if connection.send(answer) < len(answer):
        raise BlockingIOError("the client does not read")
