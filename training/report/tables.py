"""Tables of the figures of metrics.py, for a terminal and the model card. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from training.report.numbers import figures_rows

_TITLES = {
    "accuracy": "accuracy",
    "micro_f1": "micro-F1",
    "macro_f1": "macro-F1",
    "weighted_f1": "weighted F1",
    "balanced_macro_f1": "macro-F1, classes weighted equally",
    "hamming_loss": "Hamming loss",
    "log_loss": "log loss (nats)",
    "roc_auc": "ROC AUC",
}
_SHOWN_LABEL = 24

Row = tuple[str, ...]


def figures_table(metrics: Mapping[str, Any]) -> list[Row]:
    """Return a heading and a row per figure: its name, value, 95 % interval, n and baselines.

    Single-label has one column of baselines, multi-label two; a value from another baseline names it.
    """
    if "mse" in metrics:
        return figures_rows(metrics)
    multi = "micro_f1" in metrics
    main = ("no_label", "commonest_label") if multi else ("largest_class",)
    baselines = metrics["baselines"]
    label = _short(baselines[main[-1]]["label"])
    heading = ("no label", f"always '{label}'") if multi else (f"always '{label}'",)
    rows: list[Row] = [("", "", "95 % interval", "n", *heading)]
    for name, title in _TITLES.items():
        if (value := metrics.get(name)) is None:
            continue
        low, high = metrics.get("intervals", {}).get(name, (None, None))
        if name == "accuracy" and multi:
            title = "subset accuracy"
        if name == "roc_auc" and multi:
            title = f"{title}, mean of {metrics['roc_auc_labels']} labels"
        beside = [f"{baselines[one][name]:.4f}" if name in baselines[one] else "" for one in main]
        if other := {"log_loss": "class_shares", "roc_auc": "chance"}.get(name):
            beside[0] = f"{baselines[other][name]:.4f} ({other.replace('_', ' ')})"
        interval = "" if low is None else f"{low:.4f} to {high:.4f}"
        rows.append((title, f"{value:.4f}", interval, f"{metrics['n']}", *beside))
    return rows


def labels_table(metrics: Mapping[str, Any]) -> list[Row]:
    """Return a heading and a row per label: its name, precision, recall, F1, its 95 % interval, n."""
    auc = any("roc_auc" in row for row in metrics["labels"].values())
    rows: list[Row] = [("label", "precision", "recall", "F1", "95 % interval", *(["ROC AUC"] if auc else []), "n")]
    for label, row in metrics["labels"].items():
        numbers = [f"{row[name]:.3f}" for name in ("precision", "recall", "f1")]
        interval = "{:.3f} to {:.3f}".format(*ends) if (ends := row.get("f1_interval")) else ""
        area = [] if not auc else ["" if row["roc_auc"] is None else f"{row['roc_auc']:.3f}"]
        rows.append((label, *numbers, interval, *area, f"{row['n']}"))
    return rows


def as_table(metrics: Mapping[str, Any]) -> str:
    """Return both tables of `metrics`, the labels first, as lines for a terminal; a regression has no labels."""
    if not metrics["labels"]:
        return as_text(figures_table(metrics))
    return f"{as_text(labels_table(metrics))}\n\n{as_text(figures_table(metrics))}"


def markdown(rows: Sequence[Row]) -> list[str]:
    """Return rows, the heading first, as lines of a Markdown table, figures to the right."""
    cells = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in cells]
    side = " ---: |" if len(rows[0]) > 2 else " --- |"
    return [lines[0], f"| --- |{side * (len(rows[0]) - 1)}", *lines[1:]]


def as_text(rows: Sequence[Row]) -> str:
    """Return rows as lines: the first column to the left, the others to the right, each as wide as its widest cell."""
    first, *others = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, *cells in rows:
        shown = [f"{cell:>{width}}" for cell, width in zip(cells, others, strict=True)]
        lines.append("  ".join([f"  {name:<{first}}", *shown]).rstrip())
    return "\n".join(lines)


def _short(label: str) -> str:
    return label if len(label) <= _SHOWN_LABEL else label[: _SHOWN_LABEL - 1] + "…"
