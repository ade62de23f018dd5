"""Figures of int8 against fp32: two models' predictions on the same texts, compared."""

from __future__ import annotations

import numpy as np

from export.bootstrap import Statistic, bootstrap_figures, difference, f1_of, mean_of
from export.predictions import Predictions
from inferer.bundle.manifest import REGRESSION, SINGLE_LABEL
from training.report.intervals import RESAMPLES, SEED, Figure, macro_f1, wilson

METHOD = (
    f"95 % intervals: Wilson score for agreement and accuracy, percentile bootstrap over texts "
    f"({RESAMPLES} resamples, seed {SEED}) for the rest; differences are paired"
)


def divergence(fp32: np.ndarray, int8: np.ndarray, problem_type: str) -> np.ndarray:
    """Return KL(fp32||int8) of each text in nats, [texts], from logits [texts, labels]; of a regression the square.

    Single-label: of the softmax distributions. Multi-label: the sum over labels of the divergence of two Bernoulli
    distributions, with the label's score as the probability of yes.
    """
    a, b = fp32.astype(np.float64), int8.astype(np.float64)
    if problem_type == REGRESSION:
        return np.asarray(np.square(a - b).sum(axis=1))
    if problem_type == SINGLE_LABEL:
        log_a, log_b = (x - np.logaddexp.reduce(x, axis=1, keepdims=True) for x in (a, b))
        terms = np.exp(log_a) * (log_a - log_b)
    else:
        yes, no = (-np.logaddexp(0, -a), -np.logaddexp(0, -b)), (-np.logaddexp(0, a), -np.logaddexp(0, b))
        terms = np.exp(yes[0]) * (yes[0] - yes[1]) + np.exp(no[0]) * (no[0] - no[1])
    return np.asarray(np.maximum(terms.sum(axis=1), 0.0))  # rounding may leave a negative sum


def compare(fp32: Predictions, int8: Predictions, truth: np.ndarray | None, problem_type: str) -> dict[str, Figure]:
    """Return the figures of int8 against fp32 on the same texts: shares and scores from 0 to 1, kl in nats.

    agreement: texts with the same label, multi-label the same set of labels. mean_change, largest_change: over texts,
    of the largest change of a text's scores. kl: the mean of `divergence`. With truth, bool [texts, labels]:
    accuracy_fp32, accuracy_int8 (multi-label: all labels of a text right) and accuracy_drop, their difference;
    macro_f1_… likewise, F1 averaged over the labels that occur in `truth`, left out when none does.
    """
    n = len(fp32.scores)
    change = np.abs(int8.scores - fp32.scores).max(axis=1)
    same = (fp32.chosen == int8.chosen).all(axis=1)
    figures = {"agreement": wilson(int(same.sum()), n), "largest_change": Figure(float(change.max()), n)}
    columns = {"change": change, "kl": divergence(fp32.logits, int8.logits, problem_type)}
    statistics: dict[str, Statistic] = {"mean_change": mean_of("change", n), "kl": mean_of("kl", n)}
    if truth is not None:
        models = {"fp32": fp32, "int8": int8}
        right = {name: (model.chosen == truth).all(axis=1) for name, model in models.items()}
        figures |= {f"accuracy_{name}": wilson(int(hits.sum()), n) for name, hits in right.items()}
        columns |= {"drop": right["fp32"].astype(float) - right["int8"], "true": truth}
        for name, model in models.items():
            columns |= {f"chosen_{name}": model.chosen, f"hits_{name}": model.chosen & truth}
        statistics["accuracy_drop"] = mean_of("drop", n)
        if truth.any():
            f1 = {name: f1_of(macro_f1, name) for name in models}
            statistics |= {f"macro_f1_{name}": statistic for name, statistic in f1.items()}
            statistics["macro_f1_drop"] = difference(f1["fp32"], f1["int8"])
    return figures | bootstrap_figures(columns, statistics)
