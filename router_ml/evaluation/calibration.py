"""Does a probability mean what it says: ECE, Brier score, and the table behind a reliability diagram."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from router_ml.errors import InputError
from router_ml.evaluation.inputs import FloatArray, as_vector

__all__ = ["Reliability", "brier", "ece", "reliability", "wilson_interval"]

# The 97.5 % point of the standard normal distribution.
_Z_95 = 1.959963984540054


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
        ``0.4 * sqrt(n_bins / n)`` for p near 0.5.

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
    if n_bins < 1:
        raise InputError(f"n_bins is {n_bins}; needed at least 1.")
    p_seen, y_seen = _observed(p, y)
    _, tie, ties = np.unique(p_seen, return_inverse=True, return_counts=True)
    mid_rank = (ties.cumsum() - ties / 2)[tie]  # in (0, n)
    bins = np.minimum((mid_rank / max(p_seen.size, 1) * n_bins).astype(int), n_bins - 1)
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


def _observed(p: ArrayLike, y: ArrayLike) -> tuple[FloatArray, FloatArray]:
    predicted = as_vector("p", p)
    happened = as_vector("y", y, size=predicted.size)
    if np.isnan(predicted).any() or predicted.min() < 0 or predicted.max() > 1:
        raise InputError("p holds NaN or values outside [0, 1]; needed probabilities. Pass calibrated p_meets.")
    seen = ~np.isnan(happened)
    if seen.any() and (happened[seen].min() < 0 or happened[seen].max() > 1):
        raise InputError("y holds values outside [0, 1]; needed whether the bar was met: 1, 0, or NaN for not tried.")
    return predicted[seen], happened[seen]
