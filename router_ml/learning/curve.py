"""The learning curve: what a learner would gain from fewer prompts, and so, roughly, what more would bring."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from router_ml.evaluation.bootstrap import paired_bootstrap
from router_ml.evaluation.frontier import sweep_value
from router_ml.learning.inputs import Inputs
from router_ml.learning.learners import Learner
from router_ml.learning.model import quiet_copy
from router_ml.learning.targets import Targets, expit

__all__ = ["SIZES", "CurvePoint", "curve_text", "learning_curve"]

SIZES = (100, 300, 1_000, 3_000)
_MIN_HELD = 40
"""Fewer held-out prompts that every tier answered, and a gap_closed says nothing."""


class CurvePoint(NamedTuple):
    """gap_closed on prompts held out, of a learner fitted to so many."""

    n_prompts: int
    gap_closed: float


_ROUTER = "router"


def learning_curve(
    learner: Learner,
    X: Inputs,
    targets: Targets,
    folds: NDArray[np.intp],
    predicted_cost: Callable[[NDArray[np.intp], NDArray[np.float64]], NDArray[np.float64]],
    *,
    n_splits: int = 3,
    random_state: int = 0,
) -> tuple[CurvePoint, ...]:
    """Fit to 100, 300, 1,000, 3,000 and all prompts of the other folds, and measure on each of the first folds.

    Parameters
    ----------
    learner : Learner
        With the settings that were chosen on all prompts: what is seen is the effect of fewer prompts alone.
    X, targets, folds
        As for :func:`router_ml.learning.model.crossfit`.
    predicted_cost : callable
        From row numbers [m] and output tokens [m, T] to the cost [m, T] in USD.
    n_splits : int
        Folds that are measured on; the means over them are given.
    random_state : int
        Draws the prompts; a smaller set is part of a larger one.

    Returns
    -------
    tuple of CurvePoint
        Empty where too few prompts were answered by every tier.
    """
    complete, rng = targets.complete, np.random.default_rng(random_state)
    reached: dict[int, list[float]] = {}
    for fold in np.unique(folds)[:n_splits]:
        held, others = np.flatnonzero((folds == fold) & complete), rng.permutation(np.flatnonzero(folds != fold))
        if len(held) < _MIN_HELD or targets.n_tiers < 2:
            return ()
        for size in (*(s for s in SIZES if s < 0.9 * len(others)), len(others)):
            rows = np.sort(others[:size])
            scores = quiet_copy(learner).fit(X[rows], targets.take(rows)).predict(X[held])
            sweep = sweep_value(expit(scores.quality), predicted_cost(held, np.exp(scores.log_tokens)))
            # Cross-fitted, as the verdict is: with settings picked on the prompts that measure them, few prompts look like many.
            measured = targets.quality[held], targets.cost_usd[held]
            found = paired_bootstrap({_ROUTER: sweep}, *measured, n_resamples=1, random_state=random_state)
            gap = found.difference(_ROUTER).gap_closed.estimate
            reached.setdefault(size if size in SIZES else 0, []).append(gap)
    n_all = int(np.mean([np.sum(folds != fold) for fold in np.unique(folds)[:n_splits]]))
    points = [CurvePoint(size or n_all, float(np.mean(gaps))) for size, gaps in reached.items()]
    return tuple(sorted(points))


def curve_text(curve: Sequence[CurvePoint]) -> str:
    """The points in words."""
    return ", ".join(f"{100 * p.gap_closed:.1f} % at {p.n_prompts:,}" for p in curve)
