"""A client's connection: a socket that collects requests until they are whole, and keeps replies until they are read.

Only the worker's event loop waits for clients. A thread gets the connection together with a complete request, so its
reads come from memory, and its writes go to memory where the kernel's buffer is full. The framing found here decides
only when to hand a request over; gunicorn's parser remains the judge of its meaning and never reads past its end.
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
import struct
from enum import Enum, auto
from typing import Any

from gunicorn.http.body import CHUNK_EXT_RE
from gunicorn.http.errors import InvalidChunkSize, LimitRequestHeaders, ParseException

_KERNEL_BYTES = 131072  # the kernel doubles it; by default it grows to several MB
_RECEIVE_BYTES = 65536
_MAX_HEAD_BYTES = 16384
_MAX_CHUNK_LINE_BYTES = 1024
# gunicorn's parser takes about 2 µs per chunk: chunks beyond these must have _BYTES_PER_CHUNK bytes on average.
_FREE_CHUNKS = 1024
_BYTES_PER_CHUNK = 64
_FREE_OVERHEAD = 65536  # bytes of sizes and extensions beyond those of the chunks themselves

_STAY_US = 10_000  # a thread stays so long with a connection for its next request

_END_OF_HEAD = b"\r\n\r\n"
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_FIELD = re.compile(rb"\r\n(content-length|transfer-encoding|expect|authorization|x-api-key):[ \t]*([^\r\n]*)", re.I)
_CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,15})(?:[ \t]*(;.*))?\Z", re.DOTALL)


class BodyTooLarge(ParseException):  # type: ignore[misc]  # gunicorn has no types
    """A chunked body has more bytes than the service allows."""


class Progress(Enum):
    """The state of the request at the start of the buffer."""

    INCOMPLETE = auto()
    WHOLE = auto()
    CLOSED = auto()  # the client has closed its side and sent no request


class Connection(socket.socket):
    """One client's socket; only `receive_soon` waits. Either the event loop or one thread uses it at a time.

    client: the accepted socket; it is taken over. max_body_bytes: the largest body to collect.

    received: bytes that no parser has read. unsent: bytes of replies that the kernel has not taken. is_cut: the
    request is handed over without the rest of its body, so the connection must close after the reply. is_checked: for
    the event loop, which checks a head once. has_replied: whether a reply to the current request has begun.
    """

    def __init__(self, client: socket.socket, max_body_bytes: int) -> None:
        super().__init__(client.family, client.type, client.proto, fileno=client.detach())
        super().setblocking(True)  # calls that must not wait say so, and `receive_soon` waits in the call that reads
        self.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, _STAY_US))
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):  # the kernel's memory counts for the container too
            self.setsockopt(socket.SOL_SOCKET, option, _KERNEL_BYTES)
        self._max_body_bytes = max_body_bytes
        self.received = bytearray()
        self.unsent = bytearray()
        self._head_of_reply = b""
        self.is_cut = False
        self._is_ended = False  # by the client
        self.start_request()

    def start_request(self) -> None:
        """Expect the next request, of which bytes may have arrived with the one before."""
        self._scanned = 0
        self._head: bytes | None = None
        self._fields: list[tuple[bytes, bytes]] = []
        self._end: int | None = None  # where the request ends, in `received`
        self._body = 0  # where its body begins
        self._is_chunked = False
        self._chunks = self._chunk_bytes = 0
        self._fault: ParseException | None = None
        self.is_checked = False
        self.has_replied = False

    @property
    def head(self) -> bytes:
        """Return the request line and header fields of the current request; empty while they are incomplete."""
        return self._head or b""

    @property
    def has_body(self) -> bool:
        """Return whether the current request has a body."""
        return self._end is None or self._end > self._body

    def field(self, name: bytes) -> str:
        """Return a header field of `_FIELD` by its lower-case name, repeated ones joined as gunicorn does, or ""."""
        return ",".join(value.decode("latin-1").strip() for field, value in self._fields if field.lower() == name)

    def receive(self, flags: int = socket.MSG_DONTWAIT) -> Progress:
        """Take bytes that have arrived; return the state of the current request."""
        try:
            data = super().recv(_RECEIVE_BYTES, flags)
        except BlockingIOError:
            return self.scan() if self.received else Progress.INCOMPLETE
        except OSError:
            return Progress.CLOSED
        if not data:
            self._is_ended = True
            return Progress.WHOLE if self.received else Progress.CLOSED  # the parser finds the end and says so
        self.received += data
        return self.scan()

    def scan(self) -> Progress:
        """Return the state of the current request by the bytes that are here."""
        if self._head is None and self.received:
            self._scan_head()
        if self._head is not None and self._is_chunked and self._end is None:
            self._scan_chunks()
        if self._end is None or (len(self.received) < self._end and not self.is_cut):
            return Progress.WHOLE if self._is_ended and self.received else Progress.INCOMPLETE
        return Progress.WHOLE

    def cut(self) -> None:
        """Hand the request over without the rest of its body."""
        self.is_cut = True
        if self._end is None:
            self._end = len(self.received)

    def shed(self) -> None:
        """Cut the request after its head, and free the memory of its body."""
        if self._head is not None:
            del self.received[self._body :]
            self._end = self._body
        self.cut()

    def receive_soon(self) -> bool:
        """Return whether the next request is whole within 10 ms; for the thread that has the connection.

        One system call waits and reads, for each call gives up the GIL.
        """
        if self.received and self.scan() is Progress.WHOLE:
            return True
        return self.receive(flags=0) is Progress.WHOLE

    def send_continue(self) -> None:
        """Ask a client that waits for `100 Continue` to send its body."""
        if self.field(b"expect").lower() == "100-continue" and not self.head.partition(b"\r\n")[0].endswith(b"1.0"):
            with contextlib.suppress(OSError):  # the client is gone, which the next read tells
                self.sendall(_CONTINUE)
            self.has_replied = False

    def flush(self) -> bool:
        """Send unsent bytes; return whether all are sent. Raises OSError when the client is gone."""
        if self.unsent:
            try:
                del self.unsent[: super().send(self.unsent, socket.MSG_DONTWAIT)]
            except BlockingIOError:
                return False
        return not self.unsent

    def end(self) -> bool:
        """Close the sending side; return whether the client may still have to read."""
        self.received.clear()
        try:
            self.shutdown(socket.SHUT_WR)
        except OSError:
            return False
        return not self._is_ended

    def is_drained(self) -> bool:
        """Discard received bytes; return whether the client has closed its side."""
        try:
            return not super().recv(_RECEIVE_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    # The methods that gunicorn calls:

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Return at most `size` bytes of the current request; empty at its end, or where it was cut."""
        if flags:
            return super().recv(size, flags)
        end = len(self.received) if self._end is None else min(self._end, len(self.received))
        if end:
            data = bytes(self.received[: min(size, end)])
            del self.received[: len(data)]
            if self._end is not None:
                self._end -= len(data)
            return data
        if self._fault is not None:
            raise self._fault
        return b""

    def send(self, data: Any, _flags: int = 0) -> int:
        """Ignore gunicorn's own `100 Continue`: the body has arrived. Send anything else."""
        if data != _CONTINUE:
            self.sendall(data)
        return len(data)

    def sendall(self, data: Any, _flags: int = 0) -> None:
        """Send `data`; keep the bytes that the kernel does not take at once.

        The head of a reply waits for the first bytes of its body: one system call, and one release of the GIL, for
        both. `send_head` ends the wait for a body that does not come.
        """
        if not self.has_replied and data != _CONTINUE and data.endswith(_END_OF_HEAD):
            self.has_replied = True
            self._head_of_reply = bytes(data)
            return
        self.has_replied = True
        if self._head_of_reply:
            data, self._head_of_reply = self._head_of_reply + data, b""
        sent = 0
        if not self.unsent:
            try:
                sent = super().send(data, socket.MSG_DONTWAIT)
            except BlockingIOError:
                sent = 0
        if sent < len(data):
            self.unsent += memoryview(data)[sent:]

    def send_head(self) -> None:
        """Send the head of a reply without a body, after its request was handled."""
        if self._head_of_reply:
            head, self._head_of_reply = self._head_of_reply, b""
            with contextlib.suppress(OSError):  # the client is gone, or gunicorn has closed after a fault
                self.sendall(head)

    def setblocking(self, flag: bool) -> None:
        """Do nothing: reads and writes of a thread go through memory."""

    def settimeout(self, value: float | None) -> None:
        """Do nothing, as `setblocking`."""

    def _scan_head(self) -> None:
        while self.received[:2] == b"\r\n":  # gunicorn skips one before a request (RFC 9112, 2.2)
            del self.received[:2]
            self._scanned = 0
        end = self.received.find(_END_OF_HEAD, max(0, self._scanned - len(_END_OF_HEAD) + 1))
        if end < 0:
            if len(self.received) > _MAX_HEAD_BYTES:
                self._fault = LimitRequestHeaders(f"the head has more than {_MAX_HEAD_BYTES} bytes")
                self.cut()
            elif self.received.count(b"\n", self._scanned) != self.received.count(b"\r\n", max(0, self._scanned - 1)):
                self.cut()  # gunicorn refuses a line that ends without a carriage return
            self._scanned = len(self.received)
            return
        self._head = bytes(self.received[:end])
        self._fields = _FIELD.findall(self._head)
        self._body = self._scanned = end + len(_END_OF_HEAD)
        length = self.field(b"content-length")
        if self.field(b"transfer-encoding"):
            self._is_chunked = True
        elif not length:
            self._end = self._body
        elif re.fullmatch("[0-9]{1,18}", length):
            self._end = self._body + int(length)
            if int(length) > self._max_body_bytes:
                self.cut()
        else:
            self.cut()  # gunicorn's parser refuses it

    def _scan_chunks(self) -> None:
        while True:
            line_end = self.received.find(b"\r\n", self._scanned)
            if line_end < 0:
                if len(self.received) - self._scanned > _MAX_CHUNK_LINE_BYTES:
                    self._fault = InvalidChunkSize(b"a line of more than %d bytes" % _MAX_CHUNK_LINE_BYTES)
                    self.cut()
                return
            size = _CHUNK_SIZE.match(self.received, self._scanned, line_end)
            if size is None or (size[2] and not CHUNK_EXT_RE.fullmatch(size[2])):
                self.cut()  # gunicorn's parser names the fault
                return
            length = int(size[1], 16)
            if not length:
                self._scan_trailers(line_end)
                return
            if self._chunk_bytes + length > self._max_body_bytes:
                self._fault = BodyTooLarge()
            elif line_end - self._body - self._chunk_bytes > _FREE_OVERHEAD + self._chunk_bytes:
                self._fault = InvalidChunkSize(b"more bytes of sizes than of %d bytes of chunks" % self._chunk_bytes)
            elif self._chunks > _FREE_CHUNKS + self._chunk_bytes // _BYTES_PER_CHUNK:
                self._fault = InvalidChunkSize(b"%d chunks for %d bytes" % (self._chunks, self._chunk_bytes))
            if self._fault is not None:
                self.cut()
                return
            if line_end + 2 + length + 2 > len(self.received):
                return  # the size is read again when more has arrived
            if self.received[line_end + 2 + length : line_end + 2 + length + 2] != b"\r\n":
                self.cut()
                return
            self._chunks += 1
            self._chunk_bytes += length
            self._scanned = line_end + 2 + length + 2

    def _scan_trailers(self, line_end: int) -> None:
        end = self.received.find(_END_OF_HEAD, line_end)  # at once without trailers
        if end >= 0:
            self._end = end + len(_END_OF_HEAD)
        elif len(self.received) - line_end > _MAX_HEAD_BYTES:
            self.cut()


def is_readable(sock: socket.socket) -> bool:
    """Return whether bytes or the client's end have arrived."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))
