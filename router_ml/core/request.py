"""What a caller may ask of one decision, checked and made ready once."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

import numpy as np
from numpy.typing import NDArray

from router_ml.core.checks import is_finite
from router_ml.core.decision import Policy
from router_ml.core.guarantee import find_guarantee
from router_ml.errors import InputError
from router_ml.ladder import CAPABILITIES

if TYPE_CHECKING:
    from router_ml.core.artifact import Metadata
    from router_ml.core.text import Query

__all__ = ["Options", "Request", "RequestCache", "options_of", "requirements", "resolve"]

_NOTHING: frozenset[str] = frozenset()
_CONSTANT = {str, int, float, bool, type(None)}
"""Types of options that stay what they are; a collection of tiers might be another by the next call."""
_MAX_KNOWN = 1024
"""Requests that are kept; then they are forgotten."""
_TOOL_ROLES = ("tool", "function")
_PARTS = {"vision": ("image_url", "input_image", "image"), "tools": ("tool_use", "tool_result")}
"""What a part of a message's content is called, in OpenAI's and Anthropic's APIs, that needs a capability."""


class Options(TypedDict, total=False):
    """Options of a decision, all of them by keyword.

    policy : {"bar", "value", "reference"}
        ``"bar"``: the cheapest tier with ``p_meets >= threshold``; ``"value"``: the largest ``quality - lam * cost_usd``;
        ``"reference"``: always the reference tier. Without it, the one whose knob is given, else the artifact's default.
    threshold : float
        For ``"bar"``, in [0, 1]; the artifact's where not given.
    lam : float
        For ``"value"``, >= 0: the quality that one US dollar is worth; the artifact's where not given.
    max_loss, max_violation : float
        In place of a knob: the largest expected quality loss against the reference tier, or the largest share of answers under the
        bar, that the artifact has certified (`router_ml.core.guarantee.Guarantee`, which says what that assumes). Where the limits below
        exclude tiers, the setting is the promise's, but nothing is promised.
    delta : float
        The chance that such a promise fails, 0.05 where not given.
    in_slice : str
        ``"category=law"``: the promise for this slice of the traffic; an error where the artifact holds none.
    allowed, forbidden : collection of str
        Names of the only tiers that may be chosen; of tiers that may not.
    requires : collection of str
        Capabilities (`router_ml.ladder.CAPABILITIES`) that the tier must have. Images and tool calls in a list of chat messages
        are seen without it.
    output_tokens : int
        The most tokens that the answer may take: they have to fit into the context window beside the prompt.
    max_cost_usd : float
        The most that the call may cost: with `output_tokens` at that length, else at the expected one.
    ignore_novelty : bool
        Decide by the policy on queries unlike the training traffic, too.
    """

    policy: Policy | None
    threshold: float | None
    lam: float | None
    max_loss: float | None
    max_violation: float | None
    delta: float | None
    in_slice: str | None
    allowed: Collection[str] | None
    forbidden: Collection[str] | None
    requires: Collection[str] | None
    output_tokens: int | None
    max_cost_usd: float | None
    ignore_novelty: bool


@dataclass(frozen=True, slots=True)
class Request:
    """Checked options.

    Attributes
    ----------
    policy, knob
        For ``"reference"`` the knob is the tier's index.
    allowed : array [T] of bool
        By name.
    requires : frozenset of str
    output_tokens, max_cost_usd : float or None
    novelty : float
        The novelty above which the safe tier is taken; infinite: never.
    is_plain : bool
        Whether no limit was asked for.
    """

    policy: Policy
    knob: float
    allowed: NDArray[np.bool_]
    requires: frozenset[str]
    output_tokens: float | None
    max_cost_usd: float | None
    novelty: float
    is_plain: bool


def resolve(
    metadata: Metadata,
    *,
    policy: Policy | None = None,
    threshold: float | None = None,
    lam: float | None = None,
    max_loss: float | None = None,
    max_violation: float | None = None,
    delta: float | None = None,
    in_slice: str | None = None,
    allowed: Collection[str] | None = None,
    forbidden: Collection[str] | None = None,
    requires: Collection[str] | None = None,
    output_tokens: int | None = None,
    max_cost_usd: float | None = None,
    ignore_novelty: bool = False,
) -> Request:
    """Check :class:`Options` against an artifact; raises InputError or LadderError where one can't be kept."""
    if max_loss is not None or max_violation is not None:
        if any(v is not None for v in (policy, threshold, lam)) or (max_loss is not None and max_violation is not None):
            raise InputError(
                "Give one of 'max_loss', 'max_violation', or a policy with its knob: each stands for a knob."
            )
        if ignore_novelty:
            raise InputError(
                "'ignore_novelty' is given beside a promise, which was certified with novel queries going to the reference tier; leave one out."
            )
        chosen = _certified(metadata, max_loss, max_violation, 0.05 if delta is None else delta, in_slice)
    elif delta is not None or in_slice is not None:
        raise InputError("'delta' and 'in_slice' belong to a promise; give 'max_loss' or 'max_violation' beside them.")
    else:
        chosen = _knob(metadata, policy, threshold, lam)
    needs = _capabilities(requires)
    if output_tokens is not None and (not is_finite(output_tokens) or output_tokens < 1):
        raise InputError(f"'output_tokens' is {output_tokens!r}; it needs to be a number of tokens >= 1.")
    if max_cost_usd is not None and (not is_finite(max_cost_usd) or max_cost_usd < 0):
        raise InputError(f"'max_cost_usd' is {max_cost_usd!r}; it needs to be an amount in USD >= 0.")
    return Request(
        *chosen,
        allowed=_mask(metadata, allowed, forbidden),
        requires=needs,
        output_tokens=output_tokens,
        max_cost_usd=max_cost_usd,
        novelty=math.inf if ignore_novelty or metadata.novelty_threshold is None else metadata.novelty_threshold,
        is_plain=allowed is None and forbidden is None and not needs and output_tokens is None and max_cost_usd is None,
    )


class RequestCache:
    """:func:`resolve` for an artifact, its answers kept: checking a threshold takes as long as deciding by it. Threads may share it."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata
        self._default = resolve(metadata)
        self._known: dict[tuple[tuple[str, object], ...], Request] = {}

    def resolve(self, options: Options) -> Request:
        """The checked request; raises what :func:`resolve` does."""
        if not options:
            return self._default
        if not all(type(value) in _CONSTANT for value in options.values()):
            return resolve(self._metadata, **options)
        key = tuple(options.items())
        found = self._known.get(key)
        if found is None:
            found = resolve(self._metadata, **options)
            if len(self._known) >= _MAX_KNOWN:
                self._known = {}
            self._known[key] = found
        return found


def requirements(query: Query) -> frozenset[str]:
    """Capabilities that a query needs by its own content: images and tool calls in chat messages."""
    if isinstance(query, str) or not isinstance(query, Sequence):
        return _NOTHING
    needs = set()
    for message in query:
        # Asked for its very type first, which takes a tenth of the time: a conversation may be long.
        if type(message) is not dict and not isinstance(message, Mapping):
            continue
        if message.get("tool_calls") or message.get("function_call") or message.get("role") in _TOOL_ROLES:
            needs.add("tools")
        content = message.get("content")
        if type(content) is not str and isinstance(content, Sequence) and not isinstance(content, str):
            kinds = {str(part.get("type")) for part in content if isinstance(part, Mapping)}
            needs.update(capability for capability, parts in _PARTS.items() if not kinds.isdisjoint(parts))
    return frozenset(needs) if needs else _NOTHING


def options_of(body: Mapping[str, object]) -> Options:
    """What the body of a chat completion's request asks of a tier beside its messages: tools, a JSON schema, room for the answer.

    Parameters
    ----------
    body : mapping
        In the form of OpenAI's API: ``tools`` or ``functions``, ``response_format``, ``max_completion_tokens`` or ``max_tokens``.

    Returns
    -------
    Options
        For :meth:`router_ml.core.router.Router.route`; empty where nothing is asked.

    Examples
    --------
    >>> options_of({"messages": [], "response_format": {"type": "json_schema"}, "max_tokens": 500})
    {'requires': ('json_schema',), 'output_tokens': 500}
    """
    asked = Options()
    requires = ["tools"] if body.get("tools") or body.get("functions") else []
    form = body.get("response_format")
    if isinstance(form, Mapping) and form.get("type") == "json_schema":
        requires.append("json_schema")
    if requires:
        asked["requires"] = tuple(requires)
    most = body.get("max_completion_tokens") or body.get("max_tokens")
    if isinstance(most, int):
        asked["output_tokens"] = most
    return asked


def _certified(
    metadata: Metadata, max_loss: float | None, max_violation: float | None, delta: float, in_slice: str | None
) -> tuple[Policy, float]:
    found = (
        find_guarantee(metadata.guarantees, "loss", max_loss, delta, in_slice)
        if max_loss is not None
        else find_guarantee(metadata.guarantees, "violation", max_violation or 0.0, delta, in_slice)
    )
    return _reference(metadata) if found.knob is None else (found.policy, found.knob)


def _reference(metadata: Metadata) -> tuple[Policy, float]:
    return "reference", float(metadata.ladder.index(metadata.reference))


def _knob(
    metadata: Metadata, policy: Policy | None, threshold: float | None, lam: float | None
) -> tuple[Policy, float]:
    if policy is None:
        if threshold is None and lam is None:
            default = metadata.settings[0]
            return default.policy, default.knob
        policy = "bar" if lam is None else "value"
    if policy == "bar":
        if lam is not None:
            raise InputError("'lam' belongs to policy='value'; with policy='bar' give 'threshold'.")
        value = _own_knob(metadata, "bar") if threshold is None else threshold
        if not is_finite(value) or not 0 <= value <= 1:
            raise InputError(f"The threshold is {value!r}; it needs to be a probability in [0, 1].")
        return policy, float(value)
    if policy == "value":
        if threshold is not None:
            raise InputError("'threshold' belongs to policy='bar'; with policy='value' give 'lam'.")
        value = _own_knob(metadata, "value") if lam is None else lam
        if not is_finite(value) or value < 0:
            raise InputError(
                f"'lam' is {value!r}; policy='value' needs a number >= 0: the quality that one US dollar is worth."
            )
        return policy, float(value)
    if policy == "reference":
        if threshold is not None or lam is not None:
            raise InputError("policy='reference' has no knob; leave out 'threshold' and 'lam'.")
        return _reference(metadata)
    raise InputError(f"The policy is {policy!r}; choose 'bar', 'value' or 'reference'.")


def _own_knob(metadata: Metadata, policy: Policy) -> float | None:
    return next((s.knob for s in metadata.settings if s.policy == policy), None)


def _mask(metadata: Metadata, allowed: Collection[str] | None, forbidden: Collection[str] | None) -> NDArray[np.bool_]:
    mask = np.ones(len(metadata.ladder), dtype=bool)
    if allowed is not None:
        mask[:] = False
        mask[_tiers(metadata, "allowed", allowed)] = True
    if forbidden is not None:
        mask[_tiers(metadata, "forbidden", forbidden)] = False
    return mask


def _tiers(metadata: Metadata, name: str, tiers: Collection[str]) -> list[int]:
    if isinstance(tiers, str) or not isinstance(tiers, Collection) or not tiers:
        raise InputError(f"'{name}' is {tiers!r}; it needs to be a non-empty collection of tier names.")
    return [metadata.ladder.index(tier) for tier in tiers]


def _capabilities(requires: Collection[str] | None) -> frozenset[str]:
    if requires is None:
        return _NOTHING
    if (
        isinstance(requires, str)
        or not isinstance(requires, Collection)
        or any(r not in CAPABILITIES for r in requires)
    ):
        raise InputError(f"'requires' is {requires!r}; it needs to be a collection out of {', '.join(CAPABILITIES)}.")
    return frozenset(requires)
