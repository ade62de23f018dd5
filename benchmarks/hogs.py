"""Benchmark of fairness: a small client and health beside clients that send the worst texts that the limits allow.

Real gunicorn with the default settings. The small client sends texts of 16 tokens one after another on one connection;
health is asked every 50 ms on another. One hog or four send one kind of body without a pause. One more client sends the
same body with `X-Request-Timeout-Ms: 100`: `late_ms` is how long after such a deadline a reply came at most, by the log
of the service. The load runs in processes of its own on the same machine, so the small client pays for the generator
too: compare two versions of the service on one idle machine only, and take a few seconds per kind for an order of
magnitude.

The last line is JSON; benchmarks/results/hogs.json has the whole.

    python -m benchmarks.hogs --bundle models/query_type
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks import record
from tests.service.process.attacks.hogs import HOGS, Hog
from tests.support.load import Plan, Result, run_in_child
from tests.support.server import Server, serving

COUNTS = (1, 4)
TIMEOUT_MS = 100
SMALL = json.dumps({"text": "where is the nearest station and when does it open"}).encode()


def measure(server: Server, seconds: float, hog: Hog | None = None, hogs: int = 0) -> dict[str, Any]:
    """Return the figures of the small client, of health and of the hurried client beside `hogs` clients of one kind."""

    def load(clients: int, ahead_s: float, path: str, body: bytes, **options: Any) -> Result:
        plan = Plan(server.port, clients, seconds + 2 * ahead_s, [body], path, patience_s=60, **options)
        return run_in_child(plan)

    name = f"{hog.name if hog else ''}-{hogs}"
    headers: Mapping[str, str] = {"X-Request-Timeout-Ms": str(TIMEOUT_MS), "X-Request-Id": name}
    with ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(load, 1, 0, "/predict", SMALL, warm_up_s=1, probe_path="/health/live", probe_every_s=0.05)]
        if hog is not None:
            jobs.append(pool.submit(load, hogs, 1, hog.path, hog.body))
            jobs.append(pool.submit(load, 1, 0, hog.path, hog.body, warm_up_s=1, headers=headers))
        small, *rest = [job.result() for job in jobs]
    found = {
        "hog": hog.name if hog else "none",
        "hogs": hogs,
        "p50_ms": small.percentile(50),
        "p99_ms": small.percentile(99),
        "per_s": small.throughput(),
        "health_max_ms": max(small.probe_ms),
        "other_statuses": {status: count for status, count in small.statuses.items() if status != 200},
    }
    if rest:
        found["hog_statuses"] = rest[0].statuses
        took = [line["duration_ms"] for line in server.logged() if line.get("request_id") == name]
        found["late_ms"] = max(took) - TIMEOUT_MS if took else None
    return found


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def report(rows: list[dict[str, Any]]) -> None:
    """Print the table for a person."""
    print(f"{'hogs':<22} {'p50 ms':>8} {'p99 ms':>8} {'per s':>7} {'health max':>11} {'late ms':>8}  replies to hogs")
    for row in rows:
        name = f"{row['hogs']} x {row['hog']}" if row["hogs"] else "none"
        print(
            f"{name:<22} {row['p50_ms']:8.1f} {row['p99_ms']:8.1f} {row['per_s']:7.0f} {row['health_max_ms']:11.1f} "
            f"{_ms(row.get('late_ms')):>8}  {row.get('hog_statuses', '')}"
        )


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description="A small client beside clients that send the worst texts.")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a measurement (10)")
    parser.add_argument("--kinds", nargs="+", choices=list(HOGS), default=list(HOGS))
    parser.add_argument("--no-file", action="store_true", help="print the result without writing it to a file")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder, serving(args.bundle, Path(folder) / "log") as server:
        rows.append(measure(server, args.seconds))
        for name in tqdm(args.kinds, unit="kind"):
            rows += [measure(server, args.seconds, HOGS[name], count) for count in COUNTS]
    report(rows)
    result = record.new("hogs", seconds=args.seconds, timeout_ms=TIMEOUT_MS, rows=rows)
    print(json.dumps(result)) if args.no_file else record.write(result)


if __name__ == "__main__":
    main()
