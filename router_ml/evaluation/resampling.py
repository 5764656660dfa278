"""What the bootstrap measures on each resample: settings picked on some of the prompts and measured on the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router_ml.evaluation.frontier import Points, Routed, Sweep, hull_indices, weighted_sums
from router_ml.evaluation.inputs import FloatArray
from router_ml.evaluation.metrics import best_of_means, path_area, path_cost
from router_ml.evaluation.steps import Steps, upward_steps

__all__ = ["Measured", "drawn_weights", "measure", "out_of_fold"]

# Weights are drawn in blocks of at most this many floats (32 MB).
_BLOCK = 4_000_000


@dataclass(frozen=True, eq=False)
class Measured:
    """Cross-fitted figures on each of B rows of weights, of the zero router (first) and R routers; NaN: not defined.

    Attributes
    ----------
    aiq, cost_save_100, cost_save_95 : array [B, 1 + R]
    oracle : array [B]
        The oracle's AIQ. It picks no settings.
    """

    aiq: FloatArray
    cost_save_100: FloatArray
    cost_save_95: FloatArray
    oracle: FloatArray


def drawn_weights(rng: np.random.Generator, n: int, n_resamples: int, width: int = 1) -> Iterator[FloatArray]:
    """How often each prompt was drawn [b, n], in blocks; before them one row of ones, the prompts as they are.

    A block has fewer rows where the caller needs `width` floats for each, beside the n of the weights.
    """
    block = max(1, _BLOCK // max(n, width))
    yield np.ones((1, n))
    for first in range(0, n_resamples, block):
        b = min(block, n_resamples - first)
        drawn = rng.integers(n, size=(b, n)) + n * np.arange(b)[:, None]
        yield np.bincount(drawn.ravel(), minlength=b * n).reshape(b, n).astype(np.float64)


def measure(
    sweeps: Sequence[Routed],
    quality: FloatArray,
    cost: FloatArray,
    folds: Sequence[NDArray[np.intp]],
    blocks: Iterable[FloatArray],
) -> Measured:
    """All figures on each row of all blocks of weights.

    Parameters
    ----------
    sweeps : sequence of R Sweeps or Played
    quality, cost : array [n, T]
    folds : sequence of K arrays of int
        They share out the prompts; K >= 2.
    blocks : iterable of array [b, n]
        Weights >= 0.
    """
    n, tiers = quality.shape
    every_tier = Sweep(np.arange(tiers, dtype=np.float64), np.arange(tiers)[:, None].repeat(n, axis=1))
    routers: list[Routed] = [every_tier, *sweeps]
    steps = upward_steps(quality, cost)
    start = Points(*(table[np.arange(n), steps.start] for table in (cost, quality)))
    routed, oracles = [], []
    for weights in blocks:
        mass = np.stack([weights[:, fold].sum(axis=1) for fold in folds])
        sums = [_sums_by_fold(sweep, quality, cost, folds, weights) for sweep in routers]
        for b, row in enumerate(weights):
            curves = [Points(s.cost[:, b], s.quality[:, b]) for s in sums]
            total = mass[:, b].sum()
            means = Points(curves[0].cost.sum(axis=0) / total, curves[0].quality.sum(axis=0) / total)
            routed.append(_figures(means, [out_of_fold(curve, mass[:, b]) for curve in curves]))
            oracles.append(_oracle_height(means, steps, start, row))
    figures = np.array(routed)
    return Measured(figures[:, :, 0], figures[:, :, 1], figures[:, :, 2], np.array(oracles))


def out_of_fold(sums: Points, mass: FloatArray) -> Points | None:
    """The path of points that a router reaches when its settings are picked without the prompts that measure them.

    Parameters
    ----------
    sums : Points of arrays [K, S]
        Weighted sums of cost and quality in each fold, at each setting.
    mass : array [K]
        Sum of the weights in each fold.

    Returns
    -------
    Points of arrays [H], or None
        For each budget (mean cost) in ascending order, over all folds: the mix of two settings that is best at that
        budget on the other folds, at the mean cost and quality that it has on this fold. The last point is the
        dearest setting, for who wants more quality than the best settings give. None where one fold has all the
        weight.
    """
    total, rest = mass.sum(), mass.sum() - mass
    if not (rest > 0).all():
        return None
    cost, quality = sums.cost.sum(axis=0), sums.quality.sum(axis=0)
    picked_cost, picked_quality = ((a - b) / rest[:, None] for a, b in zip((cost, quality), sums, strict=True))
    corners = [hull_indices(c, q) for c, q in zip(picked_cost, picked_quality, strict=True)]
    at_corners = [c[kept] for c, kept in zip(picked_cost, corners, strict=True)]
    budgets = np.unique(np.concatenate(at_corners))
    path = [
        sum(
            (np.interp(budgets, at, own[kept]) for at, own, kept in zip(at_corners, table, corners, strict=True)),
            start=np.zeros(len(budgets)),
        )
        for table in sums
    ]
    dearest = cost.argmax()
    return Points(np.append(path[0], cost[dearest]) / total, np.append(path[1], quality[dearest]) / total)


def _sums_by_fold(
    sweep: Routed, quality: FloatArray, cost: FloatArray, folds: Sequence[NDArray[np.intp]], weights: FloatArray
) -> Points:
    """Weighted sums [K, b, S] of cost and quality."""
    sums = [weighted_sums(sweep.take(fold), quality[fold], cost[fold], weights[:, fold]) for fold in folds]
    return Points(*(np.stack(part) for part in zip(*sums, strict=True)))


def _figures(tiers: Points, paths: Sequence[Points | None]) -> FloatArray:
    """AIQ, cost_save_100 and cost_save_95 along each path [1 + R, 3]."""
    low, high = tiers.cost[0], tiers.cost.max()
    best = best_of_means(tiers.quality, tiers.cost)
    best_cost, best_quality = tiers.cost[best], tiers.quality[best]
    figures = np.full((len(paths), 3), np.nan)
    for k, path in enumerate(paths):
        if path is None or not low < high:
            continue
        # Always the cheapest tier can be had without picking: the path begins there, and so leaves no strip bare.
        cost, quality = np.append(low, path.cost), np.append(tiers.quality[0], path.quality)
        figures[k, 0] = path_area(cost[:-1], quality[:-1], low, high) / (high - low)
        if best_cost > 0:
            figures[k, 1:] = [1 - path_cost(cost, quality, share * best_quality) / best_cost for share in (1.0, 0.95)]
    return figures


def _oracle_height(tiers: Points, steps: Steps, start: Points, weights: FloatArray) -> float:
    """The oracle's AIQ: the steps of all prompts, steepest first, each with its prompt's weight."""
    low, high = float(tiers.cost[0]), float(tiers.cost.max())
    if not low < high:
        return float("nan")
    taken = weights[steps.prompt]
    cost, quality = (
        np.concatenate(([weights @ first], taken * added)).cumsum() / weights.sum()
        for first, added in ((start.cost, steps.cost), (start.quality, steps.quality))
    )
    return path_area(cost, quality, low, high) / (high - low)
