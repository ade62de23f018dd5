"""Training runs of the command in processes of their own, with the held-out rows that each got right."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.report.intervals import resampled_sums, wilson


@dataclass(frozen=True)
class Run:
    """A run that ended. right: whether each held-out row got its label, bool [rows]."""

    folder: Path
    right: NDArray[np.bool_]
    seconds: float

    def facts(self) -> dict[str, Any]:
        """Return the accuracy with its interval, n and the seconds."""
        found = wilson(int(self.right.sum()), len(self.right))
        return {"accuracy": found.value, "interval": [found.low, found.high], "n": found.n, "seconds": self.seconds}


def train(folder: Path, *flags: str) -> Run:
    """Run `python -m training` with `flags` into `folder`. Raises RuntimeError with its last lines where it fails."""
    begin = time.perf_counter()
    command = [sys.executable, "-m", "training", *flags, "--output", str(folder), "--overwrite", "--restart"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr[-2000:]}")
    record = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    right = np.ones(record["held_out"]["n"], dtype=bool)
    with (folder / "misclassified.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            right[int(row["row"]) - 1] = False
    if abs(right.mean() - record["held_out"]["accuracy"]) > 1e-9:
        raise RuntimeError(f"{folder}: misclassified.csv and training.json differ")
    print(f"{folder.name}: {right.mean():.4f}", file=sys.stderr)
    return Run(folder, right, time.perf_counter() - begin)


def gain(better: Run, base: Run) -> dict[str, Any]:
    """Return the difference of two accuracies on the same rows, with the paired bootstrap's 95 % interval."""
    difference = better.right.astype(float) - base.right.astype(float)
    sums = resampled_sums(difference[:, None])[:, 0] / len(difference)
    low, high = np.percentile(sums, [2.5, 97.5])
    return {"gain": float(difference.mean()), "interval": [float(low), float(high)]}


def percent(facts: dict[str, Any], name: str = "accuracy") -> str:
    """Return a share with its interval for people."""
    low, high = facts["interval"]
    return f"{100 * facts[name]:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def rows_of(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def write_rows(path: Path, rows: list[dict[str, str]]) -> Path:
    """Write `rows` as a CSV, and return its path."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path
