"""Figures of predictions, each with its n, its 95 % interval and its baselines. No torch.

Baselines are computed on the measured rows: a model that ignores the text would reach them there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from inferer.bundle.manifest import REGRESSION, SINGLE_LABEL
from training.data.dataset import Dataset
from training.evaluation.predictions import Predictions
from training.report.intervals import bootstrapped, macro_f1, micro_f1, resampled_sums, wilson
from training.report.numbers import measure_numbers

_Flags = NDArray[np.bool_]
_Floats = NDArray[np.float64]
_Statistic = Callable[[_Floats], _Floats]


def choosing_figure(dataset: Dataset) -> str:
    """Return the name of the figure that chooses among epochs and settings; more of it is better."""
    if dataset.problem_type == REGRESSION:
        return "ndcg_at_10" if dataset.groups else "spearman"
    return "macro_f1" if dataset.problem_type == SINGLE_LABEL else "micro_f1"


def measure(dataset: Dataset, predictions: Predictions, *, intervals: bool = True) -> dict[str, Any]:
    """Return the figures of `predictions` against `dataset`, in JSON types; None for one that cannot be measured.

    Those of a regression: see `measure_numbers`.

    Accuracy of multi-label rows needs all labels right. macro_f1 is over all labels of the model: one without rows
    counts as 0. balanced_macro_f1 weights rows so that the classes weigh the same. log_loss is in nats. roc_auc is of
    the second of two labels, or the mean over the roc_auc_labels labels that some rows carry and some do not. labels
    holds each label's n (rows that carry it) and given (rows for which it was predicted).
    intervals: [low, high] of 95 %, Wilson for accuracy, the percentile bootstrap over rows for the rest; they take most
    of the time. baselines: the figures of always predicting the largest class and of the class shares as scores
    (single-label), of no label and of the commonest alone (multi-label), and of chance.
    """
    if dataset.problem_type == REGRESSION:
        return measure_numbers(dataset, predictions.scores[:, 0], intervals=intervals)
    truth = dataset.multi_hot()
    single = dataset.problem_type == SINGLE_LABEL
    features = _features(truth, predictions.chosen, single=single)
    statistics = _statistics(features, len(dataset.labels), single=single)
    if single:
        features = np.column_stack([features, _log_losses(truth, predictions.scores)])
        statistics["log_loss"] = lambda sums: sums[..., -1] / len(truth)
    metrics: dict[str, Any] = {"n": len(dataset), **_values(statistics, features)}
    labels = _label_figures(dataset.labels, features.sum(axis=0))
    if single:
        metrics["majority_accuracy"] = float(truth.sum(axis=0).max() / len(truth))
        if len(dataset.labels) == 2:
            metrics["roc_auc"] = _roc_auc(truth[:, 1], predictions.scores[:, 1])
    else:
        metrics["subset_accuracy"] = metrics["accuracy"]
        metrics |= _roc_aucs(labels, truth, predictions.scores)
    if intervals:
        resampled = resampled_sums(features)
        found = {name: bootstrapped(statistic, features, resampled) for name, statistic in statistics.items()}
        found["accuracy"] = wilson(round(metrics["accuracy"] * len(features)), len(features))
        metrics["intervals"] = {name: [figure.low, figure.high] for name, figure in found.items()}
        _add_f1_intervals(labels, features, resampled)
    metrics["baselines"] = _baselines(dataset, truth, single=single)
    metrics["labels"] = labels
    return metrics


def _features(truth: _Flags, chosen: _Flags, *, single: bool) -> _Floats:
    """Return the columns whose sums give all figures, [rows, 3 * labels + 1]: true, chosen, both, all right.

    Single-label has the first three again, [rows, 6 * labels + 1], with each row weighing one over its class's rows.
    """
    right = (truth == chosen).all(axis=1)
    columns = np.column_stack([truth, chosen, truth & chosen, right]).astype(np.float64)
    if not single:
        return columns
    weights = truth @ (1.0 / np.maximum(truth.sum(axis=0), 1))
    return np.column_stack([columns, columns[:, :-1] * weights[:, None]])


def _counts(sums: _Floats, labels: int) -> tuple[_Floats, _Floats, _Floats]:
    """Return the sums [..., labels] of rows that carry each label, of those predicted to, and of both."""
    return sums[..., :labels], sums[..., labels : 2 * labels], sums[..., 2 * labels : 3 * labels]


def _statistics(features: _Floats, labels: int, *, single: bool) -> dict[str, _Statistic]:
    """Return the figures as functions of sums [..., columns of `_features`]."""
    rows = len(features)
    # A resample may lose a rare label, which does not count there; a label without any row counts as 0.
    carried = float((features[:, :labels].sum(axis=0) > 0).mean())

    def balanced(sums: _Floats) -> _Floats:
        true, given, hits = _counts(sums[..., 3 * labels + 1 :], labels)
        present = true > 0
        f1 = _ratio(2 * hits, true + given, least=1e-12)
        return _ratio((f1 * present).sum(axis=-1), present.sum(axis=-1)) * carried

    def weighted(sums: _Floats) -> _Floats:
        true, given, hits = _counts(sums, labels)
        return _ratio(_ratio(true * 2 * hits, true + given).sum(axis=-1), true.sum(axis=-1))

    def hamming(sums: _Floats) -> _Floats:
        true, given, hits = _counts(sums, labels)
        return _ratio((true + given - 2 * hits).sum(axis=-1), rows * labels)

    statistics: dict[str, _Statistic] = {
        "accuracy": lambda sums: sums[..., 3 * labels] / rows,
        "macro_f1": lambda sums: np.nan_to_num(macro_f1(*_counts(sums, labels))) * carried,
    }
    if single:
        return statistics | {"weighted_f1": weighted, "balanced_macro_f1": balanced}
    return statistics | {
        "micro_f1": lambda sums: np.nan_to_num(micro_f1(*_counts(sums, labels))),
        "hamming_loss": hamming,
    }


def _values(statistics: dict[str, _Statistic], features: _Floats) -> dict[str, float]:
    sums = features.sum(axis=0)
    return {name: float(statistic(sums)) for name, statistic in statistics.items()}


def _ratio(part: _Floats, whole: _Floats | int, least: float = 1) -> _Floats:
    """Return `part` / `whole`, with divisors below `least` raised to it."""
    ratio: _Floats = part / np.maximum(whole, least)
    return ratio


def _log_losses(truth: _Flags, scores: _Floats) -> _Floats:
    """Return each row's -log of the true label's score, in nats, [rows]; a score of 0 counts as 2e-16.

    export/scores/figures.py computes it from logits, which a bundle's predictions do not have.
    """
    return -np.log(np.maximum(scores[truth], np.finfo(np.float64).eps))


def _label_figures(labels: tuple[str, ...], sums: _Floats) -> dict[str, dict[str, Any]]:
    true, given, hits = _counts(sums, len(labels))
    shares = {"precision": _ratio(hits, given), "recall": _ratio(hits, true), "f1": _ratio(2 * hits, true + given)}
    return {
        label: {name: float(share[i]) for name, share in shares.items()} | {"n": int(true[i]), "given": int(given[i])}
        for i, label in enumerate(labels)
    }


def _add_f1_intervals(labels: dict[str, dict[str, Any]], features: _Floats, resampled: _Floats) -> None:
    count = len(labels)
    for i, row in enumerate(labels.values()):

        def f1(sums: _Floats, i: int = i) -> _Floats:
            return _ratio(2 * sums[..., 2 * count + i], sums[..., i] + sums[..., count + i])

        figure = bootstrapped(f1, features, resampled)
        row["f1_interval"] = [figure.low, figure.high] if row["n"] else None


def _roc_auc(truth: _Flags, scores: _Floats) -> float | None:
    return float(roc_auc_score(truth, scores)) if truth.any() and not truth.all() else None


def _roc_aucs(labels: dict[str, dict[str, Any]], truth: _Flags, scores: _Floats) -> dict[str, Any]:
    """Add each label's ROC AUC to `labels`; return their mean and the number of labels in it."""
    for i, row in enumerate(labels.values()):
        row["roc_auc"] = _roc_auc(truth[:, i], scores[:, i])
    known = [row["roc_auc"] for row in labels.values() if row["roc_auc"] is not None]
    return {"roc_auc": float(np.mean(known)) if known else None, "roc_auc_labels": len(known)}


def _baselines(dataset: Dataset, truth: _Flags, *, single: bool) -> dict[str, dict[str, Any]]:
    common = int(truth.sum(axis=0).argmax())
    always = np.zeros_like(truth)
    always[:, common] = True

    def figures_of(chosen: _Flags) -> dict[str, float]:
        features = _features(truth, chosen, single=single)
        return _values(_statistics(features, len(dataset.labels), single=single), features)

    commonest = {"label": dataset.labels[common], **figures_of(always)}
    chance = {"chance": {"roc_auc": 0.5}} if not single or len(dataset.labels) == 2 else {}
    if not single:
        return {"no_label": figures_of(np.zeros_like(truth)), "commonest_label": commonest, **chance}
    shares = truth.mean(axis=0)
    shares = shares[shares > 0]
    entropy = float(-(shares * np.log(shares)).sum())
    return {"largest_class": commonest, "class_shares": {"log_loss": entropy}, **chance}
