"""OpenTelemetry: spans of the real instrumentation of the openai client in real OTLP files, and older shapes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a prime."}]
PROMPT = "system: Be brief.\n\nuser: Name a prime."
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture(params=["span_only", "event_only"])
def telemetry(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The instrumented client's tracer and logger providers, which write OTLP files; messages are on spans, or logged as events."""
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", request.param)
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_EMIT_EVENT", "true")
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "gen_ai_latest_experimental")
    genai = pytest.importorskip(
        "opentelemetry.instrumentation.genai.openai", reason="needs OpenTelemetry's instrumentation"
    )
    from opentelemetry.exporter.otlp.json.file import FileSpanExporter
    from opentelemetry.exporter.otlp.json.file._log_exporter import FileLogExporter
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    spans, logs = TracerProvider(), LoggerProvider()
    spans.add_span_processor(SimpleSpanProcessor(FileSpanExporter(path=tmp_path / "spans.jsonl")))
    logs.add_log_record_processor(SimpleLogRecordProcessor(FileLogExporter(path=tmp_path / "logs.jsonl")))
    instrumentor = genai.OpenAIInstrumentor()
    instrumentor.instrument(tracer_provider=spans, logger_provider=logs)
    yield spans, logs
    instrumentor.uninstrument()
    spans.shutdown()
    logs.shutdown()


def test_spans_of_the_real_instrumentation(telemetry: Any, openai_client: Any, imported: Any, tmp_path: Path) -> None:
    from opentelemetry import context
    from opentelemetry._logs import LogRecord
    from opentelemetry.trace import NonRecordingSpan, SpanContext, set_span_in_context

    spans, logs = telemetry
    with spans.get_tracer("app").start_as_current_span(
        "invoke_agent", attributes={"gen_ai.operation.name": "invoke_agent"}
    ):
        openai_client.chat.completions.create(model="gpt-4.1-nano", messages=MESSAGES)
    openai_client.chat.completions.create(model="gpt-4.1-nano", messages=MESSAGES[1:], tools=[TOOL])
    with pytest.raises(Exception, match="400"):
        openai_client.chat.completions.create(model="gpt-4.1-nano", messages=[{"role": "user", "content": "Fail."}])
    first = chat_spans(tmp_path / "spans.jsonl")[0]
    place = SpanContext(int(first["traceId"], 16), int(first["spanId"], 16), is_remote=True)
    scores = {"gen_ai.evaluation.name": "Relevance", "gen_ai.evaluation.score.value": 4.0}
    logs.get_logger("judge").emit(
        LogRecord(
            event_name="gen_ai.evaluation.result",
            attributes=scores,
            context=set_span_in_context(NonRecordingSpan(place), context.Context()),
        )
    )

    from router_ml.importers import Scale

    table = imported("otel", tmp_path / "spans.jsonl", tmp_path / "logs.jsonl", scale=Scale.parse("stars"))

    columns = ["prompt", "model", "response", "quality", "input_tokens", "output_tokens"]
    assert table.select(columns).rows() == [
        (PROMPT, "gpt-4.1-nano-2025-04-14", "Two.", 0.75, 8, 2),
        ("Name a prime.", "gpt-4.1-nano-2025-04-14", 'weather({"city": "Oslo"})', None, 8, 2),
    ]
    assert table["latency_ms"].min() > 0
    assert table["created_at"].dt.year().min() > 2024
    assert imported.result.skipped["the call failed"] == 1
    assert imported.result.skipped["a span that is no generation"] == 1
    assert imported.result.n_rejects == 0


def chat_spans(path: Path) -> list[Any]:
    requests = [json.loads(line) for line in path.read_text().splitlines()]
    spans = [s for r in requests for rs in r["resourceSpans"] for ss in rs["scopeSpans"] for s in ss["spans"]]
    return [s for s in spans if s["name"].startswith("chat")]


# ---------------------------------------------------------------------------------------------------------- hand-written


def pairs(attributes: dict[str, Any]) -> list[Any]:
    return [
        {"key": k, "value": {"stringValue": v if isinstance(v, str) else json.dumps(v)}} for k, v in attributes.items()
    ]


def span(attributes: dict[str, Any], **values: Any) -> dict[str, Any]:
    base = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"}
    return {
        "traceId": "0af7651916cd43dd8448eb211c80319c",
        "spanId": "b7ad6b7169203331",
        "startTimeUnixNano": "1767323045000000000",
        "endTimeUnixNano": "1767323045850000000",
        "attributes": pairs({**base, **attributes}),
        **values,
    }


def trace(*spans: Any) -> dict[str, Any]:
    return {"resourceSpans": [{"resource": {}, "scopeSpans": [{"scope": {}, "spans": list(spans)}]}]}


SHAPES = {
    "conventions": {
        "gen_ai.system_instructions": [{"type": "text", "content": "Be brief."}],
        "gen_ai.input.messages": [{"role": "user", "parts": [{"type": "text", "content": "Name a prime."}]}],
        "gen_ai.output.messages": [
            {
                "role": "assistant",
                "parts": [{"type": "reasoning", "content": "Hm."}, {"type": "text", "content": "Two."}],
            }
        ],
    },
    "attributes": {"gen_ai.prompt": MESSAGES, "gen_ai.completion": [{"role": "assistant", "content": "Two."}]},
    "OpenLLMetry": {
        "gen_ai.prompt.0.role": "system",
        "gen_ai.prompt.0.content": "Be brief.",
        "gen_ai.prompt.1.role": "user",
        "gen_ai.prompt.1.content": [{"type": "text", "text": "Name a prime."}],
        "gen_ai.completion.0.content": "Two.",
    },
    "OpenInference": {
        "gen_ai.operation.name": "",
        "openinference.span.kind": "LLM",
        "llm.input_messages.0.message.role": "system",
        "llm.input_messages.0.message.content": "Be brief.",
        "llm.input_messages.1.message.role": "user",
        "llm.input_messages.1.message.contents.0.message_content.type": "text",
        "llm.input_messages.1.message.contents.0.message_content.text": "Name a prime.",
        "llm.output_messages.0.message.content": "Two.",
    },
}


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_of_messages(imported: Any, shape: str) -> None:
    table = imported("otel", [trace(span(SHAPES[shape]))])

    assert table.select("prompt", "model", "response", "latency_ms").rows() == [(PROMPT, "m", "Two.", 850)]
    assert table["created_at"].to_list() == [datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)]


def test_calls_of_tools_in_indexed_attributes(imported: Any) -> None:
    call = {"tool_calls.0.tool_call.function.name": "f", "tool_calls.0.tool_call.function.arguments": "{}"}
    attributes = {f"llm.output_messages.0.message.{name}": value for name, value in call.items()}

    table = imported("otel", [trace(span({**SHAPES["attributes"], **attributes}))])

    assert table["response"].to_list() == ["f({})"]


def test_messages_in_events_of_the_span(imported: Any) -> None:
    events = [
        {"name": "gen_ai.system.message", "attributes": pairs({"content": "Be brief."})},
        {"name": "gen_ai.user.message", "attributes": pairs({"content": "Name a prime."})},
        {"name": "gen_ai.choice", "attributes": pairs({"message": {"content": "Two."}})},
    ]

    table = imported("otel", [trace(span({}, events=events))])

    assert table.select("prompt", "response").rows() == [(PROMPT, "Two.")]


def test_evaluation_is_joined_on_the_response_where_it_has_no_span(imported: Any) -> None:
    attributes = {"gen_ai.evaluation.name": "a", "gen_ai.evaluation.score.label": "pass", "gen_ai.response.id": "r"}
    log = {"eventName": "gen_ai.evaluation.result", "attributes": pairs(attributes)}
    logs = {"resourceLogs": [{"scopeLogs": [{"logRecords": [log]}]}]}

    table = imported("otel", [trace(span({**SHAPES["attributes"], "gen_ai.response.id": "r"})), logs])

    assert table["quality"].to_list() == [1]


@pytest.mark.parametrize(("name", "quality"), [(None, None), ("a", 0.25), ("b", 0.75)])
def test_one_of_several_evaluations_is_chosen_by_name(imported: Any, name: str | None, quality: float | None) -> None:
    events = [
        {
            "name": "gen_ai.evaluation.result",
            "attributes": pairs({"gen_ai.evaluation.name": n, "gen_ai.evaluation.score.value": v}),
        }
        for n, v in [("a", 0.25), ("b", 0.75)]
    ]

    table = imported("otel", [trace(span(SHAPES["attributes"], events=events))], quality_from=name)

    assert table["quality"].to_list() == [quality]


def test_conversation_cost_and_other_feedback_are_attributes(imported: Any) -> None:
    attributes = {"gen_ai.conversation.id": "c", "gen_ai.usage.cost": "0.5", "app.thumb": "down"}

    table = imported("otel", [trace(span({**SHAPES["attributes"], **attributes}))], quality_from="app.thumb")

    assert table.select("session_id", "cost_usd", "quality").rows() == [("c", 0.5, 0)]


def test_document_of_a_whole_export(imported: Any) -> None:
    export = trace(span(SHAPES["attributes"]), span(SHAPES["OpenLLMetry"], spanId="c7ad6b7169203331"))

    assert imported("otel", json.dumps(export, indent=1).encode()).height == 2


def test_document_of_one_resource_may_be_longer_than_a_record(imported: Any) -> None:
    export = json.dumps(trace(*[span({**SHAPES["attributes"], "other": "x" * 1_000_000})] * 20)).encode()

    assert len(export) > 1 << 24
    assert imported("otel", export).height == 20


def test_content_that_was_not_captured_says_which_setting_mends_it(imported: Any) -> None:
    imported("otel", [trace(span(SHAPES["attributes"]), span({}))])

    assert [
        reason for reason in imported.result.skipped if "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT" in reason
    ]


def test_messages_that_were_cut_are_a_reject(imported: Any) -> None:
    imported("otel", [trace(span(SHAPES["attributes"])), trace(span({"gen_ai.input.messages": '[{"role": "us'}))])

    assert imported.rejects() == [
        (2, "gen_ai.input.messages: is no JSON list; was it cut at OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT?")
    ]


def test_event_of_a_span_that_is_elsewhere_is_skipped(imported: Any) -> None:
    log = {"eventName": "gen_ai.evaluation.result", "attributes": pairs({"gen_ai.response.id": "other"})}

    imported("otel", [trace(span(SHAPES["attributes"])), {"resourceLogs": [{"scopeLogs": [{"logRecords": [log]}]}]}])

    assert dict(imported.result.skipped) == {"an event of a span that is not in the log": 1}
