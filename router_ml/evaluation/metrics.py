"""Figures of a frontier: AIQ, the zero router, the oracle, the gap closed, the saving at equal quality."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from router_ml.errors import InputError
from router_ml.evaluation.frontier import REL_TOL, Hull, Routed, hull, points
from router_ml.evaluation.inputs import FloatArray, as_quality_and_cost
from router_ml.evaluation.steps import upward_steps

__all__ = [
    "FrontierMetrics",
    "aiq",
    "best_single",
    "cost_range",
    "cost_save",
    "frontier_metrics",
    "gap_closed",
    "oracle_hull",
    "zero_router_hull",
]


@dataclass(frozen=True)
class FrontierMetrics:
    """The figures of one router's frontier; see the functions of the same names.

    Attributes
    ----------
    aiq, zero, oracle : float
        Mean height of the hull over the ladder's cost range: this router's, the zero router's, the oracle's.
    gap_closed : float
        (aiq - zero) / (oracle - zero); NaN where the oracle gains nothing over the zero router.
    cost_save_100, cost_save_95 : float
        Saving against the best single tier at 100 % and at 95 % of its quality; NaN where it isn't reached.
    low_usd, high_usd : float
        The cost range, in USD per call.
    """

    aiq: float
    zero: float
    oracle: float
    gap_closed: float
    cost_save_100: float
    cost_save_95: float
    low_usd: float
    high_usd: float


def frontier_metrics(sweep: Routed, quality: ArrayLike, cost_usd: ArrayLike) -> FrontierMetrics:
    """All figures of a sweep on observed quality and cost [n, T]; see `FrontierMetrics`.

    Raises
    ------
    InputError
        Incomplete tables, one tier, a sweep over other prompts, or a ladder whose tiers all cost the same.

    Notes
    -----
    The hull picks the best settings on the very prompts that measure them, which flatters every router: on a
    thousand prompts even a router of pure noise closes some of the gap. `paired_bootstrap` gives figures that are
    free of this.
    """
    good, price = as_quality_and_cost(quality, cost_usd)
    low, high = cost_range(price)
    curve = hull(*points(sweep, good, price))
    best = best_single(good, price)
    best_cost, best_quality = float(price[:, best].mean()), float(good[:, best].mean())
    reached = aiq(curve, low, high)
    zero = aiq(zero_router_hull(good, price), low, high)
    oracle = aiq(oracle_hull(good, price), low, high)
    return FrontierMetrics(
        aiq=reached,
        zero=zero,
        oracle=oracle,
        gap_closed=gap_closed(reached, zero, oracle),
        cost_save_100=cost_save(curve, best_cost, best_quality, 1.0),
        cost_save_95=cost_save(curve, best_cost, best_quality, 0.95),
        low_usd=low,
        high_usd=high,
    )


def cost_range(cost_usd: FloatArray) -> tuple[float, float]:
    """The mean cost of the ladder's first tier and of its dearest tier [n, T], in USD per call.

    The first tier stands for the cheapest, which it is by the ladder's order: a sample on which another is cheaper by
    chance then doesn't leave a strip that no router's curve covers.

    Raises
    ------
    InputError
        No tier costs more than the first.
    """
    means = cost_usd.mean(axis=0)
    low, high = float(means[0]), float(means.max())
    if not high > low:
        raise InputError(
            f"the first tier costs {low:g} USD per call on average and no other costs more; "
            "needed tiers in ladder order, cheapest first. Reorder the tiers, or leave out those of equal price."
        )
    return low, high


def aiq(curve: Hull, low: float, high: float) -> float:
    """Average improvement in quality: the hull's mean height between two costs, by exact integration.

    Parameters
    ----------
    curve : Hull
        Flat to the right of its last point. Left of its first point it has height 0 (nothing so cheap can be had),
        unless that point lies within a relative 1e-12 of `low`, which is rounding.
    low, high : float
        Mean USD per call of the cheapest and of the dearest tier, low < high.

    Raises
    ------
    InputError
        `low` isn't less than `high`.

    Notes
    -----
    RouterBench integrates the same hull; the division by the cost range makes the figure a quality.

    References
    ----------
    Q. J. Hu et al. (2024), "RouterBench", arXiv:2403.12031.

    Examples
    --------
    >>> aiq(Hull(np.array([1.0, 2.0]), np.array([0.5, 1.0])), low=1.0, high=3.0)  # (0.75 + 1) / 2
    0.875
    """
    if not low < high:
        raise InputError(f"got the cost range {low:g} to {high:g}; needed low < high. Pass the ladder's mean costs.")
    cost, quality = curve.cost, curve.quality
    if low < cost[0] <= low + abs(low) * REL_TOL:
        cost = np.concatenate(([low], cost[1:]))
    return path_area(cost, quality, low, high) / (high - low)


def path_area(cost: FloatArray, quality: FloatArray, low: float, high: float) -> float:
    """The integral of quality over cost along a polyline [H], between two costs; flat right of its last point.

    Stretches where the path runs back count negatively, so that the path of points that were put in order on other
    prompts can be integrated as it stands.
    """
    inside = np.minimum(np.maximum(cost, low), high)
    run, rise = cost[1:] - cost[:-1], quality[1:] - quality[:-1]
    run = np.where(run == 0, 1.0, run)
    # Where in its segment each clipped end lies; segments that lie outside altogether have both ends in one place.
    begin, end = (
        quality[:-1] + rise * np.minimum(np.maximum((at - cost[:-1]) / run, 0.0), 1.0)
        for at in (inside[:-1], inside[1:])
    )
    right = quality[-1] * (high - inside[-1])
    return float((inside[1:] - inside[:-1]) @ (begin + end) / 2 + right)


def zero_router_hull(quality: ArrayLike, cost_usd: ArrayLike) -> Hull:
    """The hull of the single tiers: what mixing tiers at random reaches without looking at the prompt.

    References
    ----------
    Q. J. Hu et al. (2024), "RouterBench", arXiv:2403.12031: the zero router.
    """
    good, price = as_quality_and_cost(quality, cost_usd)
    return hull(price.mean(axis=0), good.mean(axis=0))


def oracle_hull(quality: ArrayLike, cost_usd: ArrayLike) -> Hull:
    """The frontier of the value policy that knows each prompt's true quality and cost, at every lam at once.

    It is exact (see `upward_steps`), not a sweep over a grid: no sweep over the same tiers rises above it. It begins
    at each prompt's cheapest tier, which may lie left of the cheapest tier's mean cost.
    """
    good, price = as_quality_and_cost(quality, cost_usd)
    steps = upward_steps(good, price)
    rows = np.arange(len(good))
    first_cost, first_quality = price[rows, steps.start].mean(), good[rows, steps.start].mean()
    cost = first_cost + np.concatenate(([0.0], steps.cost)).cumsum() / len(good)
    reached = first_quality + np.concatenate(([0.0], steps.quality)).cumsum() / len(good)
    # Steps too small to move a sum would leave equal costs, which interpolation can't have.
    kept = np.concatenate(([True], np.diff(cost) > 0))
    return Hull(cost[kept], reached[kept])


def gap_closed(reached: float, zero: float, oracle: float) -> float:
    """(reached - zero) / (oracle - zero): 0 is the zero router, 1 the oracle; NaN where these two don't differ."""
    room = oracle - zero
    return (reached - zero) / room if room > REL_TOL else float("nan")


def cost_save(curve: Hull, best_cost: float, best_quality: float, x: float = 1.0) -> float:
    """1 - cost / `best_cost` at the cheapest point on the hull's polyline with quality >= x * `best_quality`.

    Parameters
    ----------
    curve : Hull
    best_cost, best_quality : float
        Mean USD per call (> 0) and mean quality of the best single tier.
    x : float
        Share of that quality to keep, > 0.

    Returns
    -------
    float
        At most 1; negative where the router needs more than the tier; NaN where the hull doesn't reach the quality.
    """
    if not best_cost > 0:
        return float("nan")
    return 1 - path_cost(curve.cost, curve.quality, x * best_quality) / best_cost


def path_cost(cost: FloatArray, quality: FloatArray, wanted: float) -> float:
    """The cost at which a polyline [H] first reaches a quality; NaN where it never does."""
    reached = quality >= wanted - REL_TOL
    k = int(reached.argmax())
    if not reached[k]:
        return float("nan")
    if k == 0 or quality[k] <= wanted:
        return float(cost[k])
    return float(np.interp(wanted, quality[k - 1 : k + 1], cost[k - 1 : k + 1]))


def best_single(quality: ArrayLike, cost_usd: ArrayLike) -> int:
    """The index of the tier with the best mean quality [n, T]; ties go to the tier of least mean cost."""
    good, price = as_quality_and_cost(quality, cost_usd)
    return best_of_means(good.mean(axis=0), price.mean(axis=0))


def best_of_means(quality: FloatArray, cost: FloatArray) -> int:
    """`best_single` for mean quality and mean cost [T]."""
    tied = quality >= quality.max() - REL_TOL
    return int(np.where(tied, cost, np.inf).argmin())
