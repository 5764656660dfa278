"""Langfuse: the blob storage export (``observations_v2/`` or ``observations/``, ``scores/``, ``traces/``), or pages of its API.

A row is an observation of type GENERATION. For ``quality_from``: the name of a score, or a key of the observation's metadata. A score
that was given to a trace, not to an observation, is taken where the trace has a single generation: of several, none is known to be
what it judged. Input tokens are all kinds whose name holds ``input``, as Langfuse's own tables count them: ``input`` itself leaves out the
cached ones. ``latency_ms`` is from start to end: the field ``latency`` is in seconds, or in milliseconds for integrations made before
April 2026.

References
----------
https://langfuse.com/docs/api-and-data-platform/features/blob-storage-export-fields
https://langfuse.com/docs/api-and-data-platform/features/scores-api
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from router_ml.importers.base import Importer, ImportOptions, Join, Record, Row, SkippedError, has_all_of
from router_ml.importers.chat import call_row
from router_ml.importers.fields import at, blank, elapsed_ms, first, mapping, number, text, unpacked, utc
from router_ml.importers.streams import body_of

__all__ = ["LANGFUSE"]

_ASKED = ("messages", "input", "prompt")
_ANSWERED = ("choices", "content", "output")


def _unpack(record: Record) -> Iterable[Record]:
    """A page's items; of a trace of the API the observations and scores within it too."""
    page = record.get("data")
    items = page if isinstance(page, list) and "type" not in record else [record]
    for item in items:
        if isinstance(item, Mapping):
            yield item
            if _is_trace(item):
                within = (item.get(key) for key in ("observations", "scores"))
                yield from (i for some in within if isinstance(some, list) for i in some if isinstance(i, Mapping))


def _keep(record: Record) -> tuple[Sequence[str], Record] | None:
    if _is_trace(record):
        return [f"trace:{_text(record, 'id')}"], {"kind": "trace", "session_id": _of(record, "session_id")}
    if not _is_score(record):
        return None
    subject = mapping(record.get("subject"))
    trace, observation = _text(record, "trace_id"), _text(record, "observation_id")
    if subject:
        of, name = subject.get("kind"), _text(subject, "id")
        trace, observation = (name, "") if of == "trace" else (_text(subject, "trace_id"), name)
        if of not in ("trace", "observation"):
            trace = observation = ""  # of a session, or an experiment
    key = f"observation:{trace}/{observation}" if observation else f"trace:{trace}" if trace else ""
    score = {"name": _of(record, "name"), "value": _value(record), "at": _text(record, "timestamp")}
    return [key] if key else [], {"kind": "observation" if observation else "trace score", **score}


def _is_trace(record: Record) -> bool:
    return "timestamp" in record and not any(key in record for key in ("type", "value", "data_type", "dataType"))


def _is_score(record: Record) -> bool:
    return "type" not in record and ("data_type" in record or "dataType" in record)


def _value(score: Record) -> Any:
    """What a score says: its category or text, true or false, or its number."""
    value, words = score.get("value"), _of(score, "string_value")
    match _of(score, "data_type"):
        case "CATEGORICAL" | "TEXT":
            return first(words, value)
        case "BOOLEAN":
            known = number(value)
            return value if known is None else known == 1
        case "CORRECTION":
            return None
        case _:
            return value


def _keys(record: Record) -> list[str]:
    name, trace = _text(record, "id"), _text(record, "trace_id")
    of_trace = [f"trace:{trace}", f"generations:{trace}"] if trace else []
    # Some scores name their observation only.
    return [f"observation:{trace}/{name}", f"observation:/{name}", *of_trace] if name else of_trace


def _note(record: Record) -> tuple[Sequence[str], Record] | None:
    name, trace = _text(record, "id"), _text(record, "trace_id")
    if record.get("type") != "GENERATION" or not trace:
        return None
    return [f"generations:{trace}"], {"kind": "generation", "id": name}


def _parse(record: Record, options: ImportOptions, kept: Sequence[Record]) -> Iterable[Row]:
    if record.get("type") != "GENERATION":
        raise SkippedError("an observation that is no generation")
    asked, answered = unpacked(record.get("input")), unpacked(record.get("output"))
    if blank(asked) or asked in ([], {}):
        raise SkippedError("a generation without its input (the field group io of the export)")
    model = first(_of(record, "provided_model_name"), record.get("model"))
    failed = record.get("level") == "ERROR"
    row = call_row(
        {**_request(asked, record.get("input")), "model": model},
        {**_response(answered), "model": model},
        options,
        feedback=(mapping(record.get("metadata")),),
        failure="the call failed" if failed else None,
    )
    usage = _details(first(_of(record, "usage_details"), record.get("usage")))
    cost = first(_of(record, "total_cost"), _of(record, "calculated_total_cost"))
    start, end = _of(record, "start_time"), _of(record, "end_time")
    known = {
        "quality": None if failed else _quality(kept, options),
        "input_tokens": _tokens(usage, "input"),
        "output_tokens": _tokens(usage, "output"),
        # Langfuse has no price for the model where there are no details either.
        "cost_usd": cost if number(cost) or _details(_of(record, "cost_details")) else None,
        "latency_ms": elapsed_ms(start, end),
        "created_at": utc(start),
        "session_id": first(_of(record, "session_id"), *(k.get("session_id") for k in kept if k["kind"] == "trace")),
    }
    return ({**row, **{name: value for name, value in known.items() if value is not None}},)


def _request(asked: Any, as_text: Any) -> Record:
    if isinstance(asked, Mapping) and any(key in asked for key in _ASKED):
        return asked
    messages = [asked] if isinstance(asked, Mapping) and "role" in asked else asked
    if isinstance(messages, list) and all(isinstance(m, Mapping) for m in messages):
        # Items of the responses API need not be messages.
        return {"messages" if all("role" in m for m in messages) else "input": messages}
    return {"messages": [{"role": "user", "content": text(as_text)}]}


def _response(answered: Any) -> Record:
    if isinstance(answered, list):
        if at(answered, 0, "object") == "chat.completion.chunk":
            return body_of(answered)
        if at(answered, 0, "type") in ("message", "function_call", "reasoning"):  # the responses API's
            return {"output": answered}
        answered = answered[-1] if at(answered, -1, "role") else text(answered)
    if isinstance(answered, Mapping):
        if "role" in answered:
            return {"choices": [{"message": answered}]}
        if any(key in answered for key in _ANSWERED):
            return answered
    return {"content": text(answered)}


def _quality(kept: Sequence[Record], options: ImportOptions) -> float | None:
    """Quality by the latest score of that name: the observation's own, else its trace's where it is the only generation there."""
    if options.quality_from is None:
        return None
    scores = [k for k in kept if k.get("name") == options.quality_from and k.get("value") is not None]
    alone = sum(k["kind"] == "generation" for k in kept) <= 1
    for kind in ("observation", "trace score") if alone else ("observation",):
        found = [k for k in scores if k["kind"] == kind]
        if found:
            return options.scale.quality(max(found, key=lambda k: k["at"])["value"])
    return None


def _details(value: Any) -> Record:
    """Counts or costs by their kind: an object, or the pairs that a map of Parquet is read as."""
    if isinstance(value, list):
        return {p[0]: p[1] for p in value if isinstance(p, tuple) and len(p) == 2 and isinstance(p[0], str)}
    return mapping(value)


def _tokens(usage: Record, side: str) -> int | None:
    counts = [number(count) for kind, count in usage.items() if side in kind.lower()]
    found = [int(count) for count in counts if count is not None and math.isfinite(count)]
    return sum(found) if found else None


def _of(record: Record, name: str) -> Any:
    """A field of an export (``trace_id``), or of the API (``traceId``)."""
    value = record.get(name)
    return record.get(_in_api(name)) if blank(value) else value


@cache
def _in_api(name: str) -> str:
    start, *rest = name.split("_")
    return start + "".join(map(str.capitalize, rest))


def _text(record: Record, name: str) -> str:
    value = _of(record, name)
    return value if isinstance(value, str) else ""


def _names(record: Record) -> Iterable[str]:
    """What feedback is called: a score's name, and the keys of a generation's metadata."""
    if _is_score(record):
        return (_text(record, "name"),)
    return mapping(record.get("metadata")) if record.get("type") == "GENERATION" else ()


LANGFUSE = Importer(
    name="langfuse",
    summary="Langfuse's blob storage export (observations, scores, traces) or pages of its API",
    parse=_parse,
    unpack=_unpack,
    lists=("data",),
    names=_names,
    knows=has_all_of(
        *(
            (trace, *rest)
            for trace in ("trace_id", "traceId")
            for rest in (("type", "start_time"), ("type", "startTime"))
        ),
        *(("name", trace, kind) for trace in ("trace_id", "traceId") for kind in ("data_type", "dataType")),
        ("name", "subject", "dataType"),
    ),
    join=Join(keep=_keep, keys=_keys, note=_note, unused="a score or a trace without a generation in the log"),
)
