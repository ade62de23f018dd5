"""The gain of one model over another on the same rows: its value and its paired interval, by other means."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import f1_score

from inferer.bundle.manifest import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from training.data.dataset import Columns, Dataset
from training.evaluation.predictions import Predictions
from training.report.intervals import RESAMPLES, SEED
from training.report.metrics import choosing_figure, measure
from training.search.gain import gain

LABELS = ("a", "b", "c")


def single(targets: list[int]) -> Dataset:
    """Return single-label rows."""
    texts = tuple(f"text {i}" for i in range(len(targets)))
    return Dataset(texts, tuple((target,) for target in targets), LABELS, SINGLE_LABEL, Columns("text", "label"))


def choosing(labels: list[int]) -> Predictions:
    """Return predictions of one label per row."""
    chosen = np.eye(3, dtype=bool)[labels]
    return Predictions(chosen.astype(float), chosen)


def numbers(values: list[float], groups: tuple[str, ...] = ()) -> Dataset:
    """Return the rows of a regression."""
    columns = Columns("text", "n", numeric=True, group_column="g" if groups else None)
    texts = tuple(f"text {i}" for i in range(len(values)))
    return Dataset(texts, ((),) * len(values), ("n",), REGRESSION, columns, numbers=tuple(values), groups=groups)


def scoring(values: list[float]) -> Predictions:
    """Return the predictions of a regression."""
    scores = np.array(values)[:, None]
    return Predictions(scores, np.zeros_like(scores, dtype=bool))


def test_a_model_that_is_always_right_gains_one_over_one_that_never_is() -> None:
    """All right against all wrong: macro-F1 gains 1 in every resample; two equal models gain 0."""
    data = single([0, 1, 2, 0, 1, 2])
    wrong, right = choosing([1, 2, 0, 1, 2, 0]), choosing([0, 1, 2, 0, 1, 2])
    found = gain(data, wrong, right)
    assert (found.value, found.low, found.high, found.n) == (1, 1, 1, 6)
    same = gain(data, right, right)
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_the_interval_is_that_of_paired_resamples() -> None:
    """The interval is that of macro-F1's difference by scikit-learn over the same rows drawn for both models."""
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 3, 60)
    before, after = (np.where(rng.random(60) < share, truth, rng.integers(0, 3, 60)) for share in (0.5, 0.7))
    draws = np.random.default_rng(SEED)

    def difference(rows: np.ndarray) -> float:
        present = np.unique(truth[rows])
        first, second = (
            f1_score(truth[rows], side[rows], labels=present, average="macro", zero_division=0)
            for side in (before, after)
        )
        return float(second - first)

    values = [difference(draws.integers(0, 60, 60)) for _ in range(RESAMPLES)]
    found = gain(single(truth.tolist()), choosing(before.tolist()), choosing(after.tolist()))
    assert found.value == pytest.approx(difference(np.arange(60)))
    assert [found.low, found.high] == pytest.approx(np.percentile(values, [2.5, 97.5]))
    assert found.low is not None
    assert found.low < found.value


@pytest.mark.parametrize("kind", [SINGLE_LABEL, MULTI_LABEL, "spearman", "groups"])
def test_the_gain_is_the_difference_of_the_figure_that_chooses(kind: str) -> None:
    """For each kind of model the gain is the figure of the one less that of the other, within its interval."""
    rng = np.random.default_rng(1)
    if kind in (SINGLE_LABEL, MULTI_LABEL):
        data = replace(single(rng.integers(0, 2, 30).tolist()), problem_type=kind)  # label c is in no row
        before, after = (choosing(rng.integers(0, 3, 30).tolist()) for _ in range(2))
    else:
        groups = tuple(str(i // 5) for i in range(30)) if kind == "groups" else ()
        data = numbers([float(i % 5 == 2) + i / 100 for i in range(30)], groups)
        before, after = (scoring(rng.random(30).tolist()) for _ in range(2))
    figure = choosing_figure(data)
    first, second = (measure(data, one, intervals=False)[figure] for one in (before, after))
    found = gain(data, before, after)
    assert found.value == pytest.approx(second - first)
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.value <= found.high
    assert found.n == (6 if kind == "groups" else 30)
