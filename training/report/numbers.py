"""Figures of predicted numbers: errors, correlation, and the ranking of each group. No torch."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from inferer.tokens.texts import sides_of
from training.data.dataset import Dataset
from training.report.intervals import RESAMPLES, SEED

DEPTH = 10  # of MRR@10 and nDCG@10
TITLES = {
    "mse": "mean squared error",
    "mae": "mean absolute error",
    "r2": "R²",
    "spearman": "Spearman correlation",
    "mrr_at_10": "MRR@10",
    "ndcg_at_10": "nDCG@10",
}
_SHUFFLES = 20
_Floats = NDArray[np.float64]
_Figures = dict[str, float | None]


def measure_numbers(dataset: Dataset, found: _Floats, *, intervals: bool = True) -> dict[str, Any]:
    """Return the figures of the numbers `found` [rows] against those of `dataset`, in JSON types.

    mse, mae, r2, spearman (None where one side is constant). With groups: mrr_at_10 and ndcg_at_10, means over the
    `queries` groups that hold a number above 0; gains are the numbers themselves (Järvelin and Kekäläinen, ACM TOIS 20,
    2002). intervals: [low, high] of 95 %, the percentile bootstrap over rows, or over groups for the last two.
    baselines: of always predicting the mean, and of a random order within each group.
    """
    true = np.array(dataset.numbers, dtype=np.float64)
    n = len(true)

    def of_rows(rows: NDArray[np.int_]) -> _Figures:
        return _errors(true[rows], found[rows])

    every = np.arange(n)
    metrics: dict[str, Any] = {"n": n, **of_rows(every)}
    resampled = _resampled(of_rows, n) if intervals else {}
    mean = {"mse": float(true.var()), "mae": float(np.abs(true - true.mean()).mean()), "r2": 0.0}
    metrics["baselines"] = {"mean": mean}
    if dataset.groups:
        groups = ranked_groups(dataset.groups, true)
        by_group = np.array([ranking(true[rows], found[rows]) for rows in groups]).reshape(-1, 2)
        rng = np.random.default_rng(SEED)
        shuffled = [ranking(true[rows], rng.random(len(rows))) for rows in groups for _ in range(_SHUFFLES)]
        metrics["queries"] = len(groups)
        if len(groups):
            metrics |= _named(by_group.mean(axis=0))
            metrics["baselines"]["random_order"] = _named(np.array(shuffled).mean(axis=0))
            if intervals:
                resampled |= _resampled(lambda rows: _named(by_group[rows].mean(axis=0)), len(groups))
    if intervals:
        metrics["intervals"] = resampled
    metrics["labels"] = {}
    return metrics


def figures_rows(metrics: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return a heading and a row per figure: its name, value, 95 % interval, n, and its value by the baselines."""
    ranked = "mrr_at_10" in metrics
    baselines = {"always the mean": metrics["baselines"]["mean"], "random order": {}}
    if ranked:
        baselines["random order"] = metrics["baselines"]["random_order"]
    else:
        del baselines["random order"]
    rows: list[tuple[str, ...]] = [("", "", "95 % interval", "n", *baselines)]
    for name, title in TITLES.items():
        if (value := metrics.get(name)) is None:
            continue
        low, high = metrics.get("intervals", {}).get(name, (None, None))
        interval = "" if low is None else f"{low:.4f} to {high:.4f}"
        n = metrics["queries"] if name.endswith("_at_10") else metrics["n"]
        beside = [f"{one[name]:.4f}" if name in one else "" for one in baselines.values()]
        rows.append((title, f"{value:.4f}", interval, f"{n}", *beside))
    return rows


def write_errors(path: Path, dataset: Dataset, found: _Floats) -> None:
    """Write the rows to the CSV `path`, the largest errors first: row from 1, texts, true, given, given less true."""
    pair = bool(dataset.columns.text_pair_column)
    off = found - np.array(dataset.numbers)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_NONNUMERIC)
        writer.writerow(("row", "text", *(["text_pair"] if pair else []), "true", "given", "difference"))
        for i in np.argsort(-np.abs(off), kind="stable"):
            given = [round(float(value), 6) for value in (found[i], off[i])]
            writer.writerow([int(i) + 1, *sides_of(dataset.texts[i]), dataset.numbers[i], *given])


def _errors(true: _Floats, found: _Floats) -> _Figures:
    squares = np.square(found - true)
    spread = np.square(true - true.mean()).sum()
    constant = np.ptp(true) == 0 or np.ptp(found) == 0
    return {
        "mse": float(squares.mean()),
        "mae": float(np.abs(found - true).mean()),
        "r2": float(1 - squares.sum() / spread) if spread else None,
        "spearman": None if constant else float(spearmanr(true, found).statistic),
    }


def ranked_groups(groups: Sequence[str], true: _Floats) -> list[NDArray[np.int_]]:
    """Return the rows of each group with a number above 0: the others have nothing to find."""
    _, numbers = np.unique(np.array(groups), return_inverse=True)
    order = np.argsort(numbers, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1)
    return [rows for rows in parts if (true[rows] > 0).any()]


def ranking(true: _Floats, found: _Floats) -> tuple[float, float]:
    """Return the reciprocal rank of the first relevant row and nDCG, both of the first DEPTH rows by `found`.

    Of rows with equal scores the least relevant come first: in the order of the file, which often has the relevant
    ones first, a model that gives every row one score would look perfect.
    """
    gains = true[np.lexsort((true, -found))][:DEPTH]
    hits = np.flatnonzero(gains > 0)
    discounts = 1 / np.log2(np.arange(2, DEPTH + 2))
    best = np.sort(true)[::-1][:DEPTH]
    ideal = float((np.maximum(best, 0) * discounts[: len(best)]).sum())
    dcg = float((np.maximum(gains, 0) * discounts[: len(gains)]).sum())
    return (1 / (1 + float(hits[0])) if len(hits) else 0.0), dcg / ideal


def _named(values: _Floats) -> _Figures:
    return {"mrr_at_10": float(values[0]), "ndcg_at_10": float(values[1])}


def _resampled(figures: Callable[[NDArray[np.int_]], _Figures], n: int) -> dict[str, list[float]]:
    """Return the 95 % interval of each figure over rows drawn with replacement."""
    rng = np.random.default_rng(SEED)
    drawn = [figures(rng.integers(0, n, n)) for _ in range(RESAMPLES)]
    found = {}
    for name in drawn[0]:
        values = np.array([one[name] for one in drawn], dtype=np.float64)  # None becomes NaN
        if not np.isnan(values).all():
            found[name] = [float(end) for end in np.nanpercentile(values, [2.5, 97.5])]
    return found
