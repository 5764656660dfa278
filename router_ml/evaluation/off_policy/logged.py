"""What off-policy evaluation starts from: actions, rewards and propensities of a log, and a policy to judge by it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from router_ml.errors import InputError
from router_ml.evaluation.inputs import FloatArray, IntArray, as_table, as_vector

__all__ = ["Logged", "Weights", "as_policy", "as_reward_model", "weigh"]

# How far from 1 the probabilities of one prompt may sum.
_SUM_TOL = 1e-6


@dataclass(frozen=True, eq=False)
class Logged:
    """One row per prompt: what was tried, what came of it, and how likely it was to be tried.

    Attributes
    ----------
    action : array [n] of int
        Index of the tier that answered.
    reward : array [n]
        Its quality in [0, 1], or its cost in USD, or a mix.
    propensity : array [n]
        The logging policy's probability of that tier for that prompt, in (0, 1].
    unit : array [n] of int or None
        Rows of one number (a session) hang together, which intervals allow for; None: all rows are independent.

    Raises
    ------
    InputError
        Different lengths, no rows, NaN, an action below 0, or propensities outside (0, 1].
    """

    action: NDArray[np.intp]
    reward: FloatArray
    propensity: FloatArray
    unit: IntArray | None

    def __init__(
        self, action: ArrayLike, reward: ArrayLike, propensity: ArrayLike, unit: IntArray | None = None
    ) -> None:
        got = as_vector("reward", reward)
        chance = as_vector("propensity", propensity, size=got.size)
        tried = np.asarray(action)
        if tried.shape != got.shape or tried.dtype.kind not in "iu" or tried.min() < 0:
            raise InputError(
                f"action has shape {tried.shape} and type {tried.dtype}; needed {got.size} tier indices >= 0, one per reward."
            )
        if np.isnan(got).any():
            raise InputError("reward holds NaN; needed what came of every row. Keep only the rows that were judged.")
        if not ((chance > 0) & (chance <= 1)).all():
            raise InputError(
                "propensity holds NaN or values outside (0, 1]; needed the logging policy's probability of what it did. "
                "Estimate it with estimate_propensities where it wasn't logged."
            )
        object.__setattr__(self, "action", tried.astype(np.intp))
        object.__setattr__(self, "reward", got)
        if unit is not None and unit.shape != got.shape:
            raise InputError(f"unit has shape {unit.shape}; needed {got.size} numbers, one per reward.")
        object.__setattr__(self, "propensity", chance)
        object.__setattr__(self, "unit", unit)


@dataclass(frozen=True, eq=False)
class Weights:
    """Importance weights pi / propensity of the logged actions.

    Attributes
    ----------
    weight : array [n]
        Clipped, where clipping was asked for.
    effective_n : float
        Kish's effective sample size, (sum w)^2 / sum w^2, in [1, n].
    clipped_mass : float
        The share of the target policy that clipping takes away; 0 where no weight was clipped.
    """

    weight: FloatArray
    effective_n: float
    clipped_mass: float


def weigh(logged: Logged, pi: FloatArray, max_weight: float | None) -> Weights:
    """The weights of the logged actions under a checked policy [n, T].

    Raises
    ------
    InputError
        `max_weight` isn't positive, or the log never did what the policy would do.
    """
    if max_weight is not None and not max_weight > 0:
        raise InputError(f"max_weight is {max_weight:g}; needed a number above 0, or None not to clip.")
    full = pi[np.arange(len(pi)), logged.action] / logged.propensity
    if not full.any():
        raise InputError(
            "the log never did what this policy would do, so it holds no evidence about it. Log with exploration, or "
            "judge the policy on replayed prompts."
        )
    weight = full if max_weight is None else np.minimum(full, max_weight)
    mass = 0.0
    if (weight < full).any():
        # Two estimates of 1 - E[clipped weight]; the larger, so that the interval errs on the wide side.
        mass = float(max((full - weight).mean(), 1 - weight.mean()))
    return Weights(weight, float(weight.sum() ** 2 / (weight**2).sum()), mass)


def as_policy(pi: ArrayLike, logged: Logged) -> FloatArray:
    """The target policy's probabilities [n, T], checked against the log.

    Raises
    ------
    InputError
        Another number of rows, fewer tiers than the log has, negative values, or rows that don't sum to 1.
    """
    table = _as_beside("pi", pi, logged)
    if table.min() < 0 or not np.allclose(table.sum(axis=1), 1, rtol=0, atol=_SUM_TOL):
        raise InputError("pi has negative values or rows that don't sum to 1; needed probabilities of the tiers.")
    return table


def as_reward_model(q_hat: ArrayLike, logged: Logged, pi: FloatArray) -> FloatArray:
    """Predicted rewards [n, T], of the policy's shape."""
    table = _as_beside("q_hat", q_hat, logged)
    if table.shape != pi.shape:
        raise InputError(f"q_hat has shape {table.shape} and pi {pi.shape}; needed one prediction per prompt and tier.")
    return table


def _as_beside(name: str, values: ArrayLike, logged: Logged) -> FloatArray:
    table = as_table(name, values)
    if len(table) != logged.action.size or table.shape[1] <= logged.action.max():
        raise InputError(
            f"{name} has shape {table.shape}; the log has {logged.action.size} rows and tiers up to {logged.action.max()}. "
            "Needed one row per logged row and one column per tier."
        )
    return table
