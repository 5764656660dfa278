"""Routers side by side: the same splits, the same metrics, and paired intervals of what they differ by.

A contestant is a function of the rows to learn from, the rows to decide and a seed; `contest` splits, times, measures
and compares. What the contestants look at (embeddings, words, nothing) is their own matter.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.recipes import Estimate, Result, to_sweep
from router_ml.errors import InputError
from router_ml.evaluation import (
    FrontierMetrics,
    Hull,
    Interval,
    best_single,
    cost_save,
    frontier_metrics,
    oracle_hull,
    points,
    zero_router_hull,
)
from router_ml.evaluation.frontier import Routed
from router_ml.evaluation.resampling import drawn_weights, measure
from router_ml.learning.threads import single_threaded
from router_ml.traffic.observations import Observations
from router_ml.traffic.split import split_by_hash

FloatArray = NDArray[np.float64]
Rows = NDArray[np.intp]
Kind = Literal["ours", "published", "control", "reference"]

TEST_SHARE = 0.4
_FOLDS = 5
_LEVEL = 0.95
# Rows of weights that are measured at a time: some 25 MB for a dozen routers.
_BLOCK = 50


@dataclass(frozen=True, slots=True)
class Contestant:
    """One router of the contest.

    Attributes
    ----------
    name : str
    kind : {"ours", "published", "control"}
        The best of each of the last two is what the others are compared with.
    decide : callable
        Of the rows to learn from, the rows to decide and the seed; expectations or choices for the latter, in order.
    source : str
        Where it comes from.
    swept : bool
        Whether it has a knob: then it gives a frontier, else one point.
    """

    name: str
    kind: Kind
    decide: Callable[[Rows, Rows, int], Result]
    source: str = ""
    swept: bool = True


@dataclass(frozen=True, slots=True)
class Split:
    """The rows of one seed; no text and no session is on both sides."""

    seed: int
    train: Rows
    test: Rows


@dataclass(frozen=True, slots=True)
class Turn:
    """What one contestant did on one split, in how many seconds; and what its search chose, where it has one."""

    routed: Routed
    fit_s: float
    chosen: str


@dataclass(frozen=True, slots=True)
class FrontierLine:
    """A router with a knob.

    Attributes
    ----------
    name, kind, source
        As given.
    fit_s : tuple of S floats
        Seconds to fit on the training rows and predict the test rows, for each seed.
    metrics : tuple of S FrontierMetrics
        Of each seed's test rows.
    cross_fitted, against_published, against_control : Interval or None
        Of gap_closed, cross-fitted, mean over the seeds: its own, and less that of the best published recipe and of the
        best control. None for itself, where there is none, and for references.
    chosen : tuple of S str
        What its search chose; empty without one.
    """

    name: str
    kind: Kind
    source: str
    fit_s: tuple[float, ...]
    metrics: tuple[FrontierMetrics, ...]
    cross_fitted: Interval | None = None
    against_published: Interval | None = None
    against_control: Interval | None = None
    chosen: tuple[str, ...] = ()

    @property
    def gap_closed(self) -> float:
        """Mean over the seeds."""
        return float(np.mean([m.gap_closed for m in self.metrics]))


@dataclass(frozen=True, slots=True)
class PointLine:
    """A router without a knob, for each seed: its mean cost and quality, and how far it lies above the zero router there."""

    name: str
    kind: Kind
    source: str
    fit_s: tuple[float, ...]
    cost_usd: tuple[float, ...]
    quality: tuple[float, ...]
    above_zero: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Contest:
    """What `contest` found.

    Attributes
    ----------
    n_train, n_test : tuple of S ints
        Prompts of each seed.
    frontiers : tuple of FrontierLine
        In the order given; then the zero router and the oracle.
    points : tuple of PointLine
    best_published, best_control : str or None
        Those of the largest mean gap_closed.
    n_resamples : int
    """

    n_train: tuple[int, ...]
    n_test: tuple[int, ...]
    frontiers: tuple[FrontierLine, ...]
    points: tuple[PointLine, ...]
    best_published: str | None
    best_control: str | None
    n_resamples: int

    def frontier(self, name: str) -> FrontierLine:
        """The line of that name; raises InputError where there is none."""
        for line in self.frontiers:
            if line.name == name:
                return line
        raise InputError(f"No frontier is named {name!r}; there are {[line.name for line in self.frontiers]}.")


def split_rows(observations: Observations, seed: int, *, small: int | None = None) -> Split:
    """60/40 by a hash of the text that the seed salts; of the training rows `small` at random, where given.

    Raises
    ------
    InputError
        A side would be empty, or has fewer than `small` rows to learn from.
    """
    in_test = split_by_hash(observations.prompt, observations.session_id, test_share=TEST_SHARE, random_state=seed)
    train, test = np.flatnonzero(~in_test), np.flatnonzero(in_test)
    if min(len(train), len(test)) < _FOLDS or (small is not None and not 0 < small <= len(train)):
        raise InputError(
            f"{len(observations)} prompts split into {len(train)} to learn from and {len(test)} to test on; "
            f"needed at least {_FOLDS} of each, and {small or 'any number'} to learn from. Give more, or ask for fewer."
        )
    if small is not None:
        train = np.sort(np.random.default_rng(seed).permutation(train)[:small])
    return Split(seed, train, test)


def contest(
    contestants: Sequence[Contestant],
    observations: Observations,
    *,
    n_seeds: int = 5,
    small: int | None = None,
    n_resamples: int = 200,
    random_state: int = 0,
    jobs: int = 1,
    on_step: Callable[[str], None] = lambda _: None,
) -> Contest:
    """Fit and measure all contestants on the same splits.

    Parameters
    ----------
    contestants : sequence of Contestant
        Of different names, at least one of them with a knob.
    observations : Observations
        Complete: each prompt was answered by each tier.
    n_seeds : int
        Splits, from seeds 0, 1, ...
    small : int, optional
        Prompts to learn from; all of the training side where not given.
    n_resamples : int
    random_state : int
        Of the bootstrap.
    jobs : int
        Splits at a time, each in a process of its own: contestants then leave nothing behind but their results.
    on_step : callable
        Told what comes next: ``len(contestants) + 1`` times for each seed; with several jobs, once a seed is done.

    Returns
    -------
    Contest

    Notes
    -----
    Intervals are of prompts drawn anew from the whole pool, once for all routers and all seeds: a prompt that several
    test sides share is drawn as often in each. They measure the noise of the test prompts given these splits and what
    was trained on them, not what training on other traffic would change. Their figures are cross-fitted
    (see `router_ml.evaluation.paired_bootstrap`), so that the hull earns nothing by picking on noise.
    """
    names = [c.name for c in contestants]
    if n_seeds < 1 or n_resamples < 1 or len(set(names)) < len(names) or not any(c.swept for c in contestants):
        raise InputError(
            f"got the routers {names}, {n_seeds} seeds and {n_resamples} resamples; "
            "needed different names, one with a knob at least, and at least 1 of each."
        )
    splits = [split_rows(observations, seed, small=small) for seed in range(n_seeds)]
    weights = np.concatenate(list(drawn_weights(np.random.default_rng(random_state), len(observations), n_resamples)))
    turns: dict[str, list[Turn]] = {name: [] for name in names}
    drawn: list[Mapping[str, FloatArray]] = []
    for split, taken in zip(splits, _all_turns(contestants, splits, jobs, on_step), strict=True):
        for name, turn in zip(names, taken, strict=True):
            turns[name].append(turn)
        on_step(f"seed {split.seed}: bootstrap")
        curves = {c.name: turns[c.name][-1].routed for c in contestants if c.swept}
        drawn.append(_gap_draws(curves, observations, split, weights))
    tables = [(observations.quality[s.test], observations.cost_usd[s.test]) for s in splits]
    frontiers = [
        FrontierLine(
            c.name,
            c.kind,
            c.source,
            tuple(turn.fit_s for turn in turns[c.name]),
            tuple(frontier_metrics(turn.routed, *table) for turn, table in zip(turns[c.name], tables, strict=True)),
            chosen=tuple(turn.chosen for turn in turns[c.name] if turn.chosen),
        )
        for c in contestants
        if c.swept
    ]
    best = {kind: _best(frontiers, kind) for kind in ("published", "control")}
    draws = {name: np.mean([seed[name] for seed in drawn], axis=0) for name in drawn[0]}
    return Contest(
        tuple(len(s.train) for s in splits),
        tuple(len(s.test) for s in splits),
        (
            *(_compared(line, draws, best["published"], best["control"]) for line in frontiers),
            *_references(frontiers[0].metrics, tables),
        ),
        tuple(_point_line(c, turns[c.name], tables) for c in contestants if not c.swept),
        best["published"],
        best["control"],
        n_resamples,
    )


def _all_turns(
    contestants: Sequence[Contestant], splits: Sequence[Split], jobs: int, on_step: Callable[[str], None]
) -> Iterator[list[Turn]]:
    """What each contestant did on each split, split by split."""
    if jobs == 1:
        for split in splits:
            yield _turns(contestants, split, on_step)
        return
    from joblib import Parallel, delayed  # type: ignore[import-untyped]

    parallel = Parallel(n_jobs=jobs, return_as="generator")
    for split, taken in zip(splits, parallel(delayed(_turns)(contestants, split) for split in splits), strict=True):
        for entrant in contestants:
            on_step(f"seed {split.seed}: {entrant.name}")
        yield taken


@single_threaded()
def _turns(
    contestants: Sequence[Contestant], split: Split, on_step: Callable[[str], None] = lambda _: None
) -> list[Turn]:
    taken = []
    for entrant in contestants:
        on_step(f"seed {split.seed}: {entrant.name}")
        start = time.perf_counter()
        result = entrant.decide(split.train, split.test, split.seed)
        seconds = time.perf_counter() - start
        taken.append(Turn(to_sweep(result), seconds, result.chosen if isinstance(result, Estimate) else ""))
    return taken


def _gap_draws(
    sweeps: Mapping[str, Routed], observations: Observations, split: Split, weights: FloatArray
) -> dict[str, FloatArray]:
    """Cross-fitted gap_closed [1 + B] of each router on one seed's test rows; the first with each prompt once."""
    order = np.random.default_rng(split.seed).permutation(len(split.test))
    folds = [np.sort(fold) for fold in np.array_split(order, _FOLDS)]
    own = weights[:, split.test]
    blocks = (own[first : first + _BLOCK] for first in range(0, len(own), _BLOCK))
    quality, cost_usd = observations.quality[split.test], observations.cost_usd[split.test]
    found = measure(list(sweeps.values()), quality, cost_usd, folds, blocks)
    room = found.oracle - found.aiq[:, 0]
    return {name: (found.aiq[:, 1 + k] - found.aiq[:, 0]) / room for k, name in enumerate(sweeps)}


def _best(lines: Sequence[FrontierLine], kind: str) -> str | None:
    of_kind = [line for line in lines if line.kind == kind]
    return max(of_kind, key=lambda line: line.gap_closed).name if of_kind else None


def _compared(
    line: FrontierLine, draws: Mapping[str, FloatArray], published: str | None, control: str | None
) -> FrontierLine:
    def less(other: str | None) -> Interval | None:
        return None if other in (None, line.name) else _interval(draws[line.name] - draws[str(other)])

    return dataclasses.replace(
        line,
        cross_fitted=_interval(draws[line.name]),
        against_published=less(published),
        against_control=less(control),
    )


def _interval(drawn: FloatArray) -> Interval:
    """The first value is the estimate, the others are the resamples; an undefined one counts as lower than all others."""
    resampled = np.where(np.isnan(drawn[1:]), -np.inf, drawn[1:])
    tail = (1 - _LEVEL) / 2
    low, high = np.quantile(resampled, tail, method="lower"), np.quantile(resampled, 1 - tail, method="higher")
    return Interval(float(drawn[0]), *(float(end) if np.isfinite(end) else float("nan") for end in (low, high)))


def _references(
    metrics: Sequence[FrontierMetrics], tables: Sequence[tuple[FloatArray, FloatArray]]
) -> tuple[FrontierLine, FrontierLine]:
    """The zero router and the oracle; any router's metrics hold their AIQ."""

    def of(curve: Callable[[FloatArray, FloatArray], Hull], name: str, field: str, closed: float) -> FrontierLine:
        found = []
        for m, (quality, cost_usd) in zip(metrics, tables, strict=True):
            best = best_single(quality, cost_usd)
            at = float(cost_usd[:, best].mean()), float(quality[:, best].mean())
            reached = curve(quality, cost_usd)
            saved = {f"cost_save_{x}": cost_save(reached, *at, x / 100) for x in (100, 95)}
            found.append(dataclasses.replace(m, aiq=getattr(m, field), gap_closed=closed, **saved))
        return FrontierLine(name, "reference", "", (), tuple(found))

    return of(zero_router_hull, "zero router", "zero", 0.0), of(oracle_hull, "oracle", "oracle", 1.0)


def _point_line(
    entrant: Contestant, turns: Sequence[Turn], tables: Sequence[tuple[FloatArray, FloatArray]]
) -> PointLine:
    cost, quality, above = [], [], []
    for turn, table in zip(turns, tables, strict=True):
        reached = points(turn.routed, *table)
        cost.append(float(reached.cost[0]))
        quality.append(float(reached.quality[0]))
        above.append(quality[-1] - float(zero_router_hull(*table).at(cost[-1])))
    seconds = tuple(turn.fit_s for turn in turns)
    return PointLine(entrant.name, entrant.kind, entrant.source, seconds, tuple(cost), tuple(quality), tuple(above))
