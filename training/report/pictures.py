"""The pictures of a run, as PNG: confusion of labels, learning curves, and lengths of texts. No torch.

The colours can be told apart with any colour vision, and in grey.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter
from numpy.typing import NDArray

from inferer.bundle.manifest import SINGLE_LABEL
from training.data.dataset import Dataset
from training.evaluation.predictions import Predictions

# Colours of Okabe and Ito (jfly.uni-koeln.de/color); marks, dashes and hatches differ too.
_BLUE, _ORANGE, _GREEN, _PINK, _SKY, _GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#555555"
_MARKS = ((_BLUE, "o", "-"), (_ORANGE, "s", "--"), (_GREEN, "^", "-."), (_PINK, "D", ":"), (_SKY, "v", "-"))
_NAME = 22  # characters shown of a label
_NUMBERS = 30  # up to this many classes each cell shows its count
_NAMES = 80  # up to this many labels all are named; of more only the commonest get a bar
_BINS = 50
# Entries of an epoch without a curve: its setting, and errors in the unit of the numbers.
_SETTING = ("epoch", "step", "learning_rate", "kept", "mse", "mae")
_LOSSES = {"train_loss": "training loss", "eval_loss": "evaluation loss", "log_loss": "log loss"}
_METRICS = {
    "micro_f1": "micro-F1",
    "macro_f1": "macro-F1",
    "weighted_f1": "weighted F1",
    "balanced_macro_f1": "balanced macro-F1",
    "majority_accuracy": "largest class",
    "hamming_loss": "Hamming loss",
    "roc_auc": "ROC AUC",
    "r2": "R²",
    "spearman": "Spearman",
    "mrr_at_10": "MRR@10",
    "ndcg_at_10": "nDCG@10",
}
_ROUNDING = 1e-6  # curves no further apart are one


def draw_confusion(path: Path, dataset: Dataset, predictions: Predictions) -> None:
    """Write to `path` a picture of the labels predicted for each true label.

    Single-label: the confusion matrix, one row per true label, with counts, shaded by the share of the row.
    Multi-label: per label, the commonest first, the texts with it that were found and missed, and wrong predictions.
    """
    truth = dataset.multi_hot()
    if dataset.problem_type == SINGLE_LABEL:
        _draw_matrix(path, dataset.labels, truth.T.astype(int) @ predictions.chosen.astype(int))
    else:
        _draw_bars(path, dataset.labels, truth, predictions.chosen)


def draw_numbers(path: Path, dataset: Dataset, predictions: Predictions) -> None:
    """Write to `path` a picture of each row's true number and the predicted one."""
    true, found = np.array(dataset.numbers), predictions.scores[:, 0]
    figure, (axes,) = _figure(6.4, 5.4)
    low, high = float(min(true.min(), found.min())), float(max(true.max(), found.max()))
    axes.plot([low, high], [low, high], color=_GREY, linestyle="--", linewidth=1.2, label="predicted = true")
    alpha = float(np.clip(300 / len(true), 0.12, 0.7))
    axes.scatter(true, found, s=14, color=_BLUE, alpha=alpha, linewidths=0, label=f"{len(true):,} rows")
    axes.set(xlabel=f"true {_short(dataset.labels[0])}", ylabel="predicted", title="Predicted and true numbers")
    axes.grid(alpha=0.25)
    for handle in axes.legend(loc="upper left").legend_handles:
        if handle is not None:
            handle.set_alpha(1)
    _save(figure, path)


def draw_curves(path: Path, epochs: Sequence[Mapping[str, Any]]) -> None:
    """Write to `path` the losses and the metrics over the epochs.

    epochs: entries with "epoch" and any of train_loss, eval_loss and metrics. A curve leaves out values that are
    missing, None or not finite. Curves that are the same are drawn once, with both names.
    """
    names = dict.fromkeys(name for entry in epochs for name in entry if name not in _SETTING)
    curves = {name: curve for name in names if len(curve := _curve(epochs, name))}
    losses = {_LOSSES[name]: curve for name, curve in curves.items() if name in _LOSSES}
    figure, (left, right) = _figure(11, 4.4, columns=2)
    metrics = {_METRICS.get(name, name): curve for name, curve in curves.items() if name not in _LOSSES}
    _draw_lines(left, _joined(losses), "loss")
    _draw_lines(right, _joined(metrics), "metric")
    # Both halves have one scale, which begins at the start of the run.
    last = max((curve[-1, 0] for curve in curves.values()), default=1.0)
    for axes in (left, right):
        axes.set_xlim(0, 1.04 * last)
    left.set_ylim(0, 1.08 * max((float(curve[:, 1].max()) for curve in losses.values()), default=1.0) or 1.0)
    _save(figure, path)


def draw_lengths(path: Path, lengths: Sequence[int], max_length: int) -> None:
    """Write to `path` a histogram of `lengths`, in tokens with the special ones, with a line at `max_length`."""
    counts = np.asarray(lengths)
    over, longest = int((counts > max_length).sum()), int(counts.max())
    width = max(1, -(-longest // _BINS))  # whole tokens: every bin covers as many lengths
    bins = (np.arange(0, longest + width + 1, width) + 0.5).tolist()
    figure, (axes,) = _figure(8, 4.4)
    axes.hist(counts, bins=bins, color=_BLUE, edgecolor="white", linewidth=0.4)
    if max_length <= 1.5 * longest:  # a line far to the right would squeeze all bars to the left
        axes.axvline(max_length + 0.5, color=_ORANGE, linewidth=1.8, linestyle="--", label=f"max_length {max_length}")
        axes.legend(loc="upper right")
    axes.set_title(
        f"{over / len(counts):.1%} of {len(counts):,} texts ({over:,}) are longer than max_length {max_length} and are "
        f"cut\nmedian {np.median(counts):.0f}, 95 % up to {np.percentile(counts, 95):.0f}, longest {longest:,} tokens",
        fontsize=10,
    )
    axes.set(xlabel="tokens per text, special ones included", ylabel="texts")
    axes.set_xlim(left=0)
    _count(axes, "y")
    _save(figure, path)


def _figure(width: float, height: float, columns: int = 1) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def _count(axes: Axes, which: str) -> None:
    """Let the axis `which`, "x" or "y", show counts, with a grid behind the bars."""
    axis = {"x": axes.xaxis, "y": axes.yaxis}[which]
    axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axis.set_major_locator(MaxNLocator(integer=True))
    axis.grid(alpha=0.25)
    axes.set_axisbelow(True)


def _save(figure: Figure, path: Path) -> None:
    with warnings.catch_warnings():
        # matplotlib draws letters that its font lacks as boxes; the tables have the label's name.
        warnings.filterwarnings("ignore", r"Glyph .* missing from font")
        figure.savefig(path, dpi=110, bbox_inches="tight", format="png")


def _draw_matrix(path: Path, labels: Sequence[str], counts: NDArray[np.int_]) -> None:
    n = len(labels)
    names = [_short(label) for label in labels]
    widest = max(map(len, names))
    side = float(np.clip(n * (0.75 if n <= 12 else 0.44), 3, 30))  # inches, as all here
    figure, (axes,) = _figure(side + 2.2 + 0.08 * widest, side + 1.3 + 0.07 * widest)
    totals = counts.sum(axis=1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    size = 10 if n <= 12 else 7.5
    digits = min(size, 110 * side / n / len(f"{counts.max():,}"))
    for row, column in zip(*np.nonzero(counts), strict=True) if n <= _NUMBERS else ():
        colour, weight = "white" if shares[row, column] > 0.55 else "black", "bold" if row == column else "normal"
        count = f"{counts[row, column]:,}"
        axes.text(column, row, count, ha="center", va="center", color=colour, fontsize=digits, fontweight=weight)
    if n <= _NAMES:
        rows = [f"{name} ({total:,})" for name, total in zip(names, totals[:, 0], strict=True)]
        turned = 0 if 0.11 * widest <= side / n else 90
        axes.set_xticks(range(n), names, rotation=turned, fontsize=max(size - 1, 8), parse_math=False)
        axes.set_yticks(range(n), rows, fontsize=max(size - 1, 8), parse_math=False)
        axes.set_xticks(np.arange(n + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(n + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="#DDDDDD", linewidth=0.5)
        axes.tick_params(which="minor", length=0)
    axes.set(xlabel="predicted label", ylabel="true label (rows)")
    axes.set_title(f"{int(np.trace(counts)):,} of {int(counts.sum()):,} rows correct", fontsize=11)
    beside = axes.inset_axes((1 + 0.15 / side, 0, 0.2 / side, 1))  # as high as the matrix
    figure.colorbar(image, cax=beside, format=PercentFormatter(1)).set_label("share of the true label's rows")
    _save(figure, path)


def _draw_bars(path: Path, labels: Sequence[str], truth: NDArray[np.bool_], chosen: NDArray[np.bool_]) -> None:
    order = np.argsort(-truth.sum(axis=0), kind="stable")[:_NAMES]
    parts = (
        ("found", (truth & chosen).sum(axis=0)[order], _BLUE, ""),
        ("missed", (truth & ~chosen).sum(axis=0)[order], "#BBBBBB", ""),
        ("predicted for rows without it", (~truth & chosen).sum(axis=0)[order], _ORANGE, "////"),
    )
    figure, (axes,) = _figure(9.5, 1.7 + 0.27 * len(order))
    places, ends = np.arange(len(order)), np.zeros(len(order))
    for name, values, colour, hatch in parts:
        label = f"{name}: {values.sum():,}"
        bars = axes.barh(places, values, 0.78, ends, label=label, color=colour, hatch=hatch, ec="white", lw=0.5)
        ends += values
    counts = zip(*(values for _, values, *_ in parts), strict=True)
    axes.bar_label(bars, [f"{found:,} + {missed:,}, {wrong:,}" for found, missed, wrong in counts], padding=4, size=7.5)
    names = [f"{_short(labels[i])} ({truth[:, i].sum():,})" for i in order]
    axes.set_yticks(places, names, fontsize=9, parse_math=False)
    axes.set(xlim=(0, max(1, ends.max()) * 1.2), ylim=(len(order) - 0.4, -0.6))
    axes.set(xlabel="rows", ylabel="label (rows with it)")
    which = "Each label" if len(order) == len(labels) else f"The {len(order)} commonest of {len(labels)} labels"
    axes.set_title(f"{which}: found + missed, predicted for rows without it", fontsize=11)
    _count(axes, "x")
    figure.legend(loc="outside lower center", ncols=len(parts), fontsize=9, frameon=False)
    _save(figure, path)


def _curve(epochs: Sequence[Mapping[str, Any]], name: str) -> NDArray[np.float64]:
    """Return the points [k, 2] of (epoch, value) for the entries with a finite number under `name`."""
    values = [(entry["epoch"], entry.get(name)) for entry in epochs]
    points = [(epoch, value) for epoch, value in values if isinstance(value, int | float) and np.isfinite(value)]
    return np.array(sorted(points), dtype=np.float64).reshape(-1, 2)


def _joined(curves: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """Return `curves` with those that are the same as one, under their names with "=" between them."""
    found: list[tuple[list[str], NDArray[np.float64]]] = []
    for name, points in curves.items():
        for names, other in found:
            if points.shape == other.shape and np.allclose(points, other, rtol=0, atol=_ROUNDING):
                names.append(name)
                break
        else:
            found.append(([name], points))
    return {" = ".join(names): points for names, points in found}


def _draw_lines(axes: Axes, curves: Mapping[str, NDArray[np.float64]], ylabel: str) -> None:
    for i, (name, points) in enumerate(curves.items()):
        colour, mark, dash = _MARKS[i % len(_MARKS)]
        marker, label = mark if len(points) <= 30 else None, f"{name}: last {points[-1, 1]:.4f}"
        axes.plot(*points.T, color=colour, linestyle=dash, marker=marker, markersize=5, linewidth=1.6, label=label)
    axes.set(xlabel="epoch", ylabel=ylabel)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=10, steps=[1, 2, 5, 10]))
    axes.margins(y=0.12)
    axes.grid(alpha=0.25)
    if curves:  # the legend stands above the axes: in a corner it could hide a curve
        axes.legend(fontsize=9, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False)
    else:
        axes.text(0.5, 0.5, "none recorded", transform=axes.transAxes, ha="center", va="center", color=_GREY)


def _short(label: str) -> str:
    """Return the label on one line, cut to fit beside a picture."""
    line = " ".join(label.split())
    return line if len(line) <= _NAME else line[: _NAME - 1] + "…"
