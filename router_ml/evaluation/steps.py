"""Every prompt's own cost-quality hull, as steps from one tier up to the next: what a linear price can choose."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router_ml.evaluation.inputs import FloatArray

__all__ = ["Steps", "upward_steps"]


@dataclass(frozen=True, eq=False)
class Steps:
    """Where each prompt starts, and the steps up its hull, steepest first over all prompts.

    Attributes
    ----------
    start : array [n] of int
        The prompt's cheapest tier (the best of equally cheap ones).
    prompt : array [E] of int
        The prompt that takes this step.
    slope : array [E]
        Quality gained per USD, descending, > 0.
    cost, quality : array [E]
        What the step adds, both > 0.
    """

    start: NDArray[np.intp]
    prompt: NDArray[np.intp]
    slope: FloatArray
    cost: FloatArray
    quality: FloatArray


def upward_steps(quality: FloatArray, cost: FloatArray) -> Steps:
    """The steps that ``argmax(quality - lam * cost)`` takes, prompt by prompt, as lam falls from infinity to 0.

    Parameters
    ----------
    quality, cost : array [n, T]
        Finite.

    Returns
    -------
    Steps
        At most n (T - 1) steps.

    Notes
    -----
    Gift wrapping over all prompts at once: from the cheapest tier, always on to the better tier with the steepest
    slope. Taking all steps with slope > lam, over all prompts, maximises ``sum(quality - lam * cost)``, which makes
    the running sums the exact frontier of whoever knows `quality` and `cost`.
    """
    n = len(quality)
    cheapest = cost <= cost.min(axis=1, keepdims=True)
    start = np.where(cheapest, quality, -np.inf).argmax(axis=1)
    prompts, slopes, costs, qualities = [], [], [], []
    active, at = np.arange(n), start
    while active.size:
        gain = quality[active] - quality[active, at][:, None]
        price = cost[active] - cost[active, at][:, None]
        up = (gain > 0) & (price > 0)
        with np.errstate(over="ignore"):
            slope = np.where(up, gain / np.where(up, price, 1.0), -np.inf)
        to = slope.argmax(axis=1)
        moves = up.any(axis=1)
        active, to = active[moves], to[moves]
        taken = np.flatnonzero(moves), to
        prompts.append(active)
        slopes.append(slope[taken])
        costs.append(price[taken])
        qualities.append(gain[taken])
        at = to
    slope_all = np.concatenate(slopes)
    order = np.argsort(-slope_all, kind="stable")
    return Steps(
        start=start,
        prompt=np.concatenate(prompts)[order],
        slope=slope_all[order],
        cost=np.concatenate(costs)[order],
        quality=np.concatenate(qualities)[order],
    )
