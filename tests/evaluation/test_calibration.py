from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from router_ml.errors import InputError
from router_ml.evaluation import brier, ece, reliability
from router_ml.evaluation.calibration import calibration_error, debiased_squared_error, wilson_interval

pairs = arrays(np.float64, st.tuples(st.integers(1, 60), st.just(2)), elements=st.floats(0, 1))


def test_ece_of_a_worked_example():
    # Two bins: predicted .1, observed .5; predicted .8, observed 1.
    assert ece([0.1, 0.8, 0.1, 0.8], [0, 1, 1, 1], n_bins=2) == pytest.approx(0.3)


def test_brier_of_a_worked_example():
    assert brier([0.1, 0.8, 0.1, 0.8], [0, 1, 1, 1]) == pytest.approx((0.01 + 0.04 + 0.81 + 0.04) / 4)


def test_what_was_not_tried_is_left_out():
    p, y = [0.1, 0.8, 0.1, 0.8, 0.5], [0, 1, 1, 1, np.nan]
    assert ece(p, y, n_bins=2) == ece(p[:4], y[:4], n_bins=2)
    assert brier(p, y) == brier(p[:4], y[:4])
    assert reliability(p, y).count.sum() == 4


def test_nothing_observed_gives_nan_and_no_bins():
    assert np.isnan(ece([0.5], [np.nan]))
    assert np.isnan(brier([0.5], [np.nan]))
    assert reliability([0.5], [np.nan]).count.size == 0


def test_bins_have_equal_mass():
    rng = np.random.default_rng(0)
    found = reliability(rng.random(150) ** 3, rng.integers(0, 2, 150))
    assert found.count.tolist() == [10] * 15
    assert (np.diff(found.predicted) > 0).all()


def test_equal_predictions_share_one_bin_whatever_their_order():
    found = reliability(np.full(100, 0.3), np.arange(100) < 30)
    assert found.count.tolist() == [100]
    assert ece(np.full(100, 0.3), np.arange(100) < 30) == pytest.approx(0)


@pytest.mark.parametrize(
    ("share", "count", "low", "high"), [(0.5, 10, 0.2366, 0.7634), (0.0, 10, 0.0, 0.2775), (1.0, 10, 0.7225, 1.0)]
)
def test_wilson_intervals_agree_with_published_ones(share, count, low, high):
    found = wilson_interval(np.array([share]), np.array([count]))
    np.testing.assert_allclose(np.ravel(found), [low, high], atol=5e-5)


def test_wilson_intervals_cover_95_percent():
    rng = np.random.default_rng(0)
    share = rng.binomial(40, 0.3, 2000) / 40
    low, high = wilson_interval(share, np.full(2000, 40))
    assert np.mean((low <= 0.3) & (high >= 0.3)) == pytest.approx(0.95, abs=0.025)


def test_noise_alone_gives_the_ece_that_the_docstring_says():
    rng = np.random.default_rng(0)
    p = 0.5 + 0.01 * rng.random((200, 1500))
    found = np.mean([ece(row, rng.random(1500) < row) for row in p])
    assert found == pytest.approx(0.4 * np.sqrt(15 / 1500), rel=0.1)


def test_ece_and_brier_with_intervals_are_the_same_as_without():
    rng = np.random.default_rng(0)
    p = rng.random(500)
    y = np.where(rng.random(500) < 0.1, np.nan, rng.random(500) < p)
    found = calibration_error(p, y, random_state=0)
    assert found.ece.estimate == pytest.approx(ece(p, y))
    assert found.brier.estimate == pytest.approx(brier(p, y))


def test_floor_is_the_mean_over_perfect_predictors_and_one_in_20_is_above_the_high_one():
    rng = np.random.default_rng(0)
    p = rng.beta(2, 2, 800)
    perfect = np.array([ece(p, rng.random(800) < p) for _ in range(400)])
    found = calibration_error(p, np.zeros(800), random_state=1)
    assert found.floor == pytest.approx(perfect.mean(), rel=0.03)
    # 400 draws: the standard error of the share is 0.011, and the quantile's own is as large.
    assert np.mean(perfect > found.floor_high) == pytest.approx(0.05, abs=0.04)


@pytest.mark.parametrize("bias", [0.0, 0.03, 0.1])
def test_intervals_cover_95_percent(bias):
    rng = np.random.default_rng(0)
    n, covered = 600, np.zeros(2)
    for _ in range(200):
        p = rng.uniform(0.2, 0.8, n)
        truth = p + bias
        found = calibration_error(p, (rng.random(n) < truth).astype(float), random_state=rng)
        true_brier = np.mean((p - truth) ** 2 + truth * (1 - truth))
        covered += [found.ece.low <= bias <= found.ece.high, found.brier.low <= true_brier <= found.brier.high]
    # The standard error of a share of 95 % in 200 is 1.5 %.
    assert covered.min() / 200 >= 0.95 - 3 * 0.0155


def test_miscalibration_far_above_the_noise_is_seen():
    rng = np.random.default_rng(0)
    p = rng.uniform(0.2, 0.6, 2000)
    found = calibration_error(p, (rng.random(2000) < p + 0.2).astype(float), random_state=0)
    assert found.ece.estimate > found.floor_high
    assert found.ece.low > 0.1


def test_the_debiased_square_by_hand():
    # One bin: d = 0.25, squares of y - p are all 0.25, so s^2 / n = (0.25 - 0.0625) / 3.
    found = debiased_squared_error([0.5] * 4, [1, 1, 1, 0], n_bins=1)
    assert found.estimate == pytest.approx(0.0625 - 0.0625)
    assert debiased_squared_error([0.5] * 4, [1, 1, 1, 1], n_bins=1).estimate == pytest.approx(0.25)


@pytest.mark.parametrize("bias", [0.0, 0.03, 0.1])
def test_the_debiased_square_is_unbiased_and_its_interval_covers(bias):
    rng = np.random.default_rng(0)
    found = []
    for _ in range(400):
        p = rng.uniform(0.2, 0.8, 600)
        found.append(debiased_squared_error(p, rng.random(600) < p + bias))
    estimates = np.array([f.estimate for f in found])
    assert abs(estimates.mean() - bias**2) < 3 * estimates.std() / 20
    covered = np.mean([f.low <= bias**2 <= f.high for f in found])
    assert covered >= 0.95 - 3 * 0.011


def test_no_bin_of_two_gives_no_debiased_square():
    assert np.isnan(debiased_squared_error([0.2, 0.7], [0, 1], n_bins=2).estimate)


def test_nothing_observed_gives_nan_throughout():
    assert np.isnan(debiased_squared_error([0.5], [np.nan]).high)
    found = calibration_error([0.5], [np.nan], random_state=0)
    assert np.isnan([found.floor, found.floor_high, found.ece.estimate, found.ece.low, found.brier.high]).all()


@given(pairs, st.integers(1, 20))
def test_ece_and_brier_are_in_0_1_and_bins_hold_their_mean(table, n_bins):
    p, y = table.T
    found = reliability(p, y, n_bins)
    assert 0 <= ece(p, y, n_bins) <= 1
    assert 0 <= brier(p, y) <= 1
    assert found.count.sum() == len(p)
    assert ((found.low <= found.observed + 1e-12) & (found.observed - 1e-12 <= found.high)).all()


@given(pairs)
def test_the_order_of_rows_does_not_matter(table):
    p, y = table.T
    assert ece(p[::-1], y[::-1]) == pytest.approx(ece(p, y), abs=1e-12)


@pytest.mark.parametrize(
    ("p", "y", "n_bins", "message"),
    [
        ([0.1, 1.2], [0, 1], 15, "outside"),
        ([0.1, np.nan], [0, 1], 15, "p holds NaN"),
        ([0.1, 0.2], [0, 2], 15, "y holds values outside"),
        ([0.1, 0.2], [0], 15, "y has shape"),
        ([0.1, 0.2], [0, 1], 0, "n_bins is 0"),
    ],
)
def test_mistakes_are_named(p, y, n_bins, message):
    with pytest.raises(InputError, match=message):
        reliability(p, y, n_bins)
