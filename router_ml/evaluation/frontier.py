"""The cost-quality frontier: what a policy picks as its knob moves, the points it reaches, and their hull."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from router_ml.errors import InputError
from router_ml.evaluation.inputs import FloatArray, IntArray, as_quality_and_cost, as_table
from router_ml.evaluation.knobs import as_knob, default_lams, default_thresholds

__all__ = [
    "Hull",
    "Played",
    "Points",
    "Routed",
    "Sweep",
    "constant",
    "hull",
    "hull_indices",
    "points",
    "sweep_bar",
    "sweep_value",
]

# Relative slack when two costs that are equal on paper were summed in a different order.
REL_TOL = 1e-12
# Gathered tables are built in blocks of at most this many floats (32 MB).
_BLOCK = 4_000_000


@dataclass(frozen=True, eq=False)
class Sweep:
    """What a policy picks for each prompt at each setting of its knob.

    Attributes
    ----------
    knob : array [S]
        lam (quality per USD) or threshold; ``inf`` or 0 at the end that always takes the cheapest tier.
    choices : array [S, n] of int8 (intp for over 127 tiers)
        Index of the chosen tier.
    """

    knob: FloatArray
    choices: IntArray

    def __post_init__(self) -> None:
        """Refuse choices that don't fit the knob."""
        if self.choices.ndim != 2 or self.knob.shape != self.choices.shape[:1] or 0 in self.choices.shape:
            raise InputError(
                f"a sweep got {self.knob.shape} knob settings and choices of shape {self.choices.shape}; "
                "needed knob [S] and choices [S, n]. Pass one row of choices for each setting."
            )

    def take(self, rows: NDArray[np.intp]) -> Sweep:
        """The same of some prompts."""
        return Sweep(self.knob, self.choices[:, rows])

    def outcomes(self, quality: FloatArray, cost: FloatArray) -> Iterator[Points]:
        """Cost and quality of each prompt, in blocks of settings [s, n] that stay within `_BLOCK` floats."""
        columns = np.arange(len(quality))
        block = max(1, _BLOCK // len(quality))
        for first in range(0, len(self.choices), block):
            chosen = self.choices[first : first + block]
            yield Points(cost[columns, chosen], quality[columns, chosen])

    def check(self, shape: tuple[int, ...]) -> None:
        """Refuse tables [n, T] of other prompts, or that lack a chosen tier."""
        n, tiers = shape
        _check_prompts(self.choices.shape[1], n)
        if self.choices.min() < 0 or self.choices.max() >= tiers:
            raise InputError(
                f"the sweep chooses tiers {self.choices.min()} to {self.choices.max()}; needed 0 to {tiers - 1}. "
                "Sweep predictions for the ladder that the tables have."
            )


@dataclass(frozen=True, eq=False)
class Played:
    """What came of each prompt at each setting of the knob, for a policy that may ask several tiers.

    Attributes
    ----------
    knob : array [S]
    cost_usd : array [S, n]
        Of all calls to a prompt together.
    quality : array [S, n]
        Of the answer used.
    """

    knob: FloatArray
    cost_usd: FloatArray
    quality: FloatArray

    def take(self, rows: NDArray[np.intp]) -> Played:
        """The same of some prompts."""
        return Played(self.knob, self.cost_usd[:, rows], self.quality[:, rows])

    def outcomes(self, quality: FloatArray, cost: FloatArray) -> Iterator[Points]:  # noqa: ARG002  # as of a Sweep
        """Cost and quality of each prompt [S, n]."""
        yield Points(self.cost_usd, self.quality)

    def check(self, shape: tuple[int, ...]) -> None:
        """Refuse tables of other prompts."""
        _check_prompts(self.cost_usd.shape[1], shape[0])


Routed = Sweep | Played
"""A policy over n prompts, at each setting of its knob."""


class Points(NamedTuple):
    """Cost and quality per call: means at each knob setting, [S], or [B, S] for B rows of weights."""

    cost: FloatArray
    quality: FloatArray


@dataclass(frozen=True, eq=False)
class Hull:
    """A concave, non-decreasing polyline: what mixing a router's knob settings at random can reach.

    Attributes
    ----------
    cost : array [H]
        Mean USD per call, strictly ascending.
    quality : array [H]
        Mean quality, strictly ascending.
    """

    cost: FloatArray
    quality: FloatArray

    def at(self, cost: ArrayLike) -> FloatArray:
        """The quality reached at these costs: interpolated, flat to the right, NaN left of the first point."""
        wanted = np.asarray(cost, dtype=np.float64)
        reached = np.interp(wanted, self.cost, self.quality)
        return np.where(wanted < self.cost[0] * (1 - REL_TOL), np.nan, reached)


def constant(n: int, tier: int) -> Sweep:
    """The policy without a knob that sends every one of `n` prompts to `tier`."""
    if n < 1 or tier < 0:
        raise InputError(f"got n={n} prompts and tier={tier}; needed n >= 1 and the index of a tier, >= 0.")
    return Sweep(knob=np.zeros(1), choices=np.full((1, n), tier, dtype=_choice_dtype(tier + 1)))


def sweep_value(quality: ArrayLike, cost: ArrayLike, lams: ArrayLike | None = None) -> Sweep:
    """``argmax(quality - lam * cost)`` at each lam; the first (cheapest) tier wins ties.

    Parameters
    ----------
    quality, cost : array-like [n, T]
        What the router expects of each tier: quality in [0, 1] and USD per call. With the observed tables in their
        place this is the oracle's sweep (on a grid; `oracle_hull` is exact).
    lams : array-like [S], optional
        Quality that one USD is worth, each finite and >= 0. Default: 0, then 200 values spaced geometrically over
        all the ratios at which some prompt's choice changes and 200 at the quantiles of those ratios, then one so
        large that only cost counts.

    Returns
    -------
    Sweep
        In the order of `lams`. Its last entry, with knob ``inf``, always takes the cheapest tier, if no setting does
        so already: the curve then begins at the cheapest tier's cost.

    Raises
    ------
    InputError
        Incomplete tables, fewer than two tiers, or a lam that is negative or not finite.
    """
    price = as_table("cost", cost)
    good = as_table("quality", quality, shape=(price.shape[0], price.shape[1]))
    grid = default_lams(good, price) if lams is None else as_knob("lams", lams)
    if (grid < 0).any():
        raise InputError(f"lams holds {grid.min():g}; needed values >= 0, the quality that one USD is worth.")
    choices = np.empty((len(grid), len(good)), dtype=_choice_dtype(good.shape[1]))
    for s, lam in enumerate(grid):
        choices[s] = (good - lam * price).argmax(axis=1)
    return _with_cheapest_end(Sweep(grid, choices), end=np.inf)


def sweep_bar(p_meets: ArrayLike, thresholds: ArrayLike | None = None) -> Sweep:
    """The cheapest tier with ``p_meets >= threshold``; where none has, the tier with the highest `p_meets`.

    Parameters
    ----------
    p_meets : array-like [n, T]
        Probabilities in [0, 1], tiers in ladder order. Ties for the highest go to the first (cheapest).
    thresholds : array-like [S], optional
        Finite. Default: just over 1, then down the quantiles of the values of `p_meets` at which some prompt's
        choice changes (all of them, if at most 400 differ), then 0.

    Returns
    -------
    Sweep
        In the order of `thresholds`. Its last entry, with knob 0, always takes the cheapest tier, if no setting does
        so already: the curve then begins at the cheapest tier's cost.

    Raises
    ------
    InputError
        An incomplete table, fewer than two tiers, probabilities outside [0, 1], or a threshold that isn't finite.

    Examples
    --------
    >>> sweep_bar([[0.6, 0.9], [0.2, 0.4]], thresholds=[0.8, 0.5, 0.0]).choices.tolist()
    [[1, 1], [0, 1], [0, 0]]
    """
    p = as_table("p_meets", p_meets)
    if p.min() < 0 or p.max() > 1:
        raise InputError(f"p_meets runs from {p.min():g} to {p.max():g}; needed probabilities in [0, 1].")
    grid = default_thresholds(p) if thresholds is None else as_knob("thresholds", thresholds)
    fallback = p.argmax(axis=1)
    choices = np.empty((len(grid), len(p)), dtype=_choice_dtype(p.shape[1]))
    for s, threshold in enumerate(grid):
        reaches = p >= threshold
        choices[s] = np.where(reaches.any(axis=1), reaches.argmax(axis=1), fallback)
    return _with_cheapest_end(Sweep(grid, choices), end=0.0)


def points(sweep: Routed, quality: ArrayLike, cost_usd: ArrayLike, weights: ArrayLike | None = None) -> Points:
    """The mean cost and mean quality per call of every setting of a sweep.

    Parameters
    ----------
    sweep : Sweep or Played
    quality, cost_usd : array-like [n, T]
        What was observed.
    weights : array-like [B, n], optional
        How often each prompt counts, >= 0 (for the bootstrap: drawn counts). A row that sums to 0 gives NaN.

    Returns
    -------
    Points
        Arrays [S], or [B, S] with weights.

    Raises
    ------
    InputError
        Shapes that don't fit, incomplete tables, or a choice that is no tier.
    """
    good, price = as_quality_and_cost(quality, cost_usd)
    sweep.check(good.shape)
    if weights is None:
        means = [(cost.mean(axis=1), reached.mean(axis=1)) for cost, reached in sweep.outcomes(good, price)]
        return Points(*(np.concatenate(part) for part in zip(*means, strict=True)))
    rows = np.asarray(weights, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != len(good):
        raise InputError(f"weights has shape {rows.shape}; needed [B, {len(good)}], one row per resample.")
    totals = rows.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return Points(*(sums / totals for sums in weighted_sums(sweep, good, price, rows)))


def weighted_sums(sweep: Routed, quality: FloatArray, cost: FloatArray, weights: FloatArray) -> Points:
    """Sums over the prompts, each times its weight [B, n], as [B, S]: matrix products over blocks of settings."""
    sums = [(weights @ paid.T, weights @ reached.T) for paid, reached in sweep.outcomes(quality, cost)]
    return Points(*(np.concatenate(part, axis=1) for part in zip(*sums, strict=True)))


def hull(cost: ArrayLike, quality: ArrayLike) -> Hull:
    """The non-decreasing upper convex hull of cost-quality points.

    Parameters
    ----------
    cost, quality : array-like [S]
        Finite.

    Returns
    -------
    Hull
        From the cheapest point (the best of equally cheap ones) to the cheapest of the best.

    Raises
    ------
    InputError
        No points, different lengths, NaN or infinity.

    References
    ----------
    A. M. Andrew (1979), "Another efficient algorithm for convex hulls in two dimensions".
    Q. J. Hu et al. (2024), "RouterBench", arXiv:2403.12031: the non-decreasing convex hull.

    Examples
    --------
    >>> hull([1.0, 2.0, 3.0, 4.0], [0.2, 0.5, 0.5, 0.6]).cost.tolist()
    [1.0, 2.0, 4.0]
    """
    c, q = np.asarray(cost, dtype=np.float64), np.asarray(quality, dtype=np.float64)
    if c.ndim != 1 or c.shape != q.shape or c.size == 0 or not (np.isfinite(c).all() and np.isfinite(q).all()):
        raise InputError(
            f"a hull got costs of shape {c.shape} and qualities of shape {q.shape}; "
            "needed two vectors of the same length >= 1 without NaN or infinity."
        )
    kept = hull_indices(c, q)
    return Hull(c[kept], q[kept])


def hull_indices(cost: FloatArray, quality: FloatArray) -> NDArray[np.intp]:
    """Which points are the hull's corners, by ascending cost; see `hull`."""
    order = np.lexsort((-quality, cost))
    q_sorted = quality[order]
    # A corner is strictly better than all that is cheaper: this leaves the chain few points to walk.
    best_before = np.concatenate(([-np.inf], np.maximum.accumulate(q_sorted)[:-1]))
    order = order[q_sorted > best_before]
    cs, qs = cost[order].tolist(), quality[order].tolist()
    kept: list[int] = []
    for i in range(len(cs)):
        while len(kept) > 1:
            a, b = kept[-2], kept[-1]
            if (qs[b] - qs[a]) * (cs[i] - cs[b]) > (qs[i] - qs[b]) * (cs[b] - cs[a]):
                break
            kept.pop()
        kept.append(i)
    return order[kept]


def _check_prompts(swept: int, n: int) -> None:
    if swept != n:
        raise InputError(
            f"the sweep covers {swept} prompts and the tables {n}. "
            "Sweep the predictions for the same prompts, in the same order."
        )


def _with_cheapest_end(sweep: Sweep, end: float) -> Sweep:
    if (sweep.choices == 0).all(axis=1).any():
        return sweep
    cheapest = np.zeros((1, sweep.choices.shape[1]), dtype=sweep.choices.dtype)
    return Sweep(np.append(sweep.knob, end), np.concatenate((sweep.choices, cheapest)))


def _choice_dtype(tiers: int) -> type[np.int8] | type[np.intp]:
    return np.int8 if tiers <= np.iinfo(np.int8).max else np.intp
