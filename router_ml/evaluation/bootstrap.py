"""Paired bootstrap over prompts: intervals for every frontier figure, and for differences between routers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from router_ml.errors import InputError
from router_ml.evaluation.frontier import Routed
from router_ml.evaluation.inputs import FloatArray, as_quality_and_cost
from router_ml.evaluation.metrics import cost_range, gap_closed
from router_ml.evaluation.resampling import drawn_weights, measure

__all__ = ["ZERO_ROUTER", "BootstrapResult", "Difference", "Interval", "RouterIntervals", "paired_bootstrap"]

ZERO_ROUTER = "zero router"
_LEVEL = 0.95
# With two folds, settings picked on half of the prompts undersell a router and widen its intervals by a fifth.
_FOLDS = 5
# Below this a difference of two AIQs is rounding.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Interval:
    """A cross-fitted figure on the prompts as they are, and its 95 % percentile interval.

    The estimate may be NaN (not defined), and so may an end.
    """

    estimate: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside; False where the end that would have to tell is NaN."""
        return self.low > _ROUNDING or self.high < -_ROUNDING


@dataclass(frozen=True)
class RouterIntervals:
    """Intervals of one router's figures, cross-fitted; see `paired_bootstrap`."""

    aiq: Interval
    gap_closed: Interval
    cost_save_100: Interval
    cost_save_95: Interval


@dataclass(frozen=True)
class Difference:
    """`first` minus `second`, cross-fitted. Against the zero router, `gap_closed` is that of `first`: its own is 0."""

    first: str
    second: str
    aiq: Interval
    gap_closed: Interval


@dataclass(frozen=True)
class BootstrapResult:
    """What `paired_bootstrap` returns.

    Attributes
    ----------
    n_resamples : int
    level : float
        Of every interval: 0.95.
    routers : mapping of name to RouterIntervals
    zero_aiq, oracle_aiq : Interval
    differences : tuple of Difference
        Each router minus the zero router, then each pair of routers once.
    """

    n_resamples: int
    level: float
    routers: Mapping[str, RouterIntervals]
    zero_aiq: Interval
    oracle_aiq: Interval
    differences: tuple[Difference, ...]

    def difference(self, first: str, second: str = ZERO_ROUTER) -> Difference:
        """The difference of this pair, in this direction.

        Raises
        ------
        InputError
            No such pair.
        """
        for found in self.differences:
            if (found.first, found.second) == (first, second):
                return found
            if (found.second, found.first) == (first, second):
                return Difference(first, second, _negated(found.aiq), _negated(found.gap_closed))
        raise InputError(f"no difference of {first!r} and {second!r}; needed two of {[*self.routers, ZERO_ROUTER]}.")


def paired_bootstrap(
    sweeps: Mapping[str, Routed],
    quality: ArrayLike,
    cost_usd: ArrayLike,
    *,
    n_resamples: int = 1000,
    random_state: int | np.random.Generator | None,
) -> BootstrapResult:
    """Resample prompts with replacement, the same ones for all routers, and recompute every figure on each resample.

    Parameters
    ----------
    sweeps : mapping of name to Sweep or Played
        One or more routers, over the same n prompts.
    quality, cost_usd : array-like [n, T]
        What was observed; n >= 2.
    n_resamples : int
        At least 1.
    random_state : int, Generator or None
        Draws the folds and the resamples.

    Returns
    -------
    BootstrapResult

    Raises
    ------
    InputError
        Incomplete tables, one tier, one prompt, no sweeps, sweeps over other prompts, or n_resamples < 1.

    Notes
    -----
    The cost range, the best single tier, the zero router and the oracle are recomputed in each resample.

    *All figures are cross-fitted* over five random folds: for each budget, the mix of settings (or of tiers, for the
    zero router) that is best on four folds is measured on the fifth, and the five are put together to one curve over
    all prompts. A hull that picks the best settings on the prompts that measure it rewards noise: the sweep of tier
    means plus a little noise has a hull on or above the zero router's in every resample, so that its plain gain is
    never negative and no interval of it ever contains 0. Cross-fitted estimates are a little below those of
    `frontier_metrics`, and below the truth rather than above it. Where a quality lies beyond the best settings,
    cost_save turns the knob right up.

    A resample on which a figure isn't defined (say, the best tier's quality isn't reached) counts as lower than all
    others; an end of the interval that falls among such resamples is NaN.

    Memory stays within a few blocks of 32 MB, beside the sweeps; time goes with n_resamples x settings x n.

    References
    ----------
    B. Efron, R. J. Tibshirani (1993), "An Introduction to the Bootstrap", chapter 13: percentile intervals.
    """
    good, price = as_quality_and_cost(quality, cost_usd)
    _check_request(sweeps, len(good), n_resamples)
    cost_range(price)
    for sweep in sweeps.values():
        sweep.check(good.shape)
    rng = np.random.default_rng(random_state)
    folds = [np.sort(fold) for fold in np.array_split(rng.permutation(len(good)), min(_FOLDS, len(good)))]
    width = 2 * len(folds) * sum(len(sweep.knob) for sweep in sweeps.values())
    blocks = drawn_weights(rng, len(good), n_resamples, width)
    drawn = measure(list(sweeps.values()), good, price, folds, blocks)

    room = drawn.oracle - drawn.aiq[:, 0]

    def gained(first: int, second: int) -> tuple[Interval, Interval]:
        more = drawn.aiq[:, first] - drawn.aiq[:, second]
        return _interval(more), _interval(_ratio(more, room))

    names = [ZERO_ROUTER, *sweeps]
    routers = {
        names[k]: RouterIntervals(
            aiq=_interval(drawn.aiq[:, k]),
            gap_closed=gained(k, 0)[1],
            cost_save_100=_interval(drawn.cost_save_100[:, k]),
            cost_save_95=_interval(drawn.cost_save_95[:, k]),
        )
        for k in range(1, len(names))
    }
    pairs = [(k, 0) for k in range(1, len(names))] + list(combinations(range(1, len(names)), 2))
    differences = tuple(Difference(names[a], names[b], *gained(a, b)) for a, b in pairs)
    return BootstrapResult(
        n_resamples, _LEVEL, routers, _interval(drawn.aiq[:, 0]), _interval(drawn.oracle), differences
    )


def _check_request(sweeps: Mapping[str, Routed], n: int, n_resamples: int) -> None:
    if not sweeps or ZERO_ROUTER in sweeps:
        raise InputError(f"got the sweeps {list(sweeps)}; needed at least one, none of them named {ZERO_ROUTER!r}.")
    if n < 2:
        raise InputError("got one prompt; needed at least 2, and hundreds for intervals worth quoting. Add prompts.")
    if n_resamples < 1:
        raise InputError(f"n_resamples is {n_resamples}; needed at least 1, and 1000 for intervals worth quoting.")


def _ratio(gained: FloatArray, room: FloatArray) -> FloatArray:
    return np.array([gap_closed(g, 0.0, r) for g, r in zip(gained.tolist(), room.tolist(), strict=True)])


def _interval(drawn: FloatArray) -> Interval:
    """The first value is the estimate, the others are the resamples."""
    resampled = np.sort(np.where(np.isnan(drawn[1:]), -np.inf, drawn[1:]))
    tail = (1 - _LEVEL) / 2
    # Order statistics, outward, since no interpolation is possible towards -inf.
    low = np.quantile(resampled, tail, method="lower")
    high = np.quantile(resampled, 1 - tail, method="higher")
    return Interval(float(drawn[0]), *(float(end) if np.isfinite(end) else float("nan") for end in (low, high)))


def _negated(interval: Interval) -> Interval:
    return Interval(-interval.estimate, -interval.high, -interval.low)
