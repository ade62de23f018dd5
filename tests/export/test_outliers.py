"""Outlier weights are shared between copies of their row, which sum to the row in fp32 and in int8."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from export.engine.outliers import share, share_rounded, split_rows
from export.engine.token_wise import quantize_along

RNG = np.random.default_rng(0)


def weights(row: int = 7, times: float = 30, rows: int = 960) -> np.ndarray:
    """Return [rows, 16] of which one row is `times` as large."""
    values = RNG.normal(size=(rows, 16))
    values[row] *= times
    return values


def test_the_copies_go_to_what_stands_out() -> None:
    """The copies are all of the row that stands out, one for 192 rows, and each row comes first as itself."""
    owners = split_rows(weights())
    np.testing.assert_array_equal(owners, [*range(960), 7, 7, 7, 7, 7])


def test_two_rows_that_stand_out_share_the_copies() -> None:
    """Of two rows that stand out the larger gets more of the copies."""
    weight = weights()
    weight[2] *= 12
    copies = np.bincount(split_rows(weight))
    assert copies[7] > copies[2] > 1
    assert copies.sum() == 965


def test_nothing_is_copied_where_nothing_stands_out() -> None:
    """Weights of which none stands out keep their rows, as do weights of zeros."""
    np.testing.assert_array_equal(split_rows(RNG.normal(size=(960, 16))), np.arange(960))
    np.testing.assert_array_equal(split_rows(np.zeros((960, 16))), np.arange(960))


def test_shares_sum_to_the_row() -> None:
    """The copies hold equal parts of the row and add up to it."""
    weight = weights()
    owners = split_rows(weight)
    shares = share(weight, owners)
    sums = np.zeros_like(weight)
    np.add.at(sums, owners, shares)
    np.testing.assert_allclose(sums, weight, rtol=1e-12)
    assert np.abs(shares).max() < np.abs(weight).max() / 5


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_rounded_shares_sum_exactly_and_fit_int8(copies: list[int], seed: int) -> None:
    """Whatever the copies, the integers sum to the total and none is beyond ±127 where the total allows it."""
    owners = np.concatenate([np.arange(len(copies)), np.repeat(np.arange(len(copies)), np.array(copies) - 1)])
    most = 127 * np.array(copies)[:, np.newaxis]
    totals = np.random.default_rng(seed).integers(-most, most + 1, (len(copies), 5)).astype(float)
    totals[:, 0], totals[:, 1] = most[:, 0], -most[:, 0]
    shares = share_rounded(totals, owners)
    sums = np.zeros_like(totals)
    np.add.at(sums, owners, shares)
    np.testing.assert_array_equal(sums, totals)
    assert np.abs(shares).max() <= 127


def test_copies_are_rounded_together() -> None:
    """The int8 copies add up to the row within half a step, which is finer by as many times as there are copies."""
    weight = weights()
    owners = split_rows(weight)
    values, scales = quantize_along(share(weight, owners), axis=0, owners=owners)
    sums = np.zeros_like(weight)
    np.add.at(sums, owners, values * scales.astype(np.float64))
    assert np.abs(sums - weight).max() <= scales.max() * 0.5001
    plain, coarse = quantize_along(weight, axis=0)
    assert np.square(plain * coarse - weight).mean() > 4 * np.square(sums - weight).mean()
