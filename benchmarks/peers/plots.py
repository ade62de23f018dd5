"""Pictures of the comparisons with peers, from benchmarks/results/peers-*.json into docs/figures.

Latency against length, throughput against clients, fidelity against speed; readable on a light and on a dark page. A
picture without its results is left out with a line.

    python -m benchmarks.peers.plots
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, ScalarFormatter

from benchmarks.peers import engine, http, models
from benchmarks.peers.results import RESULTS, best, medians
from tests.support.server import ROOT

FIGURES = ROOT / "docs" / "figures"
OURS = "ours"
# Grey of half lightness, and Okabe and Ito's colours without black and yellow: legible on white and on near-black.
_GREY = "#808080"
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9")
_MARKERS = ("s", "^", "v", "D", "P", "X", "<", ">", "*", "h")
_OURS = {"color": "#D55E00", "marker": "o", "linewidth": 2.5, "zorder": 5}
_STYLE = {
    "svg.fonttype": "none",  # text stays text, in the reader's own font
    "font.family": "sans-serif",
    "svg.hashsalt": "peers",  # the same file from the same figures
    "font.size": 9,
    "text.color": _GREY,
    "axes.facecolor": "none",
    "axes.edgecolor": _GREY,
    "axes.labelcolor": _GREY,
    "axes.titlecolor": _GREY,
    "xtick.color": _GREY,
    "ytick.color": _GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": _GREY,
    "grid.alpha": 0.25,
    "legend.frameon": False,
}


def looks(name: str, names: list[str]) -> dict[str, Any]:
    """Return the line of a peer: ours stands out, each other has a marker and a colour, from the sixth on dashes."""
    if name == OURS:
        return dict(_OURS)
    place = [one for one in names if one != OURS].index(name)
    colour, marker = _COLOURS[place % len(_COLOURS)], _MARKERS[place % len(_MARKERS)]
    return {"color": colour, "marker": marker, "linestyle": "-" if place < len(_COLOURS) else "--", "linewidth": 1.3}


def latency(rows: list[dict[str, Any]]) -> Figure | None:
    """Return the picture of ms by tokens, one text, one thread, a field per model."""
    rows = [row for row in rows if (row["threads"], row["batch"]) == (1, 1)]
    shapes = [name for name in models.MODELS if any(row["model"] == name for row in rows)]
    if not shapes:
        return None
    figure, fields = _fields(len(shapes))
    for field, model in zip(fields, shapes, strict=True):
        for name in engine.ENGINES:
            of = sorted((row["tokens"], row["ms"]) for row in rows if (row["model"], row["engine"]) == (model, name))
            if of:
                field.plot(*zip(*of, strict=True), label=name, markersize=4, **looks(name, list(engine.ENGINES)))
        _logarithmic(field, sorted({row["tokens"] for row in rows}), f"{model}, one text, one thread", "tokens")
        field.set_yscale("log")
        field.yaxis.set_major_formatter(ScalarFormatter())
    fields[0].set_ylabel("ms")
    _legend(figure, fields)
    return figure


def throughput(rows: list[dict[str, Any]]) -> Figure | None:
    """Return the picture of replies per second by clients, short texts, each server's best variant."""
    rows = [row for row in rows if row["texts"] == "short"]
    rows = best(rows, ("model", "texts", "clients", "peer"), "requests_per_second")
    shapes = [name for name in models.MODELS if any(row["model"] == name for row in rows)]
    if not shapes:
        return None
    figure, fields = _fields(len(shapes))
    for field, model in zip(fields, shapes, strict=True):
        for name in http.PEERS:
            of = sorted(
                (row["clients"], row["requests_per_second"])
                for row in rows
                if (row["model"], row["peer"]) == (model, name)
            )
            if of:
                field.plot(*zip(*of, strict=True), label=name, markersize=4, **looks(name, list(http.PEERS)))
        _logarithmic(field, sorted({row["clients"] for row in rows}), f"{model}, short texts", "clients")
        field.set_ylim(bottom=0)
    fields[0].set_ylabel("replies per second")
    _legend(figure, fields)
    return figure


def fidelity(rows: list[dict[str, Any]], facts: dict[str, Any]) -> Figure | None:
    """Return the picture of the share of fp32's labels by speed relative to ours, a point per engine."""
    times = {
        (row["engine"], row["tokens"]): row["ms"]
        for row in rows
        if (row["model"], row["threads"], row["batch"]) == (models.MINILM, 1, 1)
    }
    same = facts.get(models.MINILM, {}).get("engines", {})
    figure, (field,) = _fields(1)
    drawn = 0
    for name in engine.ENGINES:
        ratios = [
            times[OURS, tokens] / ms for (one, tokens), ms in times.items() if one == name and (OURS, tokens) in times
        ]
        if ratios and name in same:
            style = {**looks(name, list(engine.ENGINES)), "linestyle": "none"}
            field.plot(statistics.geometric_mean(ratios), 100 * same[name]["same_label"], label=name, **style)
            drawn += 1
    field.set_title("MiniLM-L6, 77 labels", fontsize=9)
    field.set_xlabel("speed relative to ours: geometric mean over lengths, one thread")
    field.set_ylabel("texts with fp32's label, %")
    _legend(figure, [field])
    return figure if drawn else None


def _fields(number: int) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(2.2 + 3.2 * number if number > 1 else 7, 3.4), layout="constrained")
    return figure, list(figure.subplots(1, number, squeeze=False)[0])


def _logarithmic(field: Axes, ticks: list[int], title: str, label: str) -> None:
    field.set_title(title, fontsize=9)
    field.set_xlabel(label)
    field.set_xscale("log")
    field.set_xticks(ticks, [str(tick) for tick in ticks])
    field.xaxis.set_minor_locator(NullLocator())


def _legend(figure: Figure, fields: list[Axes]) -> None:
    found = {
        label: handle for field in fields for handle, label in zip(*field.get_legend_handles_labels(), strict=True)
    }
    figure.legend(found.values(), found.keys(), loc="outside right center")


def read(benchmark: str) -> dict[str, Any]:
    """Return the results of a benchmark, or none."""
    file = RESULTS / f"{benchmark}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"cells": [], "facts": {}}


def main() -> None:
    """Draw what has results."""
    engines, servers = read(engine.BENCHMARK), read(http.BENCHMARK)
    by_engine = medians(engines["cells"], engine.KEY)
    FIGURES.mkdir(exist_ok=True)
    with mpl.rc_context(_STYLE):
        figures: dict[str, Figure | None] = {
            "peers-latency": latency(by_engine),
            "peers-throughput": throughput(medians(servers["cells"], http.KEY)),
            "peers-fidelity": fidelity(by_engine, engines["facts"]),
        }
        for name, figure in figures.items():
            target: Path = FIGURES / f"{name}.svg"
            if figure is None:
                print(f"{target.name}: not drawn, without results")
                continue
            figure.savefig(target, transparent=True, metadata={"Date": None})
            print(target.relative_to(ROOT))


if __name__ == "__main__":
    main()
