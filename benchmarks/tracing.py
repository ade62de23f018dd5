"""Benchmark of tracing: requests per second with all traces, with a tenth of them, and without.

Texts of 9 to 20 tokens, 32 clients and one, on real gunicorns that share the machine with the load and with receivers
of OTLP over HTTP in processes of their own. The services take turns; medians, the ratio of requests per second within
each turn, the CPU time of the worker per request, and the share of requests whose spans all arrived.

    python -m benchmarks.tracing --bundle models/query_type
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks import record
from benchmarks.repeated import bodies
from tests.service.telemetry.collector import collecting
from tests.support.load import Plan, Result, run_in_child
from tests.support.server import Server, serving, workers

CLIENTS = (1, 32)
SAMPLED = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1"}
MODES: dict[str, dict[str, str] | None] = {"off": None, "a tenth": SAMPLED, "all": {}}
ARRIVE_S = 6  # the exporter sends a last batch every 5 s
SPANS = {"POST /predict", "tokenize", "queue", "infer"}


def _receive(pipe: Connection) -> None:
    with collecting() as collector:
        pipe.send(collector.url)
        while pipe.recv():
            pipe.send(sum({span.name for span in spans} == SPANS for spans in collector.traces.values()))


class Receiver:
    """A receiver of spans in another process."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self.url: str = pipe.recv()

    def whole(self) -> int:
        """Return the number of requests whose spans have all arrived."""
        self._pipe.send(True)
        found: int = self._pipe.recv()
        return found


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Run a receiver."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_receive, args=(theirs,))
    process.start()
    try:
        yield Receiver(ours)
    finally:
        ours.send(False)
        process.join()


def cpu_seconds(server: Server) -> float:
    """Return the CPU time of the workers so far."""
    ticks = 0
    for pid in workers(server):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])  # utime and stime, by proc(5)
    return ticks / os.sysconf("SC_CLK_TCK")


def measure(bundle: Path, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Return a row per number of clients and mode."""
    load = bodies(0)["all different"]
    found: dict[tuple[int, str], list[tuple[Result, float]]] = {}
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(tqdm(total=rounds * len(CLIENTS) * len(MODES), unit="run"))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers, receivers = {}, {}
        for mode, setting in MODES.items():
            receivers[mode] = stack.enter_context(receiving())
            given = {} if setting is None else {"OTEL_EXPORTER_OTLP_ENDPOINT": receivers[mode].url, **setting}
            servers[mode] = stack.enter_context(serving(bundle, folder / f"{mode}.log", **given))
        for number in range(rounds):
            for clients in CLIENTS:
                for mode in random.Random(number).sample(sorted(MODES), len(MODES)):
                    before = cpu_seconds(servers[mode])
                    result = run_in_child(Plan(servers[mode].port, clients, seconds, load))
                    if set(result.statuses) != {200}:
                        raise SystemExit(f"replies: {result.statuses}")
                    cpu = (cpu_seconds(servers[mode]) - before) / result.statuses[200]
                    found.setdefault((clients, mode), []).append((result, cpu))
                    bar.update()
        time.sleep(ARRIVE_S)
        whole = {mode: receiver.whole() for mode, receiver in receivers.items()}
    requests = {
        mode: sum(result.statuses[200] for clients in CLIENTS for result, _ in found[clients, mode]) for mode in MODES
    }
    return [
        {
            "clients": clients,
            "traces": mode,
            "per_s": statistics.median(result.throughput() for result, _ in runs),
            "p50_ms": statistics.median(result.percentile(50) for result, _ in runs),
            "p99_ms": statistics.median(result.percentile(99) for result, _ in runs),
            "ratio": statistics.median(
                result.throughput() / without.throughput()
                for (result, _), (without, _) in zip(runs, found[clients, "off"], strict=True)
            ),
            "cpu_ms": statistics.median(cpu for _, cpu in runs) * 1000,
            "arrived": whole[mode] / requests[mode],
        }
        for (clients, mode), runs in found.items()
    ]


def report(rows: list[dict[str, Any]]) -> None:
    """Print the table for a person."""
    names = f"{'per s':>8} {'ratio':>6} {'p50 ms':>7} {'p99 ms':>7} {'CPU ms':>7} {'arrived':>8}"
    print(f"{'clients':>7} {'traces':>8} {names}")
    for row in rows:
        print(
            f"{row['clients']:7} {row['traces']:>8} {row['per_s']:8.0f} {row['ratio']:6.3f} "
            f"{row['p50_ms']:7.2f} {row['p99_ms']:7.2f} {row['cpu_ms']:7.3f} {row['arrived']:8.1%}"
        )


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description="The cost of traces.")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a load (4)")
    parser.add_argument("--no-file", action="store_true", help="print the result without writing it to a file")
    args = parser.parse_args()
    rows = measure(args.bundle, args.rounds, args.seconds)
    report(rows)
    result = record.new("tracing", rounds=args.rounds, seconds=args.seconds, rows=rows)
    print(json.dumps(result)) if args.no_file else record.write(result)


if __name__ == "__main__":
    main()
