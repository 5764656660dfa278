"""The menu of a router: for each loss of quality that may be asked, the cheapest operating point that keeps it.

:func:`default_point` says which of them a router uses where a request names none. Where a promise was asked for, the point that was
certified takes its place (``workflow/certify.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from router_ml.core.menu import OperatingPoint, Tradeoff, find_point, point_name
from router_ml.core.policy import Policy, Reference, Rule, Shortfall, Single
from router_ml.evaluation.frontier import sweep_value
from router_ml.evaluation.tradeoff import (
    Expectations,
    Outcomes,
    cheapest_within,
    mix_losses,
    standard_error,
    tradeoffs,
)

__all__ = ["MENU", "build_menu", "default_point"]

MENU = (0.0, 0.005, 0.01, 0.02, 0.05)
"""Losses of quality that every menu offers."""
_REPEATS = 10
"""Random partitions that the cross-fitting of a point is averaged over."""
_FOLDS = 5
_LIMITS = 41
"""Limits on the observed loss that are tried, for one whose cross-fitted loss keeps what is asked."""
_LEAST_SPAN = 0.005
"""They reach so far below 0; for a smaller loss, so far below the loss less this."""
_ROUNDING = 1e-12
_EQUAL_COST = 0.01
"""Of the reference tier's cost."""
_ONE_SIDED = 1.645
"""Standard errors: 95 % of a normal distribution lie below."""
_NO_COMPARISON = (
    "chosen by the model's own expectations: no request was answered by every tier, so nothing could be compared"
)
_MIX = "a blind mix of single tiers of the same cost loses less than the router, so that one tier takes everything"
_CHEAPER = "one tier alone stays within this loss at the router's cost or less, so that it takes everything"
_NONE_KEEPS = "no setting of the router stays within this loss, so that one tier takes everything"


def build_menu(
    expected: Expectations,
    outcomes: Outcomes | None,
    rule: Rule,
    *,
    drops: Sequence[float] = MENU,
    random_state: int,
) -> tuple[OperatingPoint, ...]:
    """Find for each loss of quality the cheapest operating point whose cross-fitted loss keeps it.

    Parameters
    ----------
    expected : Expectations
        Out of fold.
    outcomes : Outcomes or None
        Observed on the same requests; None: nothing could be compared, so the expectations stand for what would be observed.
    rule : Rule
        Tiers, reference tier, its cost and the novelty threshold; its policy doesn't matter.
    drops : sequence of float
        The most expected quality that a point may lose, >= 0 each.
    random_state : int
        Draws partitions and resamples.

    Returns
    -------
    tuple of OperatingPoint
        By ascending loss, each named by it; the loss in `expected` is cross-fitted.

    Notes
    -----
    A point is a :class:`Shortfall`; or one tier for everything, where that is cheaper and keeps the loss as well, and where a blind
    mix of tiers of the same cost loses less than the router by more than noise.

    The epsilon that keeps a loss on the requests that choose it loses more on others. So a smaller limit is looked for, whose
    epsilon, chosen on four fifths of the requests, keeps the loss that was asked on the rest, on average over ten partitions.
    """
    observed = outcomes if outcomes is not None else _as_expected(expected, rule.reference)
    candidates = _Candidates.of(expected, observed, rule, random_state)
    points = []
    for drop in {point_name(d): d for d in sorted(drops)}.values():
        limit = candidates.limit_for(drop)
        constant, at_constant = _cheapest_single(expected, observed, rule, drop, random_state)
        if limit is None:
            point, why = OperatingPoint(point_name(drop), Reference(), drop), _NONE_KEEPS
        else:
            policy = candidates.policy(limit)
            found = _measured(policy, candidates.cross_fitted(limit), expected, observed, rule, random_state)
            point, why = OperatingPoint(point_name(drop), policy, drop, found), ""
            if _beaten_by_mix(candidates.cross_fitted(limit), observed):
                why = _MIX
            elif _is_preferable(at_constant, found):
                why = _CHEAPER
        if why:
            point = replace(point, policy=constant, note=why, expected=at_constant)
        if outcomes is None:
            point = replace(point, expected=None, note=_NO_COMPARISON)
        points.append(point)
    return tuple(points)


def default_point(menu: Sequence[OperatingPoint], max_quality_drop: float) -> OperatingPoint:
    """Return the point of the menu that keeps `max_quality_drop`: the one a router uses where a request names none."""
    return find_point(menu, point_name(max_quality_drop))


@dataclass(frozen=True, eq=False)
class _Candidates:
    """Shortfall policies from the safest to the boldest, what each takes, and the mean losses that choose among them.

    Attributes
    ----------
    epsilons : array [S]
    choices : array [S, n] of int
    folds : array [R, n] of int
        Random partitions of the requests, groups whole.
    total, saving : array [S]
        Mean loss and mean saving in USD of each over all requests.
    inside, outside, outside_saving : array [R, F, S]
        Sum of the losses in each fold; mean loss and mean saving outside it.
    """

    epsilons: NDArray[np.float64]
    choices: NDArray[np.intp]
    folds: NDArray[np.intp]
    total: NDArray[np.float64]
    saving: NDArray[np.float64]
    inside: NDArray[np.float64]
    outside: NDArray[np.float64]
    outside_saving: NDArray[np.float64]

    @classmethod
    def of(cls, expected: Expectations, observed: Outcomes, rule: Rule, random_state: int) -> _Candidates:
        epsilons = np.zeros(1)
        if expected.quality.shape[1] > 1:
            knob = sweep_value(expected.quality, expected.cost_usd).knob
            switches = np.unique(knob[np.isfinite(knob)]) * rule.reference_cost_usd
            # Between the values at which choices switch: at one of them a request is tied, and rounding would decide it.
            epsilons = np.concatenate((epsilons, (switches[1:] + switches[:-1]) / 2, switches[-1:]))
        choices = np.array([expected.choices(replace(rule, policy=Shortfall(float(e)))) for e in epsilons])
        losses, savings = observed.losses(choices), observed.saved_usd(choices)
        folds = _partitions(observed.groups, random_state)
        n, n_folds = len(observed), int(folds.max()) + 1
        member = (folds[:, None, :] == np.arange(n_folds)[:, None]).astype(np.float64)
        n_outside = np.maximum(n - member.sum(axis=2), 1)[..., None]
        inside = member @ losses.T
        outside = (losses.sum(axis=1) - inside) / n_outside
        outside_saving = (savings.sum(axis=1) - member @ savings.T) / n_outside
        means = losses.mean(axis=1), savings.mean(axis=1)
        return cls(epsilons, choices, folds, *means, inside, outside, outside_saving)

    def limit_for(self, drop: float) -> float | None:
        """Return the largest limit on the observed loss whose cross-fitted loss is at most `drop`; None where none is."""
        # Below 0, too: a limit of -0.002 asks for a gain on the requests at hand.
        limits = np.linspace(drop - max(drop, _LEAST_SPAN) - _LEAST_SPAN, drop, _LIMITS)
        per_fold = [table.reshape(-1, len(self.epsilons)) for table in (self.inside, self.outside, self.outside_saving)]
        lost = [
            sum(own[cheapest_within(loss, saving, limit)] for own, loss, saving in zip(*per_fold, strict=True))
            for limit in limits.tolist()
        ]
        kept = np.flatnonzero(np.array(lost) / self.folds.size <= drop + _ROUNDING)
        return float(limits[kept[-1]]) if len(kept) else None

    def policy(self, limit: float) -> Shortfall:
        """Return the policy that keeps the limit on all requests."""
        return Shortfall(float(self.epsilons[cheapest_within(self.total, self.saving, limit)]))

    def cross_fitted(self, limit: float) -> NDArray[np.intp]:
        """Return choices [R, n], those of each fold by the policy that keeps the limit on the others."""
        choices = np.empty_like(self.folds)
        for row, fold, losses, savings in zip(choices, self.folds, self.outside, self.outside_saving, strict=True):
            picks = np.array([cheapest_within(*means, limit) for means in zip(losses, savings, strict=True)])
            row[:] = self.choices[picks[fold], np.arange(len(fold))]
        return choices


def _as_expected(expected: Expectations, reference: int) -> Outcomes:
    return Outcomes(expected.quality, expected.cost_usd, reference, np.arange(len(expected.quality)))


def _partitions(groups: NDArray[np.intp], random_state: int) -> NDArray[np.intp]:
    unique, inverse = np.unique(groups, return_inverse=True)
    rng = np.random.default_rng(random_state)
    n_folds = min(_FOLDS, len(unique))
    return np.array([(rng.permutation(len(unique)) % n_folds)[inverse] for _ in range(_REPEATS)])


def _measured(
    policy: Shortfall,
    cross_fitted: NDArray[np.intp],
    expected: Expectations,
    observed: Outcomes,
    rule: Rule,
    random_state: int,
) -> Tradeoff:
    """Return what a policy saves on all requests, and what it loses by cross-fitted choices [R, n], the mean over the partitions.

    The policy was chosen by its loss on these requests, so that its own loss there flatters it; its saving doesn't.
    """
    choice = expected.choices(replace(rule, policy=policy))[None]
    own, *others = tradeoffs(np.concatenate((choice, cross_fitted)), observed, random_state=random_state)
    return replace(
        own,
        quality_drop=float(np.mean([t.quality_drop for t in others])),
        quality_drop_low=float(np.mean([t.quality_drop_low for t in others])),
        quality_drop_high=float(np.mean([t.quality_drop_high for t in others])),
    )


def _is_preferable(single: Tradeoff, found: Tradeoff) -> bool:
    """Whether one tier costs less than the router, or as good as no more while it loses less."""
    more = single.cost_usd - found.cost_usd
    about_equal = more <= _EQUAL_COST * found.reference_cost_usd
    return more < -_ROUNDING or (about_equal and single.quality_drop < found.quality_drop)


def _beaten_by_mix(cross_fitted: NDArray[np.intp], observed: Outcomes) -> bool:
    """Whether a blind mix of the same cost loses less than choices [R, n], by more than noise (one-sided, 5 %)."""
    spent = observed.reference_cost_usd - float(observed.saved_usd(cross_fitted).mean())
    mixed = mix_losses(spent, observed)
    if mixed is None:
        return False
    worse = observed.losses(cross_fitted).mean(axis=0) - mixed
    return float(worse.mean()) > _ONE_SIDED * standard_error(worse, observed.groups)


def _cheapest_single(
    expected: Expectations, observed: Outcomes, rule: Rule, drop: float, random_state: int
) -> tuple[Policy, Tradeoff]:
    """Return the tier of least mean cost of which is known that it loses at most `drop`, as a policy; the reference tier loses nothing.

    Of several tiers the one that does so by luck would be taken, so that the upper end of its loss has to keep it (one-sided, 5 %).
    """
    lost = observed.quality[:, [observed.reference]] - observed.quality
    upper = [float(column.mean()) + _ONE_SIDED * standard_error(column, observed.groups) for column in lost.T]
    keeps = np.array(upper) <= drop + _ROUNDING
    keeps[observed.reference] = True
    single = int(np.where(keeps, observed.cost_usd.mean(axis=0), np.inf).argmin())
    policy = Reference() if single == rule.reference else Single(rule.tiers[single])
    choice = expected.choices(replace(rule, policy=policy))
    return policy, tradeoffs(choice[None], observed, random_state=random_state)[0]
