"""The stop of a run: why, and how it comes about by a signal."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from router_ml.errors import InputError

__all__ = ["Stop", "stopping_on_signals"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_UNSUPPORTED = (NotImplementedError, RuntimeError, ValueError)
"""Raised for a signal's handler on Windows, and outside the main thread: there a run is stopped without one."""


class Stop:
    """Why no further call is sent: the first reason stays. Calls under way are waited for."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self.error: InputError | None = None
        self._event = asyncio.Event()

    def __bool__(self) -> bool:
        return self._event.is_set()

    def because(self, reason: str, error: InputError | None = None) -> None:
        """Stop; with an error, the run ends with it."""
        if not self._event.is_set():
            self.reason, self.error = reason, error
            self._event.set()

    async def sleep(self, pause_s: float) -> None:
        """Wait, but no longer than until the stop."""
        try:
            async with asyncio.timeout(pause_s):
                await self._event.wait()
        except TimeoutError:
            pass


@contextmanager
def stopping_on_signals(stop: Stop) -> Iterator[None]:
    """The first SIGINT or SIGTERM ends the run when the calls under way have ended; a second SIGINT ends it at once."""
    loop = asyncio.get_running_loop()

    def stopped() -> None:
        stop.because("it was interrupted")
        _remove(loop)

    with suppress(*_UNSUPPORTED):
        for number in _SIGNALS:
            loop.add_signal_handler(number, stopped)
    try:
        yield
    finally:
        _remove(loop)


def _remove(loop: asyncio.AbstractEventLoop) -> None:
    for number in _SIGNALS:
        with suppress(*_UNSUPPORTED):
            loop.remove_signal_handler(number)
