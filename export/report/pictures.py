"""A bundle's pictures: the change of scores by int8, and reliability before and after calibration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from export.guard.guard import GuardResult
from export.scores.figures import BINS, ScoreOutcomes, bin_of
from inferer.bundle.manifest import NONE, REGRESSION, SINGLE_LABEL
from inferer.bundle.reader import PICTURE, RELIABILITY
from training.report.intervals import wilson

# Okabe and Ito's colours, distinct with any kind of colour vision (jfly.uni-koeln.de/color); marks differ too.
_BLUE, _LIGHT_BLUE, _RED, _GREY = "#0072B2", "#56B4E9", "#D55E00", "#555555"
_CHANGE_BINS = 41  # odd: one bin is centred on no change
_NEAR = 0.05
_DPI = 110
_LEAST_REACH = 0.01  # keeps the axis from magnifying tiny changes


def draw_quantization(guard: GuardResult, folder: Path) -> None:
    """Write the picture of fp32's score against int8's, and a histogram of the change, into `folder`.

    Single-label: a point per text, the score of fp32's label. Multi-label: a point per label of every text. Regression:
    a point per text, its number.
    """
    fp32, int8 = guard.measured.fp32, guard.measured.int8
    if guard.problem_type == REGRESSION:
        x, y = fp32.scores[:, 0], int8.scores[:, 0]
        changed = np.zeros(len(x), dtype=bool)
        axis, unit, words = "number", "texts", ("a text each", "")
    elif guard.problem_type == SINGLE_LABEL:
        rows, best = np.arange(len(fp32.scores)), fp32.scores.argmax(axis=1)
        x, y = fp32.scores[rows, best], int8.scores[rows, best]
        changed = (fp32.chosen != int8.chosen).any(axis=1)
        axis, unit, words = "score of fp32's label", "texts", ("same label", "another label")
    else:
        x, y = fp32.scores.ravel(), int8.scores.ravel()
        changed = (fp32.chosen != int8.chosen).ravel()
        axis, unit = "score", "scores (every label of every text)"
        words = ("same side of its threshold", "other side of it")
    figure = Figure(figsize=(11, 5), layout="constrained")
    left, right = figure.subplots(1, 2)
    unbounded = guard.problem_type == REGRESSION and guard.activation == NONE
    _scatter(left, x, y, changed, words, unbounded=unbounded)
    left.set_xlabel(f"fp32: {axis}")
    left.set_ylabel("int8: the same score")
    _histogram(right, y - x, changed, (unit, words[1]))
    kept = len(guard.measured.kept)
    title = f"{guard.scheme} against fp32 on {len(guard.texts.texts):,} texts"
    title += f", {kept} layer{'' if kept == 1 else 's'} kept in fp32" if kept else ""
    title += " (not in this bundle: limits missed)" if guard.chosen is None else ""
    figure.suptitle(title)
    figure.savefig(folder / PICTURE, dpi=_DPI)


def draw_reliability(
    calibration: Mapping[str, Any], outcomes: tuple[ScoreOutcomes, ScoreOutcomes], folder: Path
) -> None:
    """Write the reliability diagrams before and after calibration, each above its number of scores per bin."""
    figure = Figure(figsize=(11, 6.2), layout="constrained")
    rows = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=(3, 1.1))
    for column, (when, pairs) in enumerate(zip(("Before", "After"), outcomes, strict=True)):
        upper, lower = rows[0][column], rows[1][column]
        _diagram(upper, pairs)
        ece = calibration["figures"][f"ece_{when.lower()}"]["value"]
        upper.set_title(f"{when}: ECE {ece:.4f} (n = {pairs.scores.size:,})")
        _counts(lower, pairs)
    single = calibration["labels"] is None
    rows[0][0].set_ylabel("share of predictions that are right" if single else "share of texts with the label")
    rows[1][0].set_ylabel(("texts" if single else "labels of texts") + "\n(log scale)")
    # Below, because in a corner it would hide bars of some models.
    figure.legend(*rows[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
    each = "" if single else f" by {len(calibration['labels'])} labels"
    title = f"Calibration of {calibration['model']}, {calibration['reported_rows']:,} held-out texts{each}"
    figure.suptitle(title)
    figure.savefig(folder / RELIABILITY, dpi=_DPI)


def _count_axis(axes: Axes) -> None:
    axes.yaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
    axes.grid(alpha=0.25, axis="y")


def _scatter(
    axes: Axes, x: np.ndarray, y: np.ndarray, changed: np.ndarray, words: tuple[str, str], *, unbounded: bool
) -> None:
    same = ~changed
    least, most = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
    margin = 0.03 * max(most - least, 1e-9)
    low, high = (least - margin, most + margin) if unbounded else (max(0.0, least - 0.03), 1.02)
    axes.plot([low, high], [low, high], color=_GREY, linewidth=1, linestyle="--", zorder=1)
    alpha = float(np.clip(200 / max(len(x), 1), 0.15, 0.6))
    axes.scatter(x[same], y[same], s=16, color=_BLUE, alpha=alpha, linewidths=0, label=f"{words[0]}: {same.sum():,}")
    if words[1]:
        axes.scatter(
            x[changed], y[changed], s=46, color=_RED, marker="X", edgecolors="white", linewidths=0.6, zorder=3,
            label=f"{words[1]}: {changed.sum():,}",
        )  # fmt: skip
    axes.set(xlim=(low, high), ylim=(low, high), aspect="equal", title=f"Score by score (n = {len(x):,})")
    for handle in axes.legend(loc="upper left", frameon=True).legend_handles:
        if handle is not None:
            handle.set_alpha(1)
    axes.grid(alpha=0.25)


def _histogram(axes: Axes, change: np.ndarray, changed: np.ndarray, words: tuple[str, str]) -> None:
    reach = max(float(np.abs(change).max()), _LEAST_REACH)
    bins = np.linspace(-reach, reach, _CHANGE_BINS + 1).tolist()
    # One before the other: stacked bars on a log axis would distort the upper part.
    axes.hist(change, bins=bins, color=_BLUE, label="all", log=True, edgecolor="white", linewidth=0.4)
    if words[1]:
        axes.hist(change[changed], bins=bins, color=_RED, label=words[1], edgecolor="white", linewidth=0.4, hatch="//")
    axes.axvline(0, color=_GREY, linewidth=1, linestyle="--")
    axes.set_ylim(bottom=0.7)
    axes.xaxis.set_major_locator(MaxNLocator(7, symmetric=True))
    axes.set(xlabel="change of the score: int8 less fp32", ylabel=f"{words[0]} (log scale)")
    near = (np.abs(change) <= _NEAR).mean()
    axes.set_title(f"Change of the scores: {near:.1%} within ±{_NEAR:g} (n = {len(change):,})")
    axes.legend(loc="upper left")
    _count_axis(axes)


def _counts(axes: Axes, pairs: ScoreOutcomes) -> None:
    counts = np.bincount(bin_of(pairs.scores).ravel(), minlength=BINS)
    # A log axis: with many labels nearly all scores are in the first bin.
    bars = axes.bar(
        (np.arange(BINS) + 0.5) / BINS, counts, width=1 / BINS, color=_LIGHT_BLUE, edgecolor="white", log=True
    )
    axes.bar_label(bars, [f"{count:,}" if count else "" for count in counts], fontsize=7.5, padding=1)
    axes.set(xlabel="score", ylim=(0.7, 8 * counts.max()))
    axes.minorticks_off()
    _count_axis(axes)


def _diagram(axes: Axes, pairs: ScoreOutcomes) -> None:
    scores, true = pairs.scores.ravel(), pairs.true.ravel()
    bins = bin_of(scores)
    counts = np.bincount(bins, minlength=BINS)
    full = np.flatnonzero(counts)
    means = np.bincount(bins, scores, BINS)[full] / counts[full]
    hits = np.bincount(bins, true, BINS)[full]
    shares = [wilson(int(hit), int(n)) for hit, n in zip(hits, counts[full], strict=True)]
    values, low, high = np.array([(share.value, share.low, share.high) for share in shares]).T
    axes.bar(
        (full + 0.5) / BINS, values, width=1 / BINS, color=_LIGHT_BLUE, edgecolor="white", linewidth=0.6, alpha=0.55,
        label=f"share, per {BINS}th of the score",
    )  # fmt: skip
    axes.plot([0, 1], [0, 1], color=_GREY, linewidth=1, linestyle="--", label="perfect calibration")
    axes.errorbar(
        means, values, yerr=np.clip([values - low, high - values], 0, None), fmt="o", markersize=4.5, color=_RED,
        linewidth=1.1, capsize=2.5, label="the same at the mean score, 95 % interval",
    )  # fmt: skip
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.grid(alpha=0.25)
