"""The results of the comparisons with peers: cells of measured rounds, which later runs replace or add to."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import record
from tests.support.server import ROOT

Rows = list[dict[str, Any]]
RESULTS = ROOT / "benchmarks" / "results"


class Results:
    """The file of one benchmark. A cell has a key, such as model, peer and clients, and the figures of each round.

    add: append rounds to the cells of earlier runs, in place of replacing them.
    """

    def __init__(self, benchmark: str, key: tuple[str, ...], *, add: bool = False, target: Path | None = None) -> None:
        self.target = target or RESULTS / f"{benchmark}.json"
        self.key, self.add = key, add
        self.run = datetime.now(UTC).isoformat(timespec="seconds")
        self.data = record.new(benchmark, missing={}, versions={}, facts={}, cells=[])
        if self.target.is_file():
            earlier = json.loads(self.target.read_text(encoding="utf-8"))
            self.data |= {name: earlier[name] for name in ("missing", "versions", "facts", "cells")}
        self._cells = {self._key(cell): cell for cell in self.data["cells"]}

    def _key(self, cell: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(cell[name] for name in self.key)

    def measured(self, key: dict[str, Any], figures: dict[str, float]) -> None:
        """Take up the figures of one round."""
        cell = self._cells.get(self._key(key))
        if cell is None or (cell["run"] != self.run and not self.add):
            cell = {**key, "run": self.run, "rounds": []}
        cell["run"] = self.run
        cell["rounds"].append(figures)
        self._cells[self._key(key)] = cell

    def missing(self, name: str, line: str) -> None:
        """Say in one line what is missing."""
        print(f"not measured: {line}", flush=True)
        self.data["missing"][name] = line

    def found(self, name: str) -> None:
        """Forget that something was missing in an earlier run."""
        self.data["missing"].pop(name, None)

    def save(self) -> None:
        """Write the file."""
        self.data["cells"] = list(self._cells.values())
        self.target.parent.mkdir(parents=True, exist_ok=True)
        self.target.write_text(json.dumps(self.data, indent=1) + "\n", encoding="utf-8")

    def end(self, table: Callable[[Rows, dict[str, Any]], str], ratios: Callable[[Rows], object]) -> None:
        """Write the file, and print the table, what is missing, and our ratios as JSON."""
        self.save()
        rows = self.medians()
        print(table(rows, self.data["facts"]))
        for line in self.data["missing"].values():
            print(f"not measured: {line}")
        head = {name: self.data[name] for name in ("benchmark", "date")}
        print(json.dumps(head | {"ours_over": ratios(rows)}))

    def medians(self) -> list[dict[str, Any]]:
        """Return each cell's key with the medians of its rounds."""
        return medians(self._cells.values(), self.key)


def medians(cells: Iterable[dict[str, Any]], key: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return each cell's key and run with the medians of its rounds."""
    return [
        {name: cell[name] for name in (*key, "run")}
        | {name: statistics.median(one[name] for one in cell["rounds"]) for name in cell["rounds"][0]}
        for cell in cells
    ]


def best(rows: list[dict[str, Any]], of: tuple[str, ...], by: str) -> list[dict[str, Any]]:
    """Return the row with the highest `by` of each group of rows that agree in `of`; the groups keep their order."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        group = tuple(row[name] for name in of)
        if group not in found or row[by] > found[group][by]:
            found[group] = row
    return list(found.values())
