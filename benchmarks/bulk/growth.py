"""Benchmark of growth: rows per second of `inferer predict TABLE` as the file and the number of CPUs grow.

The command runs whole, with its start, reading and writing, so that a small file shows the cost of the start. The CPUs
are those that the process may run on. In turns in random order, medians.

It would be unfair to read the rate of more CPUs than the machine has cores (two threads of one core share its units),
or to compare runs: the machine's speed changes within hours.

The last line is JSON; benchmarks/results/tables-growth.json has the whole.

    python -m benchmarks.bulk.growth --bundle models/query_type --data reviews.csv
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
import random
import statistics
import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks import record
from benchmarks.bulk.tables import command_line

ROWS = (100, 1_000, 10_000, 40_000)
ROUNDS = 3


def cpu_counts() -> list[int]:
    """Return 1, 2, 4, … up to the number of CPUs of this process, and that."""
    most = len(os.sched_getaffinity(0))
    return sorted({most, *itertools.takewhile(lambda count: count < most, (2**power for power in range(20)))})


def write_table(data: Path, column: str, rows: int, folder: Path) -> Path:
    """Write a table of `rows` texts from `data`; where it has fewer, they come again with a number in front."""
    with data.open(encoding="utf-8", newline="") as file:
        texts = [row[column] for row in csv.DictReader(file)]
    table = folder / f"{rows}.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text"])
        for number in range(rows):
            turn, place = divmod(number, len(texts))
            writer.writerow([f"{turn} {texts[place]}" if turn else texts[place]])  # an equal text costs nothing
    return table


def seconds(bundle: Path, table: Path, cpus: int) -> float:
    """Return the seconds of the command on `table` with `cpus` CPUs."""
    chosen = sorted(os.sched_getaffinity(0))[:cpus]
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        subprocess.run(
            command_line(bundle, table, "text", Path(folder)),
            check=True,
            preexec_fn=partial(os.sched_setaffinity, 0, chosen),
        )
        return time.perf_counter() - start


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description="Rows per second of tables by size and by CPUs.")
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="texts: a CSV file")
    parser.add_argument("--text-column", default="text")
    parser.add_argument("--rows", type=int, nargs="+", default=list(ROWS))
    args = parser.parse_args()
    counts = cpu_counts()
    cells = [(rows, counts[-1]) for rows in args.rows] + [(max(args.rows), cpus) for cpus in counts[:-1]]
    times: dict[tuple[int, int], list[float]] = {cell: [] for cell in cells}
    with tempfile.TemporaryDirectory() as scratch:
        tables = {rows: write_table(args.data, args.text_column, rows, Path(scratch)) for rows in args.rows}
        for number in range(ROUNDS):
            for rows, cpus in random.Random(number).sample(cells, len(cells)):
                times[rows, cpus].append(seconds(args.bundle, tables[rows], cpus))
                print(f"round {number + 1}: {rows:,} rows, CPUs: {cpus}: {times[rows, cpus][-1]:.1f} s", flush=True)
    found = []
    print("    rows  CPUs  seconds  rows/s")
    for (rows, cpus), values in times.items():
        middle = statistics.median(values)
        found.append({"rows": rows, "cpus": cpus, "seconds": middle, "rows_per_second": rows / middle})
        print(f"{rows:8,}{cpus:6}{middle:9.1f}{rows / middle:8.0f}")
    record.write(record.new("tables-growth", data=args.data.name, cells=found))


if __name__ == "__main__":
    main()
