"""The split: every class in both parts, decided by the seed alone, and each row in one part."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferer.bundle.manifest import MULTI_LABEL, SINGLE_LABEL
from training.data.dataset import Columns, Dataset, rows_needed
from training.errors import TrainingError
from training.splits.stratify import further_split, stratified_split

SHARES = (0.01, 0.05, 0.1, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


def single(counts: list[int]) -> Dataset:
    """Return a single-label data set with `counts` rows per class, mixed; each text is its row's number."""
    targets = [(i,) for i, count in enumerate(counts) for _ in range(count)]
    np.random.default_rng(0).shuffle(targets)
    names = tuple(f"class {i}" for i in range(len(counts)))
    rows = tuple(tuple(int(i) for i in row) for row in targets)
    return Dataset(tuple(map(str, range(len(rows)))), rows, names, SINGLE_LABEL, Columns("text", "label"))


def multi(rows: int, shares: tuple[float, ...]) -> Dataset:
    """Return a multi-label data set whose label i is on about `shares[i]` of the rows."""
    flags = np.random.default_rng(1).random((rows, len(shares))) < np.array(shares)
    targets = tuple(tuple(np.flatnonzero(row).tolist()) for row in flags)
    names = tuple(f"label {i}" for i in range(len(shares)))
    return Dataset(tuple(map(str, range(rows))), targets, names, MULTI_LABEL, Columns("text", "label", separator="|"))


def _but_texts(data: Dataset) -> tuple[object, ...]:
    return data.targets, data.labels, data.problem_type, data.columns


def assert_whole(data: Dataset, train: Dataset, held_out: Dataset) -> None:
    """Assert that each row of `data` is in exactly one part, with its own targets."""
    rows = [*zip(train.texts, train.targets, strict=True), *zip(held_out.texts, held_out.targets, strict=True)]
    assert sorted(rows) == sorted(zip(data.texts, data.targets, strict=True))
    assert train.labels == held_out.labels == data.labels
    assert train.problem_type == held_out.problem_type == data.problem_type
    assert train.columns == held_out.columns == data.columns


@settings(max_examples=150, deadline=None)
@given(
    extra=st.lists(st.integers(0, 30), min_size=2, max_size=6),
    test_share=st.sampled_from(SHARES),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_class_has_its_share_in_both_parts(extra: list[int], test_share: float, seed: int) -> None:
    """Classes with enough rows are in both parts, each held out by its share within one row."""
    data = single([rows_needed(test_share) + n for n in extra])
    train, held_out = stratified_split(data, test_share, seed)
    assert_whole(data, train, held_out)
    assert len(held_out) == math.ceil(test_share * len(data))
    kept, held = train.counts(), held_out.counts()
    for label, n in data.counts().items():
        assert kept[label] >= 1
        assert held[label] >= 1
        assert abs(held[label] - n * len(held_out) / len(data)) < 1


def test_multi_label_shares_are_kept() -> None:
    """Each label of a multi-label data set, even a rare one, is held out by its share within two rows."""
    data = multi(500, (0.5, 0.2, 0.04))
    train, held_out = stratified_split(data, 0.2, seed=3)
    assert_whole(data, train, held_out)
    held = held_out.counts()
    for label, n in data.counts().items():
        assert abs(held[label] - 0.2 * n) <= 2, label
    assert abs(len(held_out) - 100) <= 5


@pytest.mark.parametrize("data", [single([40, 30]), multi(70, (0.5, 0.3))], ids=["single", "multi"])
def test_the_seed_alone_decides_the_split(data: Dataset) -> None:
    """The same seed gives the same split under any state of numpy, and another seed another split."""
    np.random.seed(1)
    first = stratified_split(data, 0.2, seed=7)
    np.random.seed(2)
    assert stratified_split(data, 0.2, seed=7) == first
    assert stratified_split(data, 0.2, seed=8)[1].texts != first[1].texts


@pytest.mark.parametrize("data", [single([40, 30]), multi(70, (0.5, 0.3))], ids=["single", "multi"])
def test_both_parts_keep_the_data_s_order(data: Dataset) -> None:
    """Both parts keep the order of the data."""
    for part in stratified_split(data, 0.3, seed=0):
        rows = [int(text) for text in part.texts]
        assert rows == sorted(rows)


def test_a_multi_label_split_without_rows_in_one_part_is_refused() -> None:
    """A multi-label split that would hold out no row is an error in one line, not an empty set of figures."""
    rows = ((2,), (2, 3), (1,), (1,), (0,), (3,), (0, 3), (2, 3), (1,), (0, 1, 2))
    columns = Columns("text", "label", separator="|")
    data = Dataset(tuple(map(str, range(10))), rows, ("a", "b", "c", "d"), MULTI_LABEL, columns)

    def split_until_refused() -> None:
        for seed in range(500):
            assert all(map(len, stratified_split(data, 0.1, seed)))

    with pytest.raises(
        TrainingError, match=r"^seed \d+ and test share 0.1 leave one part without rows; choose others$"
    ):
        split_until_refused()


@pytest.mark.parametrize("data", [single([60, 40]), multi(100, (0.5, 0.3))], ids=["single", "multi"])
def test_the_calibration_rows_are_a_part_of_their_own(data: Dataset) -> None:
    """Training, held-out and calibration rows are three parts of the whole; the last has the size asked for."""
    train, held_out = stratified_split(data, 0.2, seed=1)
    rest, calibration = further_split(train, held_out, 0.25, 1, "calibration")
    assert_whole(train, rest, calibration)
    assert abs(len(calibration) - 20) <= 2
    assert min(calibration.counts().values()) > 0


def test_a_text_that_is_elsewhere_too_is_not_calibrated_on() -> None:
    """A row with the text of another training or held-out row, in any case, stays a training row."""
    data = single([50, 50])
    twice = Dataset(tuple(f" {'Xx'[int(text) % 2]}{int(text) // 2}" for text in data.texts), *_but_texts(data))
    train, held_out = stratified_split(twice, 0.2, seed=1)
    rest, calibration = further_split(train, held_out, 0.25, 1, "calibration")
    assert_whole(train, rest, calibration)
    assert 0 < len(calibration) < 20
    elsewhere = {text.lower() for text in (*rest.texts, *held_out.texts)}
    assert not {text.lower() for text in calibration.texts} & elsewhere


def test_calibration_rows_that_cannot_be_had_are_refused() -> None:
    """Texts that all occur in other rows, and shares that leave a part without a label, are refused."""
    data = single([50, 50])
    few = Dataset(tuple(str(int(text) % 4) for text in data.texts), *_but_texts(data))
    with pytest.raises(TrainingError, match="no row is left for calibration: each text is among the other rows too"):
        further_split(*stratified_split(few, 0.2, seed=1), 0.25, 1, "calibration")
    train, held_out = stratified_split(single([10, 10]), 0.45, seed=0)
    with pytest.raises(TrainingError, match="calibration share, of the rows not held out, 0.9 leave one part without"):
        further_split(train, held_out, 0.9, 0, "calibration")


@pytest.mark.parametrize(
    ("test_share", "rows"), [(0.5, 2), (0.2, 5), (0.8, 5), (0.25, 4), (0.3, 4), (0.1, 10), (0.01, 100)]
)
def test_rows_needed(test_share: float, rows: int) -> None:
    """A class needs enough rows to give the smaller part one, and at least two."""
    assert rows_needed(test_share) == rows


def test_multi_hot() -> None:
    """A row of the matrix has a 1 for each of the row's labels and 0 elsewhere."""
    columns = Columns("text", "label", separator="|")
    data = Dataset(("x", "y", "z"), ((0, 2), (), (1,)), ("a", "b", "c"), MULTI_LABEL, columns)
    assert data.multi_hot().astype(int).tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
