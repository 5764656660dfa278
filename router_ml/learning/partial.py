"""Logs in which not every tier answered every prompt: how likely each cell was to be seen, and what follows from that."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router_ml.evaluation.off_policy import estimate_propensities, pseudo_outcomes
from router_ml.learning.targets import Outputs, Targets

__all__ = ["ENOUGH_COMPLETE", "Comparable", "LogDesign", "comparable", "design_log"]

ENOUGH_COMPLETE = 200
"""With so many prompts that every tier answered, settings and learners are compared on those alone."""
_NEARLY_ALL = 0.95
"""A log in which at least this share of the prompts was answered by every tier is as good as complete: what lacks is masked."""
MAX_WEIGHT = 20.0
"""A cell counts as this many at most: beyond, one prompt in a thousand would decide what is learned."""
MIN_PROPENSITY = 0.01
"""A tier of less propensity counts as not tried on such prompts."""
_SURE_TOL = 1e-9
_LEAST = 1e-3
"""Estimated chances are at least this where a tier was tried after all."""
_MAX_UNSUPPORTED = 0.02
_ROUNDS = 30


@dataclass(frozen=True, slots=True)
class LogDesign:
    """How a log came to hold what it holds.

    Attributes
    ----------
    propensity : array [n, T]
        The chance that the cell would be observed, > 0; 1 in a complete log. Where it was logged, NaN in cells that were not observed.
    weight : array [n, T]
        Importance weights, about 1 on average over a tier's observed cells, clipped at `MAX_WEIGHT`.
    is_complete : bool
        (Nearly) every prompt was answered by every tier.
    is_estimated : bool
        The propensities were not logged, but estimated.
    effective_n : array [T]
        Kish's effective sample size of each tier's weighted answers.
    support : array [n, T]
        That chance as far as the prompts tell it, also where propensities were logged: logged are those of what was tried alone.
    """

    propensity: NDArray[np.float64]
    weight: NDArray[np.float64]
    is_complete: bool
    is_estimated: bool
    effective_n: NDArray[np.float64]
    support: NDArray[np.float64]

    @property
    def unsupported(self) -> NDArray[np.float64]:
        """Share of the prompts [T] on which the tier was hardly ever tried (chance below 1 %)."""
        return np.asarray((self.support < MIN_PROPENSITY).mean(axis=0))

    def summary(self, tiers: tuple[str, ...]) -> str:
        """What a reader of fit's log should know, in a line; empty for a complete log."""
        if self.is_complete:
            return ""
        where = "estimated from the prompts" if self.is_estimated else "as logged"
        worth = ", ".join(f"{t} {n:,.0f}" for t, n in zip(tiers, self.effective_n.tolist(), strict=True))
        text = f"Not every tier answered every prompt; answers are weighted by propensities {where}, worth so many prompts: {worth}."
        lacking = [
            f"{t} ({100 * s:.0f} %)"
            for t, s in zip(tiers, self.unsupported.tolist(), strict=True)
            if s > _MAX_UNSUPPORTED
        ]
        if lacking:
            text += (
                f" Hardly ever tried on some kinds of prompts, of which nothing can be promised: {', '.join(lacking)}."
            )
        return text

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> LogDesign:
        """The given prompts only."""
        return LogDesign(
            self.propensity[rows],
            self.weight[rows],
            self.is_complete,
            self.is_estimated,
            self.effective_n,
            self.support[rows],
        )


@dataclass(frozen=True, slots=True)
class Comparable:
    """Prompts to compare policies on.

    Attributes
    ----------
    rows : array [n] of bool
        Which of all prompts they are.
    quality, cost_usd : array [rows, T]
        Observed where every tier answered; else pseudo-outcomes and expected costs.
    is_estimated : bool
    """

    rows: NDArray[np.bool_]
    quality: NDArray[np.float64]
    cost_usd: NDArray[np.float64]
    is_estimated: bool


def design_log(
    quality: NDArray[np.float64],
    propensity: NDArray[np.float64],
    features: NDArray[np.floating],
    folds: NDArray[np.intp],
    *,
    random_state: int,
) -> LogDesign:
    """Find how likely each cell was to be observed, and how much it therefore counts.

    Parameters
    ----------
    quality : array [n, T]
        Observed, NaN where a tier was not tried or not judged.
    propensity : array [n, T]
        As logged, NaN where it wasn't. Used where each observed cell has one; else estimated throughout.
    features : array [n, d]
        What the logging policy may have looked at.
    folds : array [n]
        Prompts that belong together share one.

    Notes
    -----
    Where each prompt was answered by one tier the estimate is one multinomial model, else one binary model a tier, both cross-fitted
    (:func:`router_ml.evaluation.off_policy.estimate_propensities`). What the logging policy looked at beyond the features
    biases all that rests on an estimate.

    Logged propensities are taken as chances of inclusion: that the tier was among those that answered. Where several may answer one
    prompt they needn't add up to 1, and those of one prompt say nothing of the tiers that weren't asked, whose support is estimated.
    Only where one tier was sure to answer, and that kept the others from answering beside it, had those no chance.

    References
    ----------
    D. G. Horvitz, D. J. Thompson (1952), "A generalization of sampling without replacement from a finite universe", JASA 47:
    weights of one over the chance of inclusion.
    """
    tried = ~np.isnan(quality)
    n_tiers = quality.shape[1]
    if tried.all(axis=1).mean() >= _NEARLY_ALL or n_tiers < 2 or len(np.unique(folds)) < 2:
        ones = np.ones_like(quality)
        return LogDesign(ones, ones, True, False, tried.sum(axis=0).astype(np.float64), ones)
    given = not np.isnan(propensity[tried]).any()
    support = _estimate(tried, features, folds, random_state)
    chance = np.maximum(support, _LEAST)
    if given:
        chance = np.where(tried, propensity, np.nan)
        support = np.where(_crowded_out(chance), 0.0, support)
    weight = _clipped(np.where(tried, 1 / np.where(tried, chance, 1.0), 0.0), np.maximum(tried.sum(axis=0), 1))
    effective = weight.sum(axis=0) ** 2 / np.maximum((weight**2).sum(axis=0), 1e-12)
    return LogDesign(chance, np.where(tried, weight, 1.0), False, not given, effective, support)


def comparable(
    targets: Targets, design: LogDesign, outputs: Outputs, expected_cost_usd: NDArray[np.float64]
) -> Comparable:
    """Tables to compare policies on: of the prompts that every tier answered where there are enough, else pseudo-outcomes of all.

    Parameters
    ----------
    targets : Targets
    design : LogDesign
    outputs : Outputs
        Out of fold; the pseudo-outcomes start from them.
    expected_cost_usd : array [n, T]
        What the outputs cost.
    """
    complete = targets.complete
    if design.is_complete or complete.sum() >= ENOUGH_COMPLETE or targets.n_tiers < 2:
        return Comparable(complete, targets.quality[complete], targets.cost_usd[complete], is_estimated=False)
    rows = np.asarray(~np.isnan(targets.quality).all(axis=1))
    quality = pseudo_outcomes(targets.quality[rows], design.propensity[rows], outputs.quality[rows])
    return Comparable(rows, quality, expected_cost_usd[rows], is_estimated=True)


def _clipped(inverse: NDArray[np.float64], n_tried: NDArray[np.intp]) -> NDArray[np.float64]:
    """Weights [n, T] of a mean of 1 over each tier's tried cells, none above `MAX_WEIGHT`.

    Clipping lowers the mean, and dividing by it raises what was clipped, so both are done until neither changes anything.
    """
    weight = inverse
    for _ in range(_ROUNDS):
        weight = np.minimum(weight / np.maximum(weight.sum(axis=0) / n_tried, 1e-12), MAX_WEIGHT)
    return weight


def _crowded_out(chance: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Cells [n, T] that had no chance, since another tier was sure to answer; `chance` as logged, NaN where a tier wasn't tried.

    Whether a sure tier keeps another from answering is a matter of the log's design: always where one tier answers a prompt, never where
    some are asked as well (shadow traffic). The log tells: such a tier is hardly ever seen beside a sure one.
    """
    tried = ~np.isnan(chance)
    sure = tried & (chance >= 1 - _SURE_TOL)
    beside = sure.sum(axis=1, keepdims=True) - sure > 0
    share = (tried & beside).sum(axis=0) / np.maximum(beside.sum(axis=0), 1)
    return np.asarray(beside & ~tried & (share < MIN_PROPENSITY))


def _estimate(
    tried: NDArray[np.bool_], features: NDArray[np.floating], folds: NDArray[np.intp], random_state: int
) -> NDArray[np.float64]:
    if (tried.sum(axis=1) == 1).all():
        return estimate_propensities(
            features, tried.argmax(axis=1), tried.shape[1], folds=folds, random_state=random_state
        )
    columns = [
        estimate_propensities(features, column.astype(np.intp), 2, folds=folds, random_state=random_state)[:, 1]
        for column in tried.T
    ]
    return np.column_stack(columns)
