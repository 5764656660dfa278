"""Stored chat completions, and plain logs of requests with their responses.

Records that are read, in any order and in any number of files:

- a completion (of ``GET /v1/chat/completions``) that holds its ``messages``, or whose messages (of ``GET
  /v1/chat/completions/{id}/messages``) stand elsewhere in the files: their ids are the completion's and ``-0``, ``-1`` ...;
- ``{"request": ..., "response": ...}``, the bodies of a call, or objects that hold them as ``body``; of a streamed answer the chunks, and
  where only texts were logged, the prompt (or its messages) and the answer. Beside them the traffic table's own columns may stand
  (``model``, ``latency_ms``, ``cost_usd``, ``session_id``, ``created_at``, ``category`` ...).

Either may come in pages, ``{"object": "list", "data": [...]}``.

References
----------
https://platform.openai.com/docs/api-reference/chat/list
https://platform.openai.com/docs/api-reference/chat/getMessages
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from router_ml.errors import TrafficError
from router_ml.importers.base import Importer, ImportOptions, Join, Record, Row, has_all_of
from router_ml.importers.chat import call_row, failure_of, with_extras
from router_ml.importers.fields import at, first, mapping, unpacked, utc
from router_ml.importers.streams import body_of
from router_ml.traffic.schema import SCHEMA

__all__ = ["OPENAI_STORED", "parse_pair"]

_EXTRAS = tuple(name for name in SCHEMA if name not in ("prompt", "response"))


def _unpack(record: Record) -> Iterable[Record]:
    data = record.get("data")
    if record.get("object") == "list" and isinstance(data, list):
        return (mapping(item) for item in data)
    return (record,)


def _keep(record: Record) -> tuple[Sequence[str], Record] | None:
    completion, _, place = _id(record).rpartition("-")
    if "role" not in record or "choices" in record or not (completion and place.isdecimal() and len(place) < 9):
        return None
    content = first(record.get("content_parts"), record.get("content"))
    message = {"role": record["role"], "content": content, "tool_calls": record.get("tool_calls")}
    return (completion,), {"place": int(place), "message": message}


def _keys(record: Record) -> Sequence[str]:
    return (_id(record),) if "choices" in record else ()


def _id(record: Record) -> str:
    found = record.get("id")
    return found if isinstance(found, str) else ""


def _parse(record: Record, options: ImportOptions, kept: Sequence[Record]) -> Iterable[Row]:
    if "request" in record or "response" in record:
        return (parse_pair(record, options),)
    if "choices" not in record:
        raise TrafficError("got neither a stored completion nor an object with 'request' and 'response'")
    asked = record
    if kept:
        messages = [k["message"] for k in sorted(kept, key=lambda k: int(k["place"]))]
        asked = {"messages": messages}
    elif not isinstance(at(record, "messages"), list):
        raise TrafficError("prompt: the completion has no 'messages', and no file given holds them")
    return (call_row({"model": None, "metadata": None, **asked}, record, options),)


def parse_pair(record: Record, options: ImportOptions) -> Row:
    """The row of ``{"request": ..., "response": ...}``; raises as `call_row` does."""
    request, response = _asked(record.get("request")), _answered(record.get("response"))
    asked = _asked(request["body"]) if "body" in request else request
    answered = _answered(response["body"]) if "body" in response else response
    failure = failure_of(answered, first(response.get("status_code"), record.get("status_code")))
    row = call_row(asked, answered, options, feedback=(record, record.get("metadata")), failure=failure)
    return with_extras(row, {**record, "created_at": utc(record.get("created_at"))}, _EXTRAS)


def _asked(request: Any) -> Record:
    request = unpacked(request)
    return (
        {"messages" if isinstance(request, list) else "prompt": request}
        if isinstance(request, list | str)
        else mapping(request)
    )


def _answered(response: Any) -> Record:
    return body_of(response) or ({"content": response} if isinstance(response, str) else {})


OPENAI_STORED = Importer(
    name="openai-stored",
    summary="stored chat completions with their messages; JSON lines of {request, response}",
    parse=_parse,
    unpack=_unpack,
    lists=("data",),
    knows=has_all_of(("request", "response"), ("object", "choices")),
    join=Join(keep=_keep, keys=_keys),
)
