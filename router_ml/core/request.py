"""What a caller may ask of one decision, checked and made ready once."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray

from router_ml.core.checks import is_finite
from router_ml.core.guarantee import GuaranteeKind, find_guarantee
from router_ml.core.policy import POLICIES, Policy, Reference, Rule, Threshold, Utility
from router_ml.errors import InputError
from router_ml.ladder import CAPABILITIES

if TYPE_CHECKING:
    from router_ml.core.artifact import Metadata
    from router_ml.core.text import Query

__all__ = ["Options", "Request", "RequestCache", "options_of", "requirements", "resolve"]

_NOTHING: frozenset[str] = frozenset()
_CONSTANT = {str, int, float, bool, type(None), *POLICIES.values()}
"""Types of options that stay what they are; a collection of tiers might be another by the next call."""
_CHOOSERS = ("at", "policy", "threshold", "lam", "max_loss", "max_violation")
"""Options that each stand for a policy."""
_MAX_KNOWN = 1024
"""Requests that are kept; then they are forgotten."""
_TOOL_ROLES = ("tool", "function")
_PARTS = {"vision": ("image_url", "input_image", "image"), "tools": ("tool_use", "tool_result")}
"""What a part of a message's content is called, in OpenAI's and Anthropic's APIs, that needs a capability."""


class Options(TypedDict, total=False):
    """Options of a decision, all of them by keyword.

    at : str
        Name of an operating point of the artifact's menu: ``"2pt"`` gives up at most two points of expected quality.
    policy : Policy
        A value of `router_ml.core.policy`, such as ``Threshold(0.9)``. Without it, the artifact's default operating point.
    threshold : float
        Short for ``policy=Threshold(threshold)``, in [0, 1].
    lam : float
        Short for ``policy=Utility(lam)``, >= 0: the quality that one US dollar is worth.
    max_loss, max_violation : float
        In place of a policy: the largest expected quality loss against the reference tier, or the largest share of answers under the
        bar, that the artifact has certified (`router_ml.core.guarantee.Guarantee`, which says what that assumes). Where the limits below
        exclude tiers, the policy is the promise's, but nothing is promised.
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

    at: str | None
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
    rule : Rule
        Policy and novelty threshold, made ready for the artifact.
    allowed : array [T] of bool
        By name.
    requires : frozenset of str
    output_tokens, max_cost_usd : float or None
    is_plain : bool
        Whether no limit was asked for.
    price, single
        The rule's `quality_per_usd` and `single`, computed once.
    """

    rule: Rule
    allowed: NDArray[np.bool_]
    requires: frozenset[str]
    output_tokens: float | None
    max_cost_usd: float | None
    is_plain: bool
    price: float | None = field(init=False)
    single: int | None = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "price", self.rule.quality_per_usd)
        object.__setattr__(self, "single", self.rule.single)


def resolve(metadata: Metadata, **options: Unpack[Options]) -> Request:
    """Check :class:`Options` against an artifact.

    Raises
    ------
    InputError
        If an option is unknown, out of its range, or can't be kept beside another.
    LadderError
        If a tier isn't one of the ladder's.
    """
    unknown = [name for name in options if name not in Options.__annotations__]
    if unknown:
        raise InputError(_unknown_option(unknown[0]))
    asked: Options = {name: value for name, value in options.items() if value is not None}  # type: ignore[assignment]
    allowed, forbidden = asked.get("allowed"), asked.get("forbidden")
    needs = _capabilities(asked.get("requires"))
    output_tokens, max_cost_usd = asked.get("output_tokens"), asked.get("max_cost_usd")
    if output_tokens is not None and (not is_finite(output_tokens) or output_tokens < 1):
        raise InputError(f"'output_tokens' is {output_tokens!r}; it needs to be a number of tokens >= 1.")
    if max_cost_usd is not None and (not is_finite(max_cost_usd) or max_cost_usd < 0):
        raise InputError(f"'max_cost_usd' is {max_cost_usd!r}; it needs to be an amount in USD >= 0.")
    rule = metadata.rule(_policy(metadata, asked), ignore_novelty=asked.get("ignore_novelty", False))
    return Request(
        rule=rule,
        allowed=_mask(metadata, allowed, forbidden),
        requires=needs,
        output_tokens=output_tokens,
        max_cost_usd=max_cost_usd,
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


def _policy(metadata: Metadata, asked: Options) -> Policy:
    """The one policy that is asked for; the default operating point's where none is."""
    given = [name for name in _CHOOSERS if name in asked]
    if len(given) > 1:
        raise InputError(
            f"{' and '.join(repr(name) for name in given)} are given together; each stands for a policy, so give one of them."
        )
    kind = given[0] if given else None
    if kind in ("max_loss", "max_violation"):
        if asked.get("ignore_novelty"):
            raise InputError(
                "'ignore_novelty' is given beside a promise, which was certified with novel queries going to the reference tier; leave one out."
            )
        return _certified(metadata, asked)
    if "delta" in asked or "in_slice" in asked:
        raise InputError("'delta' and 'in_slice' belong to a promise; give 'max_loss' or 'max_violation' beside them.")
    if kind == "at":
        return metadata.point(asked["at"] or "").policy
    if kind == "threshold":
        return Threshold(asked["threshold"])  # type: ignore[arg-type]
    if kind == "lam":
        return Utility(asked["lam"])  # type: ignore[arg-type]
    if kind == "policy":
        return _as_policy(asked["policy"])
    return metadata.point().policy


def _certified(metadata: Metadata, asked: Options) -> Policy:
    kind: GuaranteeKind = "loss" if "max_loss" in asked else "violation"
    limit = asked["max_loss"] if kind == "loss" else asked["max_violation"]
    found = find_guarantee(
        metadata.guarantees, kind, limit or 0.0, asked.get("delta", 0.05) or 0.0, asked.get("in_slice")
    )
    return found.policy


def _as_policy(value: object) -> Policy:
    if isinstance(value, Policy):
        return value
    if isinstance(value, str) and value == Reference.kind:
        return Reference()
    raise InputError(
        f"The policy is {value!r}; it needs to be a value of router_ml.core.policy, such as Threshold(0.9) or Reference()."
    )


def _unknown_option(name: str) -> str:
    near = difflib.get_close_matches(name, Options.__annotations__, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"The options are {', '.join(Options.__annotations__)}."
    return f"There is no option {name!r}. {hint}"


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
