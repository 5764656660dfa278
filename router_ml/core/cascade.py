"""The cascade's policy: which tiers to ask first, which answer at hand is the best, and which tier to ask next.

Pure functions. :meth:`router_ml.core.router.Router.triage` and :meth:`~router_ml.core.router.Router.accept` apply them to one request,
`router_ml.evaluation.cascade.simulate_cascade` to many, so that what is evaluated is what is served:

1. The router's choice by `router_ml.core.policy` is the start. Where probes stand for it, they are asked in its place
   (:func:`opening`), whatever they answer.
2. Of the tiers that have answered, the answer of best expected quality is at hand. Another tier is asked while its expected quality,
   less the price of its cost (:func:`worth_asking`), exceeds that of the answer at hand (:func:`step`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from router_ml.core.decision import Prediction
from router_ml.core.policy import Rule, Threshold, choose_by_utility
from router_ml.core.probes import Probes

__all__ = ["Answered", "Step", "next_call", "next_step", "opening", "step", "worth_asking"]


class Step(NamedTuple):
    """What follows from the answers seen, for each of n requests.

    Attributes
    ----------
    at_hand : array [n] of int
        Index of the tier whose answer, of those seen, has the best expected quality.
    following : array [n] of int
        Index of the tier to ask next; -1: none is worth asking.
    """

    at_hand: NDArray[np.intp]
    following: NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """What is known of one request after some tiers have answered.

    Parameters
    ----------
    seen : sequence of int
        Tiers that have answered, in the order of their answers; at least one.
    p_meets, quality : array [T]
        Expected of each tier in the light of these answers.
    before : Prediction
        Of the one request, by its prompt alone.
    """

    seen: Sequence[int]
    p_meets: NDArray[np.floating]
    quality: NDArray[np.floating]
    before: Prediction


def opening(probes: Probes, *, quality_per_usd: float, start: int, allowed: Collection[int]) -> tuple[int, ...]:
    """Return the tiers that are asked in place of `start`, in order; empty: `start` itself is asked.

    Parameters
    ----------
    probes : Probes
    quality_per_usd : float
        The quality that one US dollar is worth.
    start : int
        The router's choice.
    allowed : collection of int
        Tiers that may be asked.
    """
    asked: list[int] = []
    while (probe := probes.following(quality_per_usd, start, asked, allowed)) is not None:
        asked.append(probe)
    return tuple(asked)


def worth_asking(
    quality: NDArray[np.floating], cost_usd: NDArray[np.floating], *, quality_per_usd: float, caution: float
) -> NDArray[np.float64]:
    """Return ``quality - caution * quality_per_usd * cost_usd``: what another call is expected to be worth.

    Parameters
    ----------
    quality, cost_usd : array [..., T]
        Expected quality, in the light of the answers seen; expected cost of the call in USD.
    quality_per_usd : float
        The quality that one US dollar is worth, >= 0.
    caution : float
        The factor on the price of another call, >= 0, chosen when the cascade was fitted.
    """
    return np.asarray(quality - caution * quality_per_usd * cost_usd, dtype=np.float64)


def step(
    quality: NDArray[np.floating],
    worth: NDArray[np.floating],
    *,
    seen: NDArray[np.bool_],
    allowed: NDArray[np.bool_] | None = None,
) -> Step:
    """Return, for each of n requests, the best answer at hand and the tier that is worth asking next.

    Parameters
    ----------
    quality : array [n, T]
        Expected quality (or probability of meeting the bar) of each tier, in the light of the answers seen.
    worth : array [n, T]
        The same, less what asking costs. A tier whose worth is NaN, for want of a price, is not asked.
    seen : array [T] or [n, T] of bool
        Tiers that have answered, and are paid for; at least one a request.
    allowed : array [T] or [n, T] of bool, optional
        Tiers that may be asked; all where not given.

    Notes
    -----
    Ties go to the cheaper tier, and another call needs to be worth more than the answer at hand, not as much.
    """
    rows = np.arange(len(quality))
    known = np.where(seen, quality, -np.inf)
    at_hand = known.argmax(axis=1)
    may = ~(np.isnan(worth) | seen) if allowed is None else ~(np.isnan(worth) | seen) & allowed
    open_worth = np.where(may, worth, -np.inf)
    best = open_worth.argmax(axis=1)
    goes_on = open_worth[rows, best] > known[rows, at_hand]
    return Step(at_hand, np.where(goes_on, best, -1))


def next_step(
    quality: NDArray[np.floating], worth: NDArray[np.floating], seen: Sequence[int], may: NDArray[np.bool_]
) -> tuple[int, int | None]:
    """:func:`step` for one request: the best answer at hand, and the tier that is worth asking next (None: none is).

    Parameters
    ----------
    quality, worth : array [T]
    seen : sequence of int
        Tiers that have answered.
    may : array [T] of bool
        Tiers that may be asked.
    """
    told = step(quality[None], worth[None], seen=np.isin(np.arange(len(quality)), seen), allowed=may)
    at_hand, following = int(told.at_hand[0]), int(told.following[0])
    return at_hand, None if following < 0 else following


def next_call(
    rule: Rule, answered: Answered, *, allowed: NDArray[np.bool_], caution: float, probes: Probes
) -> tuple[int, int | None]:
    """Return, for one request under any policy, the best answer at hand and the tier to ask next (None: none).

    Parameters
    ----------
    rule : Rule
        `Shortfall` and `Utility`: the probes that go with the start, then :func:`step`. `Threshold`: where no answer at hand
        reaches it, the cheapest tier that does, else a likelier one. `Reference` and `Single`: that tier, until it has answered.
    answered : Answered
    allowed : array [T] of bool
        Tiers that may be asked.
    caution, probes
        As for :func:`worth_asking` and :func:`opening`.
    """
    if isinstance(rule.policy, Threshold):
        return _by_threshold(answered, rule.policy.p_meets, allowed)
    seen, quality, before = answered.seen, answered.quality, answered.before
    price = rule.quality_per_usd or 0.0
    worth = worth_asking(quality, before.cost_usd[0], quality_per_usd=price, caution=caution)
    at_hand, following = next_step(quality, worth, seen, allowed)
    single = rule.single
    if single is not None:
        return at_hand, None if single in seen or not allowed[single] else single
    start = int(choose_by_utility(before.quality, before.cost_usd, price, allowed)[0])
    probe = probes.following(price, start, seen, np.flatnonzero(allowed).tolist())
    return at_hand, following if probe is None else probe


def _by_threshold(answered: Answered, threshold: float, allowed: NDArray[np.bool_]) -> tuple[int, int | None]:
    p_meets, seen = answered.p_meets, answered.seen
    at_hand, likelier = next_step(p_meets, p_meets, seen, allowed)
    if p_meets[at_hand] >= threshold:
        return at_hand, None
    reaching = (t for t in np.flatnonzero(allowed).tolist() if t not in seen and p_meets[t] >= threshold)
    return at_hand, next(reaching, likelier)
