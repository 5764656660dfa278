"""The controls that every report holds beside the router: each tier, a random mix, the zero router, the oracle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from router_ml.errors import InputError
from router_ml.evaluation.frontier import Sweep
from router_ml.evaluation.inputs import FloatArray, as_quality_and_cost
from router_ml.evaluation.metrics import aiq, best_single, cost_range, oracle_hull, zero_router_hull

__all__ = ["Row", "choice_row", "oracle_choice", "summary_table"]


@dataclass(frozen=True)
class Row:
    """One line of the controls table.

    Attributes
    ----------
    name : str
    cost_usd : float
        Mean USD per call; NaN where the line isn't reached at any cost.
    quality : float
        Mean quality.
    share : tuple of T floats, or None
        Share of calls to each tier; None for a point on a hull.
    note : str
    """

    name: str
    cost_usd: float
    quality: float
    share: tuple[float, ...] | None
    note: str = ""


def summary_table(
    quality: ArrayLike,
    cost_usd: ArrayLike,
    *,
    tiers: Sequence[str],
    default_choice: ArrayLike,
    settings: Mapping[str, ArrayLike] | None = None,
) -> list[Row]:
    """The controls, and the router at its default and at named settings of its knob.

    Parameters
    ----------
    quality, cost_usd : array-like [n, T]
        What was observed.
    tiers : sequence of T str
    default_choice : array-like [n] of int
        What the router picks when nothing is asked for.
    settings : mapping of name to array-like [n] of int, optional
        What it picks at other settings.

    Returns
    -------
    list of Row
        Each tier alone (the cheapest, the best and the dearest marked so), the half-and-half mix of the cheapest and
        the best, the zero router at the router's default cost, the router, the oracle at its best quality.

    Raises
    ------
    InputError
        Incomplete tables, names that don't fit the tiers, choices that don't fit the prompts.
    """
    good, price = as_quality_and_cost(quality, cost_usd)
    if len(tiers) != good.shape[1]:
        raise InputError(f"got {len(tiers)} tier names for tables of {good.shape[1]} tiers; needed one name per tier.")
    span = cost_range(price)
    mean_quality, mean_cost = good.mean(axis=0), price.mean(axis=0)
    best = best_single(good, price)
    roles = {0: ["the cheapest"]}
    roles.setdefault(best, []).append("the best single tier")
    roles.setdefault(int(mean_cost.argmax()), []).append("the dearest")
    rows = [
        Row(f"always {name}", float(mean_cost[t]), float(mean_quality[t]), _one_hot(t, len(tiers)), _listed(roles, t))
        for t, name in enumerate(tiers)
    ]
    mixed = (np.eye(len(tiers))[0] + np.eye(len(tiers))[best]) / 2
    rows.append(
        Row("random mix", *_point(mixed, mean_cost, mean_quality), _as_share(mixed), "half cheapest, half best, by lot")
    )
    router = choice_row("router", default_choice, good, price, note="at its default")
    zero = zero_router_hull(good, price)
    rows.append(
        Row(
            "zero router",
            router.cost_usd,
            float(zero.at(router.cost_usd)),
            None,
            f"at the router's cost; AIQ {aiq(zero, *span):.4f}",
        )
    )
    rows.append(router)
    rows += [choice_row(f"router, {name}", choice, good, price) for name, choice in (settings or {}).items()]
    oracle_aiq = aiq(oracle_hull(good, price), *span)
    note = f"best answers at least cost; AIQ {oracle_aiq:.4f}"
    rows.append(choice_row("oracle", oracle_choice(good, price), good, price, note=note))
    return rows


def choice_row(name: str, choice: ArrayLike, quality: FloatArray, cost: FloatArray, note: str = "") -> Row:
    """The line of one choice [n] of tiers on observed quality and cost [n, T]."""
    chosen = np.asarray(choice)
    if chosen.ndim != 1 or chosen.size == 0 or chosen.dtype.kind not in "iu":
        raise InputError(
            f"the choice of {name!r} has shape {chosen.shape} and type {chosen.dtype}; "
            "needed one tier's index per prompt."
        )
    Sweep(np.zeros(1), chosen[None]).check(quality.shape)
    at = np.arange(len(chosen))
    share = np.bincount(chosen, minlength=quality.shape[1]) / len(chosen)
    return Row(name, float(cost[at, chosen].mean()), float(quality[at, chosen].mean()), _as_share(share), note)


def oracle_choice(quality: FloatArray, cost: FloatArray) -> NDArray[np.intp]:
    """Of each prompt's tiers with the best answer the one of least cost [n]; the first wins ties."""
    best = quality >= quality.max(axis=1, keepdims=True)
    chosen: NDArray[np.intp] = np.where(best, cost, np.inf).argmin(axis=1)
    return chosen


def _point(share: FloatArray, mean_cost: FloatArray, mean_quality: FloatArray) -> tuple[float, float]:
    return float(share @ mean_cost), float(share @ mean_quality)


def _as_share(share: FloatArray) -> tuple[float, ...]:
    return tuple(share.tolist())


def _one_hot(tier: int, tiers: int) -> tuple[float, ...]:
    return tuple(float(t == tier) for t in range(tiers))


def _listed(roles: Mapping[int, list[str]], tier: int) -> str:
    return ", ".join(roles.get(tier, []))
