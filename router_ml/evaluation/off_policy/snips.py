"""Self-normalised inverse propensity scoring."""

from __future__ import annotations

from numpy.typing import ArrayLike

from router_ml.evaluation.off_policy.intervals import Estimate, estimate_mean
from router_ml.evaluation.off_policy.logged import Logged, as_policy, weigh

__all__ = ["snips"]


def snips(logged: Logged, pi: ArrayLike, *, max_weight: float | None = None, level: float = 0.95) -> Estimate:
    """The weighted mean of the rewards; see `ips` for the parameters.

    Returns
    -------
    Estimate
        Its value lies within the range of the logged rewards.

    Raises
    ------
    InputError
        See `ips`.

    Notes
    -----
    Biased by order 1 / n, and mostly of far less variance than `ips`: adding a constant to all rewards adds that
    constant to the estimate. The standard error is that of the ratio's linearisation, ``w (r - value) / mean(w)``.

    References
    ----------
    A. Swaminathan, T. Joachims (2015), "The self-normalized estimator for counterfactual learning", NeurIPS.

    Examples
    --------
    >>> snips(Logged([0, 1, 1], [1.0, 1.0, 0.0], [0.5, 0.5, 0.25]), [[0.0, 1.0]] * 3).value  # 2 x 1 / (2 + 4)
    0.3333333333333333
    """
    weights = weigh(logged, as_policy(pi, logged), max_weight)
    w = weights.weight
    value = float(w @ logged.reward / w.sum())
    leftover = logged.reward - value
    return estimate_mean(
        value + w * leftover / w.mean(),
        level=level,
        weights=weights,
        leftover=leftover,
        unit=logged.unit,
    )
