"""Cost per text as clients, batch and length grow: read from the results of benchmarks.peers.http and .engine.

It shows, for each server, the CPU ms per request by the number of clients and by the kind of text; for each engine, the
ms per text by the size of the batch and the µs per token by the length. A mark says where it bends: `<` costs at least
10 % less than the step before, `>` at least 10 % more.

It would be unfair to compare figures of different runs, or of a busy machine. It measures nothing itself, and reads
the results of these two. The last line is JSON.

    python -m benchmarks.peers.growth
"""

from __future__ import annotations

import itertools
import json
from collections import defaultdict
from typing import Any

from benchmarks.peers import engine, http
from benchmarks.peers.plots import read
from benchmarks.peers.results import best, medians

BEND = 0.1
Curves = dict[str, dict[str, dict[Any, float]]]  # title, name, step: cost


def curves(engines: list[dict[str, Any]], servers: list[dict[str, Any]]) -> Curves:
    """Return the costs by title, by engine or server, and by step."""
    found: Curves = defaultdict(lambda: defaultdict(dict))
    servers = best(servers, ("model", "texts", "clients", "peer"), "requests_per_second")
    for row in servers:
        cost, name = row["cpu_ms_per_request"], row["peer"]
        if row["texts"] == "short":
            found[f"{row['model']}: CPU ms per request, short texts, by clients"][name][row["clients"]] = cost
        if row["clients"] == 32:
            found[f"{row['model']}: CPU ms per request, 32 clients, by texts"][name][row["texts"]] = cost
    for row in engines:
        where = f"{row['model']}, threads: {row['threads']}"
        per_text = row["ms"] / row["batch"]
        by_batch = f"{where}, {row['tokens']} tokens: ms per text, by batch"
        found[by_batch][row["engine"]][row["batch"]] = per_text
        if row["batch"] == 1:
            found[f"{where}: us per token, one text, by tokens"][row["engine"]][row["tokens"]] = (
                1000 * per_text / row["tokens"]
            )
    return {title: dict(by) for title, by in found.items() if any(len(steps) > 1 for steps in by.values())}


def marks(costs: list[float]) -> list[str]:
    """Return a mark per step: where the cost falls or rises by a tenth and more against the step before."""
    found = [""]
    for before, now in itertools.pairwise(costs):
        found.append("<" if now < before * (1 - BEND) else ">" if now > before * (1 + BEND) else "")
    return found


def table(found: Curves) -> str:
    """Return the curves for a person."""
    lines = []
    for title, by in found.items():
        steps = list(dict.fromkeys(step for costs in by.values() for step in costs))
        if all(isinstance(step, int) for step in steps):
            steps.sort()
        lines += ["", title, f"{'':24}" + "".join(f"{step:>10}" for step in steps)]
        for name, costs in by.items():
            known = [step for step in steps if step in costs]
            bends = dict(zip(known, marks([costs[step] for step in known]), strict=True))
            shown = (f"{costs[step]:9.3g}{bends[step]:1}" if step in costs else f"{'':10}" for step in steps)
            lines.append(f"{name:24}" + "".join(shown))
    return "\n".join(lines)


def main() -> None:
    """Print the tables."""
    engines, servers = read(engine.BENCHMARK), read(http.BENCHMARK)
    found = curves(medians(engines["cells"], engine.KEY), medians(servers["cells"], http.KEY))
    print(table(found))
    print(json.dumps({"benchmark": "peers-growth", "curves": found}))


if __name__ == "__main__":
    main()
