"""What exploration to pay for: which prompts to send to which other tier, and how often."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from router_ml.errors import InputError
from router_ml.evaluation.inputs import FloatArray, as_table

__all__ = ["ExplorationPlan", "plan_exploration"]

# Halvings of an interval: beyond the precision of a float.
_STEPS = 60
# Spreads below this are rounding: rewards that always are the same.
_NO_SPREAD = 1e-9


@dataclass(frozen=True, eq=False)
class ExplorationPlan:
    """A logging policy by stratum.

    Attributes
    ----------
    epsilon : array [S]
        Share of each stratum's prompts that goes to another tier than the one that serves it.
    probability : array [S, T]
        The logging policy: log these as propensities. Rows sum to 1.
    calls : array [S, T]
        Expected calls.
    extra_cost_usd : float
        Expected price of exploring, at most the budget; what cheaper tiers save isn't counted against it.
    standard_error : array [T]
        What each tier's mean reward over all prompts will then be known to; ``inf`` for a tier left untried where it is
        uncertain.
    """

    epsilon: FloatArray
    probability: FloatArray
    calls: FloatArray
    extra_cost_usd: float
    standard_error: FloatArray

    @property
    def share(self) -> float:
        """The share of all prompts that is explored, in [0, 1]."""
        return float(self.epsilon @ self.calls.sum(axis=1) / self.calls.sum())


def plan_exploration(
    n_prompts: ArrayLike,
    spread: ArrayLike,
    cost_usd: ArrayLike,
    served: ArrayLike,
    budget_usd: float,
    *,
    max_epsilon: float = 0.2,
) -> ExplorationPlan:
    """Spend a budget where it lowers the variance of the tiers' mean rewards most.

    Parameters
    ----------
    n_prompts : array-like [S]
        Prompts expected in each stratum (a category, a band of p_meets), > 0.
    spread : array-like [S, T]
        Standard deviation of each tier's reward within the stratum, >= 0; at most 0.5 for a quality. Where nothing is
        known yet, 0.5 throughout; 0 says that there is nothing to learn.
    cost_usd : array-like [S, T]
        Mean USD per call.
    served : array-like [S] of int
        The tier that serves each stratum when nothing is explored.
    budget_usd : float
        What exploring may cost beyond serving, > 0.
    max_epsilon : float
        The largest share of a stratum to explore, in (0, 1): a limit to what users notice, which is all that bounds
        tiers that cost no more than the serving one.

    Returns
    -------
    ExplorationPlan

    Raises
    ------
    InputError
        Tables that don't fit each other, or values out of range.

    Notes
    -----
    Minimises the sum over tiers of ``sum_s (N_s / N)^2 spread_st^2 / calls_st`` subject to the budget and to
    ``max_epsilon``. Without the latter it is Neyman's allocation with costs, calls proportional to
    ``N_s spread_st / sqrt(extra price)``; a stratum that hits its cap gets a price on its prompts, ``calls =
    N_s spread_st / sqrt(mu * extra price + nu_s)``, and mu and nu are found by bisection (the problem is convex).
    Expected calls are taken for the real ones, so that strata should be large enough for dozens of calls.

    References
    ----------
    J. Neyman (1934), "On the two different aspects of the representative method", JRSS 97.
    W. G. Cochran (1977), "Sampling techniques", section 5.5: optimum allocation with costs.

    Examples
    --------
    >>> plan = plan_exploration([1000.0, 1000.0], [[0.1, 0.4], [0.1, 0.2]], [[1.0, 2.0]] * 2, [0, 0], 90.0)
    >>> plan.calls[:, 1].round(6).tolist()  # twice the spread, twice the calls
    [60.0, 30.0]
    """
    sizes, deviation, price, default = _checked(n_prompts, spread, cost_usd, served)
    if not budget_usd > 0 or not np.isfinite(budget_usd):
        raise InputError(f"budget_usd is {budget_usd:g}; needed USD > 0. Without a budget nothing can be explored.")
    if not 0 < max_epsilon < 1:
        raise InputError(f"max_epsilon is {max_epsilon:g}; needed a share between 0 and 1.")
    rows = np.arange(len(sizes))
    explored = np.where(deviation > _NO_SPREAD, deviation, 0.0)
    explored[rows, default] = 0.0
    extra = np.maximum(price - price[rows, default][:, None], 0.0)

    share = _allocated(explored, extra, 0.0, max_epsilon)
    if _spent(sizes, share, extra) > budget_usd:
        low, high = 0.0, (_spent(sizes, explored / np.sqrt(np.where(extra > 0, extra, 1.0)), extra) / budget_usd) ** 2
        for _ in range(_STEPS):
            middle = (low + high) / 2
            over = _spent(sizes, _allocated(explored, extra, middle, max_epsilon), extra) > budget_usd
            low, high = (middle, high) if over else (low, middle)
        share = _allocated(explored, extra, high, max_epsilon)

    epsilon = share.sum(axis=1)
    probability = share.copy()
    probability[rows, default] = 1 - epsilon
    calls = sizes[:, None] * probability
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.where(deviation > _NO_SPREAD, (sizes[:, None] * deviation) ** 2 / calls, 0.0).sum(axis=0)
    return ExplorationPlan(
        epsilon, probability, calls, _spent(sizes, share, extra), np.asarray(np.sqrt(variance) / sizes.sum())
    )


def _spent(sizes: FloatArray, share: FloatArray, extra: FloatArray) -> float:
    return float(sizes @ (share * extra).sum(axis=1))


def _allocated(spread: FloatArray, extra: FloatArray, mu: float, cap: float) -> FloatArray:
    """Shares [S, T] of each stratum's prompts at a price mu on USD, with each stratum's total at most `cap`."""
    # At nu = high the total is at most the cap even if calls cost nothing.
    low, high = np.zeros(len(spread)), (spread.sum(axis=1) / cap) ** 2
    if mu > 0:
        # Where money alone keeps a stratum under its cap, nu is 0.
        high = np.where(_shares(spread, extra, mu, low).sum(axis=1) <= cap, 0.0, high)
    if not high.any():
        return _shares(spread, extra, mu, high)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        over = _shares(spread, extra, mu, middle).sum(axis=1) > cap
        low, high = np.where(over, middle, low), np.where(over, high, middle)
    return _shares(spread, extra, mu, high)


def _shares(spread: FloatArray, extra: FloatArray, mu: float, nu: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(spread > 0, spread / np.sqrt(mu * extra + nu[:, None]), 0.0)


def _checked(
    n_prompts: ArrayLike, spread: ArrayLike, cost_usd: ArrayLike, served: ArrayLike
) -> tuple[FloatArray, FloatArray, FloatArray, NDArray[np.intp]]:
    deviation = as_table("spread", spread)
    shape = (deviation.shape[0], deviation.shape[1])
    price = as_table("cost_usd", cost_usd, shape=shape)
    sizes, default = np.asarray(n_prompts, dtype=np.float64), np.asarray(served)
    if deviation.min() < 0 or price.min() < 0:
        raise InputError("spread or cost_usd holds negative values; needed standard deviations and USD per call, >= 0.")
    if sizes.shape != shape[:1] or not (np.isfinite(sizes) & (sizes > 0)).all():
        raise InputError(
            f"n_prompts has shape {sizes.shape}; needed {shape[0]} numbers of prompts > 0, one per stratum."
        )
    if default.shape != shape[:1] or default.dtype.kind not in "iu" or default.min() < 0 or default.max() >= shape[1]:
        raise InputError(f"served is {default.tolist()}; needed {shape[0]} tier indices from 0 to {shape[1] - 1}.")
    return sizes, deviation, price, default.astype(np.intp)
