"""How long calls of an API take, roughly, and how a duration is said; no clock is read, and no result depends on it."""

from __future__ import annotations

__all__ = ["calls_seconds", "spoken"]

_FIRST_TOKEN_S, _TOKENS_PER_S = 0.7, 70.0
"""An API's usual time to its first token, and its speed from then on."""


def calls_seconds(n_calls: int, output_tokens: float, concurrency: int, rpm: float | None = None) -> float:
    """Seconds that calls with `output_tokens` each take, `concurrency` at a time and at most `rpm` a minute.

    Examples
    --------
    >>> calls_seconds(80, 70, 8), calls_seconds(80, 70, 8, rpm=60)
    (17.0, 80.0)
    """
    return n_calls * max(
        (_FIRST_TOKEN_S + output_tokens / _TOKENS_PER_S) / concurrency, 60 / rpm if rpm is not None else 0.0
    )


def spoken(seconds: float) -> str:
    """Round a duration up to what an estimate of it is worth.

    Examples
    --------
    >>> [spoken(s) for s in (1, 14, 44, 60, 100, 9000)]
    ['10 seconds', '20 seconds', '50 seconds', '1 minute', '2 minutes', '3 hours']
    """
    for size, unit in ((3600, "hour"), (60, "minute")):
        if seconds > 0.9 * size:
            n = 1 if seconds <= 1.25 * size else -int(-seconds // size)
            return f"{n} {unit}{'s' if n > 1 else ''}"
    return f"{max(10, -int(-seconds // 10) * 10)} seconds"
