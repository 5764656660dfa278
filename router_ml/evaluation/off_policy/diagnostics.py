"""Whether a log can answer for a policy at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from router_ml.errors import InputError
from router_ml.evaluation.inputs import FloatArray, as_table
from router_ml.evaluation.off_policy.logged import Logged, as_policy, weigh

__all__ = ["MAX_UNSUPPORTED", "MIN_EFFECTIVE_N", "Overlap", "check_overlap", "require_overlap"]

# With fewer rows' worth of evidence a 95 % interval of a quality is wider than 0.25.
MIN_EFFECTIVE_N = 50.0
# An unsupported share biases a quality by up to as much: the bias is to stay below what is worth deciding about.
MAX_UNSUPPORTED = 0.02
# How many standard errors the mean weight may lie off 1: chance alone exceeds 4 once in 16,000 logs.
_MAX_Z = 4.0
# The same for a mean weight below 1, which hides a bias no larger than the interval of IPS. 2 refuses 4 % of sound logs.
_MAX_SHORTFALL_Z = 3.0


@dataclass(frozen=True)
class Overlap:
    """How much of a target policy a log has seen.

    Attributes
    ----------
    n : int
    effective_n : float
        (sum w)^2 / sum w^2: rows of the policy's own traffic that the log is worth.
    largest_weight : float
    largest_share : float
        Of the total weight, on a single row.
    mean_weight : float
        About 1 where the propensities are right and the policy is supported.
    unsupported : float
        The share of the policy on tiers that the logging policy gave less than the floor.
    never_tried : tuple of int
        Tiers that the policy uses and the log has nowhere.
    problems : tuple of str
        Why the log can't answer; empty where it can.
    """

    n: int
    effective_n: float
    largest_weight: float
    largest_share: float
    mean_weight: float
    unsupported: float
    never_tried: tuple[int, ...]
    problems: tuple[str, ...]

    @property
    def answerable(self) -> bool:
        """Whether nothing speaks against an estimate."""
        return not self.problems


def check_overlap(
    logged: Logged,
    pi: ArrayLike,
    *,
    logging_policy: ArrayLike | None = None,
    floor: float = 0.01,
    min_effective_n: float = MIN_EFFECTIVE_N,
    max_unsupported: float = MAX_UNSUPPORTED,
    names: Sequence[str] | None = None,
) -> Overlap:
    """Weigh up whether the log holds evidence about the policy.

    Parameters
    ----------
    logged : Logged
    pi : array-like [n, T]
        The target policy's probabilities.
    logging_policy : array-like [n, T], optional
        The logging policy's probabilities of all tiers, known or from `estimate_propensities`. Without it the
        unsupported share is one minus the mean weight, on average the mass on tiers of propensity 0.
    floor : float
        A tier of less propensity counts as not tried on such prompts; in (0, 1).
    min_effective_n, max_unsupported : float
        Beyond these the log can't answer.
    names : sequence of str, optional
        What the problems call the tiers; their indices where not given.

    Returns
    -------
    Overlap

    Raises
    ------
    InputError
        Tables that don't fit the log, or a floor out of range.

    Notes
    -----
    Propensities that are merely logged wrongly show in `mean_weight`, whose expectation is 1 minus the unsupported
    mass; a policy that looks like the logging policy hides them.

    References
    ----------
    L. Kish (1965), "Survey sampling": the effective sample size.
    A. B. Owen (2013), "Monte Carlo theory, methods and examples", chapter 9: diagnostics of importance weights.
    """
    if not 0 < floor < 1:
        raise InputError(f"floor is {floor:g}; needed a probability between 0 and 1.")
    policy = as_policy(pi, logged)
    n, tiers = policy.shape
    counts = np.bincount(logged.action, minlength=tiers)
    never = tuple(int(t) for t in np.flatnonzero((counts == 0) & (policy.sum(axis=0) > 0)))
    full = policy[np.arange(n), logged.action] / logged.propensity
    error = float(full.std(ddof=1) / np.sqrt(n)) if n > 1 else float("inf")
    if logging_policy is None:
        # A shortfall that chance explains is none.
        unsupported = max(0.0, float(1 - full.mean())) if 1 - full.mean() > _MAX_SHORTFALL_Z * error else 0.0
    else:
        behaviour = as_table("logging_policy", logging_policy, shape=(n, tiers))
        unsupported = float(np.where(behaviour < floor, policy, 0.0).sum() / n)
    effective_n = weigh(logged, policy, None).effective_n if full.any() else 0.0
    untried = [str(t) if names is None else names[t] for t in never]
    problems = _problems(
        full, error, untried, unsupported, effective_n, min_effective_n=min_effective_n, max_unsupported=max_unsupported
    )
    share = float(full.max() / full.sum()) if full.any() else float("nan")
    return Overlap(n, effective_n, float(full.max()), share, float(full.mean()), unsupported, never, problems)


def require_overlap(logged: Logged, pi: ArrayLike, *, logging_policy: ArrayLike | None = None) -> Overlap:
    """`check_overlap` with its defaults, that refuses a log that can't answer.

    Raises
    ------
    InputError
        The log can't answer for this policy; the message says why.
    """
    found = check_overlap(logged, pi, logging_policy=logging_policy)
    if not found.answerable:
        raise InputError(
            f"this log can't answer for this policy: {'; '.join(found.problems)}. Log with exploration (see "
            "plan_exploration), judge a policy nearer to the logging one, or replay prompts."
        )
    return found


def _problems(
    weight: FloatArray,
    error: float,
    untried: Sequence[str],
    unsupported: float,
    effective_n: float,
    *,
    min_effective_n: float,
    max_unsupported: float,
) -> tuple[str, ...]:
    found = []
    if untried:
        found.append(f"the policy uses tiers that were never tried ({', '.join(untried)})")
    if unsupported > max_unsupported:
        found.append(
            f"{100 * unsupported:.1f} % of the policy is on tiers that were hardly ever tried on such prompts (at most "
            f"{100 * max_unsupported:.1f} % will do)"
        )
    if effective_n < min_effective_n:
        found.append(f"the log is worth {effective_n:.1f} rows of the policy (at least {min_effective_n:g} will do)")
    if weight.mean() - 1 > _MAX_Z * error:
        found.append(f"the mean weight is {weight.mean():.2f} and must be about 1: the propensities are too low")
    return tuple(found)
