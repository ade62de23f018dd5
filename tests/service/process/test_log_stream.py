"""A log that nobody reads: the service goes on, and lines are dropped and counted."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from service.process import log_stream
from service.process.log_stream import LogStream
from tests.support.apps import comes_to, metric, until
from tests.support.server import ROOT, Server, environment, free_port, ready, workers

LINE = "x" * 98 + "\n"
_TRIES = 20_000  # lines, more than buffer and pipe hold


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    """Return the two ends of a pipe: a file descriptor to read, and a stream to write."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        yield reading, stream
        os.close(reading)


def stream_to(stream: TextIO | None, dropped: list[int] | None = None) -> LogStream:
    """Return a LogStream; `dropped` collects the numbers of dropped lines."""
    made = LogStream(stream, lambda lost: f"lost {lost}")
    if dropped is not None:
        made.on_drop = dropped.append
    return made


def read(reading: int, seconds: float = 0.5) -> str:
    """Return all that arrives until nothing does for `seconds`."""
    data = b""
    while select.select([reading], [], [], seconds)[0] and (part := os.read(reading, 1 << 20)):
        data += part
    return data.decode()


def test_nobody_waits_for_a_full_pipe_and_the_gap_is_told(pipe: tuple[int, TextIO]) -> None:
    """Lines beyond the buffer are dropped, counted once each, and told where they are missing."""
    reading, stream = pipe
    dropped: list[int] = []
    log = stream_to(stream, dropped)
    began = time.monotonic()
    for number in range(_TRIES):
        log.write(f"{number}\n")
        log.flush()
    assert time.monotonic() - began < 5
    lines = read(reading).splitlines()
    log.write("after\n")
    lines += read(reading).splitlines()
    kept = [int(line) for line in lines if line.isdigit()]
    told = [int(line.split()[1]) for line in lines if line.startswith("lost ")]
    assert len(kept) + sum(dropped) == _TRIES
    assert sum(told) == sum(dropped) > 0
    assert kept == sorted(kept)
    assert lines[-1] == "after"


def test_memory_is_bounded_in_bytes_and_one_long_line_passes(pipe: tuple[int, TextIO]) -> None:
    """A line longer than the whole buffer is written if nothing else waits; beside others it is dropped."""
    reading, stream = pipe
    dropped: list[int] = []
    log = stream_to(stream, dropped)
    long = "y" * (log_stream._MAX_BYTES + 1) + "\n"
    log.write(long)
    assert read(reading) == long
    for _ in range(10):
        log.write(long)
    assert sum(dropped) >= 8


def test_parts_of_a_line_stay_together(pipe: tuple[int, TextIO]) -> None:
    """A line that is printed in parts by one thread comes whole; `flush` lets go of a line without its end."""
    reading, stream = pipe
    log = stream_to(stream)
    print("a", "b", file=log)
    log.write("bar 10 %\r")
    assert read(reading, 0.2) == "a b\n"
    log.flush()
    assert read(reading, 0.2) == "bar 10 %\r"
    log.write("z" * 10_000)  # no memory for a line that never ends
    assert read(reading, 0.2) == "z" * 10_000


def test_lines_of_several_processes_do_not_mix(pipe: tuple[int, TextIO]) -> None:
    """Lines up to the size that a pipe takes whole stay whole beside those of other processes."""
    reading, stream = pipe
    code = (
        "import sys; from service.process.log_stream import LogStream\n"
        "log = LogStream(sys.stderr, str)\n"
        "for number in range(300): log.write(sys.argv[1] * (number * 13 % 4000) + '.\\n')\n"
        "log.drain(20)"
    )
    children = [subprocess.Popen([sys.executable, "-c", code, one], cwd=ROOT, stderr=stream) for one in "abc"]
    text = ""
    while any(child.poll() is None for child in children):
        text += read(reading, 0.2)
    lines = (text + read(reading, 0.2)).splitlines()
    assert len(lines) == 900
    assert all(re.fullmatch(r"(a*|b*|c*)\.", line) for line in lines)


def test_a_forked_process_writes_its_own_lines_only() -> None:
    """After a fork with a stuck writer, the child's lines come, the parent's come once, and neither hangs."""
    code = (
        "import os, sys; from service.process import log_stream\n"
        "log_stream.install(str)\n"
        "for number in range(2000): print('parent', 'x' * 90, number, file=sys.stderr)\n"
        "if os.fork() == 0: print('child', file=sys.stderr); sys.exit()\n"
        "print('forked', flush=True); os.wait()"
    )
    command, pipe = [sys.executable, "-c", code], subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "forked\n"
        _, written = process.communicate(timeout=20)
    lines = written.splitlines()
    assert process.returncode == 0
    assert lines.count("child") == 1
    assert sum(line.startswith("parent") for line in lines) == 2000


@pytest.mark.parametrize("way_out", ["sys.exit(3)", "log_stream.drain(); os._exit(3)", "1 / 0", "os.close(0)"])
def test_the_last_lines_are_written_on_every_way_out(way_out: str) -> None:
    """Lines written just before an exit come, in their order."""
    code = (
        "import os, sys; from service.process import log_stream\n"
        "log_stream.install(str)\n"
        f"for number in range(500): print(number, file=sys.stderr)\n{way_out}"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False)
    assert done.stderr.splitlines()[:500] == [str(number) for number in range(500)]


def test_an_exit_waits_a_second_for_a_stuck_reader(pipe: tuple[int, TextIO]) -> None:
    """A process whose log nobody reads ends all the same."""
    _, stream = pipe
    code = (
        "import sys; from service.process import log_stream\n"
        "log_stream.install(str)\n"
        "for _ in range(5000): print('x' * 99, file=sys.stderr)"
    )
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, stderr=stream, timeout=20, check=True)
    assert time.monotonic() - began < 5


def test_a_closed_or_missing_reader_ends_nothing(pipe: tuple[int, TextIO]) -> None:
    """Lines for a closed pipe or without a stderr are counted as dropped."""
    reading, writing = os.pipe()
    for stream in (os.fdopen(writing, "w"), None):
        dropped: list[int] = []
        if stream is not None:
            os.close(reading)
        log = stream_to(stream, dropped)
        log.write("lost\n")
        log.drain()
        assert dropped == [1]
        assert not log.isatty()
    with pytest.raises(OSError, match="closed"):
        stream_to(None).fileno()


def test_a_pipe_that_others_made_non_blocking(pipe: tuple[int, TextIO]) -> None:
    """The writer waits for the reader of a non-blocking pipe, and loses nothing."""
    reading, stream = pipe
    os.set_blocking(stream.fileno(), False)
    log = stream_to(stream)
    for _ in range(2000):
        log.write(LINE)
    time.sleep(0.3)
    assert read(reading) == LINE * 2000


def test_without_a_thread_lines_are_written_directly(pipe: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started, a line is written at once, or dropped if that would block."""
    reading, stream = pipe
    dropped: list[int] = []
    log = stream_to(stream, dropped)

    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    for _ in range(2000):
        log.write(LINE)
    assert dropped
    assert read(reading).count(LINE) + sum(dropped) == 2000


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2])
def test_a_service_with_a_log_that_nobody_reads(tiny_bundle: Path, tmp_path: Path, count: int) -> None:
    """Requests are answered, workers replaced, drops counted; once somebody reads, the log tells the gap."""
    port = free_port()
    env = environment(INFERER_BUNDLE=str(tiny_bundle), PORT=str(port), INFERER_WORKERS=str(count))
    reading, writing = os.pipe()
    process = subprocess.Popen([sys.executable, "-m", "gunicorn", "app:app"], cwd=ROOT, env=env, stderr=writing)
    os.close(writing)
    server = Server(process, port, tmp_path / "none")
    try:
        ready(server)
        for _ in range(1000 if count == 1 else 400):
            assert server.predict({"text": "good"}).status == 200
        os.kill(workers(server)[0], signal.SIGKILL)
        until(lambda: len(workers(server)) == count)
        ready(server)
        while not metric(server, "inferer_log_lines_dropped_total"):
            for _ in range(200):
                server.request("GET", "/nowhere/" + "x" * 150)
        lines = read(reading, 1).splitlines()
        server.predict({"text": "good"}, x_request_id="after")
        lines += read(reading, 1).splitlines()
        found = [json.loads(line) for line in lines]
        assert any(" lines of the log were dropped" in line["message"] for line in found)
        assert any(line.get("request_id") == "after" for line in found)
        before = metric(server, "inferer_log_lines_dropped_total")
        server.predict({"text": "good"})
        comes_to(server, before, "inferer_log_lines_dropped_total")
    finally:
        assert server.stop() == 0
        os.close(reading)


@pytest.mark.slow
def test_a_stop_does_not_wait_for_the_log(tiny_bundle: Path, tmp_path: Path) -> None:
    """SIGTERM ends a service whose log nobody reads within 5 s, with code 0."""
    port = free_port()
    env = environment(INFERER_BUNDLE=str(tiny_bundle), PORT=str(port))
    reading, writing = os.pipe()
    process = subprocess.Popen([sys.executable, "-m", "gunicorn", "app:app"], cwd=ROOT, env=env, stderr=writing)
    os.close(writing)
    server = Server(process, port, tmp_path / "none")
    ready(server)
    for _ in range(400):
        assert server.request("GET", "/nowhere").status == 404
    began = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - began < 5
    os.close(reading)
