"""The default threshold: the cheapest setting that keeps the best single tier's quality, on prompts not seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from router_ml.core.artifact import Threshold
from router_ml.core.policy import choose_by_bar
from router_ml.evaluation.frontier import points, sweep_bar
from router_ml.evaluation.metrics import best_single

__all__ = ["choose_threshold"]

_NO_GUARANTEE = "none: chosen on out-of-fold predictions, where it held on average"
_UNKNOWN = "none: no prompt was answered by every tier, so nothing could be compared; 0.5 is a plain default"


def choose_threshold(
    p_meets: NDArray[np.float64],
    quality: NDArray[np.float64],
    cost_usd: NDArray[np.float64],
    *,
    quality_target: float,
) -> Threshold:
    """Choose the threshold of least mean cost whose mean quality is at least `quality_target` times the best single tier's.

    Parameters
    ----------
    p_meets : array [n, T]
        Out-of-fold.
    quality, cost_usd : array [n, T]
        Observed on prompts that every tier answered; n may be 0.
    quality_target : float
        Share of the best single tier's mean quality, in (0, 1].

    Returns
    -------
    Threshold
        Where none reaches the target, the one of best quality.
    """
    if len(quality) == 0:
        return Threshold("default", 0.5, None, None, None, None, _UNKNOWN)
    sweep = sweep_bar(p_meets)
    cost, mean_quality = points(sweep, quality, cost_usd)
    best = best_single(quality, cost_usd)
    needed = quality_target * float(quality[:, best].mean())
    reaches = mean_quality >= needed - 1e-12
    candidates = np.flatnonzero(reaches if reaches.any() else mean_quality >= mean_quality.max() - 1e-12)
    # The sweep's last setting stands just above 1, where no tier reaches it; no calibrated probability is 1 either.
    threshold = min(float(sweep.knob[candidates[np.argmin(cost[candidates])]]), 1.0)
    rows = np.arange(len(quality))
    chosen = choose_by_bar(p_meets, threshold)
    return Threshold(
        name=f"{quality_target:.0%} of the best single tier's quality",
        threshold=threshold,
        quality=float(quality[rows, chosen].mean()),
        cost_usd=float(cost_usd[rows, chosen].mean()),
        best_single_quality=float(quality[:, best].mean()),
        best_single_cost_usd=float(cost_usd[:, best].mean()),
        guarantee=_NO_GUARANTEE,
    )
