"""The direct method: believe the reward model."""

from __future__ import annotations

from numpy.typing import ArrayLike

from router_ml.evaluation.off_policy.intervals import Estimate, estimate_mean
from router_ml.evaluation.off_policy.logged import Logged, as_policy, as_reward_model

__all__ = ["direct"]


def direct(logged: Logged, pi: ArrayLike, q_hat: ArrayLike, *, level: float = 0.95) -> Estimate:
    """The mean over prompts of the reward that the model predicts for the policy.

    Parameters
    ----------
    logged : Logged
        Gives the number of rows and their units only.
    pi : array-like [n, T]
        The target policy's probabilities.
    q_hat : array-like [n, T]
        Predicted reward of each tier, from models that didn't see the row (cross-fitted).
    level : float
        Of the interval, in (0, 1).

    Returns
    -------
    Estimate
        Its `effective_n` is n.

    Raises
    ------
    InputError
        Tables that don't fit the log.

    Notes
    -----
    Its interval tells how much the prompts vary, and *nothing about the model's errors*: a model that is wrong by 0.1
    for a tier is wrong by 0.1 here, whatever n. Use it beside `doubly_robust`, not in its place.

    References
    ----------
    M. Dudík, J. Langford, L. Li (2011), "Doubly robust policy evaluation and learning", ICML, section 2.

    Examples
    --------
    >>> direct(Logged([0, 1], [1.0, 0.0], [0.5, 0.5]), [[0.0, 1.0], [0.5, 0.5]], [[0.2, 0.8], [0.4, 0.8]]).value
    0.7000000000000001
    """
    policy = as_policy(pi, logged)
    predicted = as_reward_model(q_hat, logged, policy)
    return estimate_mean((policy * predicted).sum(axis=1), level=level, unit=logged.unit)
