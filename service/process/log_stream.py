"""A text stream in place of stderr that never blocks: a bounded buffer in front, one thread that writes behind.

A reader of the log that stops would otherwise stop the service, which waits for a full pipe.
"""

from __future__ import annotations

import atexit
import io
import os
import select
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TextIO

_MAX_LINES = 4000
_MAX_BYTES = 2_000_000
# A pipe takes writes of up to this size whole, so that lines of several processes do not mix.
_WHOLE_BYTES = select.PIPE_BUF
_GATHER_S = 0.01  # a write and its thread switch cost more than a line
_DRAIN_S = 1


class LogStream(io.TextIOBase):
    """A stream of whole lines to the file descriptor of `stream`; lines are dropped and counted while it is full.

    notice: makes the line that follows a gap, from the number of dropped lines. on_drop: called with the number of
    lines that were dropped. What one `write` gets at the end of a line stays together.
    """

    def __init__(self, stream: TextIO | None, notice: Callable[[int], str]) -> None:
        self._stream = stream
        self._notice = notice
        self.on_drop: Callable[[int], object] = lambda _: None
        self.start_empty()

    def start_empty(self) -> None:
        """Forget all lines; a forked process leaves those of its parent to the parent."""
        self._changed = threading.Condition()
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._begun = ""  # a line without its end
        self._lost = 0  # dropped lines that no notice has told yet
        self._thread: threading.Thread | None = None
        self._is_busy = False

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Return the encoding of the stream behind."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def fileno(self) -> int:
        """Return the file descriptor; raises OSError where stderr is closed."""
        if self._stream is None:
            raise OSError("stderr is closed")
        return self._stream.fileno()

    def isatty(self) -> bool:
        """Return whether the log goes to a terminal."""
        return self._stream is not None and self._stream.isatty()

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, text: str) -> int:
        """Take `text`; its last line waits for its end or for `flush`."""
        with self._changed:
            begun = self._begun + text
            end = len(begun) if len(begun) > _WHOLE_BYTES else begun.rfind("\n") + 1
            self._begun = begun[end:]
            is_kept = not end or self._put(begun[:end])
        if not is_kept:
            self.on_drop(1)
        return len(text)

    def flush(self) -> None:
        """Let go of a line without its end, such as a bar of progress."""
        if self._begun:
            with self._changed:
                begun, self._begun = self._begun, ""
                is_kept = self._put(begun)
            if not is_kept:
                self.on_drop(1)

    def drain(self, seconds: float = _DRAIN_S) -> None:
        """Wait until all lines are written, but no longer than `seconds`."""
        self.flush()
        with self._changed:
            self._changed.wait_for(lambda: not (self._lines or self._is_busy or self._lost), seconds)

    def _put(self, text: str) -> bool:
        """Append a whole line, after a notice of lines lost before; return False without room for it."""
        data = text.encode(self.encoding, "backslashreplace")
        # After a loss half the buffer must be free, or each line would come with a notice.
        share = 2 if self._lost else 1
        if self._lines and (len(self._lines) >= _MAX_LINES // share or self._bytes + len(data) > _MAX_BYTES // share):
            self._lost += 1
            return False
        if self._lost:
            self._append(self._take_notice())
        self._append(data)
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_forever, name="log", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # no thread left for this user, or the interpreter ends
                self._thread = None
                self._write_now()
        elif not self._is_busy:
            self._changed.notify_all()
        return True

    def _append(self, data: bytes) -> None:
        self._lines.append(data)
        self._bytes += len(data)

    def _take_notice(self) -> bytes:
        lost, self._lost = self._lost, 0
        return f"{self._notice(lost)}\n".encode(self.encoding, "backslashreplace")

    def _take(self) -> tuple[bytes, int]:
        """Return lines for one write, and their number."""
        taken: list[bytes] = []
        size = 0
        while self._lines and (not taken or size + len(self._lines[0]) <= _WHOLE_BYTES):
            taken.append(self._lines.popleft())
            size += len(taken[-1])
        self._bytes -= size
        return b"".join(taken), len(taken)

    def _write_forever(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # they must wake the main thread
        failed = 0
        while True:
            with self._changed:
                if self._lost and not self._lines:
                    self._append(self._take_notice())
                if not self._lines:
                    self._is_busy = False
                    self._changed.notify_all()
                    self._changed.wait()
                self._is_busy = True
            time.sleep(_GATHER_S)
            while True:
                with self._changed:
                    data, count = self._take()
                if not count:
                    break
                if not self._send(data):
                    failed += count
                    self.on_drop(count)
                elif failed:
                    with self._changed:
                        self._lost += failed
                    failed = 0

    def _write_now(self) -> None:
        """Write what a pipe takes without a wait."""
        while self._lines:
            data, count = self._take()
            if not self._is_ready(0) or not self._send(data):
                self.on_drop(count)

    def _send(self, data: bytes) -> bool:
        """Write `data`, waiting for the reader; return False where that is impossible: a closed pipe, a full disk."""
        while data:
            try:
                data = data[os.write(self.fileno(), data) :]
            except BlockingIOError:  # another process has made the pipe non-blocking
                self._is_ready(1)
            except (OSError, ValueError):
                return False
        return True

    def _is_ready(self, seconds: float) -> bool:
        poll = select.poll()
        try:
            poll.register(self.fileno(), select.POLLOUT)
        except (OSError, ValueError):
            return False
        return bool(poll.poll(seconds * 1000))


def install(notice: Callable[[int], str]) -> None:
    """Put a LogStream in the place of sys.stderr, once per process and for its forks; the exit drains it."""
    if not isinstance(sys.stderr, LogStream):
        stream = LogStream(sys.stderr, notice)
        os.register_at_fork(after_in_child=stream.start_empty)
        atexit.register(stream.drain)
        sys.stderr = stream


def drain() -> None:
    """Wait for the last lines, at most a second; for an end without exit handlers."""
    if isinstance(sys.stderr, LogStream):
        sys.stderr.drain()
