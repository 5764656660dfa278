"""Pacing: when a tier may be asked next, by its own limits and by what its responses' headers say."""

from __future__ import annotations

from collections.abc import Mapping

from router_ml.replay.answers import MAX_PAUSE_S, seconds

__all__ = ["Pace"]


class Pace:
    """Says how long to wait before the next call; times are seconds of any steady clock.

    Parameters
    ----------
    rpm, tpm : float or None
        Requests and tokens a minute, spread evenly; None: no limit of our own.

    Notes
    -----
    Read from the headers of each response: ``x-ratelimit-remaining-requests`` and ``-tokens`` with ``x-ratelimit-reset-...``
    (https://platform.openai.com/docs/guides/rate-limits), and ``retry-after`` of one that was refused. What remains is counted down by
    each call that is sent, since the next header comes only with its answer.
    """

    def __init__(self, rpm: float | None = None, tpm: float | None = None) -> None:
        self._seconds_per = {"requests": 60 / rpm if rpm else 0.0, "tokens": 60 / tpm if tpm else 0.0}
        self._next_at = 0.0
        self._paused_until = 0.0
        self._left: dict[str, tuple[float, float]] = {}

    def wait_s(self, now: float, tokens: float) -> float:
        """Seconds until a call of so many tokens may be sent; 0: it may be sent now, and is taken to be."""
        self._left = {kind: (left, resets) for kind, (left, resets) in self._left.items() if resets > now}
        needs = {"requests": 1.0, "tokens": tokens}
        until = max(self._next_at, self._paused_until)
        for kind, (left, resets) in self._left.items():
            if left < needs[kind]:
                until = max(until, resets)
        if until > now:
            return until - now
        self._next_at = now + max(needs[kind] * per for kind, per in self._seconds_per.items())
        self._left = {kind: (left - needs[kind], resets) for kind, (left, resets) in self._left.items()}
        return 0.0

    def pause(self, now: float, pause_s: float) -> None:
        """Send nothing for so long."""
        self._paused_until = max(self._paused_until, now + min(pause_s, MAX_PAUSE_S))

    def observe(self, now: float, headers: Mapping[str, str]) -> None:
        """Take note of a response's headers; what can't be read is passed over."""
        for kind in self._seconds_per:
            reset = seconds(headers.get(f"x-ratelimit-reset-{kind}"))
            left = seconds(headers.get(f"x-ratelimit-remaining-{kind}"))  # a plain number
            if reset is not None and left is not None:
                self._left[kind] = (left, now + min(reset, MAX_PAUSE_S))
