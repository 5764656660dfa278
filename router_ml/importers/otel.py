"""OpenTelemetry: spans of calls as OTLP JSON (a collector's or an SDK's file exporter, or a request's body), by the GenAI conventions.

``quality`` is the score of the span's ``gen_ai.evaluation.result`` where it has just one; ``quality_from`` names the evaluation where there
are several, or an attribute of the span. Evaluations, and messages that were logged as events (``resourceLogs``), may stand in other
files: they are joined on the span, evaluations on ``gen_ai.response.id`` too. Spans of agents, tools and embeddings are skipped.
See `otel_messages` for the shapes of messages that are known.

References
----------
https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/
https://github.com/open-telemetry/semantic-conventions-genai/blob/main/docs/gen-ai/gen-ai-events.md
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from router_ml.errors import TrafficError
from router_ml.importers.base import Importer, ImportOptions, Join, Record, Row, SkippedError, has_all_of
from router_ml.importers.chat import call_row
from router_ml.importers.fields import at, elapsed_ms, first, number, utc
from router_ml.importers.otel_messages import MESSAGE_EVENTS, Event, asked_and_answered

__all__ = ["OTEL"]

_EVALUATION = "gen_ai.evaluation.result"
_GENERATIONS = {"chat", "text_completion", "completion", "generate_content", "llm"}
"""What ``gen_ai.operation.name``, ``llm.request.type`` (OpenLLMetry) and ``openinference.span.kind`` call a generation."""

_INPUT_TOKENS = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt")
_OUTPUT_TOKENS = ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.token_count.completion")
_COST = ("gen_ai.usage.cost", "llm.cost.total")
_SESSION = ("gen_ai.conversation.id", "session.id", "traceloop.association.properties.session_id")

_NO_CONTENT = (
    "a generation without its messages; have them captured (OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT)"
)


def _unpack(record: Record) -> Iterable[Record]:
    if not any(key in record for key in ("resourceSpans", "resourceLogs", "scopeSpans", "scopeLogs")):
        return (record,)
    return _inside(record)


def _inside(record: Record) -> Iterator[Record]:
    resources = [record, *_items(record, "resourceSpans"), *_items(record, "resourceLogs")]
    for resource in resources:
        for scope in (*_items(resource, "scopeSpans"), *_items(resource, "scopeLogs")):
            yield from _items(scope, "spans")
            yield from _items(scope, "logRecords")


def _items(record: Record, key: str) -> list[Record]:
    items = record.get(key)
    return [item if isinstance(item, Mapping) else {} for item in items] if isinstance(items, list) else []


def _keep(record: Record) -> tuple[Sequence[str], Record] | None:
    if _is_span(record):
        return None
    event = _event(record)
    if event.name not in (_EVALUATION, *MESSAGE_EVENTS):
        return None
    keys = _keys(record)
    if not keys:
        raise TrafficError(f"an event {event.name} that names neither a span nor a gen_ai.response.id")
    # An evaluator may have a span of its own; messages are of the span that they were logged in, and ids of responses may recur.
    keys = keys if event.name == _EVALUATION else keys[:1]
    return keys, {"name": event.name, "attributes": event.attributes, "body": event.body}


def _keys(record: Record) -> list[str]:
    trace, span = record.get("traceId"), record.get("spanId")
    response = _attributes(record).get("gen_ai.response.id")
    keys = [f"span:{trace}/{span}"] if isinstance(trace, str) and isinstance(span, str) and span.strip("0") else []
    return [*keys, f"response:{response}"] if isinstance(response, str) and response else keys


def _is_span(record: Record) -> bool:
    return "startTimeUnixNano" in record


def _parse(record: Record, options: ImportOptions, kept: Sequence[Record]) -> Iterable[Row]:
    if not _is_span(record):
        raise SkippedError("a log record that is no GenAI event")
    attributes = _attributes(record)
    if not _is_generation(attributes):
        raise SkippedError("a span that is no generation")
    logged = [Event(e["name"], e["attributes"], e["body"]) for e in kept]
    events = [*(_event(e) for e in _items(record, "events")), *logged]
    messages, answer = asked_and_answered(attributes, events)
    if not messages:
        raise SkippedError(_NO_CONTENT)
    asked, answered = attributes.get("gen_ai.request.model"), attributes.get("gen_ai.response.model")
    named = attributes.get("llm.model_name")
    row = call_row(
        {"messages": messages, "model": first(asked, named)},
        {"choices": [{"message": answer}], "model": first(answered, asked, named)},
        options,
        feedback=(attributes,),
        failure="the call failed" if at(record, "status", "code") in (2, "STATUS_CODE_ERROR") else None,
    )
    start, end = _seconds(record.get("startTimeUnixNano")), _seconds(record.get("endTimeUnixNano"))
    known = {
        "quality": first(row.get("quality"), _quality(events, options)),
        "input_tokens": first(*map(attributes.get, _INPUT_TOKENS)),
        "output_tokens": first(*map(attributes.get, _OUTPUT_TOKENS)),
        "cost_usd": first(*map(attributes.get, _COST)),
        "latency_ms": elapsed_ms(start, end),
        "created_at": utc(start),
        "session_id": first(*map(attributes.get, _SESSION)),
    }
    return ({**row, **{name: value for name, value in known.items() if value is not None}},)


def _seconds(nanoseconds: Any) -> float | None:
    value = number(nanoseconds)
    return value / 1e9 if value else None


def _is_generation(attributes: Mapping[str, Any]) -> bool:
    kinds = [attributes.get(k) for k in ("gen_ai.operation.name", "llm.request.type", "openinference.span.kind")]
    named = [kind.lower() for kind in kinds if isinstance(kind, str) and kind]
    # The oldest instrumentations name no operation.
    return any(kind in _GENERATIONS for kind in named) or (not named and "gen_ai.request.model" in attributes)


def _quality(events: Sequence[Event], options: ImportOptions) -> float | None:
    results = {}
    for event in events:
        if event.name == _EVALUATION:
            name = event.attributes.get("gen_ai.evaluation.name")
            results[name if isinstance(name, str) else ""] = event.attributes  # the latest one of a name
    if options.quality_from is None and len(results) == 1:
        (result,) = results.values()
    else:
        result = results.get(options.quality_from or "", {})
    value, label = (result.get(f"gen_ai.evaluation.score.{key}") for key in ("value", "label"))
    return options.scale.quality(first(label, value) if options.scale.categories else first(value, label))


# ------------------------------------------------------------------------------------------------------- OTLP's encoding


def _event(record: Record) -> Event:
    attributes = _attributes(record)
    name = first(record.get("eventName"), record.get("name"), attributes.get("event.name"))
    return Event(name if isinstance(name, str) else "", attributes, _value(record.get("body")))


def _attributes(record: Record) -> Mapping[str, Any]:
    return _pairs(record.get("attributes"))


def _pairs(pairs: Any) -> Mapping[str, Any]:
    if isinstance(pairs, Mapping):  # some exporters write plain objects
        return {key: value for key, value in pairs.items() if isinstance(key, str)}
    if not isinstance(pairs, list):
        return {}
    return {key: _value(at(pair, "value")) for pair in pairs if isinstance(key := at(pair, "key"), str)}


def _value(value: Any) -> Any:
    if not isinstance(value, Mapping) or len(value) != 1:
        return None if value == {} else value
    ((kind, inner),) = value.items()
    match kind:
        case "arrayValue":
            items = at(inner, "values")
            return [_value(item) for item in items] if isinstance(items, list) else []
        case "kvlistValue":
            return _pairs(at(inner, "values"))
        case "stringValue" | "boolValue" | "intValue" | "doubleValue" | "bytesValue":
            return inner
        case _:
            return value


def _names(record: Record) -> Iterable[str]:
    """A span's attributes, and the names of evaluations."""
    if _is_span(record):
        yield from _attributes(record)
    for event in map(_event, _items(record, "events")) if _is_span(record) else (_event(record),):
        if event.name == _EVALUATION:
            yield event.attributes.get("gen_ai.evaluation.name") or ""


OTEL = Importer(
    name="otel",
    summary="OpenTelemetry spans as OTLP JSON, by the GenAI conventions and older ones",
    parse=_parse,
    unpack=_unpack,
    names=_names,
    knows=has_all_of(("resourceSpans",), ("resourceLogs",), ("traceId", "spanId", "startTimeUnixNano")),
    # Span by span: all of a document may be of one resource.
    lists=("resourceSpans.item.scopeSpans.item.spans", "resourceLogs.item.scopeLogs.item.logRecords"),
    join=Join(keep=_keep, keys=_keys, unused="an event of a span that is not in the log"),
)
