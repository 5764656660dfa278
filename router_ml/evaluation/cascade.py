"""The cascade: start where the prompt says, look at the answer, and ask another tier where that is worth its price.

Every call that was made is paid for; the answer that is used is the best, by expectation, of those seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from router_ml.errors import InputError
from router_ml.evaluation.frontier import Hull, hull
from router_ml.evaluation.inputs import FloatArray, as_quality_and_cost, as_table
from router_ml.evaluation.knobs import default_lams
from router_ml.evaluation.metrics import aiq, cost_range, gap_closed, oracle_hull, zero_router_hull

__all__ = ["Cascade", "CascadeFigures", "cascade_figures", "simulate_cascade"]

State = tuple[int, ...]

_LEVEL = 0.95


@dataclass(frozen=True, eq=False)
class Cascade:
    """What came of each prompt at each setting of the knob.

    Attributes
    ----------
    lam : array [S]
        Quality that one USD is worth.
    cost_usd, quality : array [S, n]
        What all calls to a prompt cost together, and the quality of the answer used.
    n_calls : array [S, n]
        Tiers that were asked.
    """

    lam: FloatArray
    cost_usd: FloatArray
    quality: FloatArray
    n_calls: FloatArray

    @property
    def hull(self) -> Hull:
        """What mixing the settings at random reaches."""
        return hull(self.cost_usd.mean(axis=1), self.quality.mean(axis=1))


@dataclass(frozen=True)
class CascadeFigures:
    """A cascade beside the router that starts it.

    Attributes
    ----------
    aiq, gap_closed : float
        As of a router's frontier, by the same definitions.
    gain, gain_low, gain_high : float
        `gap_closed` less that of the router alone, with its paired 95 % interval over prompts.
    caution : float
        The factor on the price of another call, fixed at training.
    points : tuple of (float, float, float, float)
        Of each corner of the hull: lam, mean cost in USD, mean quality, mean number of calls.
    """

    aiq: float
    gap_closed: float
    gain: float
    gain_low: float
    gain_high: float
    caution: float
    points: tuple[tuple[float, float, float, float], ...]


def simulate_cascade(
    quality: ArrayLike,
    cost: ArrayLike,
    after: Mapping[State, FloatArray],
    Q: ArrayLike,
    C: ArrayLike,
    *,
    lams: ArrayLike | None = None,
    caution: float = 1.0,
) -> Cascade:
    """Play the joint policy on prompts that every tier answered.

    It starts at ``argmax(quality - lam * cost)``. Once tiers have answered, the others are asked while one's expected quality, in
    the light of the answers, less ``caution * lam * cost`` exceeds that of the best answer at hand.

    Parameters
    ----------
    quality, cost : array-like [n, T]
        Expected, from the prompt.
    after : mapping of state to array [n, T]
        Expected quality once the tiers of the state (ascending) have answered. States of the most answers may be lacking: the last
        answers decide there. In another state that is lacking, the last answer is accepted; without any, nothing is asked twice.
    Q, C : array-like [n, T]
        Observed.
    lams : array-like [S], optional
        By default those of `sweep_value`.
    caution : float
        Above 1 it guards against expectations that are too good since they were picked for being the best; below 1 the start is
        thriftier than what follows, since another tier can still be asked.

    Raises
    ------
    InputError
        Tables that don't fit, or a negative lam or caution.

    References
    ----------
    L. Chen, M. Zaharia, J. Zou (2023), "FrugalGPT", arXiv:2305.05176.
    A. Madaan et al. (2023), "AutoMix", arXiv:2310.12963.

    Examples
    --------
    >>> told = {(0,): np.array([[0.9, 0.9], [0.1, 0.9]])}
    >>> played = simulate_cascade([[0.5, 0.6]] * 2, [[1, 2]] * 2, told, [[1, 1], [0, 1]], [[1, 2]] * 2, lams=[0.2])
    >>> played.cost_usd[0].tolist(), played.quality[0].tolist()
    ([1.0, 3.0], [1.0, 1.0])
    """
    good, price = as_quality_and_cost(Q, C)
    shape = (good.shape[0], good.shape[1])
    expected, fee = as_table("quality", quality, shape=shape), as_table("cost", cost, shape=shape)
    knobs = default_lams(expected, fee) if lams is None else np.asarray(lams, dtype=np.float64)
    if knobs.ndim != 1 or knobs.size == 0 or not (np.isfinite(knobs).all() and (knobs >= 0).all()) or caution < 0:
        raise InputError("lams needs to be a vector of finite values >= 0, and caution a number >= 0.")
    for state, table in after.items():
        as_table(f"the expected quality after {state}", table, shape=shape)
    played = [_play(expected, fee, after, good, price, lam, caution) for lam in knobs.tolist()]
    cheapest = (price[:, 0], good[:, 0], np.ones(len(good)))
    return Cascade(np.append(knobs, np.inf), *(np.stack(rows) for rows in zip(*played, cheapest, strict=True)))


def cascade_figures(
    cascade: Cascade, alone: Cascade, Q: ArrayLike, C: ArrayLike, *, caution: float, n_resamples: int, random_state: int
) -> CascadeFigures:
    """Figures of a cascade, and of what it gains on the router `alone`, played on the same prompts.

    Notes
    -----
    The hull picks settings on the prompts that measure them, for both alike.
    """
    good, price = as_quality_and_cost(Q, C)
    plain = [_closed(c, good, price, None) for c in (cascade, alone)]
    rng = np.random.default_rng(random_state)
    n = len(good)
    drawn = []
    for _ in range(n_resamples):
        weights = np.bincount(rng.integers(n, size=n), minlength=n) / n
        drawn.append(_closed(cascade, good, price, weights)[1] - _closed(alone, good, price, weights)[1])
    tail = (1 - _LEVEL) / 2
    known = np.array(drawn)[np.isfinite(drawn)]
    low, high = np.quantile(known, (tail, 1 - tail)).tolist() if len(known) else (float("nan"), float("nan"))
    cost, quality, calls = (t.mean(axis=1) for t in (cascade.cost_usd, cascade.quality, cascade.n_calls))
    corners = [
        int(np.flatnonzero((cost == x) & (quality == y))[0]) for x, y in zip(*_corners(cascade.hull), strict=True)
    ]
    points = tuple((float(cascade.lam[s]), float(cost[s]), float(quality[s]), float(calls[s])) for s in corners)
    return CascadeFigures(*plain[0], plain[0][1] - plain[1][1], low, high, caution, points)


def _corners(curve: Hull) -> tuple[list[float], list[float]]:
    return curve.cost.tolist(), curve.quality.tolist()


def _play(
    expected: FloatArray,
    fee: FloatArray,
    after: Mapping[State, FloatArray],
    good: FloatArray,
    price: FloatArray,
    lam: float,
    caution: float,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    n, n_tiers = good.shape
    start = (expected - lam * fee).argmax(axis=1)
    used, cost, calls = start.copy(), price[np.arange(n), start], np.ones(n)
    largest = max((len(state) for state in after), default=0)
    groups: list[tuple[State, NDArray[np.intp]]] = [((t,), np.flatnonzero(start == t)) for t in range(n_tiers)]
    while groups:
        asked, rows = groups.pop()  # `asked` in the order of the calls
        if len(rows) == 0 or not after:
            continue
        known = after.get(tuple(sorted(asked[-largest:])))
        if known is None:
            continue
        belief = known[rows]
        seen = np.isin(np.arange(n_tiers), asked)
        at_hand = np.where(seen, belief, -np.inf)
        used[rows] = at_hand.argmax(axis=1)
        if seen.all():
            continue
        worth = np.where(seen, -np.inf, belief - caution * lam * fee[rows])
        following, goes = worth.argmax(axis=1), worth.max(axis=1) > at_hand.max(axis=1)
        for t in np.unique(following[goes]).tolist():
            going = rows[goes & (following == t)]
            cost[going] += price[going, t]
            calls[going] += 1
            used[going] = t
            groups.append(((*asked, t), going))
    return cost, good[np.arange(n), used], calls


def _closed(cascade: Cascade, good: FloatArray, price: FloatArray, weights: FloatArray | None) -> tuple[float, float]:
    """AIQ and gap closed, on the prompts or on a resample of them."""
    if weights is None:
        curve = cascade.hull
    else:
        curve = hull(cascade.cost_usd @ weights, cascade.quality @ weights)
        drawn = np.repeat(np.arange(len(good)), np.rint(weights * len(good)).astype(np.intp))
        good, price = good[drawn], price[drawn]
    try:
        low, high = cost_range(price)
    except InputError:
        return float("nan"), float("nan")
    reached = aiq(curve, low, high)
    zero, oracle = aiq(zero_router_hull(good, price), low, high), aiq(oracle_hull(good, price), low, high)
    return reached, gap_closed(reached, zero, oracle)
