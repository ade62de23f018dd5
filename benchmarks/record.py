"""The result of a benchmark: a file under benchmarks/results, and the last line of the output."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from typing import Any

from inferer.cpu import available_cpus, instruction_flags
from tests.support.server import ROOT


def new(benchmark: str, **facts: Any) -> dict[str, Any]:
    """Return the head of a result: the benchmark, the date, the CPU and malloc's settings."""
    where = {
        "cpus": available_cpus(),
        "cpu_flags": instruction_flags(),
        "glibc_tunables": os.environ.get("GLIBC_TUNABLES", ""),
    }
    return {"benchmark": benchmark, "date": datetime.now(UTC).date().isoformat(), **where, **facts}


def write(result: dict[str, Any]) -> None:
    """Write `result` to its file and print it in one line."""
    target = ROOT / "benchmarks" / "results" / f"{result['benchmark']}.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))
