"""Figures for a set of predictions, each with its n and the majority-class baseline beside it. No torch."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, classification_report, f1_score

from training.data import SINGLE_LABEL, Dataset
from training.split import multi_hot


def predicted_ids(logits: np.ndarray, problem_type: str) -> np.ndarray:
    """Return the label id a row [rows] (single-label), or 0/1 flags [rows, labels] at a score of 0.5."""
    return logits.argmax(axis=1) if problem_type == SINGLE_LABEL else (logits >= 0).astype(np.int64)


def measure(dataset: Dataset, logits: np.ndarray) -> dict[str, Any]:
    """Return the metrics of `logits` [rows, labels] against `dataset`.

    Single-label: accuracy, macro_f1, majority_accuracy. Multi-label: subset accuracy under the name
    accuracy, macro_f1, micro_f1. `labels` has precision, recall, f1 and n of each label.
    """
    predicted = predicted_ids(logits, dataset.problem_type)
    single = dataset.problem_type == SINGLE_LABEL
    truth = np.array([row[0] for row in dataset.targets]) if single else multi_hot(dataset)
    ids = list(range(len(dataset.labels)))
    report = classification_report(
        truth, predicted, labels=ids, target_names=list(dataset.labels), output_dict=True, zero_division=0.0
    )
    metrics: dict[str, Any] = {
        "n": len(dataset),
        "accuracy": float(accuracy_score(truth, predicted)),
        "macro_f1": float(f1_score(truth, predicted, labels=ids, average="macro", zero_division=0.0)),
    }
    if single:
        metrics["majority_accuracy"] = max(Counter(truth.tolist()).values()) / len(dataset)
    else:
        metrics["micro_f1"] = float(f1_score(truth, predicted, average="micro", zero_division=0.0))
    metrics["labels"] = {
        label: {
            "precision": report[label]["precision"],
            "recall": report[label]["recall"],
            "f1": report[label]["f1-score"],
            "n": int(report[label]["support"]),
        }
        for label in dataset.labels
    }
    return metrics


def as_table(metrics: dict[str, Any]) -> str:
    """Return `metrics` as a few lines for a terminal."""
    width = max(8, *(len(label) for label in metrics["labels"]))
    lines = [f"  {'label':<{width}}  precision  recall     f1      n"]
    for label, row in metrics["labels"].items():
        lines.append(f"  {label:<{width}}  {row['precision']:9.3f} {row['recall']:7.3f} {row['f1']:6.3f} {row['n']:6d}")
    summary = f"  accuracy {metrics['accuracy']:.4f}, macro-F1 {metrics['macro_f1']:.4f}"
    if "majority_accuracy" in metrics:
        summary += f" (always the largest class: {metrics['majority_accuracy']:.4f})"
    else:
        summary += f", micro-F1 {metrics['micro_f1']:.4f} (accuracy: all labels of a text right)"
    return "\n".join([*lines, f"{summary}, n = {metrics['n']}"])
