"""The live run: a queue and a few workers for each tier, one budget and one journal for all."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from router_ml.errors import InputError
from router_ml.ladder import Ladder
from router_ml.replay.answers import Answer, Failure
from router_ml.replay.budget import Budget
from router_ml.replay.endpoints import Endpoint
from router_ml.replay.exchange import Connection, Exchanged
from router_ml.replay.journal import Journal, prompt_hash
from router_ml.replay.messages import chat_messages
from router_ml.replay.pacing import Pace
from router_ml.replay.plan import Plan
from router_ml.replay.prices import Price, most_input_tokens
from router_ml.replay.progress import Progress
from router_ml.replay.stopping import Stop, stopping_on_signals
from router_ml.replay.writer import Writer

__all__ = ["Lane", "Retries", "lanes", "pending", "run_live", "unwritable"]

_CHARS_PER_TOKEN = 4
_CHUNK = 256
"""Calls that are looked up in the journal together."""
_GIVE_UP_AFTER = 5
"""Calls of a tier that fail one after the other, each with all its attempts, after which the tier is taken to be down."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a call is tried, and how long is waited in between.

    Parameters
    ----------
    attempts : int
        Attempts at a call in one run, at most.
    first_s, most_s : float
        The wait is a random time of up to `first_s` seconds, doubled after each attempt, at most `most_s`; or what the server asks for.
    unsure : bool
        Whether a call is tried again whose answer was lost, so that it may have been charged, at an endpoint that isn't `idempotent`. If
        not, no call is ever paid for twice, and those answers stay missing.

    References
    ----------
    Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """

    attempts: int = 8
    first_s: float = 1.0
    most_s: float = 60.0
    unsure: bool = True

    def __post_init__(self) -> None:
        if self.attempts < 1 or not 0 <= self.first_s <= self.most_s:
            raise InputError(f"{self}: attempts needs to be >= 1, and the waits 0 <= first_s <= most_s.")

    def wait_s(self, attempt: int, rng: random.Random) -> float:
        """Seconds to wait after attempt number `attempt` (from 0)."""
        return rng.uniform(0, min(self.most_s, self.first_s * 2.0 ** min(attempt, 30)))


@dataclass(frozen=True, slots=True)
class Lane:
    """One tier: its number, model, endpoint and price."""

    index: int
    name: str
    model: str
    endpoint: Endpoint
    price: Price

    def body(self, prompt: str) -> dict[str, Any]:
        """The body of a call."""
        return self.endpoint.body(self.model, chat_messages(prompt))

    def worst_usd(self, body: Mapping[str, Any]) -> float:
        """What a call may cost at most."""
        return self.price.usd(most_input_tokens(body["messages"]), self.endpoint.max_tokens)

    def cost_usd(self, answer: Answer) -> float | None:
        """What an answer cost; None where the server told no tokens."""
        if answer.input_tokens is None or answer.output_tokens is None:
            return None
        return self.price.usd(answer.input_tokens, answer.output_tokens)


def lanes(ladder: Ladder, endpoints: Sequence[Endpoint], prices: Sequence[Price]) -> list[Lane]:
    """One lane a tier."""
    rows = zip(ladder, endpoints, prices, strict=True)
    return [Lane(i, tier.name, tier.model, endpoint, price) for i, (tier, endpoint, price) in enumerate(rows)]


def pending(
    plan: Plan, all_lanes: Sequence[Lane], journal: Journal, retries: Retries
) -> Iterator[tuple[Lane, str, str]]:
    """The calls to make, as the journal has it: tier, prompt, key. Prompt by prompt, so that a run cut short leaves whole ones."""
    for prompt, row in zip(plan.prompts["prompt"], plan.missing, strict=True):
        for lane in all_lanes:
            if row[lane.index]:
                key = journal.key(lane.model, prompt)
                known = journal.known(key)
                lost = known.unsure_usd > 0 and not lane.endpoint.idempotent
                if known.state == "open" and known.batch is None and (retries.unsure or not lost):
                    yield lane, prompt, key


async def run_live(
    plan: Plan,
    all_lanes: Sequence[Lane],
    journal: Journal,
    budget: Budget,
    *,
    retries: Retries,
    progress: Progress,
    random_state: int,
) -> Stop:
    """Ask what the journal holds no outcome of, until all is asked, the budget is spent or a signal stops it.

    Raises
    ------
    InputError
        If a tier refuses every call, or doesn't answer any more. What was answered is in the journal.
    """
    stop, rng = Stop(), random.Random(random_state)
    writer = Writer(journal)
    tiers = [_Tier(lane, writer, budget, stop, retries, progress, rng) for lane in all_lanes]
    queues = [asyncio.Queue[tuple[str, str] | None](maxsize=lane.endpoint.concurrency) for lane in all_lanes]
    try:
        with stopping_on_signals(stop):
            async with asyncio.TaskGroup() as group:
                for tier, queue in zip(tiers, queues, strict=True):
                    for _ in range(tier.lane.endpoint.concurrency):
                        group.create_task(tier.work(queue))
                await _feed(pending(plan, all_lanes, journal, retries), queues, writer, stop)
                for queue in queues:
                    for _ in range(queue.maxsize):
                        await queue.put(None)
    finally:
        writer.close()
        for tier in tiers:
            await tier.connection.close()
    if stop.error is not None:
        raise stop.error
    return stop


async def _feed(
    calls: Iterator[tuple[Lane, str, str]],
    queues: Sequence[asyncio.Queue[tuple[str, str] | None]],
    writer: Writer,
    stop: Stop,
) -> None:
    """Put the calls into their tiers' queues.

    A queue is no longer than its tier's calls under way: a fast tier can't run ahead of a slow one, and spend the budget on prompts
    that the slow one never gets to.
    """
    try:
        while not stop and (chunk := await writer.do(lambda: list(islice(calls, _CHUNK)))):
            for lane, prompt, key in chunk:
                await queues[lane.index].put((prompt, key))
    except sqlite3.Error as exc:
        stop.because("the journal can't be written", unwritable(writer.journal, exc))


class _Tier:
    """What the workers of one tier share."""

    def __init__(
        self,
        lane: Lane,
        writer: Writer,
        budget: Budget,
        stop: Stop,
        retries: Retries,
        progress: Progress,
        rng: random.Random,
    ) -> None:
        self.lane = lane
        self.connection = Connection(lane.endpoint)
        self._writer, self._journal = writer, writer.journal
        self._budget, self._stop = budget, stop
        self._retries, self._progress, self._rng = retries, progress, rng
        self._pace = Pace(lane.endpoint.rpm, lane.endpoint.tpm)
        self._failed_in_a_row = 0

    async def work(self, queue: asyncio.Queue[tuple[str, str] | None]) -> None:
        """Take calls until there are no more; after the stop, without making them."""
        while (call := await queue.get()) is not None:
            if self._stop:
                continue
            try:
                await self._call(*call)
            except sqlite3.Error as exc:
                self._budget.settle(call[1], 0.0)
                self._stop.because("the journal can't be written", unwritable(self._journal, exc))

    async def _call(self, prompt: str, key: str) -> None:
        body, hashed = self.lane.body(prompt), prompt_hash(prompt)
        worst = self.lane.worst_usd(body)
        tokens = len(prompt) / _CHARS_PER_TOKEN + self.lane.endpoint.max_tokens
        reason = ""
        for attempt in range(self._retries.attempts):
            await self._turn(tokens)
            before = 0.0
            if self.lane.endpoint.idempotent:
                # The server charges a key once, so what an earlier attempt may have cost needn't be set aside again.
                before = (await self._writer.do(lambda: self._journal.known(key))).unsure_usd
            held = max(0.0, worst - before)
            if self._stop or not await self._budget.hold(key, held):
                self._stop.because(f"the next call may cost ${worst:.4f}, which the budget doesn't hold any more")
                return
            if self._stop:
                self._budget.settle(key, 0.0)
                return
            await self._writer.do(partial(self._journal.start, key, hashed, self.lane.model, held))
            try:
                got = await self.connection.ask(body, key, attempt)
            except Failure as failure:
                if not await self._failed(key, failure, held, attempt):
                    return
                reason = self.connection.reason(failure)
                continue
            await self._answered(key, got, held, before)
            return
        self._failed_in_a_row += 1
        self._progress.failed()
        if self._failed_in_a_row >= _GIVE_UP_AFTER:
            self._give_up("doesn't answer any more", reason)

    async def _turn(self, tokens: float) -> None:
        while not self._stop and (pause_s := self._pace.wait_s(time.monotonic(), tokens)) > 0:
            await self._stop.sleep(pause_s)

    async def _answered(self, key: str, got: Exchanged, held: float, before: float) -> None:
        answer, cost = got.answer, self.lane.cost_usd(got.answer)
        # Uncounted, it is charged at what was set aside, to be safe; the table's cost stays null.
        charged = held + before if cost is None else cost
        note = partial(self._journal.answer, key, answer, charged_usd=charged, cost_usd=cost, latency_ms=got.latency_ms)
        forget = self.lane.endpoint.idempotent
        await self._writer.do(partial(note, created_at=time.time(), forget_unsure=forget))
        self._budget.settle(key, charged - before)
        self._pace.observe(time.monotonic(), got.headers)
        self._failed_in_a_row = 0
        self._progress.answered(self._budget.spent_usd)

    async def _failed(self, key: str, failure: Failure, held: float, attempt: int) -> bool:
        """Note the failure, and wait; whether to try again."""
        refused, reason = not failure.again and not failure.for_all, self.connection.reason(failure)
        await self._writer.do(partial(self._journal.fail, key, reason, unsure=failure.unsure, refused=refused))
        self._budget.settle(key, held if failure.unsure else 0.0)
        self._pace.observe(time.monotonic(), failure.headers)
        if failure.for_all:
            self._give_up("refuses every call", reason)
        elif not failure.again:
            self._failed_in_a_row = 0
            self._progress.refused()
        elif failure.unsure and not (self._retries.unsure or self.lane.endpoint.idempotent):
            return False
        elif failure.retry_after_s is not None:
            # All of the tier waits, not this call alone.
            self._pace.pause(time.monotonic(), failure.retry_after_s)
            await self._stop.sleep(failure.retry_after_s * self._rng.uniform(1.0, 1.1))
        elif attempt + 1 < self._retries.attempts:
            await self._stop.sleep(self._retries.wait_s(attempt, self._rng))
        return failure.again and not self._stop

    def _give_up(self, what: str, reason: str) -> None:
        error = InputError(
            f"The tier {self.lane.name!r} {what}: {reason}. Mend it, and run the same command again: what was answered is in "
            f"the journal {self._journal.path}, and isn't bought again."
        )
        self._stop.because(f"the tier {self.lane.name!r} {what}", error)


def unwritable(journal: Journal, exc: sqlite3.Error) -> InputError:
    """The error for a journal that takes no more (a full disk, say)."""
    return InputError(f"The journal {journal.path} can't be written ({exc}). Mend it, and run the same command again.")
