"""Does a probability mean what it says: ECE, Brier score, and the table behind a reliability diagram."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from router_ml.errors import InputError
from router_ml.evaluation.bootstrap import Interval
from router_ml.evaluation.inputs import FloatArray, as_vector

__all__ = [
    "CalibrationError",
    "Reliability",
    "brier",
    "calibration_error",
    "debiased_squared_error",
    "ece",
    "reliability",
    "wilson_interval",
]

# The 97.5 % point of the standard normal distribution.
_Z_95 = 1.959963984540054
_N_DRAWS = 400


@dataclass(frozen=True, eq=False)
class Reliability:
    """Predicted against observed, by bins of equal mass [K], K <= n_bins; empty bins are left out.

    Attributes
    ----------
    predicted : array [K]
        Mean predicted probability.
    observed : array [K]
        Share that met.
    count : array [K] of int
        Observations in the bin.
    low, high : array [K]
        Wilson 95 % interval of `observed`.
    """

    predicted: FloatArray
    observed: FloatArray
    count: NDArray[np.int64]
    low: FloatArray
    high: FloatArray


@dataclass(frozen=True, eq=False)
class CalibrationError:
    """How far a tier's probabilities are off, with 95 % intervals, and what would be seen if they were exact.

    Attributes
    ----------
    ece, brier : Interval
        All NaN where nothing was observed.
    floor : float
        Expected ECE of a perfectly calibrated predictor with these p and so many rows.
    floor_high : float
        19 of 20 perfectly calibrated predictors show less; only an ECE above it says that p is off.
    """

    ece: Interval
    brier: Interval
    floor: float
    floor_high: float


def calibration_error(
    p: ArrayLike, y: ArrayLike, n_bins: int = 15, *, random_state: int | np.random.Generator | None
) -> CalibrationError:
    """ECE and Brier score with intervals, and the ECE that noise alone makes.

    Parameters
    ----------
    p, y, n_bins
        See `ece`; the y observed are 0 or 1.
    random_state : int, Generator or None
        Draws outcomes from p, 400 times, for the floor.

    Raises
    ------
    InputError
        See `reliability`.

    Notes
    -----
    The interval of the ECE is of ``sum_k |m_k|`` with ``m_k`` the expected sum of ``(y - p) / n`` over bin k, given p. A
    bootstrap fails here: resampling adds noise to noise, and where p is exact its percentile interval never holds 0. But if
    ``e_k`` is the noise in bin k, then ``sum |m_k + e_k| - sum |m_k|`` is at most ``sum |e_k|``, which is what the draws
    simulate, and at least ``sum sign(m_k) e_k``, which has a mean of 0 and, whatever the signs, the variance of the mean of y.
    The lower end takes the 97.5 % point of the one, the upper end that of the other, so together they cover at least 95 %.

    Examples
    --------
    >>> found = calibration_error(np.full(400, 0.5), np.arange(400) < 230, random_state=0)
    >>> round(found.ece.estimate, 3), round(found.floor, 2), found.ece.low > 0
    (0.075, 0.02, True)
    """
    p_seen, y_seen = _observed(p, y)
    nan = float("nan")
    if not p_seen.size:
        nothing = Interval(nan, nan, nan)
        return CalibrationError(nothing, nothing, nan, nan)
    n, bins, rng = p_seen.size, _equal_mass_bins(p_seen, n_bins), np.random.default_rng(random_state)

    def off(happened: FloatArray) -> float:
        return float(np.abs(np.bincount(bins, weights=happened - p_seen)).sum()) / n

    error, floor = off(y_seen), np.sort([off((rng.random(n) < p_seen).astype(float)) for _ in range(_N_DRAWS)])
    observed = np.bincount(bins, weights=y_seen)[bins] / np.bincount(bins)[bins]
    half = _Z_95 * float(np.sqrt((observed * (1 - observed)).sum())) / n
    loss = (p_seen - y_seen) ** 2
    half_brier = _Z_95 * float(loss.std()) / np.sqrt(n)
    return CalibrationError(
        Interval(error, max(0.0, error - float(np.quantile(floor, 0.975))), min(1.0, error + half)),
        Interval(float(loss.mean()), max(0.0, float(loss.mean() - half_brier)), float(loss.mean() + half_brier)),
        float(floor.mean()),
        float(np.quantile(floor, 0.95)),
    )


def debiased_squared_error(p: ArrayLike, y: ArrayLike, n_bins: int = 15) -> Interval:
    """The mean squared difference of observed and predicted over bins of equal mass, less what noise adds to it.

    Parameters
    ----------
    p, y, n_bins
        See `ece`.

    Returns
    -------
    Interval
        Unbiased, so below 0 about half of the time where p is exact, with an approximate 95 % interval; NaN where no bin holds two
        observations. Its root, where it is positive, is at least what the ECE would be without noise (a mean of absolute values is
        at most the root of the mean square).

    Raises
    ------
    InputError
        See `reliability`.

    Notes
    -----
    With d the mean of ``y - p`` in a bin and s^2 their variance, ``d^2 - s^2 / n`` is unbiased for the square of what d estimates.
    The ECE has no such correction, since an absolute value bends at 0. A bin's variance is ``2 v^2 + 4 t v`` with ``v = s^2 / n``
    and the true square t, so the interval is of those t from which what was seen is at most 1.96 standard errors away, as in
    Wilson's. In simulations with 300 to 3,000 rows it covered 94 to 96 %.

    References
    ----------
    A. Kumar, P. Liang, T. Ma (2019), "Verified uncertainty calibration", arXiv:1909.10155, section 5.

    Examples
    --------
    >>> found = debiased_squared_error(np.full(400, 0.5), np.arange(400) < 230)
    >>> round(found.estimate**0.5, 3), round(found.low**0.5, 2)  # 0.075 without the correction
    (0.071, 0.03)
    """
    p_seen, y_seen = _observed(p, y)
    bins = _equal_mass_bins(p_seen, n_bins)
    count = np.bincount(bins, minlength=n_bins)
    kept = count >= 2
    if not kept.any():
        nan = float("nan")
        return Interval(nan, nan, nan)
    n, off = count[kept], y_seen - p_seen
    mean = np.bincount(bins, weights=off, minlength=n_bins)[kept] / n
    squares = np.bincount(bins, weights=off**2, minlength=n_bins)[kept] / n
    noise = np.maximum(squares - mean**2, 0.0) / (n - 1)
    square, share = mean**2 - noise, n / n.sum()
    error = float(share @ square)
    fixed, slope = 2 * _Z_95**2 * float(share**2 @ noise**2), 2 * _Z_95**2 * float(share**2 @ noise)
    half = float(np.sqrt(max(0.0, fixed + 2 * slope * error + slope**2)))
    return Interval(error, error + slope - half, error + slope + half)


def ece(p: ArrayLike, y: ArrayLike, n_bins: int = 15) -> float:
    """Expected calibration error: the mean |observed - predicted| over bins of equal mass, weighted by count.

    Parameters
    ----------
    p : array-like [n]
        Predicted probabilities in [0, 1].
    y : array-like [n]
        What happened, in [0, 1]; NaN where it wasn't observed (left out).
    n_bins : int
        See `reliability`, also for how ties are binned.

    Returns
    -------
    float
        In [0, 1]; NaN where nothing was observed. Not 0 for a perfect p: noise alone makes it about
        ``0.4 * sqrt(n_bins / n)`` for p near 0.5; see `calibration_error`.

    References
    ----------
    M. P. Naeini, G. F. Cooper, M. Hauskrecht (2015), "Obtaining well calibrated probabilities using Bayesian
    binning", AAAI; with bins of equal mass as in K. Nguyen, B. O'Connor (2015), arXiv:1508.05154.

    Examples
    --------
    >>> round(ece([0.1, 0.1, 0.8, 0.8], [0, 1, 1, 1], n_bins=2), 3)  # (|0.5 - 0.1| + |1 - 0.8|) / 2
    0.3
    """
    bins = reliability(p, y, n_bins)
    if bins.count.size == 0:
        return float("nan")
    return float(np.average(np.abs(bins.observed - bins.predicted), weights=bins.count))


def brier(p: ArrayLike, y: ArrayLike) -> float:
    """The mean squared difference between p and y [n]; NaN in y is left out, and nothing observed gives NaN.

    References
    ----------
    G. W. Brier (1950), "Verification of forecasts expressed in terms of probability".
    """
    p_seen, y_seen = _observed(p, y)
    return float(((p_seen - y_seen) ** 2).mean()) if p_seen.size else float("nan")


def reliability(p: ArrayLike, y: ArrayLike, n_bins: int = 15) -> Reliability:
    """Mean predicted and observed share in bins of equal mass.

    Parameters
    ----------
    p, y : array-like [n]
        See `ece`.
    n_bins : int
        At most so many bins, >= 1. Equal predictions always share a bin (by their mean rank), so that the order of
        the rows doesn't matter and a constant prediction has one bin.

    Raises
    ------
    InputError
        Different lengths, p outside [0, 1] or NaN, y outside [0, 1], or n_bins < 1.
    """
    p_seen, y_seen = _observed(p, y)
    bins = _equal_mass_bins(p_seen, n_bins)
    count = np.bincount(bins, minlength=n_bins)
    filled = count > 0
    count = count[filled]
    predicted = np.bincount(bins, weights=p_seen, minlength=n_bins)[filled] / count
    observed = np.bincount(bins, weights=y_seen, minlength=n_bins)[filled] / count
    low, high = wilson_interval(observed, count)
    return Reliability(predicted, observed, count.astype(np.int64), low, high)


def wilson_interval(share: FloatArray, count: NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
    """The Wilson score 95 % interval of a share out of a count, elementwise.

    References
    ----------
    E. B. Wilson (1927), "Probable inference, the law of succession, and statistical inference".
    """
    z2_n = _Z_95**2 / count
    centre = (share + z2_n / 2) / (1 + z2_n)
    half = _Z_95 * np.sqrt(share * (1 - share) / count + z2_n / (4 * count)) / (1 + z2_n)
    return np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0)


def _equal_mass_bins(p: FloatArray, n_bins: int) -> NDArray[np.int64]:
    """The bin in 0 to n_bins - 1 of each of p [n], by the mean rank of those equal to it."""
    if n_bins < 1:
        raise InputError(f"n_bins is {n_bins}; needed at least 1.")
    _, tie, ties = np.unique(p, return_inverse=True, return_counts=True)
    mid_rank = (ties.cumsum() - ties / 2)[tie]  # in (0, n)
    return np.minimum((mid_rank / max(p.size, 1) * n_bins).astype(np.int64), n_bins - 1)


def _observed(p: ArrayLike, y: ArrayLike) -> tuple[FloatArray, FloatArray]:
    predicted = as_vector("p", p)
    happened = as_vector("y", y, size=predicted.size)
    if np.isnan(predicted).any() or predicted.min() < 0 or predicted.max() > 1:
        raise InputError("p holds NaN or values outside [0, 1]; needed probabilities. Pass calibrated p_meets.")
    seen = ~np.isnan(happened)
    if seen.any() and (happened[seen].min() < 0 or happened[seen].max() > 1):
        raise InputError("y holds values outside [0, 1]; needed whether the bar was met: 1, 0, or NaN for not tried.")
    return predicted[seen], happened[seen]
