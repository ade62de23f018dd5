"""Figures of int8 against fp32: two models' predictions on the same texts, compared."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from export.predictions import Predictions
from inferer.bundle.manifest import SINGLE_LABEL
from training.report.f1 import macro_f1
from training.report.intervals import RESAMPLES, SEED, Figure, bootstrapped, resampled_sums, wilson

METHOD = (
    f"95 % intervals: Wilson score for agreement and accuracy, percentile bootstrap over texts "
    f"({RESAMPLES} resamples, seed {SEED}) for the rest; differences are paired"
)


def divergence(fp32: np.ndarray, int8: np.ndarray, problem_type: str) -> np.ndarray:
    """Return KL(fp32||int8) of each text in nats, [texts], from logits [texts, labels].

    Single-label: of the two softmax distributions. Multi-label: the sum over labels of the divergence of
    two Bernoulli distributions, each label's score being the chance of yes.
    """
    a, b = fp32.astype(np.float64), int8.astype(np.float64)
    if problem_type == SINGLE_LABEL:
        log_a, log_b = (x - np.logaddexp.reduce(x, axis=1, keepdims=True) for x in (a, b))
        terms = np.exp(log_a) * (log_a - log_b)
    else:
        yes, no = (-np.logaddexp(0, -a), -np.logaddexp(0, -b)), (-np.logaddexp(0, a), -np.logaddexp(0, b))
        terms = np.exp(yes[0]) * (yes[0] - yes[1]) + np.exp(no[0]) * (no[0] - no[1])
    return np.maximum(terms.sum(axis=1), 0.0)  # never negative but by rounding


def compare(fp32: Predictions, int8: Predictions, truth: np.ndarray | None, problem_type: str) -> dict[str, Figure]:
    """Return the figures of int8 against fp32 on the same texts; all are shares or scores in 0 to 1, but kl in nats.

    agreement: texts with the same label, multi-label the same set of labels. mean_change, largest_change:
    over texts, of the largest change among a text's scores. kl: the mean of `divergence`. With truth,
    bool [texts, labels]: accuracy_fp32, accuracy_int8 (multi-label: every label of a text right) and
    accuracy_drop, the first less the second; macro_f1_… likewise, F1 averaged over the labels that
    texts carry in `truth` (left out when none does).
    """
    n = len(fp32.scores)
    change = np.abs(int8.scores - fp32.scores).max(axis=1)
    same = (fp32.chosen == int8.chosen).all(axis=1)
    columns = [change[:, None], divergence(fp32.logits, int8.logits, problem_type)[:, None]]
    if truth is not None:
        right = [(model.chosen == truth).all(axis=1) for model in (fp32, int8)]
        columns.append((right[0].astype(float) - right[1])[:, None])
        columns += [truth, fp32.chosen, fp32.chosen & truth, int8.chosen, int8.chosen & truth]
    features = np.concatenate(columns, axis=1, dtype=np.float64)
    resampled = resampled_sums(features)

    def mean(column: int) -> Figure:
        return bootstrapped(lambda sums: sums[..., column] / n, features, resampled)

    figures = {
        "agreement": wilson(int(same.sum()), n),
        "mean_change": mean(0),
        "largest_change": Figure(float(change.max()), n),
        "kl": mean(1),
    }
    if truth is None:
        return figures
    figures |= {f"accuracy_{name}": wilson(int(r.sum()), n) for name, r in zip(("fp32", "int8"), right, strict=True)}
    figures["accuracy_drop"] = mean(2)
    if truth.any():
        for name, statistic in _macro_f1s(truth.shape[1]).items():
            figures[f"macro_f1_{name}"] = bootstrapped(statistic, features, resampled)
    return figures


def _macro_f1s(labels: int) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Return the macro-F1 of fp32, of int8, and the first less the second, as functions of the columns' sums."""

    def of_model(sums: np.ndarray, model: int) -> np.ndarray:
        blocks = [sums[..., 3 + i * labels : 3 + (i + 1) * labels] for i in range(5)]
        return macro_f1(blocks[0], blocks[1 + 2 * model], blocks[2 + 2 * model])

    return {
        "fp32": lambda sums: of_model(sums, 0),
        "int8": lambda sums: of_model(sums, 1),
        "drop": lambda sums: of_model(sums, 0) - of_model(sums, 1),
    }
