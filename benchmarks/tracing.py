"""Benchmark of tracing: requests per second with all traces, with a tenth of them, and without.

Texts of 9 to 20 tokens, 32 clients and one, on real gunicorns that share the machine with the load and with a receiver
of OTLP over HTTP, which has a process of its own; rounds take turns, medians. The receiver counts the requests whose
spans all arrived. A receiver on another machine would cost less.

    python -m benchmarks.tracing --bundle models/query_type
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks import record
from benchmarks.repeated import bodies
from tests.support.collector import collecting
from tests.support.load import Plan, Result, run_in_child
from tests.support.server import serving

CLIENTS = (1, 32)
SAMPLED = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.1"}
MODES: dict[str, dict[str, str] | None] = {"off": None, "a tenth": SAMPLED, "all": {}}
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


def measure(bundle: Path, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Return a row per number of clients and mode."""
    load = bodies(0)["all different"]
    found: dict[tuple[int, str], list[tuple[Result, float]]] = {}
    with tqdm(total=rounds * len(CLIENTS) * len(MODES), unit="run") as bar, tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            for clients in CLIENTS:
                for mode in random.Random(number).sample(sorted(MODES), len(MODES)):
                    with receiving() as receiver:
                        setting = MODES[mode]
                        given = {} if setting is None else {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, **setting}
                        with serving(bundle, Path(folder) / "log", **given) as server:
                            result = run_in_child(Plan(server.port, clients, seconds, load))
                        if set(result.statuses) != {200}:
                            raise SystemExit(f"replies: {result.statuses}")
                        share = receiver.whole() / result.statuses[200]
                    found.setdefault((clients, mode), []).append((result, share))
                    bar.update()
    return [
        {
            "clients": clients,
            "traces": mode,
            "per_s": statistics.median(result.throughput() for result, _ in runs),
            "p50_ms": statistics.median(result.percentile(50) for result, _ in runs),
            "p99_ms": statistics.median(result.percentile(99) for result, _ in runs),
            "ratios": [
                result.throughput() / without.throughput()
                for (result, _), (without, _) in zip(runs, found[clients, "off"], strict=True)
            ],
            "arrived": statistics.median(share for _, share in runs),
        }
        for (clients, mode), runs in found.items()
    ]


def report(rows: list[dict[str, Any]]) -> None:
    """Print the table for a person."""
    print(f"{'clients':>7} {'traces':>8} {'per s':>8} {'ratio':>6} {'p50 ms':>7} {'p99 ms':>7} {'arrived':>8}")
    for row in rows:
        print(
            f"{row['clients']:7} {row['traces']:>8} {row['per_s']:8.0f} {statistics.median(row['ratios']):6.3f} "
            f"{row['p50_ms']:7.2f} {row['p99_ms']:7.2f} {row['arrived']:8.1%}"
        )


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description="The cost of traces.")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=6.0, help="length of a load (6)")
    parser.add_argument("--no-file", action="store_true", help="print the result without writing it to a file")
    args = parser.parse_args()
    rows = measure(args.bundle, args.rounds, args.seconds)
    report(rows)
    result = record.new("tracing", rounds=args.rounds, seconds=args.seconds, rows=rows)
    print(json.dumps(result)) if args.no_file else record.write(result)


if __name__ == "__main__":
    main()
