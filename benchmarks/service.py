"""Benchmark of throughput and latency over HTTP: real gunicorns on this machine, which the load shares.

For MiniLM-L6 (the demo) and BERT-base with random weights, texts of 16 tokens, the load from a process of its own:
- 32 clients: batching on, batching off, two processes with one thread each; interleaved, medians;
- by the number of clients, 1 to 256: with the default cap in flight, by clients that honour Retry-After, and with a cap
  above all of them;
- one client, 10 tokens, against `ModelInferer.predict` in this process, call by call in turn;
- overload: ten times the clients that saturate (32 at least), retrying at once: statuses, resets, p99 of the accepted
  against p99 at saturation, p99 of /health/live, and the first two seconds after.

The last line is JSON; benchmarks/results/service.json has the whole.

    python -m benchmarks.service --bundle models/query_type --checkpoint checkpoints/query_type
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import socket
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks import record
from benchmarks.bert_base import bert_base_bundle
from benchmarks.latency import text_of
from inferer import ModelInferer
from tests.support.load import Plan, Result, run_in_child
from tests.support.server import Server, serving

TOKENS, LONE_TOKENS = 16, 10
CLIENTS = 32
COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
SETTINGS = {
    "on": {},
    "off": {"INFERER_BATCHING": "off"},
    "two_processes": {"INFERER_WORKERS": "2"},
    "cap_300": {"INFERER_MAX_IN_FLIGHT": "300"},
}
LONE_ROUNDS = 500


class Bench:
    """The servers of one model, and the texts for them."""

    def __init__(self, bundle: Path, seconds: float, stack: contextlib.ExitStack) -> None:
        self.seconds = seconds
        self.model = ModelInferer(bundle)
        self.text, self.lone_text = text_of(self.model, TOKENS), text_of(self.model, LONE_TOKENS)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self.servers: dict[str, Server] = {
            name: stack.enter_context(serving(bundle, folder / name, **settings)) for name, settings in SETTINGS.items()
        }

    def load(self, name: str, clients: int, seconds: float | None = None, **options: Any) -> Result:
        """Return the results of `clients` on the server `name`."""
        body = json.dumps({"text": self.text}).encode()
        plan = Plan(self.servers[name].port, clients, seconds or self.seconds, [body], warm_up_s=1.0, **options)
        return run_in_child(plan)

    def clients_32(self, rounds: int) -> dict[str, Any]:
        """Return texts per second, p50 and p99 of each setting, medians over rounds."""
        found: dict[str, list[Result]] = {name: [] for name in ("on", "off", "two_processes")}
        order = list(found)
        shuffler = random.Random(0)
        for _ in tqdm(range(rounds), unit="round", desc="32 clients"):
            shuffler.shuffle(order)
            for name in order:
                found[name].append(self.load(name, CLIENTS))
        return {
            name: {
                "texts_a_second": statistics.median(r.throughput() for r in results),
                "p50_ms": statistics.median(r.percentile(50) for r in results),
                "p99_ms": statistics.median(r.percentile(99) for r in results),
            }
            for name, results in found.items()
        }

    def by_clients(self, rounds: int) -> dict[str, dict[str, float]]:
        """Return texts per second by the number of clients, medians over rounds up and down."""
        found: dict[str, dict[int, list[float]]] = {name: {n: [] for n in COUNTS} for name in ("on", "cap_300")}
        for turn in tqdm(range(rounds), unit="round", desc="by clients"):
            for clients in COUNTS if turn % 2 == 0 else reversed(COUNTS):
                for name in found:
                    result = self.load(name, clients, honour_retry_after=True)
                    found[name][clients].append(result.throughput())
        return {
            name: {str(clients): statistics.median(values) for clients, values in by.items()}
            for name, by in found.items()
        }

    def lone(self) -> dict[str, float]:
        """Return the median ms of one text by `predict` here and by HTTP, in turn, by a client of a few µs."""
        body = json.dumps({"text": self.lone_text}).encode()
        head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        request = head.encode() + b"\r\n\r\n" + body
        times: dict[str, list[float]] = {"predict": [], "http": []}
        with socket.create_connection(("127.0.0.1", self.servers["on"].port)) as client:
            for turn in range(LONE_ROUNDS + 50):
                started = time.perf_counter()
                self.model.predict(self.lone_text)
                between = time.perf_counter()
                client.sendall(request)
                reply = client.recv(65536)
                while not reply.endswith(b"}"):  # head and body may arrive apart
                    reply += client.recv(65536)
                ended = time.perf_counter()
                if not reply.startswith(b"HTTP/1.1 200 "):
                    raise SystemExit(f"the service answered {reply[:200]!r}")
                if turn >= 50:
                    times["predict"].append((between - started) * 1000)
                    times["http"].append((ended - between) * 1000)
        return {name: statistics.median(values) for name, values in times.items()}

    def overload(self, saturating: int, seconds: float) -> dict[str, Any]:
        """Return the results of ten times `saturating` clients, of `saturating` before, and of one client after."""
        probe = {"probe_path": "/health/live", "probe_every_s": 0.02}
        before = self.load("on", saturating, 10, **probe)
        alone_before = self.load("on", 1, 2)
        over = self.load("on", 10 * saturating, seconds, **probe)
        body = json.dumps({"text": self.text}).encode()
        after = run_in_child(Plan(self.servers["on"].port, 1, 2, [body]))

        def probe_p99(result: Result) -> float:
            return sorted(result.probe_ms)[int(0.99 * len(result.probe_ms))]

        return {
            "clients": 10 * saturating,
            "seconds": seconds,
            "statuses": over.statuses,
            "resets": over.resets,
            "unanswered": over.unanswered,
            "refused": over.refused,
            "texts_a_second_at_saturation": before.throughput(),
            "texts_a_second": over.throughput(),
            "p99_ms_at_saturation": before.percentile(99),
            "p99_ms": over.percentile(99),
            "p99_ms_429": over.percentile(99, 429) if 429 in over.statuses else None,
            "health_p99_ms_at_saturation": probe_p99(before),
            "health_p99_ms": probe_p99(over),
            "health_lost": over.probe_lost,
            "lone_p50_ms_before": alone_before.percentile(50),
            "lone_p50_ms_within_2_s_after": after.percentile(50),
            "lone_max_ms_within_2_s_after": after.percentile(100),
            "statuses_after": after.statuses,
        }


def saturating_clients(by_clients: dict[str, float]) -> int:
    """Return the smallest number of clients, CLIENTS at least, that gets 95 % of the highest throughput of these.

    Two clients may saturate two CPUs, and twenty overload nothing.
    """
    rates = {int(clients): rate for clients, rate in by_clients.items() if int(clients) >= CLIENTS}
    return min(clients for clients, rate in rates.items() if rate >= 0.95 * max(rates.values()))


def worst_fall(by_clients: dict[str, float]) -> float:
    """Return the lowest throughput from the peak's number of clients on, over the peak."""
    peak = max(by_clients, key=lambda clients: by_clients[clients])
    return min(rate for clients, rate in by_clients.items() if int(clients) >= int(peak)) / by_clients[peak]


def report(name: str, found: dict[str, Any]) -> None:
    """Print the figures of one model for a person."""
    at_32, lone, over = found["clients_32"], found["lone_ms"], found["overload"]
    on = at_32["on"]["texts_a_second"]
    print(f"{name}: {CLIENTS} clients, {TOKENS} tokens")
    for setting, figures in at_32.items():
        rate, p50, p99 = figures["texts_a_second"], figures["p50_ms"], figures["p99_ms"]
        print(f"  {setting:14} {rate:7.1f} texts/s  p50 {p50:6.1f} ms  p99 {p99:6.1f} ms  on/this {on / rate:.2f}")
    for setting, by in found["by_clients"].items():
        print(f"  {setting}: " + "  ".join(f"{clients}: {rate:.0f}" for clients, rate in by.items()), end="")
        print(f"  lowest after the peak {worst_fall(by):.2f}")
    print(f"  one client, {LONE_TOKENS} tokens: predict {lone['predict']:.2f} ms, HTTP adds ", end="")
    print(f"{lone['http'] - lone['predict']:.2f} ms")
    ratio = over["p99_ms"] / over["p99_ms_at_saturation"]
    print(f"  overload, {over['clients']} clients for {over['seconds']} s: {over['statuses']}, {over['resets']} resets")
    late, health = over["p99_ms_429"] or 0, over["health_p99_ms"]
    print(f"    p99 {over['p99_ms']:.0f} ms, {ratio:.2f} times saturation's; 429 {late:.0f} ms; health {health:.0f} ms")
    print(f"    texts/s {over['texts_a_second']:.0f}, at saturation {over['texts_a_second_at_saturation']:.0f}")
    print(f"    one client {over['lone_p50_ms_before']:.1f} ms before, ", end="")
    print(f"{over['lone_p50_ms_within_2_s_after']:.1f} in the 2 s after, {over['statuses_after']}")


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description="Throughput and latency over HTTP.")
    parser.add_argument("--bundle", type=Path, required=True, help="the demo bundle")
    parser.add_argument("--checkpoint", type=Path, required=True, help="the source of BERT-base's tokenizer")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--overload-seconds", type=float, default=30.0)
    parser.add_argument("--models", nargs="+", default=["MiniLM-L6", "BERT-base"])
    args = parser.parse_args()
    result = record.new("service", tokens=TOKENS, models={})
    for name in args.models:
        bundle = args.bundle if name == "MiniLM-L6" else bert_base_bundle(args.checkpoint)
        with contextlib.ExitStack() as stack:
            bench = Bench(bundle, args.seconds, stack)
            found: dict[str, Any] = {"lone_ms": bench.lone(), "clients_32": bench.clients_32(args.rounds)}
            found["by_clients"] = bench.by_clients(max(2, args.rounds // 2))
            saturating = saturating_clients(found["by_clients"]["cap_300"])
            found["overload"] = bench.overload(saturating, args.overload_seconds)
        result["models"][name] = found
        report(name, found)
    record.write(result)


if __name__ == "__main__":
    main()
