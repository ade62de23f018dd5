"""Figures for a set of predictions: each with its n, its 95 % interval, and what needs no model beside it. No torch.

The baselines are of the rows measured, so that they are what a model that knew no text would reach on them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from inferer.bundle.manifest import SINGLE_LABEL
from training.data.dataset import Dataset
from training.evaluation.predictions import Predictions
from training.report.f1 import macro_f1, micro_f1
from training.report.intervals import bootstrapped, resampled_sums, wilson
from training.report.tables import figure_rows, label_rows

_Statistic = Callable[[np.ndarray], np.ndarray]


def measure(dataset: Dataset, predictions: Predictions, *, intervals: bool = True) -> dict[str, Any]:
    """Return the figures of `predictions` against `dataset`, in JSON types; None for one that cannot be measured.

    Of either kind: n rows; accuracy (multi-label: all labels of a row right, also as subset_accuracy); macro_f1, over
    all labels of the model, where one that no row carries counts as 0; labels: precision, recall and f1 of each with n
    (rows that carry it) and given (rows that were given it), 0 where there is nothing to divide by, and f1_interval.
    Single-label: weighted_f1; balanced_macro_f1, with rows weighted so that the classes weigh the same;
    majority_accuracy; log_loss in nats; roc_auc of the second of two labels. Multi-label:
    micro_f1; hamming_loss; roc_auc, the mean over the roc_auc_labels labels that some rows carry and some do not, with
    each label's own in labels.
    intervals: [low, high] of 95 %: Wilson for accuracy, the percentile bootstrap over rows for the rest. Without
    `intervals` neither these nor f1_interval are computed, which takes most of the time.
    baselines: the same figures by always naming the largest class of these rows and by their class shares as scores
    (single-label); by no label and by the commonest alone (multi-label); by chance.
    """
    truth = dataset.multi_hot()
    single = dataset.problem_type == SINGLE_LABEL
    features = _features(truth, predictions.chosen, single=single)
    statistics = _statistics(features, len(dataset.labels), single=single)
    if single:
        features = np.column_stack([features, _log_losses(truth, predictions.scores)])
        statistics["log_loss"] = lambda sums: sums[..., -1] / len(truth)
    metrics: dict[str, Any] = {"n": len(dataset)}
    sums = features.sum(axis=0)
    metrics |= {name: float(statistic(sums)) for name, statistic in statistics.items()}
    labels = _label_figures(dataset.labels, sums)
    if single:
        metrics["majority_accuracy"] = float(truth.sum(axis=0).max() / len(truth))
        if len(dataset.labels) == 2:
            metrics["roc_auc"] = _roc_auc(truth[:, 1], predictions.scores[:, 1])
    else:
        metrics["subset_accuracy"] = metrics["accuracy"]
        metrics |= _roc_aucs(labels, truth, predictions.scores)
    if intervals:
        resampled = resampled_sums(features)
        metrics["intervals"] = _intervals(statistics, features, resampled)
        _add_f1_intervals(labels, features, resampled)
    metrics["baselines"] = _baselines(dataset, truth, single=single)
    metrics["labels"] = labels
    return metrics


def as_table(metrics: dict[str, Any]) -> str:
    """Return `metrics` as lines for a terminal: the labels, then the figures with interval, n and baselines."""
    return "\n".join([*label_rows(metrics), "", *figure_rows(metrics)])


def _features(truth: np.ndarray, chosen: np.ndarray, *, single: bool) -> np.ndarray:
    """Return columns whose sums all figures are made of, float64 [rows, 3 * labels + 1]: true, given, both, all right.

    Single-label has the first three again, [rows, 6 * labels + 1], each row weighing one over its class's rows.
    truth, chosen: bool [rows, labels].
    """
    right = (truth == chosen).all(axis=1)
    columns = np.column_stack([truth, chosen, truth & chosen, right]).astype(np.float64)
    if not single:
        return columns
    weights = truth @ (1.0 / np.maximum(truth.sum(axis=0), 1))
    return np.column_stack([columns, columns[:, :-1] * weights[:, None]])


def _counts(sums: np.ndarray, labels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the sums [..., labels] of rows that carry each label, that were given it, and both."""
    return sums[..., :labels], sums[..., labels : 2 * labels], sums[..., 2 * labels : 3 * labels]


def _statistics(features: np.ndarray, labels: int, *, single: bool) -> dict[str, _Statistic]:
    """Return the figures as functions of sums [..., columns of `_features`]."""
    rows = len(features)
    # A resample may lose a rare label, which is not its F1's fault; one that no row carries at all counts as 0.
    carried = float((features[:, :labels].sum(axis=0) > 0).mean())

    def macro(sums: np.ndarray) -> np.ndarray:
        return np.nan_to_num(macro_f1(*_counts(sums, labels))) * carried

    def balanced(sums: np.ndarray) -> np.ndarray:
        true, given, hits = _counts(sums[..., 3 * labels + 1 :], labels)
        f1 = 2 * hits / np.maximum(true + given, 1e-12)
        present = true > 0
        return (f1 * present).sum(axis=-1) / np.maximum(present.sum(axis=-1), 1) * carried

    def micro(sums: np.ndarray) -> np.ndarray:
        return np.nan_to_num(micro_f1(*_counts(sums, labels)))

    def weighted(sums: np.ndarray) -> np.ndarray:
        true, given, hits = _counts(sums, labels)
        return (true * 2 * hits / np.maximum(true + given, 1)).sum(axis=-1) / np.maximum(true.sum(axis=-1), 1)

    def hamming(sums: np.ndarray) -> np.ndarray:
        true, given, hits = _counts(sums, labels)
        return (true + given - 2 * hits).sum(axis=-1) / (rows * labels)

    statistics: dict[str, _Statistic] = {"accuracy": lambda sums: sums[..., 3 * labels] / rows, "macro_f1": macro}
    if single:
        return statistics | {"weighted_f1": weighted, "balanced_macro_f1": balanced}
    return statistics | {"micro_f1": micro, "hamming_loss": hamming}


def _log_losses(truth: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return each row's -log of the score of what is true, in nats, [rows]; a score of 0 counts as 2e-16."""
    return -np.log(np.maximum(scores[truth].astype(np.float64), np.finfo(np.float64).eps))


def _label_figures(labels: tuple[str, ...], sums: np.ndarray) -> dict[str, dict[str, Any]]:
    true, given, hits = _counts(sums, len(labels))
    found = {}
    for i, label in enumerate(labels):
        found[label] = {
            "precision": float(hits[i] / max(given[i], 1)),
            "recall": float(hits[i] / max(true[i], 1)),
            "f1": float(2 * hits[i] / max(true[i] + given[i], 1)),
            "n": int(true[i]),
            "given": int(given[i]),
        }
    return found


def _intervals(
    statistics: dict[str, _Statistic], features: np.ndarray, resampled: np.ndarray
) -> dict[str, list[float | None]]:
    found = {name: bootstrapped(statistic, features, resampled) for name, statistic in statistics.items()}
    hits = round(found["accuracy"].value * len(features))
    found["accuracy"] = wilson(hits, len(features))
    return {name: [figure.low, figure.high] for name, figure in found.items()}


def _add_f1_intervals(labels: dict[str, dict[str, Any]], features: np.ndarray, resampled: np.ndarray) -> None:
    count = len(labels)

    def f1_of(label: int) -> _Statistic:
        # As the label's own f1: 0 where a resample neither carries nor gives it.
        return lambda sums: (
            2 * sums[..., 2 * count + label] / np.maximum(sums[..., label] + sums[..., count + label], 1)
        )

    for i, row in enumerate(labels.values()):
        figure = bootstrapped(f1_of(i), features, resampled)
        row["f1_interval"] = [figure.low, figure.high] if row["n"] else None


def _roc_auc(truth: np.ndarray, scores: np.ndarray) -> float | None:
    return float(roc_auc_score(truth, scores)) if truth.any() and not truth.all() else None


def _roc_aucs(labels: dict[str, dict[str, Any]], truth: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    """Put each label's ROC AUC into `labels`; return their mean and of how many labels it is."""
    for i, row in enumerate(labels.values()):
        row["roc_auc"] = _roc_auc(truth[:, i], scores[:, i])
    known = [row["roc_auc"] for row in labels.values() if row["roc_auc"] is not None]
    return {"roc_auc": float(np.mean(known)) if known else None, "roc_auc_labels": len(known)}


def _baselines(dataset: Dataset, truth: np.ndarray, *, single: bool) -> dict[str, dict[str, Any]]:
    common = int(truth.sum(axis=0).argmax())
    always = np.zeros_like(truth)
    always[:, common] = True

    def figures_of(chosen: np.ndarray) -> dict[str, float]:
        features = _features(truth, chosen, single=single)
        sums = features.sum(axis=0)
        statistics = _statistics(features, len(dataset.labels), single=single)
        return {name: float(statistic(sums)) for name, statistic in statistics.items()}

    label = {"label": dataset.labels[common]}
    chance = {"chance": {"roc_auc": 0.5}} if not single or len(dataset.labels) == 2 else {}
    if not single:
        return {
            "no_label": figures_of(np.zeros_like(truth)),
            "commonest_label": label | figures_of(always),
            **chance,
        }
    shares = truth.mean(axis=0)
    shares = shares[shares > 0]
    entropy = float(-(shares * np.log(shares)).sum())
    return {"largest_class": label | figures_of(always), "class_shares": {"log_loss": entropy}, **chance}
