"""The cascade: start where the prompt says, look at the answer, and ask another tier where that is worth its price.

Every call that was made is paid for; the answer that is used is the best, by expectation, of those seen. The policy itself is
`router_ml.core.cascade`, which serves by it, too; here it is played on prompts that every tier answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from router_ml.core.cascade import opening, step, worth_asking
from router_ml.core.policy import choose_by_utility
from router_ml.core.probes import Probes
from router_ml.errors import InputError
from router_ml.evaluation.bootstrap import paired_bootstrap
from router_ml.evaluation.frontier import Played, Routed, hull_indices
from router_ml.evaluation.inputs import FloatArray, as_quality_and_cost, as_table
from router_ml.evaluation.knobs import default_lams
from router_ml.evaluation.metrics import frontier_metrics

__all__ = ["Cascade", "CascadeFigures", "cascade_figures", "simulate_cascade"]

State = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Cascade(Played):
    """What came of each prompt at each setting of the knob, and how many tiers were asked for it.

    Attributes
    ----------
    n_calls : array [S, n]
    """

    n_calls: FloatArray


@dataclass(frozen=True)
class CascadeFigures:
    """A cascade beside the router that starts it.

    Attributes
    ----------
    aiq, gap_closed : float
        As of a router's frontier, by the same definitions.
    gain, gain_low, gain_high : float
        `gap_closed` less that of the router alone, cross-fitted, with its paired 95 % interval over prompts.
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
    probes: Probes | None = None,
) -> Cascade:
    """Play the joint policy on prompts that every tier answered.

    It starts at ``argmax(quality - lam * cost)``, or with the probes that stand for it. Once tiers have answered, the others are asked while one's expected quality, in
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
    probes : Probes, optional
        Tiers that are all asked first.

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
    first = probes or Probes()
    played = [_play(expected, fee, after, good, price, lam, caution, first) for lam in knobs.tolist()]
    cheapest = (price[:, 0], good[:, 0], np.ones(len(good)))
    return Cascade(np.append(knobs, np.inf), *(np.stack(rows) for rows in zip(*played, cheapest, strict=True)))


def cascade_figures(
    cascade: Cascade, alone: Routed, Q: ArrayLike, C: ArrayLike, *, caution: float, n_resamples: int, random_state: int
) -> CascadeFigures:
    """Figures of a cascade, and of what it gains on the router `alone` on the same prompts; for `n_resamples` see `paired_bootstrap`."""
    plain = frontier_metrics(cascade, Q, C)
    policies = {"cascade": cascade, "alone": alone}
    paired = paired_bootstrap(policies, Q, C, n_resamples=n_resamples, random_state=random_state)
    gain = paired.difference("cascade", "alone").gap_closed
    cost, quality, calls = (t.mean(axis=1) for t in (cascade.cost_usd, cascade.quality, cascade.n_calls))
    points = tuple(
        (float(cascade.knob[s]), float(cost[s]), float(quality[s]), float(calls[s]))
        for s in hull_indices(cost, quality)
    )
    return CascadeFigures(plain.aiq, plain.gap_closed, gain.estimate, gain.low, gain.high, caution, points)


def _play(
    expected: FloatArray,
    fee: FloatArray,
    after: Mapping[State, FloatArray],
    good: FloatArray,
    price: FloatArray,
    lam: float,
    caution: float,
    probes: Probes,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    n, n_tiers = good.shape
    start = choose_by_utility(expected, fee, lam)
    used, cost, calls = start.copy(), np.zeros(n), np.ones(n)
    largest = max((len(state) for state in after), default=0)
    groups: list[tuple[State, NDArray[np.intp]]] = []
    for t in range(n_tiers):
        rows = np.flatnonzero(start == t)
        asked = opening(probes, quality_per_usd=lam, start=t, allowed=range(n_tiers)) or (t,)
        cost[rows] = price[rows][:, asked].sum(axis=1)
        used[rows], calls[rows] = asked[-1], len(asked)
        groups.append((asked, rows))
    while groups:
        asked, rows = groups.pop()  # `asked` in the order of the calls
        if len(rows) == 0 or not after:
            continue
        known = after.get(tuple(sorted(asked[-largest:])))
        if known is None:
            continue
        belief = known[rows]
        worth = worth_asking(belief, fee[rows], quality_per_usd=lam, caution=caution)
        used[rows], following = step(belief, worth, seen=np.isin(np.arange(n_tiers), asked))
        for t in np.unique(following[following >= 0]).tolist():
            going = rows[following == t]
            cost[going] += price[going, t]
            calls[going] += 1
            used[going] = t
            groups.append(((*asked, t), going))
    return cost, good[np.arange(n), used], calls
