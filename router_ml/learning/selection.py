"""Choosing a learner: the fastest that cross-validation can't tell from the best, and never one that loses to a constant."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router_ml.evaluation.bootstrap import Interval, paired_bootstrap
from router_ml.evaluation.frontier import Sweep, sweep_value
from router_ml.evaluation.metrics import frontier_metrics
from router_ml.learning.inputs import Inputs
from router_ml.learning.learners import make_learner
from router_ml.learning.model import CrossFitted, crossfit
from router_ml.learning.targets import Outputs, Targets

__all__ = ["CANDIDATES", "Candidate", "Selection", "select_learner"]

CANDIDATES = ("logistic", "ngram", "stack")
"""Tried in this order, which is that of their speed when they decide."""
_MIN_COMPLETE = 40
"""Fewer prompts than this that every tier answered, and there is nothing to compare candidates on."""
_RESAMPLES = 200
_NORMAL_95 = 2 * 1.96


@dataclass(frozen=True, slots=True)
class Candidate:
    """A learner that was tried: its out-of-fold AIQ, how much of the gap it closes, and the seconds it took."""

    name: str
    aiq: float
    gap_closed: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Selection:
    """The learner that was chosen, and why.

    Attributes
    ----------
    fitted : CrossFitted
        Of the one chosen.
    candidates : tuple of Candidate
        All that were tried.
    reason : str
        A sentence.
    beats_constant : bool
        False where a constant is all that the traffic supports.
    """

    fitted: CrossFitted
    candidates: tuple[Candidate, ...]
    reason: str
    beats_constant: bool


def select_learner(
    X: Inputs,
    targets: Targets,
    folds: NDArray[np.intp],
    predicted_cost: Callable[[Outputs], NDArray[np.float64]],
    *,
    names: Sequence[str] = CANDIDATES,
    budget_s: float = 480.0,
    random_state: int = 0,
    on_candidate: Callable[[str], AbstractContextManager[Callable[[Candidate], None]]] | None = None,
) -> Selection:
    """Cross-fit each candidate, and take the fastest whose AIQ is within one standard error of the best one's.

    Parameters
    ----------
    X, targets, folds
        As for :func:`router_ml.learning.model.crossfit`.
    predicted_cost : callable
        The cost [n, T] in USD that outputs stand for.
    names : sequence of str
        Fastest first.
    budget_s : float
        Once so many seconds are spent, or would be if the next candidate took twice as long as the last, no more are tried.
    random_state : int
    on_candidate : callable, optional
        Opens a context for a candidate, by name; what it gives is called with the result.

    Returns
    -------
    Selection
        A constant where the best candidate's AIQ isn't above the zero router's. Where fewer than 40 prompts were answered
        by every tier nothing can be compared, and the first candidate is taken.

    Notes
    -----
    The standard error is of the difference to the best, by a paired bootstrap over the prompts, of cross-fitted AIQs
    (:func:`router_ml.evaluation.bootstrap.paired_bootstrap`).

    References
    ----------
    Breiman, Friedman, Olshen, Stone: Classification and regression trees (1984), section 3.4.3: the one-standard-error rule.
    """
    complete = targets.complete
    quality, cost_usd = targets.quality[complete], targets.cost_usd[complete]
    if len(quality) < _MIN_COMPLETE or targets.n_tiers < 2:
        fitted = crossfit(names[0], make_learner(names[0], random_state=random_state), X, targets, folds)
        why = f"{names[0]}: only {len(quality)} prompts were answered by every tier, too few to compare learners on."
        return Selection(fitted, (), why, beats_constant=True)
    tried: dict[str, tuple[CrossFitted, Sweep, Candidate]] = {}
    skipped: list[str] = []
    start = time.monotonic()
    last = 0.0
    for name in names:
        spent = time.monotonic() - start
        if tried and spent + 2 * last > budget_s:
            skipped.append(name)
            continue
        with on_candidate(name) if on_candidate else nullcontext(lambda _: None) as report:
            fitted = crossfit(name, make_learner(name, random_state=random_state), X, targets, folds)
            sweep = sweep_value(fitted.outputs.quality[complete], predicted_cost(fitted.outputs)[complete])
            metrics = frontier_metrics(sweep, quality, cost_usd)
            last = time.monotonic() - start - spent
            candidate = Candidate(name, metrics.aiq, metrics.gap_closed, last)
            report(candidate)
        tried[name] = (fitted, sweep, candidate)
    candidates = tuple(candidate for _, _, candidate in tried.values())
    chosen, reason = _one_standard_error(
        {name: sweep for name, (_, sweep, _) in tried.items()}, quality, cost_usd, random_state
    )
    if skipped:
        reason += f" Not tried, for want of time: {', '.join(skipped)}."
    if chosen is None:
        return Selection(
            crossfit("constant", make_learner("constant"), X, targets, folds), candidates, reason, beats_constant=False
        )
    return Selection(tried[chosen][0], candidates, reason, beats_constant=True)


def _one_standard_error(
    sweeps: dict[str, Sweep], quality: NDArray[np.float64], cost_usd: NDArray[np.float64], random_state: int
) -> tuple[str | None, str]:
    """The name of the one to take, None where none beats the zero router; and why."""
    bootstrap = paired_bootstrap(sweeps, quality, cost_usd, n_resamples=_RESAMPLES, random_state=random_state)
    gains = {name: bootstrap.difference(name).gap_closed.estimate for name in sweeps}
    best = max(sweeps, key=lambda name: bootstrap.routers[name].aiq.estimate)
    figures = ", ".join(f"{name} {gain:.1%}" for name, gain in gains.items())
    if not bootstrap.difference(best).aiq.estimate > 0:
        return None, (
            f"constant: no learner beats the hull of single tiers in cross-validation (gap closed: {figures}), so one tier for all "
            "prompts is the best that this traffic supports."
        )
    for name in sweeps:
        if name == best:
            break
        behind = bootstrap.difference(best, name).aiq
        if behind.estimate <= _standard_error(behind) and bootstrap.difference(name).aiq.estimate > 0:
            return name, (
                f"{name}: the fastest within one standard error of {best}, the best in cross-validation (gap closed: {figures})."
            )
    return (
        best,
        f"{best}: the best in cross-validation, and none faster is within one standard error (gap closed: {figures}).",
    )


def _standard_error(interval: Interval) -> float:
    width = (interval.high - interval.low) / _NORMAL_95
    return width if np.isfinite(width) else 0.0
