"""A load generator that takes little of the machine that it shares with the server.

One process, one asyncio loop; each client has a kept-alive connection and sends its next request when the reply came.
Of a reply only the status, Content-Length, Connection and Retry-After are read; one that cannot be read ends the run.
`run` works in this process, `run_in_child` in one of its own: without arguments this module reads a plan on stdin and
writes the result. With arguments the last line is a summary in JSON:

    python -m tests.support.load --port 8080 --clients 8 --seconds 10 --body-file bodies.jsonl
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, cast

from tests.support.server import ROOT

REFUSED_PAUSE_S = 0.05  # between two tries to connect
_Reply = tuple[float, float, int, int, bytes]


@dataclass(frozen=True)
class Plan:
    """The requests, clients and duration of a load. The warm-up precedes `seconds` and is not counted."""

    port: int
    clients: int
    seconds: float
    bodies: Sequence[bytes] = (b"",)  # each client cycles through them, each from a different one
    path: str = "/predict"
    method: str = "POST"  # GET sends no body; HEAD is unsupported
    headers: Mapping[str, str] = field(default_factory=dict)
    requests: int | None = None  # stop after this many in all instead of after `seconds`
    warm_up_s: float = 0
    honour_retry_after: bool = False
    keep_bodies: bool = False
    patience_s: float = 30  # the wait for replies after the end, or with `requests` after the last one
    probe_path: str | None = None  # one more client sends GETs for this path on its own connection
    probe_every_s: float = 0.1
    probe_new_connection: bool = False


@dataclass(frozen=True)
class Result:
    """The outcome of the requests that started after the warm-up, those in flight at the end included."""

    seconds: float  # the plan's, or with `requests` the time until the last reply
    began: float  # time.monotonic() at the end of the warm-up: one clock for all processes
    latencies_ms: dict[int, list[float]]  # by status, in the order of replies; includes opening a connection
    started_s: dict[int, list[float]]  # the start of each of these, in s after `began`
    in_time: int  # 200s within `seconds`, requests of the warm-up included; the throughput
    resets: int = 0  # request sent whole, then closed: on a new connection, or within the reply
    cut_short: int = 0  # the same, before the whole request was sent
    unanswered: int = 0  # no reply within `patience_s`
    reconnects: int = 0  # kept-alive connections closed while idle or before a reply; the client retries
    refused: int = 0  # refused connections
    connections: int = 0  # connections opened, the warm-up included
    cpu_s: float = 0  # CPU time of the generator itself, warm-up included
    answers: list[tuple[int, int, bytes]] = field(default_factory=list)  # if kept: index of the body, status, reply
    probe_ms: list[float] = field(default_factory=list)
    probe_statuses: dict[int, int] = field(default_factory=dict)
    probe_lost: int = 0  # probes reset, unanswered or refused

    @property
    def statuses(self) -> dict[int, int]:
        """Return the number of replies by status."""
        return {status: len(latencies) for status, latencies in sorted(self.latencies_ms.items())}

    def throughput(self) -> float:
        """Return the 200s per second."""
        return self.in_time / self.seconds if self.seconds else 0.0

    def percentile(self, q: float, status: int = 200) -> float:
        """Return the smallest latency in ms that `q` per cent of the replies with `status` do not exceed."""
        return sorted(self.latencies_ms[status])[max(0, math.ceil(q / 100 * len(self.latencies_ms[status])) - 1)]

    def timeline(self, bin_s: float = 0.1) -> list[dict[int, int]]:
        """Return the number of requests by status that started in each `bin_s` from `began` on."""
        placed = Counter((int(at / bin_s), status) for status, started in self.started_s.items() for at in started)
        bins: list[dict[int, int]] = [{} for _ in range(max(placed, default=(-1, 0))[0] + 1)]
        for (number, status), count in sorted(placed.items()):
            bins[number][status] = count
        return bins

    def summary(self) -> dict[str, Any]:
        """Return the figures without the lists."""
        numbers = {name: value for name, value in vars(self).items() if isinstance(value, int | float)}
        quantiles = {s: {q: self.percentile(q, s) for q in (50, 90, 99, 100)} for s in self.statuses}
        probe = {"probe_statuses": self.probe_statuses, "probe_max_ms": max(self.probe_ms, default=None)}
        return {"throughput": self.throughput(), "statuses": self.statuses, "ms": quantiles, **probe, **numbers}


class _Run:
    """The state that the clients of a run share: its progress and its replies so far."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.received = memoryview(bytearray(1 << 18))  # one for all clients: each copies its bytes out at once
        self.begin = self.last = time.monotonic() + plan.warm_up_s  # last: the end of the last request
        self.end = self.begin + plan.seconds if plan.requests is None else math.inf
        self.left = math.inf if plan.requests is None else plan.requests
        self.events: tuple[Counter[str], Counter[str]] = Counter(), Counter()  # of the clients, of the probe
        # Likewise: start, end, status, index of the body, reply.
        self.replies: tuple[list[_Reply], list[_Reply]] = [], []


class _Client(asyncio.BufferedProtocol):
    """One client: its connection and its current request."""

    transport: asyncio.Transport | None = None
    stopped: asyncio.Future[None]  # done while no reply is due
    in_hand = is_new = unsent = closes = False
    status = body_at = total = 0  # total: the length of the reply, 0 until its head is read
    started = pause = 0.0
    reply = b""

    def __init__(self, run: _Run, requests: list[bytes], first: int = 0, *, is_probe: bool = False) -> None:
        self.run, self.requests, self.index, self.is_probe = run, requests, first - 1, is_probe
        self.events, self.replies = run.events[is_probe], run.replies[is_probe]

    async def live(self) -> None:
        """Send requests until the run is over; the common path, reply then next request, is in `buffer_updated`."""
        loop = asyncio.get_running_loop()
        try:
            while self.take():
                while self.in_hand:
                    self.stopped = loop.create_future()
                    if self.transport:
                        self.transport.write(self.requests[self.index])
                    else:
                        try:
                            await loop.create_connection(lambda: self, "127.0.0.1", self.run.plan.port)
                        except ConnectionError:
                            self.count("refused", time.monotonic())
                            if time.monotonic() >= self.run.end:
                                return
                            await asyncio.sleep(REFUSED_PAUSE_S)
                            continue
                    await self.stopped
                if self.is_probe:
                    self.pause = self.started + self.run.plan.probe_every_s - time.monotonic()
                await asyncio.sleep(min(self.pause, self.run.end - time.monotonic()))
        finally:
            self.close()

    def take(self) -> bool:
        """Take up the next request, if the run has one left."""
        self.started = time.monotonic()
        self.in_hand = self.started < self.run.end and self.run.left > 0
        if self.in_hand:
            self.index = (self.index + 1) % len(self.requests)
            if self.started >= self.run.begin and not self.is_probe:
                self.run.left -= 1
        return self.in_hand

    def count(self, event: str, at: float) -> None:
        self.events[event] += at >= self.run.begin

    def close(self) -> None:
        if self.transport:
            self.transport.abort()
        self.transport = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport, self.is_new, self.unsent = cast(asyncio.Transport, transport), True, False
        self.transport.set_write_buffer_limits(0)  # pause_writing then reports a request that is not sent whole
        self.events["connections"] += 1
        self.transport.write(self.requests[self.index])

    def pause_writing(self) -> None:
        self.unsent = True

    def resume_writing(self) -> None:
        self.unsent = False

    def connection_lost(self, _exc: Exception | None) -> None:
        if not self.transport:  # closed here
            return
        self.transport = None
        if self.stopped.done():
            self.count("reconnects", time.monotonic())
            return
        if self.is_new or self.reply:
            self.count("cut_short" if self.unsent else "resets", self.started)
            self.end_request(time.monotonic())
            self.pause = 0
        else:  # HTTP allows a retry where a kept-alive connection closed before the reply
            self.count("reconnects", self.started)
        self.reply, self.total = b"", 0
        self.stopped.set_result(None)

    def end_request(self, now: float) -> None:
        self.in_hand, self.reply, self.total = False, b"", 0
        if not self.is_probe:
            self.run.last = max(self.run.begin, now)

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self.run.received

    def buffer_updated(self, nbytes: int) -> None:
        if self.stopped.done():  # unsolicited, such as a 408: the connection is useless now
            self.count("reconnects", time.monotonic())
            self.close()
            return
        self.reply += self.run.received[:nbytes]
        try:
            if not self.total and b"\r\n\r\n" in self.reply:
                self.read_head()
            if 0 < self.total <= len(self.reply):
                self.end_reply(time.monotonic())
        except ValueError:
            error = f"not a reply that can be read here, to {self.requests[self.index]!r}: {self.reply!r}"
            self.stopped.set_exception(ValueError(error))

    def read_head(self) -> None:
        self.body_at = self.reply.index(b"\r\n\r\n") + 4
        head = self.reply[: self.body_at - 2].lower()
        self.status = int(head[9:12])
        length = 0 if self.status in (204, 304) else int(_value(head, b"\r\ncontent-length:"))
        self.total = self.body_at + length
        connection, after = _value(head, b"\r\nconnection:"), _value(head, b"\r\nretry-after:")
        self.closes = connection == b"close" or (head.startswith(b"http/1.0") and connection != b"keep-alive")
        self.pause = int(after) if self.run.plan.honour_retry_after and after.isdigit() else 0

    def end_reply(self, now: float) -> None:
        if len(self.reply) > self.total:
            raise ValueError("more than its Content-Length")
        body = self.reply[self.body_at :] if self.run.plan.keep_bodies else b""
        self.replies.append((self.started, now, self.status, self.index, body))
        self.is_new = False
        self.end_request(now)
        if self.closes or self.unsent or (self.is_probe and self.run.plan.probe_new_connection):
            self.close()
        if self.transport and not self.pause and not self.is_probe and self.take():
            self.transport.write(self.requests[self.index])
        else:
            self.stopped.set_result(None)


def _value(head: bytes, name: bytes) -> bytes:
    at = head.find(name)
    return head[at + len(name) : head.index(b"\r", at + 2)].strip() if at >= 0 else b""


def _request(method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    entity = {"content-type": "application/json", "content-length": len(body)} if method != "GET" else {}
    named = {"host": "127.0.0.1", **entity, **{name.lower(): value for name, value in headers.items()}}
    lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body


async def _carry_out(plan: Plan) -> Result:
    cpu_s, run = time.thread_time(), _Run(plan)
    requests = [_request(plan.method, plan.path, plan.headers, body) for body in plan.bodies]
    clients = [_Client(run, requests, i * len(requests) // plan.clients) for i in range(plan.clients)]
    if plan.probe_path:
        close = {"connection": "close"} if plan.probe_new_connection else {}
        clients.append(_Client(run, [_request("GET", plan.probe_path, {**plan.headers, **close})], is_probe=True))
    tasks = pending = {asyncio.create_task(client.live()) for client in clients}
    try:
        while pending and time.monotonic() < max(run.last, run.end if plan.requests is None else 0) + plan.patience_s:
            done, pending = await asyncio.wait(pending, timeout=0.25, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        for client in clients:
            client.count("unanswered", client.started if client.in_hand and client.transport else -math.inf)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    cpu_s = time.thread_time() - cpu_s
    replies, probed = ([reply for reply in replies if reply[0] >= run.begin] for replies in run.replies)
    in_time = sum(status == 200 and run.begin <= came <= run.end for _, came, status, *_ in run.replies[0])
    latencies, started_s = defaultdict(list), defaultdict(list)
    for started, came, status, *_ in replies:
        latencies[status].append((came - started) * 1000)
        started_s[status].append(started - run.begin)
    seconds = plan.seconds if plan.requests is None else run.last - run.begin
    return Result(
        *(seconds, run.begin, dict(latencies), dict(started_s), in_time),
        **cast(dict[str, Any], run.events[0]),
        cpu_s=cpu_s,
        answers=[(index, status, body) for _, _, status, index, body in replies] if plan.keep_bodies else [],
        probe_ms=[(came - started) * 1000 for started, came, *_ in probed],
        probe_statuses=dict(Counter(status for _, _, status, *_ in probed)),
        probe_lost=run.events[1].total() - run.events[1]["connections"] - run.events[1]["reconnects"],
    )


def run(plan: Plan) -> Result:
    """Carry out `plan` in this thread."""
    return asyncio.run(_carry_out(plan))


def run_in_child(plan: Plan, within: Sequence[str] = ()) -> Result:
    """Carry out `plan` in a process of its own, independent of this process's threads.

    within: a prefix that runs the command in another place, as `nsenter` does.
    """
    command = [*within, sys.executable, "-m", "tests.support.load"]
    done = subprocess.run(command, cwd=ROOT, input=_to_json(plan), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the load generator failed:\n{done.stderr}")
    result = json.loads(done.stdout)
    for name in ("latencies_ms", "started_s", "probe_statuses"):
        result[name] = {int(status): value for status, value in result[name].items()}
    result["answers"] = [(index, status, body.encode("latin-1")) for index, status, body in result["answers"]]
    return Result(**result)


def _to_json(of: Plan | Result) -> str:  # bytes become text of the same code points
    return json.dumps(
        vars(of), default=lambda value: value.decode("latin-1") if isinstance(value, bytes) else dict(value)
    )


def main() -> None:
    """Carry out the plan in the arguments, or without arguments the plan on standard input."""
    if len(sys.argv) == 1:
        plan = json.load(sys.stdin)
        print(_to_json(run(Plan(**{**plan, "bodies": [body.encode("latin-1") for body in plan["bodies"]]}))))
        return
    parser = argparse.ArgumentParser(description="Load a server on this machine; the last line is a summary in JSON.")
    parser.add_argument("--body-file", type=Path, help="one JSON body per line")
    parser.add_argument("--header", action="append", default=[], metavar="NAME:VALUE")
    for setting in fields(Plan):
        flag, kind = "--" + setting.name.replace("_", "-"), str(setting.type).split(" ")[0]
        if kind == "bool":
            parser.add_argument(flag, action="store_true")
        elif kind in ("int", "float", "str"):
            default, of = setting.default, {"int": int, "float": float, "str": str}[kind]
            parser.add_argument(flag, type=of, default=default, required=default is MISSING)
    args = vars(parser.parse_args())
    body_file, headers = args.pop("body_file"), args.pop("header")
    bodies = body_file.read_bytes().splitlines() if body_file else [b""]
    headers = {name.strip(): value.strip() for name, _, value in (header.partition(":") for header in headers)}
    print(json.dumps(run(Plan(**args, bodies=bodies, headers=headers)).summary()))


if __name__ == "__main__":
    main()
