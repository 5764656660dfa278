"""The default settings: of each policy the cheapest knob that keeps the best single tier's quality, on prompts not seen."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from router_ml.core.artifact import Setting
from router_ml.core.decision import Policy
from router_ml.evaluation.frontier import Sweep, points, sweep_bar, sweep_value
from router_ml.evaluation.metrics import best_single, frontier_metrics

__all__ = ["choose_settings"]

_NO_GUARANTEE = "none: chosen on out-of-fold predictions, where it held on average"
_UNKNOWN = "none: no prompt was answered by every tier, so nothing could be compared; 0.5 is a plain default"


def choose_settings(
    p_meets: NDArray[np.float64],
    expected_quality: NDArray[np.float64],
    expected_cost_usd: NDArray[np.float64],
    quality: NDArray[np.float64],
    cost_usd: NDArray[np.float64],
    *,
    quality_target: float,
) -> tuple[Setting, ...]:
    """Choose a knob for each policy: of least mean cost with at least `quality_target` times the best single tier's quality.

    Parameters
    ----------
    p_meets, expected_quality, expected_cost_usd : array [n, T]
        Predicted, out of fold.
    quality, cost_usd : array [n, T]
        Observed on prompts that every tier answered; n may be 0.
    quality_target : float
        Share of the best single tier's mean quality, in (0, 1].

    Returns
    -------
    tuple of Setting
        The policy of the larger AIQ comes first, as the default. Where no knob reaches the target, the one of best quality.
    """
    if len(quality) == 0:
        return (Setting("default", "bar", 0.5, None, None, None, None, _UNKNOWN),)
    if quality.shape[1] < 2:
        mean, cost = float(quality.mean()), float(cost_usd.mean())
        return (Setting("the only tier", "bar", 0.5, mean, cost, mean, cost, _NO_GUARANTEE),)
    sweeps: dict[Policy, Sweep] = {
        "value": sweep_value(expected_quality, expected_cost_usd),
        "bar": sweep_bar(p_meets),
    }
    # A stable sort, so that 'value' leads where both are alike, or no AIQ is defined.
    ranked = sorted(sweeps, key=lambda policy: -_aiq(sweeps[policy], quality, cost_usd))
    return tuple(_choose(policy, sweeps[policy], quality, cost_usd, quality_target) for policy in ranked)


def _choose(
    policy: Policy, sweep: Sweep, quality: NDArray[np.float64], cost_usd: NDArray[np.float64], quality_target: float
) -> Setting:
    cost, mean_quality = points(sweep, quality, cost_usd)
    best = best_single(quality, cost_usd)
    needed = quality_target * float(quality[:, best].mean())
    usable = np.isfinite(sweep.knob)
    reaches = usable & (mean_quality >= needed - 1e-12)
    candidates = np.flatnonzero(
        reaches if reaches.any() else usable & (mean_quality >= mean_quality[usable].max() - 1e-12)
    )
    chosen = candidates[np.argmin(cost[candidates])]
    knob = float(sweep.knob[chosen])
    return Setting(
        name=f"{100 * quality_target:.0f} % of the best single tier's quality",
        policy=policy,
        # The sweep of thresholds begins just above 1, where no tier reaches it; no calibrated probability is 1 either.
        knob=min(knob, 1.0) if policy == "bar" else knob,
        quality=float(mean_quality[chosen]),
        cost_usd=float(cost[chosen]),
        best_single_quality=float(quality[:, best].mean()),
        best_single_cost_usd=float(cost_usd[:, best].mean()),
        guarantee=_NO_GUARANTEE,
    )


def _aiq(sweep: Sweep, quality: NDArray[np.float64], cost_usd: NDArray[np.float64]) -> float:
    aiq = frontier_metrics(sweep, quality, cost_usd).aiq
    return aiq if math.isfinite(aiq) else -math.inf
