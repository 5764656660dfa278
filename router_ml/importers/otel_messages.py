"""The chat messages that a GenAI span or event holds, in any of the shapes that instrumentations have used.

=========================================================  =================================================================
shape                                                      who writes it
=========================================================  =================================================================
``gen_ai.input.messages``, ``gen_ai.output.messages``      semantic conventions since 1.37: messages of ``parts``
``gen_ai.user.message``, ``gen_ai.choice`` ... events      semantic conventions 1.28 to 1.36
``gen_ai.prompt``, ``gen_ai.completion``                   before that, as attributes or of ``gen_ai.content.*`` events
``gen_ai.prompt.0.content``, ``gen_ai.completion.0...``    OpenLLMetry
``llm.input_messages.0.message.content`` ...               OpenInference
=========================================================  =================================================================

References
----------
https://github.com/open-telemetry/semantic-conventions-genai/blob/main/docs/gen-ai/gen-ai-spans.md
https://github.com/Arize-ai/openinference/blob/main/spec/semantic_conventions.md
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from router_ml.errors import TrafficError
from router_ml.importers.fields import at, first, mapping, text, unpacked

__all__ = ["DETAILS", "MESSAGE_EVENTS", "Event", "asked_and_answered"]

DETAILS = "gen_ai.client.inference.operation.details"
_ROLES = {f"gen_ai.{role}.message": role for role in ("system", "user", "assistant", "tool")}
_CHOICE = "gen_ai.choice"
_CONTENT = ("gen_ai.content.prompt", "gen_ai.content.completion")
MESSAGE_EVENTS = (DETAILS, *_ROLES, _CHOICE, *_CONTENT)
"""Names of events that hold messages of the span that they belong to."""

_INDEXED = (("gen_ai.prompt.", "gen_ai.completion."), ("llm.input_messages.", "llm.output_messages."))
_INDEX = re.compile(r"(\d{1,6})\.(.+)")
_FILLERS = {"message", "message_content", "tool_call", "function"}
"""Steps of an indexed attribute's path that add nothing: ``tool_calls.0.tool_call.function.name``."""

Messages = list[Any]


class Event(NamedTuple):
    """An event of a span, or a log record of it: `body` is what a log record says beside its attributes."""

    name: str
    attributes: Mapping[str, Any]
    body: Any = None


def asked_and_answered(attributes: Mapping[str, Any], events: Sequence[Event]) -> tuple[Messages, Any]:
    """The messages of a span's request, and the message that answered them; raises TrafficError where they can't be read.

    Both in the form of OpenAI's chat completions, and empty (None) where there are none.
    """
    held = [attributes, *(e.attributes for e in events if e.name in (DETAILS, *_CONTENT))]
    asked = next((m for m in map(_asked, held) if m), None)
    answered = next((m for m in map(_answered, held) if m), None)
    return asked or _of_events(events, _ROLES), at(answered or _of_events(events, (_CHOICE,)), 0)


def _asked(attributes: Mapping[str, Any]) -> Messages:
    messages = _listed(attributes, "gen_ai.input.messages")
    if not messages:
        return _older(attributes, side=0, role="user")
    system = _listed(attributes, "gen_ai.system_instructions")
    return [_message(m) for m in (*([{"role": "system", "parts": system}] if system else []), *messages)]


def _answered(attributes: Mapping[str, Any]) -> Messages:
    messages = [_message(m) for m in _listed(attributes, "gen_ai.output.messages")]
    return messages or _older(attributes, side=1, role="assistant")


def _listed(attributes: Mapping[str, Any], name: str) -> Messages:
    value = unpacked(attributes.get(name))
    if isinstance(value, str) and value.strip():
        raise TrafficError(f"{name}: is no JSON list; was it cut at OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT?")
    return value if isinstance(value, list) else []


def _older(attributes: Mapping[str, Any], *, side: int, role: str) -> Messages:
    for prefixes in _INDEXED:
        if messages := _indexed(attributes, prefixes[side], role):
            return messages
    value = unpacked(attributes.get(("gen_ai.prompt", "gen_ai.completion")[side]))
    if isinstance(value, Mapping):
        value = value.get("messages", [value])
    if isinstance(value, str) and value.strip():
        return [{"role": role, "content": value}]
    return [_message(m) for m in value] if isinstance(value, list) else []


def _message(message: Any) -> Any:
    """A message of parts as one of chat completions; what has no parts is one already, or is refused when it is rendered."""
    parts = at(message, "parts")
    if not isinstance(parts, list):
        return message
    content: list[Any] = []
    calls = []
    for part in parts:
        match at(part, "type"):
            case "text":
                content.append({"type": "text", "text": text(part.get("content"))})
            case "tool_call":
                calls.append({"function": {"name": part.get("name"), "arguments": part.get("arguments", "")}})
            case "tool_call_response":
                result = first(part.get("response"), part.get("result"))
                content.append({"type": "text", "text": text(result)})
            case "reasoning":
                pass
            case _:
                content.append(part)
    return {"role": message.get("role"), "content": content, "tool_calls": calls}


def _indexed(attributes: Mapping[str, Any], prefix: str, role: str) -> Messages:
    found: dict[int, dict[str, Any]] = {}
    for name, value in attributes.items():
        match = _INDEX.fullmatch(name[len(prefix) :]) if name.startswith(prefix) else None
        if match:
            path = [step for step in match[2].split(".") if step not in _FILLERS]
            _put(found.setdefault(int(match[1]), {}), path, value)
    return [_of_fields(found[i], role) for i in sorted(found)]


def _put(fields: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Put `value` under ``role``, or under ``tool_calls.0.name``; other paths say nothing that is used."""
    match path:
        case [name]:
            fields[name] = value
        case [name, index, key] if index.isdecimal() and len(index) < 7:
            several = fields.setdefault(name, {})
            if isinstance(several, dict):
                several.setdefault(int(index), {})[key] = value


def _of_fields(fields: Mapping[str, Any], role: str) -> dict[str, Any]:
    content = unpacked(fields.get("content"))
    if not (isinstance(content, list) and all(isinstance(at(part, "type"), str) for part in content)):
        content = text(fields.get("content"))
    parts, calls = fields.get("contents"), fields.get("tool_calls")
    if not content and isinstance(parts, dict):
        content = [part for _, part in sorted(parts.items())]
    return {
        "role": first(fields.get("role"), role),
        "content": content,
        "tool_calls": [{"function": call} for _, call in sorted(calls.items())] if isinstance(calls, dict) else [],
    }


def _of_events(events: Sequence[Event], names: Mapping[str, str] | tuple[str, ...]) -> Messages:
    messages = []
    for event in events:
        if event.name in names:
            said = {**event.attributes, **mapping(event.body)}
            said = {**said, **mapping(said.get("message"))}
            said = {
                k: unpacked(v) if k == "tool_calls" else v
                for k, v in said.items()
                if k in ("content", "tool_calls", "role")
            }
            messages.append({"role": _ROLES.get(event.name, "assistant"), **said})
    return messages
