"""What a choice of tiers gives up and saves against the reference tier, with intervals and beside the blind mix of equal cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from router_ml.core.decision import Prediction
from router_ml.core.menu import OperatingPoint, Tradeoff
from router_ml.core.policy import Rule
from router_ml.evaluation.frontier import REL_TOL, hull_indices
from router_ml.evaluation.inputs import FloatArray
from router_ml.evaluation.resampling import drawn_weights

__all__ = [
    "BlindMix",
    "Expectations",
    "Outcomes",
    "blind_mix",
    "cheapest_within",
    "measure_menu",
    "mix_loss",
    "mix_losses",
    "standard_error",
    "tradeoffs",
]

_LEVEL = 0.95
_RESAMPLES = 1000
_ROUNDING = 1e-12


@dataclass(frozen=True, eq=False)
class Expectations:
    """What a router predicts of n requests and T tiers, without having been fitted on them.

    Attributes
    ----------
    p_meets, quality, cost_usd : array [n, T]
    novelty : array [n]
    """

    p_meets: NDArray[np.float64]
    quality: NDArray[np.float64]
    cost_usd: NDArray[np.float64]
    novelty: NDArray[np.float64]

    @classmethod
    def of(cls, prediction: Prediction) -> Self:
        """Read them off what the core predicts."""
        tables = prediction.p_meets, prediction.quality, prediction.cost_usd, prediction.novelty
        return cls(*(table.astype(np.float64) for table in tables))

    def take(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> Expectations:
        """Return those of the given requests only."""
        return Expectations(self.p_meets[rows], self.quality[rows], self.cost_usd[rows], self.novelty[rows])

    def choices(self, rule: Rule) -> NDArray[np.intp]:
        """Return the tier [n] that a rule takes for each request."""
        return rule.choose(self.p_meets, self.quality, self.cost_usd, self.novelty)


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Observed quality and cost of requests that every tier answered.

    Attributes
    ----------
    quality, cost_usd : array [n, T]
        Complete; n >= 1.
    reference : int
        Index of the reference tier.
    groups : array [n] of int
        Requests of one group (a session) are resampled together.
    """

    quality: FloatArray
    cost_usd: FloatArray
    reference: int
    groups: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.quality)

    @property
    def reference_cost_usd(self) -> float:
        """Mean cost of a request to the reference tier."""
        return float(self.cost_usd[:, self.reference].mean())

    def losses(self, choices: NDArray[np.integer]) -> FloatArray:
        """Quality lost against the reference tier, by choices [..., n]; of the choices' shape."""
        return np.asarray(self.quality[:, self.reference] - self._chosen(self.quality, choices))

    def saved_usd(self, choices: NDArray[np.integer]) -> FloatArray:
        """Cost saved against the reference tier in USD, by choices [..., n]; of the choices' shape."""
        return np.asarray(self.cost_usd[:, self.reference] - self._chosen(self.cost_usd, choices))

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Self:
        """Return the outcomes of the given requests only."""
        return type(self)(self.quality[rows], self.cost_usd[rows], self.reference, self.groups[rows])

    @staticmethod
    def _chosen(table: FloatArray, choices: NDArray[np.integer]) -> FloatArray:
        return np.asarray(table[np.arange(len(table)), choices])


def tradeoffs(choices: NDArray[np.integer], outcomes: Outcomes, *, random_state: int) -> list[Tradeoff]:
    """Measure choices of tiers: means, and 95 % percentile intervals of one bootstrap over groups for all of them.

    Parameters
    ----------
    choices : array [P, n] of int
        A row for each way to choose.
    outcomes : Outcomes
    random_state : int
        Draws the 1,000 resamples.

    Returns
    -------
    list of P Tradeoff
    """
    loss, saved_usd = outcomes.losses(choices), outcomes.saved_usd(choices)
    reference_usd = outcomes.cost_usd[:, outcomes.reference]
    # Sums over each group: losses, USD saved, USD of the reference tier, requests.
    _, group = np.unique(outcomes.groups, return_inverse=True)
    columns = np.vstack((loss, saved_usd, reference_usd, np.ones(len(outcomes))))
    sums = np.array([np.bincount(group, weights=column) for column in columns]).T
    drawn = np.vstack([w @ sums for w in drawn_weights(np.random.default_rng(random_state), len(sums), _RESAMPLES)])[1:]
    n_rows = len(choices)
    per_request = drawn[:, :n_rows] / drawn[:, [-1]]
    share_saved = drawn[:, n_rows : 2 * n_rows] / np.where(drawn[:, [-2]] > 0, drawn[:, [-2]], np.inf)
    tail = (1 - _LEVEL) / 2
    loss_low, loss_high = np.quantile(per_request, (tail, 1 - tail), axis=0)
    saving_low, saving_high = np.quantile(share_saved, (tail, 1 - tail), axis=0)
    n_tiers = outcomes.quality.shape[1]
    found = []
    for p, choice in enumerate(choices):
        saved = float(saved_usd[p].mean())
        cost_usd = outcomes.reference_cost_usd - saved
        found.append(
            Tradeoff(
                quality_drop=float(loss[p].mean()),
                quality_drop_low=float(loss_low[p]),
                quality_drop_high=float(loss_high[p]),
                saving=saved / outcomes.reference_cost_usd if outcomes.reference_cost_usd > 0 else 0.0,
                saving_low=float(saving_low[p]),
                saving_high=float(saving_high[p]),
                cost_usd=cost_usd,
                reference_cost_usd=outcomes.reference_cost_usd,
                share=tuple((np.bincount(choice, minlength=n_tiers) / len(choice)).tolist()),
                mix_quality_drop=mix_loss(cost_usd, outcomes),
                n=len(outcomes),
            )
        )
    return found


def measure_menu(
    points: Sequence[OperatingPoint], rule: Rule, expected: Expectations, outcomes: Outcomes, *, random_state: int
) -> tuple[OperatingPoint, ...]:
    """Measure operating points on requests that neither they nor the router were fitted on.

    Parameters
    ----------
    points : sequence of OperatingPoint
    rule : Rule
        Of the router; its policy doesn't matter.
    expected : Expectations
    outcomes : Outcomes
        Observed on the same requests.
    random_state : int

    Returns
    -------
    tuple of OperatingPoint
        The same, `expected` replaced by what was observed.
    """
    choices = np.array([expected.choices(replace(rule, policy=point.policy)) for point in points])
    found = tradeoffs(choices, outcomes, random_state=random_state)
    return tuple(replace(point, expected=tradeoff) for point, tradeoff in zip(points, found, strict=True))


@dataclass(frozen=True, slots=True)
class BlindMix:
    """A mix of two single tiers that doesn't look at the request: `share` of the requests to `cheap`, the others to `costly`.

    Attributes
    ----------
    cheap, costly : int
    share : float
    cost_usd, quality_drop : float
        Means, the latter against the reference tier.
    """

    cheap: int
    costly: int
    share: float
    cost_usd: float
    quality_drop: float


def blind_mix(outcomes: Outcomes, drop: float) -> BlindMix:
    """Return the cheapest blind mix of two tiers that loses at most `drop` quality against the reference tier, drop >= 0."""
    cost, quality = outcomes.cost_usd.mean(axis=0), outcomes.quality.mean(axis=0)
    corners = hull_indices(cost, quality)
    wanted = quality[outcomes.reference] - drop
    above = int(np.flatnonzero(quality[corners] >= wanted - _ROUNDING)[0])
    costly = int(corners[above])
    cheap = int(corners[max(above - 1, 0)])
    gap = quality[costly] - quality[cheap]
    share = float((quality[costly] - wanted) / gap) if gap > 0 else 0.0
    mean_cost = float(share * cost[cheap] + (1 - share) * cost[costly])
    return BlindMix(
        cheap,
        costly,
        share,
        mean_cost,
        float(quality[outcomes.reference] - (share * quality[cheap] + (1 - share) * quality[costly])),
    )


def mix_loss(cost_usd: float, outcomes: Outcomes) -> float | None:
    """Return the quality that the best blind mix of single tiers of this mean cost loses; None where there is no such mix."""
    each = mix_losses(cost_usd, outcomes)
    return None if each is None else float(each.mean())


def mix_losses(cost_usd: float, outcomes: Outcomes) -> FloatArray | None:
    """Return what that mix is expected to lose on each request [n]; None where there is no such mix."""
    if outcomes.quality.shape[1] < 2:
        return None
    cost, quality = outcomes.cost_usd.mean(axis=0), outcomes.quality.mean(axis=0)
    corners = hull_indices(cost, quality)
    if cost_usd < cost[corners[0]] * (1 - REL_TOL):
        return None
    above = int(np.searchsorted(cost[corners], cost_usd))
    if above == 0 or above == len(corners):
        share = np.eye(len(cost))[corners[min(above, len(corners) - 1)]]
    else:
        low, high = corners[above - 1], corners[above]
        weight = (cost_usd - cost[low]) / (cost[high] - cost[low])
        share = (1 - weight) * np.eye(len(cost))[low] + weight * np.eye(len(cost))[high]
    return np.asarray(outcomes.quality[:, outcomes.reference] - outcomes.quality @ share)


def standard_error(values: FloatArray, groups: NDArray[np.intp]) -> float:
    """Return the standard error of the mean of values [n], of which those of one group hang together; infinite for one group."""
    _, group = np.unique(groups, return_inverse=True)
    sums = np.bincount(group, weights=values - values.mean())
    n_groups = len(sums)
    if n_groups < 2:
        return float("inf")
    return float(np.sqrt((sums**2).sum() * n_groups / (n_groups - 1)) / len(values))


def cheapest_within(losses: FloatArray, savings: FloatArray, limit: float) -> int:
    """Return the setting that saves most before the mean loss first exceeds the limit; of those that save as much, the safest.

    Not the boldest of all that keep the limit: that one is picked for its luck.

    Parameters
    ----------
    losses, savings : array [S]
        Means of settings from the safest to the boldest.
    limit : float

    Returns
    -------
    int
        0 where no setting keeps the limit.
    """
    exceeds = losses > limit + _ROUNDING
    last = len(losses) - 1 if not exceeds.any() else max(0, int(exceeds.argmax()) - 1)
    kept = savings[: last + 1]
    return int((kept >= kept.max() - _ROUNDING).argmax())
