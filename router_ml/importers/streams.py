"""Answers that were logged as they were streamed: chunks, put together to the body that the call would have given unstreamed.

Known, as a list of them or as the text of server-sent events: chunks of chat completions (and of completions), events of the responses
API, which end with the whole response, and events of Anthropic's messages.

References
----------
https://html.spec.whatwg.org/multipage/server-sent-events.html
https://platform.openai.com/docs/api-reference/chat-streaming
https://docs.anthropic.com/en/docs/build-with-claude/streaming
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from router_ml.errors import TrafficError
from router_ml.importers.base import Record
from router_ml.importers.fields import at, decode, first, mapping, text, unpacked

__all__ = ["body_of"]

_CHUNKS = ("chat.completion.chunk", "text_completion.chunk", "text_completion")
_FINAL = ("response.completed", "response.incomplete", "response.failed")
_ERRORS = ("error", "response.error")


def body_of(value: Any) -> Record:
    """The body of a response: an object, JSON of one, or what the chunks of a stream amount to; else an empty one."""
    value = unpacked(value)
    if isinstance(value, str):
        value = list(_events_of(value))
    if not isinstance(value, list):
        return mapping(value)
    # Each may be an event's text, or a chunk's JSON.
    chunks = [c for item in value for c in (_events_of(item) if isinstance(item, str) else [item])]
    return _assembled([c for c in chunks if isinstance(c, Mapping)])


def _events_of(stream: str) -> Iterator[Any]:
    """What server-sent events hold; one that was cut off ends them."""
    # Not at U+2028, which JSON may hold.
    for line in stream.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        name, colon, data = line.partition(":")
        whole = unpacked(line)
        if not isinstance(whole, str):
            yield whole
        elif colon and name.strip() == "data" and data.strip() not in ("", "[DONE]"):
            try:
                yield decode(data)
            except TrafficError:
                return


def _assembled(chunks: Sequence[Record]) -> Record:
    failed = next((c for c in chunks if c.get("type") in _ERRORS or (c.get("error") and not c.get("choices"))), None)
    if failed is not None:
        return {"error": first(failed.get("error"), failed.get("message"), "the stream failed")}
    final = next((c["response"] for c in reversed(chunks) if c.get("type") in _FINAL), None)
    if isinstance(final, Mapping):
        return final
    if any(c.get("type") == "message_start" for c in chunks):
        return _message(chunks)
    if any(c.get("object") in _CHUNKS or at(c, "choices", 0, "delta") is not None for c in chunks):
        return _completion(chunks)
    return {}


def _completion(chunks: Sequence[Record]) -> Record:
    """A chat completion of its chunks, its first choice alone."""
    choices = [choice for c in chunks for choice in _items(c, "choices") if choice.get("index") in (0, None)]
    deltas = [mapping(choice.get("delta")) for choice in choices]
    message = {
        "content": _joined([d.get("content", c.get("text")) for d, c in zip(deltas, choices, strict=True)]),
        "refusal": _joined([d.get("refusal") for d in deltas]),
        "tool_calls": _calls([call for d in deltas for call in _items(d, "tool_calls")]),
    }
    named = {name: first(*(c.get(name) for c in chunks)) for name in ("id", "model", "created")}
    # Some count in each chunk what there is so far.
    return {**named, "usage": first(*(c.get("usage") for c in reversed(chunks))), "choices": [{"message": message}]}


def _calls(parts: Sequence[Record]) -> list[Record]:
    by_index: dict[int, list[Record]] = {}
    for part in parts:
        by_index.setdefault(_index(part), []).append(part)
    return [
        {
            "function": {
                "name": _joined([at(p, "function", "name") for p in of_one]),
                "arguments": _joined([at(p, "function", "arguments") for p in of_one]),
            }
        }
        for of_one in by_index.values()
    ]


def _message(events: Sequence[Record]) -> Record:
    """A message of Anthropic's by its events."""
    start = mapping(next((e.get("message") for e in events if e.get("type") == "message_start"), None))
    usage = dict(mapping(start.get("usage")))
    blocks: dict[int, list[Record]] = {}
    for event in events:
        place = blocks.setdefault(_index(event), [])
        match event.get("type"):
            case "content_block_start":
                place.append(mapping(event.get("content_block")))
            case "content_block_delta":
                place.append(mapping(event.get("delta")))
            case "message_delta":
                usage |= {name: n for name, n in mapping(event.get("usage")).items() if n is not None}
    return {**start, "usage": usage, "content": [_block(parts) for parts in blocks.values() if parts]}


def _block(parts: Sequence[Record]) -> Record:
    kind = parts[0].get("type")
    if kind == "tool_use":
        given = first(_joined([p.get("partial_json") for p in parts]), parts[0].get("input"))
        return {"type": kind, "name": parts[0].get("name"), "input": given}
    if kind == "text":
        return {"type": kind, "text": _joined([p.get("text") for p in parts])}
    return {"type": kind}


def _index(record: Record) -> int:
    index = record.get("index")
    return index if isinstance(index, int) else -1


def _joined(pieces: Sequence[Any]) -> str | None:
    found = [text(piece) or "" for piece in pieces if piece is not None]
    return "".join(found) or None


def _items(record: Record, key: str) -> list[Record]:
    items = record.get(key)
    return [item for item in items if isinstance(item, Mapping)] if isinstance(items, list) else []
