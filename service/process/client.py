"""A client's connection as the worker's event loop sees it: the group that it waits in, its patience, its memory.

Names of gunicorn that its documentation does not promise, checked against GUNICORN_VERSION in startup.py: TConn.sock,
timeout, data_ready and close.
"""

from __future__ import annotations

import socket
from collections import Counter
from typing import Any

from gunicorn.workers.gthread import TConn

# A client has PATIENCE_S to send a request, or to read a reply, and a second more per _BYTES_PER_S on the way.
PATIENCE_S = 10
_BYTES_PER_S = 20_000
_MOST_PATIENCE_S = 60


class Client(TConn):  # type: ignore[misc]  # gunicorn has no types
    """One connection. waits_in: the group of the loop that it waits in, or None while it idles or a thread has it.

    since: the time when it joined the group. moved: bytes received or sent since. incoming, outgoing: bytes in memory
    that count. may_stay: whether a thread may wait for its next request. has_place: whether its request counts as in
    flight. keeps: whether more requests may follow. refusal: the reason to refuse the request, None to handle it.
    """

    def __init__(
        self, cfg: Any, sock: socket.socket, address: Any, server: Any, host: str, counts: Counter[str]
    ) -> None:
        super().__init__(cfg, sock, address, server)
        self._host, self._counts = host, counts
        self.data_ready = True  # handle() need not wait
        self.arrived = self.since = 0.0
        self.moved = self.incoming = self.outgoing = 0
        self.may_stay = self.has_place = self.keeps = self.is_closed = False
        self.refusal: str | None = None
        self.waits_in: dict[Client, None] | None = None

    def close(self, graceful: bool = False) -> None:  # noqa: ARG002 - gunicorn passes it
        """Close the connection at once: the loop has lingered, or under TLS the thread."""
        self.is_closed = True
        self._counts[self._host] -= 1
        if not self._counts[self._host]:
            del self._counts[self._host]
        super().close()

    @property
    def deadline(self) -> float:
        """Return the time (time.monotonic()) at which patience with the client ends."""
        return self.since + min(PATIENCE_S + self.moved / _BYTES_PER_S, _MOST_PATIENCE_S)
