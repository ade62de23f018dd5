"""gunicorn's threaded worker, with some changes.

A connection holds a thread only once its request has begun to arrive; gunicorn 27.0.1 gives each new one a thread
for up to 5 s, whether it says anything or not.

Health checks and metrics have threads of their own, and so do not stand behind predictions, or behind those that are
refused: which they are is seen by a look at the request, which must be there whole, or a slow sender would hold these
few threads.

What comes while all places or threads are taken goes to one thread that refuses it, without the parser. Among the
others it would keep those who found a place waiting for a thread. After a second's worth, 500, it goes on at 500 a
second: each client that waits as it is told comes once a second.

A thread that has answered stays with its connection for a moment, as long as threads are plenty: a client that asks
again at once then needs no change of threads, of which gunicorn's own way takes two and a round of its poller.

A connection is closed by the thread that answered on it, or by threads for just that. gunicorn 27.0.1 closes it on the
thread that accepts, and lingers there for up to 2 s while the client keeps its side open: one such client held up
everybody, health checks too, and a hundred of them for minutes.

A worker that stops ends soon after its grace period; gunicorn's would wait for the rest of a half-sent request. One
that may open no more files goes on, and says so; gunicorn's would end. Where nearly all connections are taken, those
that are idle make room for new ones, or health checks would find no way in.

What is no HTTP is refused in our own form, and logged by the kind of fault alone: gunicorn would log the line itself,
in which there may be a key or a text.
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
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine, ParseException
from gunicorn.workers.gthread import TConn, ThreadWorker

from service.process import arrival_time as arrival
from service.process.raw_http import LARGEST, Simple, exchange, reply, simple_request

_OPERATIONS_THREADS = 4
_REFUSING_THREADS = 1
_REFUSAL_S = 1 / 500  # in the long run; quicker, clients that ask again at once would take half of the CPU
_BURST_S = 1
_CLOSING_THREADS = 4
_STAY_S = 0.01
_SPARE_THREADS = 8
_LAST_S = 3
_MOST_LINGERING = 64
_ROOM = 100
_IDLE_S = 2
_SAY_EVERY_S = 10
_STATUS = {LimitRequestLine: "414 URI Too Long", LimitRequestHeaders: "431 Request Header Fields Too Large"}


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """The worker class named in gunicorn.conf.py."""

    def init_process(self) -> None:
        """Make the threads for operations, then everything else."""
        self._operations = ThreadPoolExecutor(_OPERATIONS_THREADS, "operations")
        self._closing = ThreadPoolExecutor(_CLOSING_THREADS, "closing")
        self._refusing = ThreadPoolExecutor(_REFUSING_THREADS, "refusing")
        self._may_linger = threading.BoundedSemaphore(_MOST_LINGERING)  # each holds a file that nothing else counts
        self._silent_until = 0.0
        self._refusal_due = 0.0
        self._busy = 0  # of the threads for predictions; counted by the accepting thread alone
        super().init_process()

    def run(self) -> None:
        """Serve until told to stop, and end then, though a half-sent request may still hold a thread."""
        paths = self.wsgi.extensions["inferer"].settings.machine_paths
        self._machines = tuple(f"GET {path}{end}".encode() for path in paths for end in " ?")
        self._look = max(map(len, self._machines))
        code = 1
        try:
            super().run()
            code = 0
        except SystemExit:
            code = 0
            raise
        finally:
            last = threading.Timer(_LAST_S, os._exit, (code,))
            last.daemon = True
            last.start()

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection, and wait with all the others until its request begins."""
        try:
            client, address = listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):  # gunicorn's own worker would end; the client waits instead
                self._say_that_files_are_short()
                time.sleep(_STAY_S)
            elif error.errno not in (errno.EAGAIN, errno.ECONNABORTED, errno.EWOULDBLOCK):
                raise
            return
        self.nr_conns += 1
        conn = TConn(self.cfg, client, address, listener.getsockname())
        if _first_bytes(conn, 1):
            conn.data_ready = True
            self.enqueue_req(conn)
            return
        client.setblocking(False)
        conn.timeout = time.monotonic() + self.cfg.keepalive
        self.pending_conns.append(conn)
        self.poller.register(client, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn))

    def murder_pending(self) -> None:
        """Close what gunicorn would, and make room; called after each round of the poller, and each second."""
        super().murder_pending()
        self._make_room()

    def _make_room(self) -> None:
        """While nearly all connections are taken, close those that were idle longest and on which nothing has come."""
        since = time.monotonic() + self.cfg.keepalive - _IDLE_S
        most = self.worker_connections - min(_ROOM, self.worker_connections // 10)
        for idle in (self.pending_conns, self.keepalived_conns):  # both in the order of their timeouts
            while self.nr_conns > most and idle and idle[0].timeout < since:
                if _comes_within(idle[0], 0):
                    break
                conn = idle.popleft()
                self.poller.unregister(conn.sock)
                self.nr_conns -= 1
                conn.close()

    def _say_that_files_are_short(self) -> None:
        if time.monotonic() > self._silent_until:
            self._silent_until = time.monotonic() + _SAY_EVERY_S
            self.log.error("no connection can be accepted: %d are open, and no more files may be", self.nr_conns)

    def enqueue_req(self, conn: TConn) -> None:
        """Give the request on `conn` to a thread: one of its own kind."""
        conn.arrived, conn.is_main = time.monotonic(), False
        full = self._busy >= self.cfg.threads or self.wsgi.extensions["inferer"].is_full()
        came = _first_bytes(conn, LARGEST if full else self._look)
        if came.startswith(self._machines) and simple_request(came if full else _first_bytes(conn, LARGEST)):
            answered = self._operations.submit(self.handle, conn)
        elif full and came.startswith(b"POST") and (refused := simple_request(came)):
            answered = self._refusing.submit(self._refuse, conn, refused)
        else:
            self._busy += 1
            conn.is_main = True
            answered = self.tpool.submit(self.handle, conn)
        answered.add_done_callback(lambda future: self.method_queue.defer(self.finish_request, conn, future))

    def finish_request(self, conn: TConn, answered: Future[Any]) -> None:
        """See to a connection whose request was answered: wait for the next one, or close."""
        self._busy -= conn.is_main
        super().finish_request(conn, answered)

    def _cap_keepalive(self, deadline: float) -> None:
        """Close by `deadline`, when the worker stops, also the connections on which nothing has come yet."""
        super()._cap_keepalive(deadline)
        for conn in self.pending_conns:
            conn.timeout = min(conn.timeout, deadline)

    def _may_stay(self, conn: TConn) -> bool:
        plenty = self.nr_conns + _SPARE_THREADS <= self.cfg.threads
        return bool(self.alive and plenty and conn.is_main and not conn.is_http2 and not _has_read_ahead(conn))

    def handle(self, conn: TConn) -> Any:
        """Answer the request on `conn`; close it here when it is not kept alive."""
        arrival.note(conn.arrived)
        keep = super().handle(conn)
        while keep is True and self._may_stay(conn) and _comes_within(conn, _STAY_S):
            arrival.note(time.monotonic())
            keep = super().handle(conn)
        if not keep:
            self._close(conn)
        return keep

    def _refuse(self, conn: TConn, request: Simple) -> bool:
        """Answer `request`, which has come on `conn`, with 429; rest when there were too many of late."""
        keep = request.keep and self.alive and len(self.keepalived_conns) < self.max_keepalived
        status, headers, body, finish = self.wsgi.wsgi_app.refuse(request.environ, conn.arrived)
        try:
            exchange(conn.sock, request.size, reply(status, headers, body, keep=keep))
            conn.init()
        except OSError:
            keep = False
        finish()
        if not keep:
            self._close(conn)
        now = time.monotonic()
        self._refusal_due = max(self._refusal_due, now - _BURST_S) + _REFUSAL_S
        if self._refusal_due > now:  # to sleep for no time would give Python's lock away
            time.sleep(self._refusal_due - now)
        return keep

    def _close(self, conn: TConn) -> None:
        close, conn.close = conn.close, _closed  # the accepting thread closes once more
        if conn.is_main:
            _close_gracefully(close)
        elif self._may_linger.acquire(blocking=False):
            self._closing.submit(_close_gracefully, close).add_done_callback(lambda _: self._may_linger.release())
        else:  # too many clients keep their side open; what is sent has been sent
            close()

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: Exception) -> None:
        """Answer what cannot be read as HTTP; leave all other errors to gunicorn."""
        if not isinstance(exc, ParseException):
            super().handle_error(req, client, addr, exc)
            return
        fault = type(exc).__name__
        self.log.warning("refused what is no HTTP: %s", fault)
        headers, body = self.wsgi.wsgi_app.unreadable(fault)
        with contextlib.suppress(OSError):
            client.sendall(reply(_STATUS.get(type(exc), "400 Bad Request"), headers, body, keep=False))


def _comes_within(conn: TConn, seconds: float) -> bool:
    """Return whether the next request begins, or the client closes, within `seconds`."""
    poll = select.poll()
    poll.register(conn.sock, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _has_read_ahead(conn: TConn) -> bool:
    """Return whether gunicorn holds bytes of the next request on `conn`."""
    return bool(conn.parser and conn.parser.unreader.buf.getvalue())


def _first_bytes(conn: TConn, most: int) -> bytes:
    """Return what has come on `conn`, which stays there; nothing when it cannot be seen: read ahead, or under TLS."""
    if _has_read_ahead(conn):
        return b""
    try:
        first: bytes = conn.sock.recv(most, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except (OSError, ValueError):
        return b""
    return first


def _close_gracefully(close: Callable[..., None]) -> None:
    with contextlib.suppress(OSError):
        close(graceful=True)


def _closed(graceful: bool = False) -> None:
    """Do nothing: the connection is closed already."""
