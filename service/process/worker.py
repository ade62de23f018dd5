"""gunicorn's threaded worker (gthread) with an event loop that waits for slow clients; docs/decisions/0018 and 0019.

The loop receives each request whole, and sends what a client is slow to read, within deadlines; threads compute. So
half-sent requests, unread replies and lingering connections occupy no thread. Under TLS, which the loop cannot
read, gunicorn's own way applies, with a limit on each wait.

Names of gunicorn that its documentation does not promise, checked against GUNICORN_VERSION in startup.py:
- ThreadWorker.accept, enqueue_req, finish_request, handle, handle_request and murder_pending: the life of a connection.
- ThreadWorker.poller, keepalived_conns, nr_conns, method_queue and tpool. murder_keepalived closes idle connections.
- ThreadWorker.set_accept_enabled and wait_for_and_dispatch_events: the loop calls both in each round.
- TConn: client.py.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice, takewhile
from typing import Any

from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine, ParseException
from gunicorn.util import close_graceful, http_date
from gunicorn.workers.gthread import ThreadWorker

from service.process import handover, load_limits, log_stream, startup
from service.process.client import PATIENCE_S, Client
from service.process.connection import Connection, Progress, is_readable
from service.process.connection_counts import Place
from service.process.handover import MEMORY, REQUESTS
from service.settings import from_env

_OPERATIONS_THREADS = 4
_REFUSAL_THREADS = 1  # more take the GIL from accepted requests and health checks
_ACCEPT_PAUSE_S = 0.01
_SPARE_THREADS = 8
_EXIT_TIMEOUT_S = 3
_LOG_INTERVAL_S = 10

_STOP_PATIENCE_S = 5  # for incomplete requests when the worker stops
_SWEEP_S = 0.25
_IDLE_S = 2
_SPARE_CONNECTIONS = 100
# After its last reply a client has time to close first: a connection closed with unread bytes would reset, and the
# reply could be lost.
_LINGER_S = 2
_MAX_LINGERING = 64

# Memory of a connection that counts for nothing: a usual request or reply fits.
_FREE_BYTES = 8192

_STATUS = {LimitRequestLine: "414 URI Too Long", LimitRequestHeaders: "431 Request Header Fields Too Large"}


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """The worker class named in gunicorn_config.py, which gives each worker its place before the fork."""

    place: Place

    def init_process(self) -> None:
        """Create the extra thread pools, then start gunicorn's worker."""
        self._operations = ThreadPoolExecutor(_OPERATIONS_THREADS, "operations")
        self._refusals = ThreadPoolExecutor(_REFUSAL_THREADS, "refusals")
        self._receiving: dict[Client, None] = {}
        self._sending: dict[Client, None] = {}
        self._lingering: dict[Client, None] = {}
        self._addresses: Counter[str] = Counter()
        self._incoming = self._outgoing = 0  # bytes that connections hold
        self._next_log = self._next_sweep = self._stop_by = 0.0
        super().init_process()

    def load_wsgi(self) -> None:
        """Load the application, after a trial of the threads, while a limit that is too low can be told in one line."""
        startup.try_threads(self.cfg.threads + _OPERATIONS_THREADS + _REFUSAL_THREADS)
        settings = from_env(os.environ)
        try:
            with load_limits.limited(load_limits.memory_allowed(settings.bundle), settings.load_timeout_s):
                super().load_wsgi()
        except MemoryError:
            startup.exit_cannot_start(load_limits.too_much_memory(settings.bundle))

    def run(self) -> None:
        """Serve until told to stop, then exit even if a request still holds a thread."""
        self._state = self.wsgi.extensions["inferer"]
        paths = self._state.settings.machine_paths
        self._operation_prefixes = tuple(f"GET {path}{end}".encode() for path in paths for end in " ?")
        code = 1
        self.place.set(0)
        try:
            super().run()
            code = 0
        except SystemExit:
            code = 0
            raise
        finally:
            exit_timer = threading.Timer(_EXIT_TIMEOUT_S, _exit_now, (code,))
            exit_timer.daemon = True
            exit_timer.start()

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection and let it idle in the loop; gthread would give it a thread for 5 s."""
        if self.place.yields():
            self.set_accept_enabled(False)
            return
        try:
            accepted, address = listener.accept()
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ECONNABORTED, errno.EWOULDBLOCK):  # gthread exits
                at_limit = error.errno in (errno.EMFILE, errno.ENFILE)
                why = f"{self.nr_conns} are open at the file limit" if at_limit else str(error)
                self._log_sometimes(f"no connection can be accepted: {why}")
                time.sleep(_ACCEPT_PAUSE_S)
            return
        host = address[0] if isinstance(address, tuple) else str(address)
        most = self._state.settings.max_connections_per_address
        if most and self._addresses[host] >= most:
            self._state.metrics.count_rejection("address")
            accepted.close()
            return
        self.nr_conns += 1
        self.place.set(self.nr_conns)
        self._addresses[host] += 1
        if self.cfg.is_ssl:
            for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                accepted.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", PATIENCE_S, 0))
        else:
            accepted = Connection(accepted, self._state.settings.max_body_bytes)
        self._idle(Client(self.cfg, accepted, address, listener.getsockname(), host, self._addresses))

    def set_accept_enabled(self, enabled: bool) -> None:
        """Look at the listeners, or not; the loop enables them in each round, but not while this worker yields."""
        if not enabled or time.monotonic() >= self.place.yields_until:
            super().set_accept_enabled(enabled)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Wait for events, at most until this worker has yielded."""
        rest = self.place.yields_until - time.monotonic()
        super().wait_for_and_dispatch_events(min(timeout, rest) if rest > 0 else timeout)

    def _idle(self, conn: Client) -> None:
        """Wait for the first byte of a request; gunicorn closes the connection after `keepalive` seconds."""
        conn.set_timeout()
        if not self.alive:
            conn.timeout = min(conn.timeout, time.monotonic() + _LINGER_S)
        self.keepalived_conns.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._on_event, conn, self._begin))

    def _on_event(self, conn: Client, step: Callable[[Client], None], _sock: object) -> None:
        """Take a step with a connection; an error ends that connection and never the loop."""
        if conn.is_closed:  # in this round of the poller
            return
        try:
            step(conn)
        except Exception:
            self.log.exception("a connection failed")
            if not conn.is_closed:
                self._drop(conn)

    def _begin(self, conn: Client) -> None:
        self.poller.unregister(conn.sock)
        self.keepalived_conns.remove(conn)
        if self.cfg.is_ssl:
            self.enqueue_req(conn)
        else:
            self._receive(conn)

    def _receive(self, conn: Client) -> None:
        self._proceed(conn, conn.sock.receive())

    def _proceed(self, conn: Client, progress: Progress) -> None:
        """Give a whole request to a thread, and wait for the rest of an incomplete one."""
        sock = conn.sock
        if progress is Progress.CLOSED:
            self._drop(conn)
            return
        self._hold(conn)
        if progress is Progress.INCOMPLETE and sock.head and not sock.is_checked:
            self._check_head(conn)
        if progress is Progress.WHOLE or sock.is_cut:
            self.enqueue_req(conn)
        elif not sock.received and conn.waits_in is None:  # an empty line
            self._idle(conn)
        else:
            if conn.waits_in is None:
                self._wait(conn, self._receiving, selectors.EVENT_READ, self._receive)
            conn.moved = len(sock.received)
            self._refuse_slow_senders()

    def _refuse_slow_senders(self) -> None:
        """Refuse the longest-waiting of the large incomplete requests while they hold too much memory together."""
        settings = self._state.settings
        if self._incoming <= settings.max_in_flight_bytes:
            return
        share = settings.max_in_flight_bytes // settings.max_in_flight
        for conn in [one for one in self._receiving if one.incoming > share]:
            conn.refusal = MEMORY
            conn.sock.shed()
            self._hold(conn)
            self.enqueue_req(conn)
            if self._incoming <= settings.max_in_flight_bytes:
                break

    def _check_head(self, conn: Client) -> None:
        """Refuse a request without a valid key before its body, which would occupy memory; ask for an awaited body."""
        sock = conn.sock
        sock.is_checked = True
        if self._state.keys.accept(sock.field(b"authorization"), sock.field(b"x-api-key")):
            sock.send_continue()
        else:
            sock.cut()

    def enqueue_req(self, conn: Client) -> None:
        """Give the request on `conn` to a thread of its kind: none delays another."""
        self._leave(conn)
        conn.arrived = time.monotonic()
        if self.cfg.is_ssl:
            self._submit(self.tpool, conn)
            return
        sock = conn.sock
        if not sock.has_body and sock.received.startswith(self._operation_prefixes):
            pool = self._operations
        elif sock.is_cut or not self._takes_place(conn):
            pool = self._refusals
        else:
            pool = self.tpool
        conn.may_stay = pool is self.tpool
        self._submit(pool, conn)

    def _submit(self, pool: ThreadPoolExecutor, conn: Client) -> None:
        future = pool.submit(self.handle, conn)
        future.add_done_callback(lambda done: self.method_queue.defer(self.finish_request, conn, done))

    def _takes_place(self, conn: Client) -> bool:
        """Count a POST request in flight; return False at capacity, noting the refusal, and without a valid key."""
        sock = conn.sock
        if not sock.received.startswith(b"POST "):
            return True
        if not self._state.keys.accept(sock.field(b"authorization"), sock.field(b"x-api-key")):
            return False
        conn.has_place = self._state.capacity.enter()
        if not conn.has_place:
            conn.refusal = REQUESTS
        return conn.has_place

    def handle(self, conn: Client) -> Any:
        """Handle the request on `conn`, and the next ones that arrive whole soon after; return whether to keep it.

        To stay with the connection saves two thread switches and a poll.
        """
        keep = self._handle_one(conn)
        if self.cfg.is_ssl and not keep:
            close_graceful(conn.sock)  # here: the loop would stand still
        while keep is True and self._may_stay(conn):
            conn.sock.start_request()
            if not conn.sock.receive_soon():
                break
            conn.arrived = time.monotonic()
            self._takes_place(conn)
            keep = self._handle_one(conn)
        return keep

    def _handle_one(self, conn: Client) -> Any:
        handover.note(conn.arrived, conn.refusal)
        conn.refusal = None
        try:
            return super().handle(conn)
        finally:
            if not self.cfg.is_ssl:
                conn.sock.send_head()
            if conn.has_place:
                conn.has_place = False
                self._state.capacity.leave()

    def _may_stay(self, conn: Client) -> bool:
        if self.cfg.is_ssl or not conn.may_stay or conn.sock.unsent:
            return False
        return bool(self.alive and self.nr_conns + _SPARE_THREADS <= self.cfg.threads)

    def handle_request(self, req: Any, conn: Client) -> Any:
        """Close the connection after a request that was cut: the start of the next one is unknown."""
        if self.cfg.is_ssl:  # the loop could not see the method
            conn.has_place = req.method == "POST" and self._state.capacity.enter()
            handover.note(conn.arrived, None if conn.has_place or req.method != "POST" else REQUESTS)
        elif conn.sock.is_cut:
            req.force_close()
        return super().handle_request(req, conn)

    def finish_request(self, conn: Client, done: Future[Any]) -> None:
        """Take the connection back from its thread: send the rest of the reply, then wait for more or close."""
        if self.cfg.is_ssl:
            super().finish_request(conn, done)
            return
        result = None if done.cancelled() or done.exception() else done.result()
        conn.keeps = bool(result) and not conn.sock.is_cut
        conn.sock.start_request()
        self._on_event(conn, self._finish_reply, conn.sock)

    def _finish_reply(self, conn: Client) -> None:
        self._hold(conn)
        if conn.sock.fileno() < 0:
            self._drop(conn)
        elif conn.sock.unsent:
            self._wait(conn, self._sending, selectors.EVENT_WRITE, self._send_rest)
            self._drop_slow_readers()
        elif not conn.keeps:
            self._linger(conn)
        elif conn.sock.received:
            self._proceed(conn, conn.sock.scan())
        else:
            self._idle(conn)

    def _send_rest(self, conn: Client) -> None:
        before = len(conn.sock.unsent)
        try:
            is_sent = conn.sock.flush()
        except OSError:
            self._drop(conn)
            return
        conn.moved += before - len(conn.sock.unsent)
        if is_sent:
            self._leave(conn)
            self._finish_reply(conn)
        else:
            self._hold(conn)

    def _linger(self, conn: Client) -> None:
        """Close the sending side, and the connection once the client has closed too or _LINGER_S have passed."""
        may_read = conn.sock.end()
        self._hold(conn)
        if not may_read:
            self._drop(conn)
            return
        if len(self._lingering) >= _MAX_LINGERING:
            self._drop(next(iter(self._lingering)))
        self._wait(conn, self._lingering, selectors.EVENT_READ, self._drain)

    def _drain(self, conn: Client) -> None:
        if conn.sock.is_drained():
            self._drop(conn)

    def murder_pending(self) -> None:
        """End waits that took too long, and make room for others when nearly all connections are taken.

        gunicorn calls this after each poll, at least once per second.
        """
        if self.alive:
            self.place.set(self.nr_conns)
        else:
            self.place.leave()
        now = time.monotonic()
        if now > self._next_sweep:
            self._next_sweep = now + _SWEEP_S
            if not self.alive:
                self._stop_by = self._stop_by or now + _STOP_PATIENCE_S
            is_stopped = bool(self._stop_by) and self._stop_by < now
            for conn in [one for one in self._receiving if is_stopped or one.deadline < now]:
                self._time_out(conn)
            for conn in [one for one in self._sending if one.deadline < now]:
                self._drop(conn, "slow_reader")
            for conn in [one for one in self._lingering if one.since + _LINGER_S < now]:
                self._drop(conn)
        limit = self.worker_connections - min(_SPARE_CONNECTIONS, self.worker_connections // 10)
        if self.nr_conns > limit:
            self._make_room(self.nr_conns - limit, now - _IDLE_S)

    def _make_room(self, count: int, before: float) -> None:
        """Close at most `count` connections that wait since `before`: idle ones first, then the longest-waiting."""
        idle = self.keepalived_conns  # in the order of their timeouts
        while count and idle and idle[0].timeout < before + self.cfg.keepalive and not is_readable(idle[0].sock):
            conn = idle.popleft()
            self.poller.unregister(conn.sock)
            self._drop(conn)
            count -= 1
        for group, reason in (
            (self._lingering, None),
            (self._receiving, "slow_sender"),
            (self._sending, "slow_reader"),
        ):
            # Each group is in the order of `since`.
            for conn in list(islice(takewhile(lambda one: one.since < before, group), count)):
                self._drop(conn, reason)
                count -= 1

    def _drop_slow_readers(self) -> None:
        """Close the connections that have been slowest to read while unread replies hold too much memory together."""
        for conn in [one for one in self._sending if one.outgoing]:
            if self._outgoing <= self._state.settings.max_in_flight_bytes:
                break
            self._drop(conn, "slow_reader")

    def _time_out(self, conn: Client) -> None:
        """Reply 408 to a client that has not sent its request in time."""
        self._leave(conn)
        self._state.metrics.count_rejection("slow_sender")
        seconds = time.monotonic() - conn.since
        message = f"the request has not arrived whole within {seconds:.0f} s; {len(conn.sock.received)} bytes have"
        self._send_error(conn.sock, "408 Request Timeout", "RequestTimeout", message)
        conn.keeps = False
        self._finish_reply(conn)

    def _wait(self, conn: Client, group: dict[Client, None], event: int, step: Callable[[Client], None]) -> None:
        """Let `conn` wait in `group` for `event`."""
        conn.since, conn.moved = time.monotonic(), 0
        conn.waits_in = group
        group[conn] = None
        self.poller.register(conn.sock, event, partial(self._on_event, conn, step))

    def _leave(self, conn: Client) -> None:
        """Take `conn` out of its group, if it waits in one."""
        if conn.waits_in is not None:
            self.poller.unregister(conn.sock)
            del conn.waits_in[conn]
            conn.waits_in = None

    def _hold(self, conn: Client) -> None:
        """Count the memory of a connection beyond that of usual requests and replies."""
        incoming, outgoing = (max(0, len(held) - _FREE_BYTES) for held in (conn.sock.received, conn.sock.unsent))
        self._incoming += incoming - conn.incoming
        self._outgoing += outgoing - conn.outgoing
        conn.incoming, conn.outgoing = incoming, outgoing

    def _drop(self, conn: Client, reason: str | None = None) -> None:
        """Close a connection. reason: of the metric of refused requests."""
        if reason is not None:
            self._state.metrics.count_rejection(reason)
        self._leave(conn)
        self._incoming -= conn.incoming
        self._outgoing -= conn.outgoing
        self.nr_conns -= 1
        conn.close()

    def _log_sometimes(self, message: str) -> None:
        if time.monotonic() > self._next_log:
            self._next_log = time.monotonic() + _LOG_INTERVAL_S
            self.log.error(message)

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: Exception) -> None:
        """Reply to malformed HTTP with the JSON error body; leave all other errors to gunicorn."""
        if not isinstance(exc, ParseException):
            super().handle_error(req, client, addr, exc)
            return
        if isinstance(client, Connection) and client.has_replied:
            return  # the rest of a body that no view read is malformed
        fault = type(exc).__name__
        self.log.warning("malformed HTTP: %s", fault)  # not the line itself, which may hold a key or a text
        status = _STATUS.get(type(exc), "400 Bad Request")
        self._send_error(client, status, "BadRequest", f"malformed HTTP: {fault}")

    def _send_error(self, client: socket.socket, status: str, error_type: str, message: str) -> None:
        """Send an error reply to a request that the application does not see."""
        headers, body = self.wsgi.wsgi_app.unseen(error_type, message)
        lines = [
            f"HTTP/1.1 {status}",
            "Server: gunicorn",
            f"Date: {http_date()}",
            "Connection: close",
            *(f"{name}: {value}" for name, value in headers),
        ]
        with contextlib.suppress(OSError):
            client.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)


def _exit_now(code: int) -> None:
    log_stream.drain()
    os._exit(code)
