"""quantization.png: how int8 moved the scores of the user's texts, at a glance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from export.predictions import Predictions
from inferer.bundle.manifest import SINGLE_LABEL

# Okabe and Ito's colours, told apart with any kind of colour vision (jfly.uni-koeln.de/color); the marks differ too.
_SAME, _CHANGED, _LINE = "#0072B2", "#D55E00", "#555555"
_BINS = 41  # odd: one bin is centred on no change
_NEAR = 0.05
_LEAST_REACH = 0.01  # a model that int8 hardly moves is not shown as if it were


def draw(fp32: Predictions, int8: Predictions, problem_type: str, title: str, target: Path) -> None:
    """Write the picture to `target`: fp32's score against int8's, and a histogram of the change.

    Single-label: a point a text, the score of the label that fp32 names. Multi-label: a point for every
    label of every text.
    """
    if problem_type == SINGLE_LABEL:
        rows, best = np.arange(len(fp32.scores)), fp32.scores.argmax(axis=1)
        x, y = fp32.scores[rows, best], int8.scores[rows, best]
        changed = (fp32.chosen != int8.chosen).any(axis=1)
        what, unit, turned = "score of the label that fp32 names", "texts", ("same label", "another label")
    else:
        x, y = fp32.scores.ravel(), int8.scores.ravel()
        changed = (fp32.chosen != int8.chosen).ravel()
        what, unit, turned = (
            "score",
            "scores (every label of every text)",
            ("same side of its threshold", "other side of it"),
        )
    figure = Figure(figsize=(11, 5), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    _scatter(left, x, y, changed, turned)
    left.set_xlabel(f"fp32: {what}")
    left.set_ylabel("int8: the same score")
    _histogram(right, y - x, changed, (unit, turned[1]))
    figure.suptitle(title, parse_math=False)
    figure.savefig(target, dpi=110)


def _scatter(axes: Axes, x: np.ndarray, y: np.ndarray, changed: np.ndarray, words: tuple[str, str]) -> None:
    same = ~changed
    axes.plot([0, 1], [0, 1], color=_LINE, linewidth=1, linestyle="--", zorder=1)
    low = max(0.0, float(min(x.min(), y.min())) - 0.03)
    alpha = float(np.clip(200 / max(len(x), 1), 0.15, 0.6))
    axes.scatter(x[same], y[same], s=16, color=_SAME, alpha=alpha, linewidths=0, label=f"{words[0]}: {same.sum():,}")
    axes.scatter(
        x[changed], y[changed], s=46, color=_CHANGED, marker="X", edgecolors="white", linewidths=0.6, zorder=3,
        label=f"{words[1]}: {changed.sum():,}",
    )  # fmt: skip
    axes.set(xlim=(low, 1.02), ylim=(low, 1.02), aspect="equal", title=f"Score by score (n = {len(x):,})")
    legend = axes.legend(loc="upper left", frameon=True)
    for handle in legend.legend_handles:
        handle.set_alpha(1)
    axes.grid(alpha=0.25)


def _histogram(axes: Axes, change: np.ndarray, changed: np.ndarray, words: tuple[str, str]) -> None:
    reach = max(float(np.abs(change).max()), _LEAST_REACH)
    bins = np.linspace(-reach, reach, _BINS + 1)
    # One in front of the other: stacked on a log axis, the upper part of a bar would look smaller than it is.
    axes.hist(change, bins=bins, color=_SAME, label="all", log=True, edgecolor="white", linewidth=0.4)
    axes.hist(change[changed], bins=bins, color=_CHANGED, label=words[1], edgecolor="white", linewidth=0.4, hatch="//")
    axes.axvline(0, color=_LINE, linewidth=1, linestyle="--")
    axes.set_ylim(bottom=0.7)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
    axes.xaxis.set_major_locator(MaxNLocator(7, symmetric=True))
    axes.set(xlabel="change of the score: int8 less fp32", ylabel=f"{words[0]} (log scale)")
    near = (np.abs(change) <= _NEAR).mean()
    axes.set_title(f"How far the scores moved: {near:.1%} within ±{_NEAR:g} (n = {len(change):,})")
    axes.legend(loc="upper left")
    axes.grid(alpha=0.25, axis="y")
