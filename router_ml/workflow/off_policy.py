"""What an artifact would have done on a log with one model per prompt, and what to explore to know it better."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import numpy as np
import polars as pl
from numpy.typing import NDArray

from router_ml.core.decision import Decision, Prediction
from router_ml.core.router import Router
from router_ml.errors import TrafficError
from router_ml.evaluation.off_policy import estimate_propensities
from router_ml.evaluation.off_policy.policies import Evidence, judge_policies
from router_ml.evaluation.off_policy.report import OffPolicyEvaluation
from router_ml.ladder import Ladder
from router_ml.learning.model import group_folds
from router_ml.learning.threads import single_threaded
from router_ml.traffic.observations import Observations, observe
from router_ml.traffic.split import connected_groups
from router_ml.traffic.validate import MAX_REJECTS, Validated
from router_ml.workflow.data import read_traffic
from router_ml.workflow.warnings import seen_in_training, simulated

if TYPE_CHECKING:
    from router_ml.core.request import Options

__all__ = ["Log", "arrange_log", "evaluate_off_policy", "gather_evidence"]

_FOLDS = 5
_TINY_USD = 1e-9
_MIN_SHARE = 0.01
"""Categories of a smaller share of the prompts are one to the estimated logging policy."""


@dataclass(frozen=True, slots=True, eq=False)
class Log:
    """The judged answers of a log, by prompt and tier.

    Attributes
    ----------
    prompt : array [n] of str
    session_id, slice : array [n] of str
        `slice` is source and category; empty where not given.
    quality, cost_usd : array [n, T]
        NaN where the tier wasn't tried; a row without any was answered by a model outside the ladder.
    propensity : array [n, T] or None
        As logged, NaN where the tier wasn't tried; None where the log has none.
    """

    prompt: NDArray[np.object_]
    session_id: NDArray[np.object_]
    slice: NDArray[np.object_]
    quality: NDArray[np.float64]
    cost_usd: NDArray[np.float64]
    propensity: NDArray[np.float64] | None

    @property
    def tried(self) -> NDArray[np.bool_]:
        """Which tiers answered; shape [n, T]."""
        return ~np.isnan(self.quality)


@single_threaded()
def evaluate_off_policy(
    router: Router,
    paths: Sequence[str | Path],
    *,
    random_state: int = 0,
    max_rejects: float = MAX_REJECTS,
    level: float = 0.95,
    max_weight: float | None = None,
    **options: Unpack[Options],
) -> OffPolicyEvaluation:
    """Judge an artifact, and each tier alone, on a log that somebody else's policy wrote.

    Parameters
    ----------
    router : Router
        Fitted on other traffic: its predictions are the reward models, and must not have seen the log.
    paths : sequence of str or Path
        The log: one judged answer a prompt for most prompts, with propensities for all judged answers of the ladder's
        tiers or for none. Without them the logging policy is estimated.
    random_state : int
        Draws the folds of the estimated logging policy.
    max_rejects : float
        Largest share of invalid rows to accept before failing.
    level : float
        Of the intervals, in (0, 1).
    max_weight : float, optional
        Clip importance weights here; the intervals are widened for it.
    **options
        As in :meth:`Router.route`: the policy to judge; the artifact's default where none is given.

    Raises
    ------
    TrafficError
        If no tier's answer is judged, or on one prompt only, propensities are given for a part only, every tier answered every
        prompt (then nothing has to be estimated: `evaluate_router`), or the log can answer neither for the router nor for any
        single tier; the message says why. Where it can for a single tier, the evaluation holds that, and its `refusal` says why
        there is none of the router.

    Notes
    -----
    *Assumed*: given what the propensities rest on, which tier answered has nothing to do with how good its answer would
    have been; the propensities are right; whether an answer was judged has nothing to do with its quality; sessions are
    independent of each other; prompts of one needn't be, and intervals allow for it.

    *Several answers to a prompt.* Each answer's propensity is taken as the chance that its tier was among those that
    answered. That is wrong where a tier was asked because another had failed: keep the first answers only.

    *Estimated propensities* rest on the router's predictions (p_meets, quality, cost), its choice, the prompt's length,
    source and category, cross-fitted by text and session. Whatever else the logging policy looked at biases the result,
    and no interval tells. The intervals take the estimated propensities for the true ones, which errs on the wide side
    where their model holds.

    References
    ----------
    M. Dudík, J. Langford, L. Li (2011), "Doubly robust policy evaluation and learning", ICML.
    K. Hirano, G. W. Imbens, G. Ridder (2003), "Efficient estimation of average treatment effects using the estimated
    propensity score", Econometrica 71: what estimating propensities does to the variance.
    """
    read = read_traffic(paths, max_rejects=max_rejects)
    log = arrange_log(read.traffic, router.ladder)
    prediction = router.predict(log.prompt.tolist())
    decisions = router.route_batch(log.prompt.tolist(), **options)
    choice = _tiers(router, decisions)
    evidence = gather_evidence(
        log, router.ladder.names, prediction, choice, level=level, max_weight=max_weight, random_state=random_state
    )
    return judge_policies(
        evidence,
        choice,
        setting=_setting(decisions[0], options),
        notes=_notes(router, paths, read, log),
    )


def arrange_log(traffic: pl.DataFrame, ladder: Ladder) -> Log:
    """Arrange a validated log by prompt and tier; see `evaluate_off_policy` for what is refused."""
    judged = traffic.filter(pl.col("quality").is_not_null())
    rows = judged.filter(pl.col("model").is_in(ladder.models))
    if rows.is_empty():
        raise TrafficError(
            f"The log holds no judged answer of the router's tiers ({', '.join(ladder.models)}); its models are "
            f"{traffic['model'].unique().sort().to_list()}, and {judged.height:,} of {traffic.height:,} rows have a quality."
        )
    # observe() wants each tier of its ladder in the traffic; a log needn't have all.
    models = set(rows["model"].unique().to_list())
    tried = [t for t, tier in enumerate(ladder) if tier.model in models]
    seen = observe(rows, Ladder(tuple(ladder[t] for t in tried)))
    others = judged.filter(~pl.col("prompt_id").is_in(seen.prompt_id.tolist()))
    others = others.unique("prompt_id", keep="first", maintain_order=True)

    def wide(table: NDArray[np.float64]) -> NDArray[np.float64]:
        whole = np.full((len(seen) + others.height, len(ladder)), np.nan)
        whole[: len(seen), tried] = table
        return whole

    def column(values: NDArray[np.str_] | NDArray[np.object_], name: str) -> NDArray[np.object_]:
        return np.array([*values.tolist(), *others[name].fill_null("")], dtype=np.object_)

    propensity = _given_propensity(seen)
    log = Log(
        column(seen.prompt, "prompt"),
        column(seen.session_id, "session_id"),
        column(seen.source, "source") + "/" + column(seen.category, "category"),
        wide(seen.quality),
        wide(seen.cost_usd),
        None if propensity is None else wide(propensity),
    )
    if len(log.prompt) < 2:
        raise TrafficError(
            f"One prompt of the log holds a judged answer: {judged.height:,} of {traffic.height:,} rows have a quality. Two prompts are needed "
            "at least, and hundreds for an interval worth quoting; judge more answers (router-ml judge) or bring more of the log."
        )
    if log.tried.all():
        raise TrafficError(
            f"Every tier answered each of the {len(log.prompt):,} prompts, so nothing has to be estimated: evaluate the router "
            "without --off-policy."
        )
    return log


def gather_evidence(
    log: Log,
    tiers: tuple[str, ...],
    prediction: Prediction,
    choice: NDArray[np.intp],
    *,
    level: float,
    max_weight: float | None = None,
    random_state: int,
) -> Evidence:
    """Put a log beside a router's predictions for its prompts, and estimate the logging policy where it wasn't logged.

    Parameters
    ----------
    log : Log
    tiers : tuple of T str
    prediction : Prediction
        For the log's prompts, by a router that wasn't fitted on them.
    choice : array [n] of int
        The router's tier for each prompt, which the logging policy may resemble.
    level, max_weight, random_state
        See `evaluate_off_policy`.
    """
    behaviour, propensity = None, log.propensity
    if propensity is None:
        behaviour = _estimated_policy(log, _features(log, prediction, choice), random_state=random_state)
        # A tier that was tried in one fold only has no chance in it.
        propensity = np.where(log.tried, np.maximum(behaviour, 1 / (len(choice) + 1)), np.nan)
    return Evidence(
        tiers,
        log.quality,
        log.cost_usd,
        propensity,
        prediction.quality.astype(np.float64),
        prediction.cost_usd,
        logging_policy=behaviour,
        level=level,
        max_weight=max_weight,
        unit=_sessions(log.session_id),
    )


def _sessions(session_id: NDArray[np.object_]) -> NDArray[np.intp] | None:
    """A number for each session; None where no two prompts share one."""
    _, number, counts = np.unique(session_id.astype(np.object_), return_inverse=True, return_counts=True)
    alone = session_id == ""
    if (counts[number[~alone]] == 1).all():
        return None
    return np.where(alone, len(counts) + np.arange(len(number)), number)


def _features(log: Log, prediction: Prediction, choice: NDArray[np.intp]) -> NDArray[np.float64]:
    """What the estimated logging policy rests on, [n, d]: the router's predictions and choice, length, source and category."""
    _, at, counts = np.unique(log.slice, return_inverse=True, return_counts=True)
    frequent = np.flatnonzero(counts >= max(_MIN_SHARE * len(at), 2))
    return np.column_stack(
        [
            prediction.p_meets,
            prediction.quality,
            # Free tiers cost 0.
            np.log(prediction.cost_usd + _TINY_USD),
            np.log1p([len(prompt) for prompt in log.prompt]),
            np.eye(prediction.quality.shape[1])[choice],
            at[:, None] == frequent,
        ]
    )


def _estimated_policy(log: Log, features: NDArray[np.float64], *, random_state: int) -> NDArray[np.float64]:
    """The chance of each tier for each prompt, [n, T], cross-fitted; prompts of one text or session share a fold."""
    tiers = log.quality.shape[1]
    groups = connected_groups(log.prompt, log.session_id.astype(np.str_))
    if len(np.unique(groups)) < 2:
        raise TrafficError(
            f"The log's {len(log.prompt):,} prompts have nearly the same text or belong to one session, and no propensities, which can't be "
            "estimated from that. Log them, or bring more sessions."
        )
    folds = group_folds(groups, n_folds=min(_FOLDS, len(np.unique(groups))), random_state=random_state)
    tried = log.tried
    if (tried.sum(axis=1) <= 1).all():
        action = np.where(tried.any(axis=1), tried.argmax(axis=1), tiers)
        chances = estimate_propensities(features, action, tiers + 1, folds=folds, random_state=random_state)
        return chances[:, :tiers]
    return np.column_stack(
        [
            estimate_propensities(features, tried[:, t].astype(np.intp), 2, folds=folds, random_state=random_state)[
                :, 1
            ]
            for t in range(tiers)
        ]
    )


def _given_propensity(seen: Observations) -> NDArray[np.float64] | None:
    judged = ~np.isnan(seen.quality)
    lacking, n_judged = int(np.isnan(seen.propensity[judged]).sum()), int(judged.sum())
    if lacking == n_judged:
        return None
    if lacking:
        raise TrafficError(
            f"{lacking:,} of {n_judged:,} judged answers have no propensity. Give it for all of them, drop the rows without "
            "(if they were logged at another time), or drop the column, and the logging policy is estimated."
        )
    return seen.propensity


def _setting(decision: Decision, options: Options) -> str:
    """The policy of a decision, and what else was asked for."""
    asked = [f"policy {decision.policy}", f"parameter {decision.parameter:.4g}"]
    for name, value in options.items():
        if name not in ("policy", "threshold", "lam") and value is not None and value is not False:
            if isinstance(value, Collection) and not isinstance(value, str):
                value = "+".join(sorted(value))
            asked.append(f"{name}={value}")
    return ", ".join(asked)


def _tiers(router: Router, decisions: Sequence[Decision]) -> NDArray[np.intp]:
    index = {name: t for t, name in enumerate(router.ladder.names)}
    return np.array([index[decision.tier] for decision in decisions], dtype=np.intp)


def _notes(router: Router, paths: Sequence[str | Path], read: Validated, log: Log) -> tuple[str, ...]:
    prompts = read.traffic.unique("prompt_id")
    seen = seen_in_training(router, paths, prompts["prompt_id"])
    notes = [*seen, *simulated(prompts["source"].fill_null(""))]
    if not seen:
        notes.append("The router's own predictions are the reward models, so it must not have been fitted on this log.")
    if log.propensity is None:
        notes.append(
            "The log has no propensities. They were estimated from the router's predictions and choice, the prompt's length, "
            "source and category; what else decided which tier answered biases these figures, and no interval tells."
        )
    several = int((log.tried.sum(axis=1) > 1).sum())
    if several:
        notes.append(
            f"{several:,} prompts were answered by several tiers. Each propensity is taken as the chance that the tier was among "
            "them; where a tier was asked because another had failed, keep the first answers only."
        )
    outside = int((~log.tried.any(axis=1)).sum())
    if outside:
        notes.append(f"{outside:,} prompts were answered by models outside the ladder only: no tier was tried on them.")
    unjudged = int(read.traffic["quality"].null_count())
    if unjudged:
        notes.append(
            f"{unjudged:,} answers aren't judged and were left out, as if judging had nothing to do with quality."
        )
    if read.n_duplicates:
        notes.append(
            f"{read.n_duplicates:,} older rows of the same prompt and model were dropped. Where one prompt was asked several times, "
            "give each request a prompt_id of its own."
        )
    if read.n_repeats:
        notes.append(
            f"{read.n_repeats:,} repeats of the same prompt and model were averaged into others, so such a prompt counts once. Where one prompt "
            "was asked several times, give each request a prompt_id of its own."
        )
    return tuple(notes)
