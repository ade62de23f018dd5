"""Rows per second of a table on this machine, on Apache Spark and on Ray, with one core and with two.

    python -m benchmarks.bulk.clusters --bundle BUNDLE --data FILE.csv

Runs where pyspark and ray are installed. Spark: a standalone cluster on loopback with workers of one core each. Ray:
nodes of one CPU on loopback. A table of a few rows gives the time that everything needs to start, without Spark's
cluster; the rate is that of the other rows of the whole table.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import record
from tests.bulk.spark_cluster import standalone
from tests.support.server import ROOT

ROUNDS = 2
FEW = 2_048  # a batch per core, so that each loads its model
RAY = """
import sys
import ray
from ray.cluster_utils import Cluster
from bulk.ray import score
from bulk.scoring import ScoreOptions

bundle, data, column, nodes, target = sys.argv[1:]
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
for _ in range(int(nodes) - 1):
    cluster.add_node(num_cpus=1)
cluster.wait_for_nodes()
ray.init(address=cluster.address, log_to_driver=False)
dataset = ray.data.read_csv(data).repartition(32)
score(dataset, bundle, ScoreOptions(column)).write_parquet(target)
ray.shutdown()
cluster.shutdown()
"""


def _local(bundle: Path, data: Path, column: str, cores: int, folder: Path) -> float:
    return _timed([*_line(sys.executable, bundle, data, column, folder), "--processes", str(cores)], folder, {})


def _spark(bundle: Path, data: Path, column: str, cores: int, folder: Path) -> float:
    with standalone(sys.executable, folder, workers=cores) as cluster:
        line = [*_line(sys.executable, bundle, data, column, folder), "--spark", cluster.master]
        return _timed(line, folder, cluster.env)


def _ray(bundle: Path, data: Path, column: str, cores: int, folder: Path) -> float:
    given = [str(one) for one in (bundle, data, column, cores, folder / "scored")]
    return _timed([sys.executable, "-c", RAY, *given], folder, {})


def _line(python: str, bundle: Path, data: Path, column: str, folder: Path) -> list[str]:
    given = ("--model", bundle, "--text-column", column, "--output", folder / "scored.parquet", "--quiet")
    return [python, "-m", "bulk", str(data), *map(str, given)]


def _timed(line: list[str], folder: Path, env: dict[str, str]) -> float:
    begun = time.perf_counter()
    whole = dict(os.environ) | env | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(line, cwd=folder, env=whole, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{line[:4]}: {done.stderr[-2000:]}")
    return time.perf_counter() - begun


ENGINES: dict[str, Callable[[Path, Path, str, int, Path], float]] = {
    "inferer predict": _local, "Spark": _spark, "Ray Data": _ray,
}  # fmt: skip


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description="Rows per second on one core and on two, here and on clusters.")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="texts: a CSV file without line breaks in its cells")
    parser.add_argument("--text-column", default="text")
    args = parser.parse_args()
    lines = args.data.read_text(encoding="utf-8").splitlines(keepends=True)
    rows = len(lines) - 1
    starts: dict[str, list[float]] = {}
    rates: dict[str, list[float]] = {}
    for number in range(ROUNDS):
        for name, run in ENGINES.items():
            for cores in (1, 2):
                took = []
                for part in (FEW, rows):
                    with tempfile.TemporaryDirectory() as scratch:
                        data = Path(scratch) / "rows.csv"
                        data.write_text("".join(lines[: part + 1]), encoding="utf-8")
                        took.append(run(args.bundle.resolve(), data, args.text_column, cores, Path(scratch)))
                starts.setdefault(f"{name}, {cores}", []).append(took[0])
                rates.setdefault(f"{name}, {cores}", []).append((rows - FEW) / (took[1] - took[0]))
                told = f"{rates[f'{name}, {cores}'][-1]:,.0f} rows per second after {took[0]:.1f} s"
                print(f"round {number + 1}, {name} on {cores}: {told}", flush=True)
    medians = {name: statistics.median(found) for name, found in rates.items()}
    start = {name: statistics.median(found) for name, found in starts.items()}
    scaling = {name: medians[f"{name}, 2"] / medians[f"{name}, 1"] for name in ENGINES}
    result = record.new("clusters", data=args.data.name, rows=rows, rows_per_second=medians, start_s=start)
    record.write(result | {"two_over_one": scaling})


if __name__ == "__main__":
    main()
