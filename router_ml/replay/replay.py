"""Replay: ask the missing tiers for chosen prompts, once each, within a budget."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from router_ml.core.router import Router
from router_ml.errors import InputError
from router_ml.ladder import Ladder
from router_ml.replay.batching import run_batches
from router_ml.replay.budget import Budget
from router_ml.replay.endpoints import Endpoint
from router_ml.replay.estimate import Estimate, estimate
from router_ml.replay.journal import Journal
from router_ml.replay.plan import Choice, Plan, make_plan
from router_ml.replay.prices import tier_prices
from router_ml.replay.progress import Progress
from router_ml.replay.run import Lane, Retries, lanes, run_live, unwritable
from router_ml.replay.stopping import Stop
from router_ml.replay.table import replayed_table
from router_ml.traffic.calls import spoken

__all__ = ["ReplayOptions", "ReplayReport", "estimate_replay", "replay"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """What to replay, and how.

    Parameters
    ----------
    choose : {"all", "random", "informative"}
        See :func:`router_ml.replay.plan.make_plan`.
    n_prompts : int or None
        Prompts to ask at most.
    max_usd : float or None
        The budget, over all runs with the same journal; None: no limit.
    batch : bool
        Ask through the Batch API.
    poll_s : float
        Seconds between two looks at a batch.
    retries : Retries
    progress : bool
        Show progress on stderr.
    random_state : int
    """

    choose: Choice = "all"
    n_prompts: int | None = None
    max_usd: float | None = None
    batch: bool = False
    poll_s: float = 30.0
    retries: Retries = field(default_factory=Retries)
    progress: bool = False
    random_state: int = 0


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """What a replay did.

    Attributes
    ----------
    n_prompts, n_calls : int
        Of the plan.
    n_known : int
        Calls whose outcome earlier runs had brought.
    n_answered, n_refused, n_failed : int
        Calls of this run: answered; refused for good; without an answer after all attempts (another run asks them again).
    n_open : int
        Calls of the plan that still have no outcome.
    n_left_out : int
        Prompts that can't be asked again (`Plan.n_left_out`).
    spent_usd : float
        Over all runs with this journal, what may have been charged in vain included.
    n_unsure, unsure_usd : int, float
        Calls with attempts whose outcome was lost, and what those may have cost at worst (part of `spent_usd`).
    n_cut : int
        Answers that were cut at `max_tokens`, over all runs.
    refusals : tuple of (str, int)
        The most frequent reasons of refusal, and their counts, over all runs.
    stopped : str or None
        Why not all calls were made.
    """

    n_prompts: int
    n_calls: int
    n_known: int
    n_answered: int
    n_refused: int
    n_failed: int
    n_open: int
    n_left_out: int
    spent_usd: float
    n_unsure: int
    unsure_usd: float
    n_cut: int
    refusals: tuple[tuple[str, int], ...]
    stopped: str | None

    def summary(self) -> str:
        """The report in a few lines."""
        lines = [
            f"{self.n_prompts:,} prompts, {self.n_calls:,} calls: {self.n_known:,} known before, {self.n_answered:,} answered, "
            f"{self.n_refused:,} refused, {self.n_open:,} open; ${self.spent_usd:,.4f} spent"
        ]
        if self.n_unsure:
            lines.append(
                f"Of that, ${self.unsure_usd:,.4f} at worst for attempts at {self.n_unsure:,} calls whose outcome was lost on the way"
            )
        if self.n_cut:
            lines.append(f"Cut at max_tokens: {self.n_cut:,} answers")
        if self.refusals:
            lines.append("Refused: " + "; ".join(f"{reason} ({n:,})" for reason, n in self.refusals))
        if self.n_left_out:
            lines.append(
                f"Left out: {self.n_left_out:,} prompts with images, sounds or files, of which the table holds the name only"
            )
        if self.stopped:
            lines.append(f"Stopped: {self.stopped}. Run the same command again to go on")
        return "\n".join(lines)


def estimate_replay(
    traffic: pl.DataFrame,
    ladder: Ladder,
    endpoints: Sequence[Endpoint],
    *,
    options: ReplayOptions | None = None,
    router: Router | None = None,
) -> Estimate:
    """What :func:`replay` would cost from the start; nothing is sent or written, and no key is needed."""
    options = options or ReplayOptions()
    plan = _plan(traffic, ladder, options, router)
    prices = tier_prices(ladder)
    if options.batch:
        prices = tuple(p.times(e.batch_price) for p, e in zip(prices, endpoints, strict=True))
    return estimate(plan, traffic, ladder, endpoints, prices, max_usd=options.max_usd)


def replay(
    traffic: pl.DataFrame,
    ladder: Ladder,
    endpoints: Sequence[Endpoint],
    *,
    journal: str | Path,
    options: ReplayOptions | None = None,
    router: Router | None = None,
) -> tuple[pl.DataFrame, ReplayReport]:
    """Ask the missing tiers for chosen prompts.

    Parameters
    ----------
    traffic : DataFrame
        A validated traffic table.
    ladder : Ladder
        The tiers to ask, with their prices (list prices where it has none).
    endpoints : sequence of Endpoint
        How to reach them, in ladder order.
    journal : str or Path
        File that makes the replay resumable: given again, what it holds isn't asked again. It holds the answers, and no key.
    options : ReplayOptions, optional
    router : Router, optional
        For ``choose="informative"``.

    Returns
    -------
    DataFrame
        The traffic with the replayed rows (`router_ml.replay.table.replayed_table`).
    ReplayReport

    Raises
    ------
    InputError
        If the journal is in use or was begun otherwise, a key isn't set, or a tier refuses every call or doesn't answer.
    LadderError
        If a tier has no price.
    TrafficError
        If no tier is missing anywhere.

    Notes
    -----
    The budget holds over concurrent calls, runs and kills: before an attempt its worst case (a token for each byte of the prompt, an
    answer of `max_tokens`) is set aside, in the journal too, and an attempt whose outcome is lost counts as charged. It can be
    exceeded by the calls of a server alone that bills more than the worst case.

    An attempt is lost where the process is killed, the connection breaks or the time is up before its answer is here. Such a call is asked
    again with the same ``Idempotency-Key``; a server that doesn't know that header charges again. ``Retries(unsure=False)`` leaves such
    calls unasked at endpoints that aren't said to be idempotent, so that nothing is ever paid for twice.
    """
    options = options or ReplayOptions()
    if len(endpoints) != len(ladder):
        raise InputError(
            f"There are {len(endpoints)} endpoints for {len(ladder)} tiers; give one a tier, in ladder order."
        )
    prices = tier_prices(ladder)
    all_lanes = lanes(ladder, endpoints, prices)
    plan = _plan(traffic, ladder, options, router)
    with Journal.open(journal, {lane.model: lane.endpoint.fingerprint(lane.model) for lane in all_lanes}) as opened:
        try:
            n_known = _count_known(plan, all_lanes, opened)
            if not options.batch:
                left = (plan.n_calls - n_known) / max(plan.n_calls, 1)
                seconds = estimate(plan, traffic, ladder, endpoints, prices).seconds
                logger.info("Asking %s times takes about %s.", f"{plan.n_calls - n_known:,}", spoken(left * seconds))
            with Progress(plan.n_calls, n_known, shown=options.progress) as progress:
                stop = _run(lambda: _asked(plan, all_lanes, opened, options, progress))
            report = _report(plan, n_known, _count_known(plan, all_lanes, opened), progress, opened, stop)
        except sqlite3.Error as exc:
            raise unwritable(opened, exc) from exc
        return replayed_table(traffic, ladder, opened), report


async def _asked(
    plan: Plan, all_lanes: Sequence[Lane], journal: Journal, options: ReplayOptions, progress: Progress
) -> Stop:
    budget = Budget(options.max_usd, journal.spent_usd())
    if options.batch:
        return await run_batches(
            plan,
            all_lanes,
            journal,
            budget,
            retries=options.retries,
            progress=progress,
            poll_s=options.poll_s,
            random_state=options.random_state,
        )
    return await run_live(
        plan, all_lanes, journal, budget, retries=options.retries, progress=progress, random_state=options.random_state
    )


def _plan(traffic: pl.DataFrame, ladder: Ladder, options: ReplayOptions, router: Router | None) -> Plan:
    return make_plan(
        traffic,
        ladder,
        choose=options.choose,
        n_prompts=options.n_prompts,
        router=router,
        random_state=options.random_state,
    )


def _count_known(plan: Plan, all_lanes: Sequence[Lane], journal: Journal) -> int:
    keys = (
        journal.key(lane.model, prompt)
        for prompt, row in zip(plan.prompts["prompt"], plan.missing, strict=True)
        for lane in all_lanes
        if row[lane.index]
    )
    return sum(journal.known(key).state != "open" for key in keys)


def _report(plan: Plan, n_before: int, n_after: int, progress: Progress, journal: Journal, stop: Stop) -> ReplayReport:
    n_unsure, unsure_usd = journal.unsure()
    return ReplayReport(
        n_prompts=plan.prompts.height,
        n_calls=plan.n_calls,
        n_known=n_before,
        n_answered=progress.n_answered,
        n_refused=progress.n_refused,
        n_failed=progress.n_failed,
        n_open=plan.n_calls - n_after,
        n_left_out=plan.n_left_out,
        spent_usd=journal.spent_usd(),
        n_unsure=n_unsure,
        unsure_usd=unsure_usd,
        n_cut=journal.n_cut(),
        refusals=journal.reasons("refused"),
        stopped=stop.reason
        or ("batches are under way, which a run with batch collects" if journal.batches() else None),
    )


def _run(work: Callable[[], Coroutine[Any, Any, Stop]]) -> Stop:
    """Run a coroutine to its end, from a notebook's running loop, too."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work())
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(lambda: asyncio.run(work())).result()
