"""What came back: an answer, or a failure that says whether to try again and whether it may have been charged."""

from __future__ import annotations

import email.utils
import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["MAX_PAUSE_S", "Answer", "Failure", "failed_status", "read_answer", "retry_after_s", "seconds"]

_MAX_TOKENS = 2**31
"""A server that reports more tokens than this miscounts."""
MAX_PAUSE_S = 3600.0
"""Longest pause that a header is believed to ask for."""
_RETRIED = {408, 409, 425, 429}
_UNSURE = {502, 504}
"""A gateway gave up on the server behind it, which may have answered (and charged) all the same."""
_FOR_ALL = {401, 402, 403, 404}
"""The key, the account or the model is wrong: every call of the tier would be refused."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: its text, tokens as the server counted them (None: not told), and why it ended: stop, length, content_filter."""

    text: str
    input_tokens: int | None
    output_tokens: int | None
    finish: str | None


@dataclass(eq=False)
class Failure(Exception):  # noqa: N818 - an outcome, not an error: it is caught one level up
    """An attempt without an answer.

    Attributes
    ----------
    reason : str
        What happened, in one line; the server's own words may hold the key (see `Connection.clean`).
    again : bool
        Whether trying again may help.
    unsure : bool
        Whether it may have been charged.
    for_all : bool
        Whether each call of the tier would fail so.
    retry_after_s : float or None
        How long the server asked to wait.
    headers : mapping
        The response's.
    """

    reason: str
    again: bool = True
    unsure: bool = False
    for_all: bool = False
    retry_after_s: float | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def failed_status(status: int, body: object, headers: Mapping[str, str]) -> Failure:
    """The failure that a status of 400 or more means.

    Notes
    -----
    409 is retried, since it says that a call with the same idempotency key is still under way. A 429 for want of credit
    (``insufficient_quota``) isn't: no waiting helps.
    """
    error = body.get("error", body) if isinstance(body, Mapping) else body
    code = error.get("code") if isinstance(error, Mapping) else None
    message = error.get("message") if isinstance(error, Mapping) else error
    reason = f"HTTP {status}" + (f": {_plain(message)}" if isinstance(message, str) and message.strip() else "")
    broke = code == "insufficient_quota"
    return Failure(
        reason,
        again=(status in _RETRIED or status >= 500) and not broke,
        unsure=status in _UNSURE,
        for_all=status in _FOR_ALL or broke,
        retry_after_s=retry_after_s(headers),
        headers=headers,
    )


def read_answer(body: bytes | Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Answer:
    """The answer in the body of a chat completion.

    Raises
    ------
    Failure
        If the body isn't the JSON of a chat completion; it was charged for, most likely.
    """
    try:
        value = json.loads(body) if isinstance(body, bytes) else body
        choice = value["choices"][0]
        message = choice["message"]
        # A model that declines says so in a field of its own.
        text = next((message[k] for k in ("content", "refusal") if message.get(k) is not None), "")
        if not isinstance(text, str):
            raise TypeError(f"content is a {type(text).__name__}")
        usage = value.get("usage") or {}
        counts = [usage.get(k) if isinstance(usage, Mapping) else None for k in ("prompt_tokens", "completion_tokens")]
        finish = choice.get("finish_reason")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as exc:
        why = f"the body isn't a chat completion ({type(exc).__name__})"
        raise Failure(why, unsure=True, headers=headers or {}) from None
    tokens = [c if isinstance(c, int) and not isinstance(c, bool) and 0 <= c <= _MAX_TOKENS else None for c in counts]
    return Answer(
        _valid(text), tokens[0], tokens[1], finish if finish in ("stop", "length", "content_filter") else None
    )


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that ``retry-after-ms`` or ``retry-after`` (seconds, or a date) asks to wait; None where neither says."""
    for name, unit in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            value = float(headers[name]) / unit
        except (KeyError, ValueError):
            continue
        if 0 <= value < math.inf:
            return min(value, MAX_PAUSE_S)
    try:
        pause = email.utils.parsedate_to_datetime(headers["retry-after"]).timestamp() - time.time()
        return min(max(0.0, pause), MAX_PAUSE_S)
    except (KeyError, ValueError, OverflowError, OSError):
        return None


def seconds(duration: str | None) -> float | None:
    """Seconds in a duration as the rate-limit headers write it, or None.

    Examples
    --------
    >>> seconds("6m0s"), seconds("20ms"), seconds("1h0m1.5s"), seconds("12"), seconds("soon")
    (360.0, 0.02, 3601.5, 12.0, None)
    """
    text = (duration or "").strip()
    number = r"(\d{1,9}(?:\.\d{1,9})?)"
    if plain := re.fullmatch(number, text):
        return float(plain[1])
    units = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
    if not text or not re.fullmatch(rf"(?:{number}(?:ms|[dhms]))+", text):
        return None
    return sum(float(n) * units[unit] for n, unit in re.findall(rf"{number}(ms|[dhms])", text))


def _valid(text: str) -> str:
    """The text without lone surrogates, which JSON can write and UTF-8 can't."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _plain(text: str) -> str:
    """One line of a text that a server sent."""
    return " ".join("".join(c if c.isprintable() else " " for c in _valid(text)).split())
