"""Settings read from plain values into frozen dataclasses, with an error that names each wrong one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from router_ml.errors import InputError, MissingExtraError

__all__ = ["STRICT", "read_settings"]

STRICT: dict[str, Any] = {"extra": "forbid", "strict": True}
"""What a dataclass of settings says to pydantic as ``__pydantic_config__``: no unknown key, no "3" for 3."""

T = TypeVar("T")


def read_settings(cls: type[T], values: Mapping[str, Any], what: str) -> T:
    """Build a dataclass from plain values.

    Parameters
    ----------
    cls : type
        A dataclass whose annotations say what is allowed.
    values : mapping
        As YAML gives them.
    what : str
        What they are the settings of, for the error.

    Raises
    ------
    InputError
        Naming each setting that is unknown, missing, of another type or out of range.
    """
    try:
        from pydantic import TypeAdapter, ValidationError
    except ImportError as exc:
        raise MissingExtraError("train", "Judging answers") from exc
    try:
        # As JSON, in which a list may be a tuple and a mapping a dataclass, even strictly.
        text = json.dumps(values, default=str)
        return TypeAdapter(cls).validate_json(text)
    except ValidationError as exc:
        wrong = "; ".join(_said(e) for e in exc.errors(include_url=False))
        known = ", ".join(f.name for f in fields(cls)) or "none"  # type: ignore[arg-type]
        raise InputError(f"The settings of {what} are wrong: {wrong}. It takes: {known}.") from exc
    except (RecursionError, TypeError, ValueError) as exc:
        raise InputError(
            f"The settings of {what} can't be read: {exc}. Give plain values, nested no deeper than need be."
        ) from exc


def _said(error: Mapping[str, Any]) -> str:
    where = ".".join(map(str, error["loc"])) or "all of it"
    if error["type"] == "missing":
        return f"{where} is missing"
    if error["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"{where} isn't known"
    return f"{where}: got {error['input']!r:.80}, {error['msg'][:1].lower()}{error['msg'][1:]}"
