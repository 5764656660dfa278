"""From one influence value per row to an estimate with an interval."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtri

from router_ml.errors import InputError
from router_ml.evaluation.inputs import FloatArray, IntArray
from router_ml.evaluation.off_policy.logged import Weights

__all__ = ["Estimate", "estimate_mean"]


@dataclass(frozen=True)
class Estimate:
    """The mean reward that a policy would have had.

    Attributes
    ----------
    value : float
        In units of the reward.
    standard_error : float
        Of the value, from the rows seen; the interval allows for more (see `estimate_mean`).
    low, high : float
        The interval; see `estimate_mean`.
    n : int
        Logged rows.
    effective_n : float
        How many rows of the policy's own traffic the weighted rows are worth; n where there are no weights.
    clipped_mass : float
        The share of the policy that clipping took away: what the interval is widened for.
    """

    value: float
    standard_error: float
    low: float
    high: float
    n: int
    effective_n: float
    clipped_mass: float = 0.0

    def within(self, least: float, most: float) -> Estimate:
        """The same with its interval cut to where the truth is known to lie; the value is left, so that it may lie outside.

        Cutting costs no coverage. An interval wholly outside becomes the nearer end: such propensities deserve no trust.
        """
        return replace(self, low=float(np.clip(self.low, least, most)), high=float(np.clip(self.high, least, most)))


def estimate_mean(
    values: FloatArray,
    *,
    level: float,
    weights: Weights | None = None,
    leftover: FloatArray | None = None,
    unit: IntArray | None = None,
) -> Estimate:
    """The mean of influence values [n], with a normal interval that allows for rows too rare to have been drawn.

    Parameters
    ----------
    values : array [n]
        One per prompt; their mean is the estimate. n >= 2.
    level : float
        The chance that the interval is to cover the truth, in (0, 1).
    weights : Weights, optional
        Those of the rows; None where none were used.
    leftover : array [n], optional
        What the weights multiply: rewards or residuals. Given with the weights.

    unit : array [n] of int, optional
        Rows of one number (a session) hang together, others are independent. Each its own where not given.

    Returns
    -------
    Estimate

    Raises
    ------
    InputError
        One row or one unit, or a level out of range.

    Notes
    -----
    *Units.* The variance is that of the units' sums, whatever the dependence within them (Liang and Zeger). The normal
    interval wants some 30 units or more.

    *Rare rows.* Where few rows have large weights, chances are that none of the answers that would matter most was
    drawn, and the plain standard error is too small: at 80 effective rows of 1,000 its 95 % intervals cover 92 % (IPS),
    89 % (SNIPS) and 90 % (DR). So the variance counts two rows more, of the largest weight and the largest leftover, up
    and down. With them they cover 94 % or more, at 300 to 10,000 rows of which 8 % to a third are effective. Their
    effect goes with 1 / n and is next to nothing where weights are even. The skewness correction of Hall (1992)
    does not help SNIPS and DR: their skewness comes from the rows that were not drawn.

    *Clipping.* A clipped estimate is off by E[(weight - clipped weight) * leftover], which lies between the clipped
    mass times the least and times the largest leftover; the interval is widened by the range seen, on either side.
    That is a bound, so that such intervals cover more than `level`: clip little.

    References
    ----------
    A. Agresti, B. A. Coull (1998), "Approximate is better than exact for interval estimation of binomial proportions":
    adding two rows of either kind.
    K.-Y. Liang, S. L. Zeger (1986), "Longitudinal data analysis using generalized linear models", Biometrika 73: the
    variance of sums over clusters.
    """
    if not 0 < level < 1:
        raise InputError(f"level is {level:g}; needed a number between 0 and 1, such as 0.95.")
    n = values.size
    if n < 2:
        raise InputError("got one logged row; needed at least 2, and hundreds for an interval worth quoting.")
    value = float(values.mean())
    variance = _variance(values - value, unit)
    error = float(np.sqrt(variance / n))
    z = float(ndtri((1 + level) / 2))
    low = high = 0.0
    if weights is not None and leftover is not None:
        reach = float(weights.weight.max() * np.abs(leftover).max())
        variance += 2 * reach**2 / n
        low = weights.clipped_mass * min(0.0, float(leftover.min()))
        high = weights.clipped_mass * max(0.0, float(leftover.max()))
    half = z * float(np.sqrt(variance / n))
    return Estimate(
        value=value,
        standard_error=error,
        low=value - half + low,
        high=value + half + high,
        n=n,
        effective_n=float(n) if weights is None else weights.effective_n,
        clipped_mass=0.0 if weights is None else weights.clipped_mass,
    )


def _variance(residual: FloatArray, unit: IntArray | None) -> float:
    """Of which the n-th part is the variance of the mean."""
    sums = residual if unit is None else np.bincount(np.unique(unit, return_inverse=True)[1], weights=residual)
    if sums.size < 2:
        raise InputError("All rows belong to one session; needed several, since only sessions are independent.")
    return float(sums @ sums) / residual.size * sums.size / (sums.size - 1)
