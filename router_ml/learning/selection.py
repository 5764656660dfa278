"""Choosing a learner: the fastest that cross-validation can't tell from the best, and never one that loses to a constant."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router_ml.evaluation.bootstrap import BootstrapResult, Interval, paired_bootstrap
from router_ml.evaluation.frontier import Sweep, sweep_value
from router_ml.evaluation.metrics import frontier_metrics
from router_ml.learning.inputs import Inputs
from router_ml.learning.learners import make_learner
from router_ml.learning.model import CrossFitted, crossfit
from router_ml.learning.partial import Comparable, LogDesign, comparable
from router_ml.learning.targets import Outputs, Targets

__all__ = ["CANDIDATES", "PARTIAL_CANDIDATES", "Candidate", "Selection", "select_learner"]

CANDIDATES = ("logistic", "ngram", "stack")
"""Tried in this order, which is that of their speed when they decide."""
PARTIAL_CANDIDATES = ("logistic", "pooled", "ngram")
"""The same for logs with one tier a prompt, where what tiers share (`pooled`) is worth most."""
_MIN_PROMPTS = 40
"""Fewer prompts than this and there is nothing to compare candidates on."""
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
    design: LogDesign,
    names: Sequence[str] = CANDIDATES,
    max_seconds: float | None = None,
    random_state: int = 0,
    on_candidate: Callable[[str], AbstractContextManager[Callable[[Candidate], None]]] | None = None,
    on_fold: Callable[[], None] = lambda: None,
) -> Selection:
    """Cross-fit each candidate, and take the fastest whose AIQ is within one standard error of the best one's.

    Parameters
    ----------
    X, targets, folds
        As for :func:`router_ml.learning.model.crossfit`.
    predicted_cost : callable
        The cost [n, T] in USD that outputs stand for.
    design : LogDesign
        How the log came about: where too few prompts were answered by every tier, candidates are compared on pseudo-outcomes, which
        start from what the first of them predicts.
    names : sequence of str
        Fastest first.
    max_seconds : float, optional
        Once so many seconds are spent, or would be if the next candidate took twice as long as the last, no more are tried. Which learner
        is chosen then depends on the machine; without it, all are tried.
    random_state : int
    on_candidate : callable, optional
        Opens a context for a candidate, by name; what it gives is called with the result.
    on_fold : callable
        Called after each fold of each candidate, for progress.

    Returns
    -------
    Selection
        A constant where the best candidate's AIQ isn't above the zero router's; where it is by no more than noise, `reason` says so. With fewer than 40
        prompts to compare on, the first is the only candidate.

    Notes
    -----
    The standard error is of the difference to the best, by a paired bootstrap over the prompts, of cross-fitted AIQs
    (:func:`router_ml.evaluation.bootstrap.paired_bootstrap`).

    References
    ----------
    Breiman, Friedman, Olshen, Stone: Classification and regression trees (1984), section 3.4.3: the one-standard-error rule.
    """
    n_comparable = int(targets.complete.sum()) if design.is_complete else len(X)
    if n_comparable < _MIN_PROMPTS or targets.n_tiers < 2:
        fitted = crossfit(names[0], make_learner(names[0], random_state=random_state), X, targets, folds)
        few = f"only {n_comparable} prompts to compare learners on, too few"
        if design.is_complete and targets.n_tiers > 1 and not _closes_gap(fitted, targets, design, predicted_cost):
            fitted = crossfit("constant", make_learner("constant"), X, targets, folds)
            why = f"constant: {few}, and on them {names[0]} doesn't beat the hull of single tiers in cross-validation."
            return Selection(fitted, (), why, beats_constant=False)
        return Selection(fitted, (), f"{names[0]}: {few}.", beats_constant=True)
    table: Comparable | None = None
    tried: dict[str, tuple[CrossFitted, Sweep, Candidate]] = {}
    skipped: list[str] = []
    start = time.monotonic()
    last = 0.0
    for name in names:
        spent = time.monotonic() - start
        if tried and max_seconds is not None and spent + 2 * last > max_seconds:
            skipped.append(name)
            continue
        with on_candidate(name) if on_candidate else nullcontext(lambda _: None) as report:
            learner = make_learner(name, random_state=random_state)
            fitted = crossfit(name, learner, X, targets, folds, on_fold=on_fold)
            cost_usd = predicted_cost(fitted.outputs)
            if table is None:
                table = comparable(targets, design, fitted.outputs, cost_usd)
            sweep = _sweep(fitted, cost_usd, table)
            metrics = frontier_metrics(sweep, table.quality, table.cost_usd)
            last = time.monotonic() - start - spent
            candidate = Candidate(name, metrics.aiq, metrics.gap_closed, last)
            report(candidate)
        tried[name] = (fitted, sweep, candidate)
    candidates = tuple(candidate for _, _, candidate in tried.values())
    assert table is not None  # some candidate was tried
    if table.is_estimated:
        chosen, reason = _least_error({name: f.outputs.quality for name, (f, _, _) in tried.items()}, table)
    else:
        sweeps = {name: sweep for name, (_, sweep, _) in tried.items()}
        chosen, reason = _one_standard_error(sweeps, table, random_state)
    if skipped:
        reason += f" Not tried, for want of time: {', '.join(skipped)}."
    if chosen is None:
        return Selection(
            crossfit("constant", make_learner("constant"), X, targets, folds), candidates, reason, beats_constant=False
        )
    return Selection(tried[chosen][0], candidates, reason, beats_constant=True)


def _closes_gap(
    fitted: CrossFitted,
    targets: Targets,
    design: LogDesign,
    predicted_cost: Callable[[Outputs], NDArray[np.float64]],
) -> bool:
    """Whether a learner's AIQ is above the zero router's on a complete log; False where no prompt was answered by all tiers."""
    if not targets.complete.any():
        return False
    cost_usd = predicted_cost(fitted.outputs)
    table = comparable(targets, design, fitted.outputs, cost_usd)
    return frontier_metrics(_sweep(fitted, cost_usd, table), table.quality, table.cost_usd).gap_closed > 0


def _sweep(fitted: CrossFitted, cost_usd: NDArray[np.float64], table: Comparable) -> Sweep:
    return sweep_value(fitted.outputs.quality[table.rows], cost_usd[table.rows])


def _one_standard_error(sweeps: dict[str, Sweep], table: Comparable, random_state: int) -> tuple[str | None, str]:
    """The name of the one to take, None where none beats the zero router; and why."""
    bootstrap = paired_bootstrap(
        sweeps, table.quality, table.cost_usd, n_resamples=_RESAMPLES, random_state=random_state
    )
    best = max(sweeps, key=lambda name: bootstrap.routers[name].aiq.estimate)
    gains = (f"{name} {100 * bootstrap.difference(name).gap_closed.estimate:.1f} %" for name in sweeps)
    figures = f"gap closed: {', '.join(gains)}"
    if not bootstrap.difference(best).aiq.estimate > 0:
        return None, (
            f"constant: no learner beats the hull of single tiers in cross-validation ({figures}), so the tiers' means, "
            "with what a prompt of such a length costs, are the best that this traffic supports."
        )
    for name in sweeps:
        if name == best:
            break
        behind = bootstrap.difference(best, name).aiq
        if behind.estimate <= _standard_error(behind) and bootstrap.difference(name).aiq.estimate > 0:
            return name, (
                f"{name}: the fastest within one standard error of {best}, the best in cross-validation ({figures}).{_doubt(bootstrap, name)}"
            )
    return (
        best,
        f"{best}: the best in cross-validation, and none faster is within one standard error ({figures}).{_doubt(bootstrap, best)}",
    )


def _doubt(bootstrap: BootstrapResult, name: str) -> str:
    """What to add where a learner's gain may be noise: a constant isn't taken for it, since real gains on few prompts look no different."""
    if bootstrap.difference(name).aiq.low > 0:
        return ""
    return " Its gain over the hull of single tiers may be noise: the 95 % interval holds 0."


def _least_error(predicted: dict[str, NDArray[np.float64]], table: Comparable) -> tuple[str | None, str]:
    """The same rule by the squared error of differences between tiers, where an AIQ, of pseudo-outcomes, is too noisy to tell learners apart."""
    a, b = np.triu_indices(table.quality.shape[1], 1)
    observed = table.quality[:, a] - table.quality[:, b]
    # The tiers' means, which a constant would expect: of the other prompts, since learners haven't seen a prompt either, and the noise of
    # pseudo-outcomes makes a mean's own share in it worth as much as what there is to learn.
    n = len(observed)
    constant = ((observed - observed.mean(axis=0)) ** 2).mean(axis=1) * (n / max(n - 1, 1)) ** 2
    own = {
        name: ((expected[table.rows][:, a] - expected[table.rows][:, b] - observed) ** 2).mean(axis=1)
        for name, expected in predicted.items()
    }
    best = min(own, key=lambda name: own[name].mean())
    figures = ", ".join(f"{name} {constant.mean() - e.mean():+.2g}" for name, e in own.items())
    figures = (
        f"squared error of differences below that of the tiers' means, by which partial logs are compared: {figures}"
    )
    if own[best].mean() >= constant.mean():
        return None, f"constant: no learner predicts differences between tiers better than their means do ({figures})."
    behind = {name: e - own[best] for name, e in own.items()}
    within = (n for n, d in behind.items() if d.mean() <= d.std(ddof=1) / np.sqrt(len(d)))
    name = next(within, best)
    why = "the best" if name == best else f"the fastest within one standard error of {best}, the best"
    return name, f"{name}: {why} in cross-validation ({figures})."


def _standard_error(interval: Interval) -> float:
    width = (interval.high - interval.low) / _NORMAL_95
    return width if np.isfinite(width) else 0.0
