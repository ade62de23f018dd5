"""Benchmark of the answer cache under a Zipf-distributed load, and under texts that never repeat.

Texts of 9 to 20 tokens drawn from a Zipf distribution over a vocabulary of texts, 32 clients and one, on real gunicorns
that share the machine with the load; rounds take turns, medians. The share of hits is that of /metrics. Texts that
never repeat show the cost of a cache without hits.

    python -m benchmarks.repeated --bundle models/query_type
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client.parser import text_string_to_metric_families
from tqdm import tqdm

from benchmarks import record
from tests.support.load import Plan, Result, run_in_child
from tests.support.server import Server, serving

TEXTS, DRAWS, EXPONENT = 20_000, 40_000, 1.0
CACHE_BYTES = {"off": 0, "1 MB": 1_000_000, "16 MB": 16_000_000}
CLIENTS = (1, 32)
WORDS = "milk bread soap tea red blue small large fresh dry shop bag pack box best cheap new old green sweet"


def bodies(seed: int) -> dict[str, list[bytes]]:
    """Return the bodies of each load: Zipf-distributed texts, and texts that are all different."""
    rng = random.Random(seed)
    texts = [
        f"{number} {' '.join(rng.choices(WORDS.split(), k=rng.randint(6, 17)))}" for number in range(TEXTS + DRAWS)
    ]
    weights = 1 / np.arange(1, TEXTS + 1) ** EXPONENT
    drawn = np.random.default_rng(seed).choice(TEXTS, DRAWS, p=weights / weights.sum())
    loads = {"Zipf": [texts[i] for i in drawn], "all different": texts[TEXTS:]}
    return {name: [json.dumps({"text": text}).encode() for text in load] for name, load in loads.items()}


def hits(server: Server) -> tuple[float, float]:
    """Return the texts found in the cache, and all texts, since the start of the service."""
    text = server.request("GET", "/metrics").body.decode()
    found = {
        sample.labels["outcome"]: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "inferer_cache_texts_total"
    }
    return found["hit"], found["hit"] + found["miss"]


def measure(bundle: Path, rounds: int, seconds: float) -> list[dict[str, Any]]:
    """Return a row per load, number of clients and size of the cache."""
    loads = bodies(0)
    found: dict[tuple[str, int, str], list[tuple[Result, float]]] = {}
    cells = [(load, clients) for load in loads for clients in CLIENTS]
    with tqdm(total=rounds * len(cells) * len(CACHE_BYTES), unit="run") as bar, tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            for load, clients in cells:
                for size in random.Random(number).sample(sorted(CACHE_BYTES), len(CACHE_BYTES)):
                    setting = {"INFERER_CACHE_BYTES": str(CACHE_BYTES[size])}
                    with serving(bundle, Path(folder) / "log", **setting) as server:  # a new one: the cache is empty
                        result = run_in_child(Plan(server.port, clients, seconds, loads[load], warm_up_s=1))
                        if set(result.statuses) != {200}:
                            raise SystemExit(f"replies: {result.statuses}")
                        known, texts = hits(server)
                    found.setdefault((load, clients, size), []).append((result, known / texts if texts else 0.0))
                    bar.update()
    return [
        {
            "load": load,
            "clients": clients,
            "cache": size,
            "per_s": statistics.median(result.throughput() for result, _ in runs),
            "p50_ms": statistics.median(result.percentile(50) for result, _ in runs),
            "p99_ms": statistics.median(result.percentile(99) for result, _ in runs),
            "hits": statistics.median(share for _, share in runs),
        }
        for (load, clients, size), runs in found.items()
    ]


def _cell(row: dict[str, Any]) -> tuple[str, int, str]:
    return row["load"], row["clients"], row["cache"]


def report(rows: list[dict[str, Any]]) -> None:
    """Print the table for a person."""
    print(f"{'load':<14} {'clients':>7} {'cache':>6} {'per s':>8} {'ratio':>6} {'p50 ms':>7} {'p99 ms':>7} {'hits':>6}")
    for row in rows:
        without = next(one["per_s"] for one in rows if _cell(one) == _cell({**row, "cache": "off"}))
        print(
            f"{row['load']:<14} {row['clients']:7} {row['cache']:>6} {row['per_s']:8.0f} {row['per_s'] / without:6.2f} "
            f"{row['p50_ms']:7.2f} {row['p99_ms']:7.2f} {row['hits']:6.1%}"
        )


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description="Repeated texts, with the cache of answers and without.")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0, help="length of a load (8)")
    parser.add_argument("--no-file", action="store_true", help="print the result without writing it to a file")
    args = parser.parse_args()
    rows = measure(args.bundle, args.rounds, args.seconds)
    report(rows)
    result = record.new("repeated", texts=TEXTS, exponent=EXPONENT, rounds=args.rounds, seconds=args.seconds, rows=rows)
    print(json.dumps(result)) if args.no_file else record.write(result)


if __name__ == "__main__":
    main()
