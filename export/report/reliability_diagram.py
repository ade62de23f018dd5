"""reliability.png: how often answers were right, score by score, before calibration and after."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from export.scores.figures import BINS, ScoreOutcomes, bin_of
from training.report.intervals import wilson

# Okabe and Ito's colours, told apart with any kind of colour vision (jfly.uni-koeln.de/color).
_BAR, _POINT, _LINE = "#56B4E9", "#D55E00", "#555555"


def draw(before: ScoreOutcomes, after: ScoreOutcomes, eces: tuple[float, float], title: str, target: Path) -> None:
    """Write the picture to `target`: the two reliability diagrams side by side, the number of scores a bin below each.

    eces: before and after, for the titles.
    """
    figure = Figure(figsize=(11, 6.2), layout="constrained")
    FigureCanvasAgg(figure)
    rows = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=(3, 1.1))
    for column, (when, judgement, ece) in enumerate(zip(("Before", "After"), (before, after), eces, strict=True)):
        upper, lower = rows[0][column], rows[1][column]
        _diagram(upper, judgement)
        upper.set_title(f"{when}: ECE {ece:.4f} (n = {judgement.scores.size:,})")
        _counts(lower, judgement)
    single = before.scores.shape[1] == 1
    rows[0][0].set_ylabel("share of answers that are right" if single else "share of texts that carry the label")
    rows[1][0].set_ylabel(("texts" if single else "labels of texts") + "\n(log scale)")
    # Below, for in a corner it would hide bars: which corner is free depends on the model.
    figure.legend(*rows[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
    figure.suptitle(title, parse_math=False)
    figure.savefig(target, dpi=110)


def _counts(axes: Axes, judgement: ScoreOutcomes) -> None:
    counts = np.bincount(bin_of(judgement.scores).ravel(), minlength=BINS)
    # A log axis: of many labels nearly all scores are in the first bin, and the others would not be seen.
    bars = axes.bar((np.arange(BINS) + 0.5) / BINS, counts, width=1 / BINS, color=_BAR, edgecolor="white", log=True)
    axes.bar_label(bars, [f"{count:,}" if count else "" for count in counts], fontsize=7.5, padding=1)
    axes.set(xlabel="score", ylim=(0.7, 8 * counts.max()))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
    axes.minorticks_off()
    axes.grid(alpha=0.25, axis="y")


def _diagram(axes: Axes, judgement: ScoreOutcomes) -> None:
    scores, true = judgement.scores.ravel(), judgement.true.ravel()
    bins = bin_of(scores)
    counts = np.bincount(bins, minlength=BINS)
    full = np.flatnonzero(counts)
    means = np.bincount(bins, scores, BINS)[full] / counts[full]
    shares = [
        wilson(int(hits), int(n)) for hits, n in zip(np.bincount(bins, true, BINS)[full], counts[full], strict=True)
    ]
    values = np.array([share.value for share in shares])
    ends = np.array([[share.value - share.low, share.high - share.value] for share in shares]).T
    axes.bar(
        (full + 0.5) / BINS, values, width=1 / BINS, color=_BAR, edgecolor="white", linewidth=0.6, alpha=0.55,
        label="share, by fifteenths of the score",
    )  # fmt: skip
    axes.plot([0, 1], [0, 1], color=_LINE, linewidth=1, linestyle="--", label="right as often as the score says")
    axes.errorbar(
        means, values, yerr=np.clip(ends, 0, None), fmt="o", markersize=4.5, color=_POINT, linewidth=1.1, capsize=2.5,
        label="the same at the mean score, 95 % interval",
    )  # fmt: skip
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.grid(alpha=0.25)
