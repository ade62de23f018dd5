"""Warnings on a model that is of little use on the user's own texts, whatever limits were set."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from inferer.bundle.manifest import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from training.report.intervals import Figure, macro_f1

_LEAST_SPEARMAN = 0.95
_LEAST_AGREEMENT = 0.9  # int8 of trained models agrees for 97 % of texts and more (docs/performance.md)


def warnings(
    figures: Mapping[str, Figure], truth: np.ndarray | None, problem_type: str, *, int8_served: bool
) -> list[str]:
    """Return a sentence with what to try for each fault of the model that the guard's `figures` show.

    truth: bool [texts, labels], None without labels. int8_served: whether the bundle's model is int8. Judged are fp32's
    accuracy, against the commonest label (of several labels the commonest set, and macro-F1 with it) and, by the upper
    end of its interval, chance; and by that end int8's agreement with fp32. Of a regression the rank correlations are
    judged, of fp32 with the truth and of int8 with fp32.
    """
    if problem_type == REGRESSION:
        return _of_numbers(figures, int8_served=int8_served)
    found = [] if truth is None else _of_accuracy(figures, truth, problem_type)
    agreement = figures["agreement"]
    if int8_served and _upper(agreement) < _LEAST_AGREEMENT:
        found.append(
            f"warning: int8 gives {1 - agreement.value:.1%} of your texts another label than fp32; try "
            "--min-agreement 99, which keeps the most sensitive layers in fp32, or --scheme fp32"
        )
    return found


def _of_accuracy(figures: Mapping[str, Figure], truth: np.ndarray, problem_type: str) -> list[str]:
    accuracy = figures["accuracy_fp32"]
    right = f"{accuracy.value:.1%} of your texts are labelled right"
    if problem_type == SINGLE_LABEL and _upper(accuracy) < 1 / truth.shape[1]:
        return [
            f"warning: only {right}, fewer than by chance: the names of the labels may be in another order than the "
            "model's logits; give them in that order (labels in --config FILE.json)"
        ]
    sets, counts = np.unique(truth, axis=0, return_counts=True)
    majority, what = counts.max() / len(truth), "label"
    of_use = len(counts) == 1 or accuracy.value > majority
    if problem_type == MULTI_LABEL:
        what = "set of labels"
        of_use = of_use or _finds_labels(figures, truth, sets[counts.argmax()])
    if accuracy.value and of_use:
        return []
    return [
        f"warning: the model is of no use on your texts: {right}, and the commonest {what} alone would be right for "
        f"{majority:.1%}; check the columns and the order of the labels, or train on texts like these"
    ]


def _finds_labels(figures: Mapping[str, Figure], truth: np.ndarray, always: np.ndarray) -> bool:
    """Return whether fp32's macro-F1 is above that of the same set of labels, `always`, for each text.

    Where most texts have no label, a model that finds the labels of the others is right about whole sets less often.
    """
    found = figures.get("macro_f1_fp32")
    same = macro_f1(truth.sum(axis=0), always * len(truth), (truth & always).sum(axis=0))
    return found is not None and found.value > float(same)


def _of_numbers(figures: Mapping[str, Figure], *, int8_served: bool) -> list[str]:
    found = []
    true = figures.get("spearman_fp32")
    if true is not None and not _upper(true) > 0:
        found.append(
            f"warning: the model is of no use on your texts: its numbers rise with yours by a rank correlation of "
            f"{true.value:.2f}; check the columns, and which of the two texts comes first"
        )
    if int8_served and _upper(figures["spearman"]) < _LEAST_SPEARMAN:
        found.append(
            "warning: int8 ranks your texts differently, by a rank correlation with fp32 of "
            f"{figures['spearman'].value:.3f}; try --min-spearman 0.99, which keeps the most sensitive layers in "
            "fp32, or --scheme fp32"
        )
    return found


def _upper(figure: Figure) -> float:
    return figure.value if figure.high is None else figure.high
