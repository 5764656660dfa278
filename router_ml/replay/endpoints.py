"""How each tier is reached: base URL, key, limits; read from ``endpoints.yaml``."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from router_ml.errors import InputError
from router_ml.ladder import Ladder

__all__ = ["Endpoint", "read_endpoints"]

_OWN_FIELDS = {"model", "messages", "max_tokens", "max_completion_tokens", "temperature", "n", "stream"}
"""Body fields that are set from the endpoint, or on which the worst case of a call's cost rests."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """How one tier is asked, over any OpenAI-compatible API.

    Parameters
    ----------
    base_url : str or None
        E.g. ``http://localhost:8000/v1``; None: the ``openai`` client's own (``OPENAI_BASE_URL``, or OpenAI).
    api_key_env : str or None
        Name of the environment variable that holds the key. None: ``OPENAI_API_KEY`` without a `base_url`, no key with one, so that
        a key never goes where it wasn't meant to.
    model : str or None
        What the API calls the model; None: the tier's.
    max_tokens : int
        Longest answer, in tokens; the worst case of a call's cost rests on it.
    max_tokens_field : {"max_tokens", "max_completion_tokens"} or None
        The request's field for it. None: ``max_completion_tokens`` without a `base_url`, ``max_tokens`` with one (servers that don't
        know a field ignore it, and answer without a limit).
    temperature : float or None
        None: not sent.
    concurrency : int
        Calls that may be under way at once, 1 to 1,000.
    rpm, tpm : float or None
        Requests and tokens a minute that may be sent; None: as the response headers say.
    timeout_s : float
        Seconds that one attempt may take in all.
    idempotent : bool
        The server honours ``Idempotency-Key``: the same call sent again is answered from what was paid for. OpenAI documents no such
        thing, so the default is False: an attempt whose answer was lost then counts as paid for.
    batch_price : float
        Price of a call through the Batch API, as a share of the usual one (OpenAI: half,
        https://platform.openai.com/docs/guides/batch).
    extra_body : mapping
        Further fields of each request's body.

    Raises
    ------
    InputError
        If a value is of the wrong type or out of its range. No message quotes what may be a key.
    """

    base_url: str | None = None
    api_key_env: str | None = None
    model: str | None = None
    max_tokens: int = 1024
    max_tokens_field: str | None = None
    temperature: float | None = None
    concurrency: int = 8
    rpm: float | None = None
    tpm: float | None = None
    timeout_s: float = 120.0
    idempotent: bool = False
    batch_price: float = 0.5
    extra_body: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.base_url is not None:
            _check_url(self.base_url)
        if self.api_key_env is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", str(self.api_key_env)):
            raise InputError(
                "An endpoint's api_key_env isn't the name of an environment variable (capitals, digits, underscores). "
                "Put the key into a variable, and give the variable's name."
            )
        if self.model is not None and not (isinstance(self.model, str) and self.model.strip()):
            raise InputError(f"An endpoint's model is {self.model!r}; it needs to be a non-empty string.")
        if self.max_tokens_field not in (None, "max_tokens", "max_completion_tokens"):
            raise InputError(
                f"An endpoint's max_tokens_field is {self.max_tokens_field!r}; it needs to be 'max_tokens' or "
                "'max_completion_tokens'."
            )
        for name, low, high in (("max_tokens", 1, 10_000_000), ("concurrency", 1, 1000)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise InputError(
                    f"An endpoint's {name} is {value!r}; it needs to be a whole number, {low} to {high:,}."
                )
        for name, least in (
            ("rpm", 0.0),
            ("tpm", 0.0),
            ("timeout_s", 0.0),
            ("temperature", -1.0),
            ("batch_price", 0.0),
        ):
            value = getattr(self, name)
            if value is None and name not in ("timeout_s", "batch_price"):
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not least < value < math.inf:
                raise InputError(f"An endpoint's {name} is {value!r}; it needs to be a finite number > {least:g}.")
        if not isinstance(self.idempotent, bool):
            raise InputError(f"An endpoint's idempotent is {self.idempotent!r}; it needs to be true or false.")
        _check_extra(self.extra_body)

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> Self:
        """Build an endpoint from one entry of ``endpoints.yaml``."""
        known = {f.name for f in dataclasses.fields(cls)}
        unknown = sorted(str(k) for k in entry if k not in known)
        if unknown:
            hint = " Keys come from environment variables alone: api_key_env." if "api_key" in unknown else ""
            raise InputError(f"An endpoint has the unknown key(s) {unknown}; the keys are {sorted(known)}.{hint}")
        return cls(**entry)

    def api_key(self) -> str:
        """The key, from its environment variable; a placeholder where none is used."""
        name = self.api_key_env or (None if self.base_url else "OPENAI_API_KEY")
        if name is None:
            return "none"
        key = os.environ.get(name, "").strip()
        if not key:
            raise InputError(f"The environment variable {name}, which is to hold an API key, isn't set. Set it.")
        if not re.fullmatch(r"[!-~]+", key):
            raise InputError(
                f"The environment variable {name} holds spaces or characters that no API key has. Set it anew."
            )
        return key

    def body(self, model: str, messages: Sequence[Mapping[str, str]]) -> dict[str, Any]:
        """The request's body for a tier whose model is `model`."""
        field_name = self.max_tokens_field or ("max_tokens" if self.base_url else "max_completion_tokens")
        body = {"model": self.model or model, "messages": list(messages), field_name: self.max_tokens}
        if self.temperature is not None:
            body["temperature"] = self.temperature
        return {**body, **self.extra_body}

    def fingerprint(self, model: str) -> str:
        """A hash of all that an answer depends on: of the body, but not of where it is sent."""
        settings = [self.model or model, self.max_tokens, self.temperature, dict(self.extra_body)]
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def read_endpoints(path: str | Path, ladder: Ladder) -> tuple[Endpoint, ...]:
    """Read ``endpoints.yaml``: one endpoint a tier, in ladder order.

    ::

        defaults: {api_key_env: OPENAI_API_KEY, max_tokens: 1024}
        tiers:
          mini: {concurrency: 16}
          local: {base_url: "http://localhost:8000/v1", idempotent: true}

    Parameters
    ----------
    path : str or Path
        Both sections are optional. A tier is called by its name or its model; one that isn't named has the defaults. What a tier
        gives stands before the defaults, field by field; but a tier with a `base_url` of its own doesn't take over the default key.

    Raises
    ------
    InputError
        If the file can't be read, or holds an unknown key or a bad value.
    LadderError
        If it names a tier that the ladder lacks.
    """
    import yaml

    path = Path(path)
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as exc:
        # The parser's own message quotes the line, which may hold a key.
        raise InputError(
            f"The endpoints {path} can't be read ({type(exc).__name__}). Mend it, or give another file."
        ) from None
    sections = {} if document is None else document
    if not isinstance(sections, dict) or not sections.keys() <= {"defaults", "tiers"}:
        raise InputError(f"{path} needs to hold the sections 'defaults' and 'tiers', or one of them, and nothing else.")
    defaults, tiers = sections.get("defaults") or {}, sections.get("tiers") or {}
    if not isinstance(defaults, dict) or not isinstance(tiers, dict):
        raise InputError(f"{path}: 'defaults' and 'tiers' need to be mappings.")
    entries: list[dict[str, Any]] = [dict(defaults) for _ in ladder]
    for name, entry in tiers.items():
        if not isinstance(entry, dict | None):
            raise InputError(f"{path}: the tier {name!r} holds a {type(entry).__name__}; it needs a mapping.")
        own = entry or {}
        merged = {**defaults, **own}
        if "base_url" in own and "api_key_env" not in own:
            merged.pop("api_key_env", None)
        entries[ladder.index(str(name))] = merged
    try:
        return tuple(Endpoint.from_dict(entry) for entry in entries)
    except InputError as exc:
        raise InputError(f"{path}: {exc}") from exc


def _check_url(url: object) -> None:
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
    except ValueError:
        parts = None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError("An endpoint's base_url isn't a URL; it needs to be like https://host/v1.")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InputError("An endpoint's base_url holds a password or a query; give the key by api_key_env alone.")


def _check_extra(extra: object) -> None:
    if not isinstance(extra, Mapping):
        raise InputError(f"An endpoint's extra_body is a {type(extra).__name__}; it needs to be a mapping.")
    clash = sorted(_OWN_FIELDS.intersection(extra))
    if clash:
        raise InputError(
            f"An endpoint's extra_body sets {clash}; give those as the endpoint's own fields, or not at all."
        )
    try:
        json.dumps(dict(extra), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as exc:
        raise InputError(f"An endpoint's extra_body can't be written as JSON ({type(exc).__name__}).") from None
