"""The journal's writer: one thread, and one commit for all that waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from router_ml.replay.journal import Journal

__all__ = ["Writer"]

T = TypeVar("T")


class Writer:
    """Lets concurrent calls share a journal.

    A commit waits for the disk, some milliseconds each. In the event loop that would hold up every call, and be counted in their latency;
    so a thread does it, and what arrives meanwhile goes into the next commit together.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        self._waiting: list[tuple[Callable[[], Any], asyncio.Future[Any]]] = []
        self._flushing: asyncio.Task[None] | None = None

    async def do(self, work: Callable[[], T]) -> T:
        """Do something with the journal; when this returns, it is on the disk.

        Raises
        ------
        sqlite3.Error
            If it, or what shares its commit, can't be written; none of it is then.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((work, future))
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())
        return await future

    def close(self) -> None:
        """Wait for what is being written."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch, self._waiting = self._waiting, []
            futures = [future for _, future in batch]
            try:
                results = await loop.run_in_executor(self._thread, self._commit, [work for work, _ in batch])
            except Exception as exc:
                for future in futures:
                    if not future.done():
                        future.set_exception(exc)
                continue
            for future, result in zip(futures, results, strict=True):
                if not future.done():
                    future.set_result(result)
        self._flushing = None

    def _commit(self, batch: list[Callable[[], Any]]) -> list[Any]:
        with self.journal.transaction():
            return [work() for work in batch]
