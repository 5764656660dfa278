"""The two policies, as pure functions over the model's outputs: which tier for each prompt, and why."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from router_ml.core.decision import Policy

__all__ = ["choose", "choose_by_bar", "choose_by_value", "choose_reference"]


def choose(
    policy: Policy,
    knob: float,
    p_meets: NDArray[np.floating],
    quality: NDArray[np.floating],
    cost_usd: NDArray[np.floating],
    allowed: NDArray[np.bool_] | None = None,
) -> NDArray[np.intp]:
    """The choice of a policy, by its name: :func:`choose_by_bar`, :func:`choose_by_value`, :func:`choose_reference`; arrays [n, T]."""
    if policy == "bar":
        return choose_by_bar(p_meets, knob, allowed)
    if policy == "reference":
        return choose_reference(quality, int(knob), allowed)
    return choose_by_value(quality, cost_usd, knob, allowed)


def choose_reference(
    quality: NDArray[np.floating], reference: int, allowed: NDArray[np.bool_] | None = None
) -> NDArray[np.intp]:
    """The tier of index `reference` for each of n prompts; where it isn't allowed, the allowed tier of best expected quality."""
    chosen = np.full(len(quality), reference, dtype=np.intp)
    if allowed is None:
        return chosen
    mask = np.broadcast_to(allowed, quality.shape)
    return np.where(mask[:, reference], chosen, np.where(mask, quality, -np.inf).argmax(axis=1))


def choose_by_bar(
    p_meets: NDArray[np.floating], threshold: float, allowed: NDArray[np.bool_] | None = None
) -> NDArray[np.intp]:
    """The cheapest tier whose `p_meets` reaches the threshold; where none does, the tier with the highest `p_meets`.

    Parameters
    ----------
    p_meets : array [n, T]
        Calibrated probabilities in [0, 1], tiers in ladder order (cheapest first).
    threshold : float
        0 always takes the cheapest allowed tier; above 1 always the one with the highest `p_meets`.
    allowed : array [T] or [n, T] of bool, optional
        Tiers that may be chosen; at least one a prompt.

    Returns
    -------
    array [n] of int
        Index of the chosen tier; ties go to the cheaper.
    """
    if allowed is not None:
        p_meets = np.where(allowed, p_meets, -1.0)
    # In double precision, so that a threshold isn't rounded to the outputs' single one.
    reaches = p_meets >= np.float64(threshold)
    first = reaches.argmax(axis=1)
    # argmax of an all-False row is 0: tell it apart from "tier 0 reaches".
    return np.asarray(np.where(reaches[np.arange(len(first)), first], first, p_meets.argmax(axis=1)))


def choose_by_value(
    quality: NDArray[np.floating],
    cost_usd: NDArray[np.floating],
    lam: float,
    allowed: NDArray[np.bool_] | None = None,
) -> NDArray[np.intp]:
    """The tier with the largest ``quality - lam * cost_usd``; ties go to the cheaper.

    Parameters
    ----------
    quality : array [n, T]
        Expected quality in [0, 1].
    cost_usd : array [n, T]
        Expected cost of the call in USD.
    lam : float
        Quality that one US dollar is worth, >= 0.
    allowed : array [T] or [n, T] of bool, optional
        Tiers that may be chosen; at least one a prompt.

    Returns
    -------
    array [n] of int
        Index of the chosen tier.
    """
    value = quality - lam * cost_usd
    if allowed is not None:
        value = np.where(allowed, value, -np.inf)
    return np.asarray(value.argmax(axis=1))
