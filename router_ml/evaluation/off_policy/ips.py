"""Inverse propensity scoring."""

from __future__ import annotations

from numpy.typing import ArrayLike

from router_ml.evaluation.off_policy.intervals import Estimate, estimate_mean
from router_ml.evaluation.off_policy.logged import Logged, as_policy, weigh

__all__ = ["ips"]


def ips(logged: Logged, pi: ArrayLike, *, max_weight: float | None = None, level: float = 0.95) -> Estimate:
    """The mean of weight times reward, with weight ``pi / propensity`` of the logged action.

    Parameters
    ----------
    logged : Logged
    pi : array-like [n, T]
        The target policy's probabilities; one-hot rows for a policy without chance.
    max_weight : float, optional
        Clip weights here: less variance, and a bias towards 0 that the interval is widened for.
    level : float
        Of the interval, in (0, 1).

    Returns
    -------
    Estimate

    Raises
    ------
    InputError
        Tables that don't fit the log, or a policy of which the log did nothing.

    Notes
    -----
    Unbiased without clipping, if the propensities are right and positive wherever `pi` is; see `check_overlap`.

    References
    ----------
    D. G. Horvitz, D. J. Thompson (1952), "A generalization of sampling without replacement from a finite universe".

    Examples
    --------
    >>> ips(Logged([0, 1, 1, 0], [1.0, 1.0, 0.0, 0.0], [0.5] * 4), [[0.0, 1.0]] * 4).value  # (2 x 1 + 2 x 0) / 4
    0.5
    """
    weights = weigh(logged, as_policy(pi, logged), max_weight)
    return estimate_mean(
        weights.weight * logged.reward,
        level=level,
        weights=weights,
        leftover=logged.reward,
        unit=logged.unit,
    )
