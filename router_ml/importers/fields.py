"""Reading values out of records that may hold anything, without an exception."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from router_ml.errors import TrafficError
from router_ml.traffic.schema import EPOCH_UNITS

__all__ = ["at", "blank", "decode", "elapsed_ms", "first", "lookup", "mapping", "number", "text", "unpacked", "utc"]

_SECONDS_FROM = 1e8
"""Digits of less than this are no epoch but a date, such as 20260501: as seconds this is the year 1973."""


def decode(line: bytes | str) -> Any:
    """Parse JSON; raises TrafficError.

    What only Python's parser takes (NaN, Infinity, lone surrogates) is parsed too, and judged with the column that it ends up in.
    """
    try:
        return orjson.loads(line)
    except ValueError:
        pass
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as exc:
        raise TrafficError(f"not usable JSON: {exc!s:.200}") from None


def unpacked(value: Any) -> Any:
    """`value`, or what it holds where it is JSON in a string (as in a CSV's cell)."""
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            return decode(value)
        except TrafficError:
            return value
    return value


def at(value: Any, *path: str | int) -> Any:
    """The value under a path of keys and indices, or None where it leads nowhere."""
    for key in path:
        if isinstance(key, int):
            value = value[key] if isinstance(value, list) and -len(value) <= key < len(value) else None
        else:
            value = value.get(key) if isinstance(value, dict) else None
    return value


def blank(value: Any) -> bool:
    """Whether a value is null or white space."""
    return value is None or (isinstance(value, str) and not value.strip())


def first(*values: Any) -> Any:
    """The first value that isn't blank, or None."""
    for value in values:
        if not blank(value):
            return value
    return None


def lookup(name: str, *places: Any) -> Any:
    """The first value that isn't blank under `name` (a key, else a dotted path) in any of `places`, or None."""
    paths = ((name,), tuple(name.split(".")))
    return first(*(at(place, *path) for place in places for path in paths))


def mapping(value: Any) -> Mapping[str, Any]:
    """`value` if it is an object (or JSON of one), else an empty one."""
    value = unpacked(value)
    return value if isinstance(value, Mapping) else {}


def number(value: Any) -> float | None:
    """`value` as a float, or None where it isn't one."""
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def text(value: Any) -> str | None:
    """`value` as text: strings as they are, lists and objects as JSON; raises TrafficError where it can't be written."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as exc:
            raise TrafficError(f"got bytes that aren't UTF-8 ({exc.reason} at {exc.start})") from None
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list | Mapping):
        try:
            return json.dumps(value, ensure_ascii=False, default=str)
        except (TypeError, ValueError, RecursionError) as exc:
            raise TrafficError(f"got a value that can't be written as JSON ({exc!s:.80})") from None
    try:
        return str(value)
    except ValueError as exc:  # an integer of more than 4,300 digits
        raise TrafficError(f"got a number that is too long ({exc!s:.80})") from None


def utc(value: Any) -> str | None:
    """A time as ISO 8601 text: an epoch in seconds, milliseconds, microseconds or nanoseconds is converted, text is left as it is."""
    seconds = number(value)
    if seconds is None or (isinstance(value, str) and abs(seconds) < _SECONDS_FROM):
        return text(value)
    seconds /= next((unit for start, unit in EPOCH_UNITS if abs(seconds) >= start), 1)
    try:
        return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).isoformat()
    except (OverflowError, ValueError):
        return text(value)


def elapsed_ms(start: Any, end: Any) -> float | None:
    """Milliseconds between two times (epochs or ISO 8601), or None where either is missing or isn't one."""
    try:
        begin, stop = (datetime.fromisoformat(t) for t in (utc(start) or "", utc(end) or ""))
        return (stop - begin) / timedelta(milliseconds=1)
    except (TypeError, ValueError, OverflowError, TrafficError):
        return None
