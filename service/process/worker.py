"""gunicorn's threaded worker (gthread) with the changes that paid for themselves; docs/decisions/0018 has the figures.

Names of gunicorn that its documentation does not promise, checked against GUNICORN_VERSION in startup.py:
- ThreadWorker.accept, enqueue_req, finish_request, handle and murder_pending: the life of a connection.
- ThreadWorker._cap_keepalive: the stop must also end connections that have sent nothing.
- ThreadWorker.poller, pending_conns, keepalived_conns, on_pending_socket_readable, nr_conns, method_queue and tpool.
- TConn.sock, timeout, is_http2, close and parser.unreader.buf: one connection; `buf` holds pipelined bytes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import selectors
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine, ParseException
from gunicorn.util import http_date
from gunicorn.workers.gthread import TConn, ThreadWorker

from service.process import arrival_time

_OPERATIONS_THREADS = 4
_CLOSING_THREADS = 4
_MAX_LINGERING = 64  # each holds a file that nr_conns does not count
_STAY_S = 0.01
_SPARE_THREADS = 8
_EXIT_TIMEOUT_S = 3
_SPARE_CONNECTIONS = 100
_IDLE_S = 2
_LOG_INTERVAL_S = 10
_MAX_HEAD_BYTES = 65536
_STATUS = {LimitRequestLine: "414 URI Too Long", LimitRequestHeaders: "431 Request Header Fields Too Large"}


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """The worker class named in gunicorn_config.py."""

    def init_process(self) -> None:
        """Create the extra thread pools, then start gunicorn's worker."""
        self._operations = ThreadPoolExecutor(_OPERATIONS_THREADS, "operations")
        self._closing = ThreadPoolExecutor(_CLOSING_THREADS, "closing")
        self._lingering = threading.BoundedSemaphore(_MAX_LINGERING)
        self._next_log = 0.0
        super().init_process()

    def run(self) -> None:
        """Serve until told to stop, then exit even if an incomplete request still holds a thread."""
        paths = self.wsgi.extensions["inferer"].settings.machine_paths
        self._operation_prefixes = tuple(f"GET {path}{end}".encode() for path in paths for end in " ?")
        self._prefix_bytes = max(map(len, self._operation_prefixes))
        code = 1
        try:
            super().run()
            code = 0
        except SystemExit:
            code = 0
            raise
        finally:
            exit_timer = threading.Timer(_EXIT_TIMEOUT_S, os._exit, (code,))
            exit_timer.daemon = True
            exit_timer.start()

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection and let it wait in the poller until its first byte; gthread gives it a thread for 5 s."""
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):  # gthread exits
                if time.monotonic() > self._next_log:
                    self._next_log = time.monotonic() + _LOG_INTERVAL_S
                    self.log.error(f"no connection can be accepted: {self.nr_conns} are open at the file limit")  # noqa: TRY400
                time.sleep(_STAY_S)
            elif error.errno not in (errno.EAGAIN, errno.ECONNABORTED, errno.EWOULDBLOCK):
                raise
            return
        self.nr_conns += 1
        conn = TConn(self.cfg, client, address, listener.getsockname())
        conn.timeout = time.monotonic() + self.cfg.keepalive
        self.pending_conns.append(conn)
        self.poller.register(client, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn))

    def murder_pending(self) -> None:
        """Close expired connections, and the longest-idle ones while nearly all are taken, so that others can connect.

        gunicorn calls this after each poll, at least once per second.
        """
        super().murder_pending()
        idle_since = time.monotonic() + self.cfg.keepalive - _IDLE_S
        limit = self.worker_connections - min(_SPARE_CONNECTIONS, self.worker_connections // 10)
        for idle in (self.pending_conns, self.keepalived_conns):  # both in the order of their timeouts
            while self.nr_conns > limit and idle and idle[0].timeout < idle_since:
                if _is_readable_within(idle[0], 0):
                    break
                conn = idle.popleft()
                self.poller.unregister(conn.sock)
                self.nr_conns -= 1
                conn.close()

    def enqueue_req(self, conn: TConn) -> None:
        """Give the request on `conn` to a thread of its kind: predictions never delay health checks and metrics."""
        conn.arrived = time.monotonic()
        conn.is_operation = self._is_operation(conn)
        pool = self._operations if conn.is_operation else self.tpool
        future = pool.submit(self.handle, conn)
        future.add_done_callback(lambda done: self.method_queue.defer(self.finish_request, conn, done))

    def _is_operation(self, conn: TConn) -> bool:
        """Return whether a health check or a scrape has arrived whole; a slow sender would hold one of few threads."""
        if not _peek(conn, self._prefix_bytes).startswith(self._operation_prefixes):
            return False
        head, end, _ = _peek(conn, _MAX_HEAD_BYTES).partition(b"\r\n\r\n")
        lowered = head.lower()
        return bool(end) and b"\ncontent-length" not in lowered and b"\ntransfer-encoding" not in lowered

    def _cap_keepalive(self, deadline: float) -> None:
        """Close connections by `deadline` when the worker stops, those that have sent nothing included."""
        super()._cap_keepalive(deadline)
        for conn in self.pending_conns:
            conn.timeout = min(conn.timeout, deadline)

    def _may_stay(self, conn: TConn) -> bool:
        has_spare_threads = self.nr_conns + _SPARE_THREADS <= self.cfg.threads
        return self.alive and has_spare_threads and not (conn.is_operation or conn.is_http2 or _has_read_ahead(conn))

    def handle(self, conn: TConn) -> Any:
        """Handle the request on `conn` and the next ones that follow within 10 ms; close the connection unless kept.

        To stay with the connection saves two thread switches and a poll.
        """
        arrival_time.note(conn.arrived)
        keep = super().handle(conn)
        while keep is True and self._may_stay(conn) and _is_readable_within(conn, _STAY_S):
            arrival_time.note(time.monotonic())
            keep = super().handle(conn)
        if not keep:
            self._close(conn)
        return keep

    def _close(self, conn: TConn) -> None:
        """Close on this thread or a pool's; gthread waits up to 2 s on its accepting thread for the client to close."""
        close, conn.close = conn.close, lambda **_: None  # finish_request closes once more
        if not conn.is_operation:
            _close_gracefully(close)
        elif self._lingering.acquire(blocking=False):
            self._closing.submit(_close_gracefully, close).add_done_callback(lambda _: self._lingering.release())
        else:  # too many clients keep their side open; the reply has been sent
            close()

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: Exception) -> None:
        """Reply to malformed HTTP with the JSON error body; leave all other errors to gunicorn."""
        if not isinstance(exc, ParseException):
            super().handle_error(req, client, addr, exc)
            return
        fault = type(exc).__name__
        self.log.warning("malformed HTTP: %s", fault)  # not the line itself, which may hold a key or a text
        headers, body = self.wsgi.wsgi_app.unreadable(fault)
        lines = [
            f"HTTP/1.1 {_STATUS.get(type(exc), '400 Bad Request')}",
            "Server: gunicorn",
            f"Date: {http_date()}",
            "Connection: close",
            *(f"{name}: {value}" for name, value in headers),
        ]
        with contextlib.suppress(OSError):
            client.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)


def _is_readable_within(conn: TConn, seconds: float) -> bool:
    """Return whether the next request begins, or the client closes, within `seconds`."""
    poll = select.poll()
    poll.register(conn.sock, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _has_read_ahead(conn: TConn) -> bool:
    """Return whether gunicorn holds bytes of the next request on `conn`."""
    return bool(conn.parser and conn.parser.unreader.buf.getvalue())


def _peek(conn: TConn, most: int) -> bytes:
    """Return at most `most` received bytes and leave them there; empty if gunicorn has read ahead, or under TLS."""
    if _has_read_ahead(conn):
        return b""
    try:
        received: bytes = conn.sock.recv(most, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except (OSError, ValueError):
        return b""
    return received


def _close_gracefully(close: Callable[..., None]) -> None:
    with contextlib.suppress(OSError):
        close(graceful=True)
