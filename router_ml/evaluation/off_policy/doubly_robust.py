"""The doubly robust estimator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from router_ml.evaluation.inputs import FloatArray, IntArray
from router_ml.evaluation.off_policy.intervals import Estimate, estimate_mean
from router_ml.evaluation.off_policy.logged import Logged, Weights, as_policy, as_reward_model, weigh

__all__ = ["Influence", "doubly_robust", "influence"]


@dataclass(frozen=True, eq=False)
class Influence:
    """What each row adds to a doubly robust estimate.

    Attributes
    ----------
    values : array [n]
        Their mean is the estimate.
    weights : Weights
    residual : array [n]
        What the weights multiply: the logged reward less the predicted one.
    unit : array [n] of int or None
        The log's.
    """

    values: FloatArray
    weights: Weights
    residual: FloatArray
    unit: IntArray | None


def doubly_robust(
    logged: Logged,
    pi: ArrayLike,
    q_hat: ArrayLike,
    *,
    max_weight: float | None = None,
    level: float = 0.95,
) -> Estimate:
    """The reward model's prediction, corrected by the weighted residuals of what was logged.

    Parameters
    ----------
    logged : Logged
    pi : array-like [n, T]
        The target policy's probabilities.
    q_hat : array-like [n, T]
        Predicted reward of each tier, from models that didn't see the row (cross-fitted); else the residuals are too
        small and so is the interval.
    max_weight : float, optional
        Clip weights here: less variance, and the model's bias back on the share of the policy that is clipped away,
        which the interval is widened for.
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
    Right on average where either the propensities or the model are right. The better the model, the smaller its
    variance: with a perfect one only the prompts' own variation and the rewards' noise are left.

    References
    ----------
    M. Dudík, J. Langford, L. Li (2011), "Doubly robust policy evaluation and learning", ICML.

    Examples
    --------
    >>> logged = Logged([0, 1], [1.0, 0.0], [0.5, 0.5])
    >>> found = doubly_robust(logged, [[0.0, 1.0]] * 2, [[0.2, 0.6], [0.4, 0.8]])
    >>> round(found.value, 3)  # ((0.6 + 0) + (0.8 + 2 x (0 - 0.8))) / 2
    -0.1
    """
    found = influence(logged, pi, q_hat, max_weight=max_weight)
    return estimate_mean(found.values, level=level, weights=found.weights, leftover=found.residual, unit=found.unit)


def influence(logged: Logged, pi: ArrayLike, q_hat: ArrayLike, *, max_weight: float | None = None) -> Influence:
    """The rows of `doubly_robust`, which says what the parameters are and what is raised."""
    policy = as_policy(pi, logged)
    predicted = as_reward_model(q_hat, logged, policy)
    weights = weigh(logged, policy, max_weight)
    residual = logged.reward - predicted[np.arange(len(policy)), logged.action]
    return Influence((policy * predicted).sum(axis=1) + weights.weight * residual, weights, residual, logged.unit)
