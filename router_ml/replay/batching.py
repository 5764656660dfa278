"""Replay through the Batch API: files up, batches made, waited for, collected; at a share of the price, within a day."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, TypeVar

from router_ml.errors import InputError
from router_ml.replay.answers import Answer, Failure, failed_status, read_answer
from router_ml.replay.batch_files import write_files
from router_ml.replay.budget import Budget
from router_ml.replay.exchange import Connection, as_failure
from router_ml.replay.journal import Batch, Journal
from router_ml.replay.plan import Plan
from router_ml.replay.progress import Progress
from router_ml.replay.run import Lane, Retries, pending
from router_ml.replay.stopping import Stop, stopping_on_signals

if TYPE_CHECKING:
    from openai.types import Batch as RemoteBatch

__all__ = ["run_batches"]

_MARK = "router_ml"
"""Key of the batch's metadata that holds our name for it."""
_MAX_LISTED = 2000
_ENDED = {"completed", "expired", "failed", "cancelled"}

T = TypeVar("T")


async def run_batches(
    plan: Plan,
    all_lanes: Sequence[Lane],
    journal: Journal,
    budget: Budget,
    *,
    retries: Retries,
    progress: Progress,
    poll_s: float,
    random_state: int,
) -> Stop:
    """Ask what the journal holds no outcome of, in rounds of one batch a tier.

    Before a batch is made it is in the journal, with the worst case of its calls set aside, and it is made under our name for it. A
    run that follows one that was killed in between looks that name up at the server, and takes over the batch that it finds.

    Raises
    ------
    InputError
        If the server refuses a batch or can't be reached. Run again, and batches under way are taken up where they stood.
    """
    stop, rng = Stop(), Random(random_state)
    desks = {lane.model: _Desk(lane, journal, stop, retries, progress, rng) for lane in all_lanes}
    try:
        with stopping_on_signals(stop):
            while not stop:
                # Batches of an earlier run come first; then each round's own.
                answered, collected = progress.n_answered, 0
                for batch in journal.batches():
                    if batch.model in desks:
                        collected += await desks[batch.model].finish(batch, poll_s)
                budget.spent_usd = journal.spent_usd()
                if collected and progress.n_answered == answered:
                    stop.because("a round of batches brought no answer")
                calls = pending(plan, all_lanes, journal, retries)
                if not stop and not await _make_round(calls, desks, journal, budget, stop):
                    break
    finally:
        for desk in desks.values():
            await desk.connection.close()
    if stop.error is not None:
        raise stop.error
    return stop


async def _make_round(
    calls: Iterator[tuple[Lane, str, str]], desks: Mapping[str, _Desk], journal: Journal, budget: Budget, stop: Stop
) -> bool:
    """Make one batch a tier at most, of the next calls that the budget holds; whether any was made."""
    with tempfile.TemporaryDirectory() as folder:
        names = write_files(calls, journal, budget, stop, Path(folder))
        for model, name in names.items():
            await desks[model].make(name, Path(folder) / name)
    return bool(names)


class _Desk:
    """What is done with one tier's batches."""

    def __init__(
        self, lane: Lane, journal: Journal, stop: Stop, retries: Retries, progress: Progress, rng: Random
    ) -> None:
        self._lane, self._journal, self._stop = lane, journal, stop
        self._retries, self._progress, self._rng = retries, progress, rng
        self.connection = Connection(lane.endpoint)

    async def make(self, name: str, path: Path) -> None:
        """Upload the file, and make the batch of it."""
        client = self.connection.client
        content = path.read_bytes()

        async def upload() -> str:
            return (await client.files.create(file=(f"{name}.jsonl", content), purpose="batch")).id

        file_id = await self._steadily("upload", upload)
        attempts: list[str] = []

        async def create() -> str:
            # An attempt whose response was lost may have made it.
            known = await self._find(name) if attempts else None
            attempts.append(name)
            if known is not None:
                return known
            batch = await client.batches.create(
                input_file_id=file_id,
                endpoint="/v1/chat/completions",
                completion_window="24h",
                metadata={_MARK: name},
                extra_headers={"Idempotency-Key": name},
            )
            return batch.id

        self._journal.batch_made(name, await self._steadily("make a batch", create))

    async def finish(self, batch: Batch, poll_s: float) -> bool:
        """Wait for a batch, and take in what it brought; False where it was never made, or the run is stopped first."""
        client, remote = self.connection.client, batch.remote
        if remote is None:
            remote = await self._steadily("list the batches", lambda: self._find(batch.name))
            if remote is None:
                self._journal.end_batch(batch.name, unsure=False, reason="its batch was never made")
                return False
            self._journal.batch_made(batch.name, remote)

        async def look() -> RemoteBatch:
            found = await client.batches.retrieve(remote)
            if not isinstance(found.status, str):
                raise ValueError("not a batch")
            return found

        while (state := await self._steadily("ask after a batch", look)).status not in _ENDED:
            await self._stop.sleep(poll_s)
            if self._stop:
                return False
        done = state.request_counts.completed if state.request_counts else 0
        await self._steadily(
            "collect a batch", lambda: self._collect(batch, (state.output_file_id, state.error_file_id), done)
        )
        if state.status in ("failed", "cancelled"):
            errors = (state.errors.data if state.errors else None) or []
            why = "; ".join(f"{e.code}: {e.message}" for e in errors[:3])
            message = self.connection.clean(
                f"The batch {remote} of the tier {self._lane.name!r} has {state.status}. {why}".rstrip()
            )
            self._stop.because(
                f"a batch has {state.status}", InputError(f"{message} Mend it, and run the same command again.")
            )
        return True

    async def _find(self, name: str) -> str | None:
        """The server's id of the batch that has our name, among its newest."""
        n = 0
        async for batch in self.connection.client.batches.list(limit=100):
            if (batch.metadata or {}).get(_MARK) == name:
                return str(batch.id)
            n += 1
            if n == _MAX_LISTED:
                break
        return None

    async def _collect(self, batch: Batch, file_ids: Sequence[str | None], n_done: int) -> None:
        """Take in the batch's output and error files, in one transaction.

        Raises
        ------
        Failure
            If fewer outcomes can be read than the server counts as done: the file is fetched again, since what is missing was paid for.
        """
        counts: Counter[str] = Counter()
        with tempfile.TemporaryDirectory() as folder:
            paths = []
            for i, file_id in enumerate(filter(None, file_ids)):
                paths.append(Path(folder) / str(i))
                async with self.connection.client.files.with_streaming_response.content(file_id) as response:
                    await response.stream_to_file(paths[-1])
            with self._journal.transaction():
                for path in paths:
                    with path.open("rb") as lines:
                        counts.update(self._take(batch, line) for line in lines)
                n_read = counts.total() - counts["unknown"]
                if n_read < n_done:
                    raise Failure(f"{n_read:,} of {n_done:,} outcomes can be read")
                self._journal.end_batch(batch.name, unsure=False, reason="its batch brought no outcome")
        self._progress.answered(self._journal.spent_usd(), counts["answered"])
        self._progress.refused(counts["refused"])

    def _take(self, batch: Batch, line: bytes) -> str:
        """Note one line's outcome: answered, spoilt (paid for, but not an answer), refused, open, or unknown: not a call of this batch."""
        try:
            outcome = json.loads(line)
            key, response, error = outcome["custom_id"], outcome.get("response") or {}, outcome.get("error")
            status, body = response.get("status_code"), response.get("body") or {}
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return "unknown"
        held = self._journal.held_in(batch.name, str(key))
        if held is None:
            return "unknown"
        if status != 200:
            failure = failed_status(status if isinstance(status, int) else 500, body or {"error": error}, {})
            refused = not failure.again and not failure.for_all
            self._journal.fail(key, self.connection.reason(failure), unsure=False, refused=refused)
            return "refused" if refused else "open"
        try:
            answer = read_answer(body)
        except Failure as failure:
            self._journal.fail(key, self.connection.reason(failure), unsure=True)
            return "spoilt"
        self._answered(key, answer, held, body.get("created"))
        return "answered"

    def _answered(self, key: str, answer: Answer, held: float, created: object) -> None:
        cost = self._lane.cost_usd(answer)
        self._journal.answer(
            key,
            Answer(self.connection.clean(answer.text), answer.input_tokens, answer.output_tokens, answer.finish),
            charged_usd=held if cost is None else cost * self._lane.endpoint.batch_price,
            cost_usd=cost,
            latency_ms=None,  # what a batch takes says nothing of the model
            created_at=float(created) if isinstance(created, int) and 0 < created < 2**40 else time.time(),
            forget_unsure=False,
        )

    async def _steadily(self, what: str, call: Callable[[], Awaitable[T]]) -> T:
        """Do something at the server, again where it fails in passing."""
        for attempt in range(self._retries.attempts):
            try:
                return await call()
            except Exception as exc:
                failure = _as_failure(exc)
            if not failure.again:
                break
            await asyncio.sleep(failure.retry_after_s or self._retries.wait_s(attempt, self._rng))
        raise InputError(
            f"The server of the tier {self._lane.name!r} didn't {what}: {self.connection.reason(failure)}. Mend it, and run the "
            f"same command again: the journal {self._journal.path} knows which batches are under way."
        )


def _as_failure(exc: Exception) -> Failure:
    if isinstance(exc, Failure):
        return exc
    if isinstance(exc, ValueError | AttributeError | OSError) and not isinstance(exc, InputError | TimeoutError):
        # The client doesn't check that a body is what was asked for.
        return Failure(f"not a usable response ({type(exc).__name__})")
    if type(exc).__module__.startswith("httpx"):
        # Nor does it translate the errors of a file that is streamed (httpx or httpx2, as its version has it).
        return Failure(f"connection lost ({type(exc).__name__})")
    return as_failure(exc)
