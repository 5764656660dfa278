"""Streamed answers: whatever pieces they came in, the body that the call would have given unstreamed."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionChunk

from router_ml.importers.chat import answer_of, failure_of, tokens_of
from router_ml.importers.streams import body_of


def chunk(delta: dict[str, Any] | None = None, **values: Any) -> dict[str, Any]:
    """As the openai client gives it; without a delta it has no choice."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": None}]
    found = {"id": "c", "object": "chat.completion.chunk", "created": 7, "model": "m-1", "choices": choices, **values}
    return ChatCompletionChunk.model_validate(found).model_dump(mode="json")


def called(**function: str) -> dict[str, Any]:
    return {"index": 0, **({"id": "x", "type": "function"} if "name" in function else {}), "function": function}


USAGE = {"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 10}
CHUNKS = [
    chunk({"role": "assistant", "content": ""}),
    chunk({"content": "Ho"}),
    chunk({"content": " "}),
    chunk({"content": "ho"}),
    chunk(usage=USAGE),
]
CALLS = [
    chunk({"tool_calls": [called(name="add", arguments="")]}),
    chunk({"tool_calls": [called(arguments='{"a"')]}),
    chunk({"tool_calls": [called(arguments=": 1}")]}),
    chunk({"tool_calls": [{**called(name="sub", arguments="{}"), "index": 1}]}),
]
MESSAGE = [
    {"type": "message_start", "message": {"type": "message", "model": "c", "usage": {"input_tokens": 8}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "ping"},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Ho"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": " ho"}},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "name": "add", "input": {}}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": '{"a": 1}'}},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 2}},
    {"type": "message_stop"},
]
OUTPUT = {"type": "message", "content": [{"type": "output_text", "text": "Ho ho"}]}
EVENTS = [
    {"type": "response.created", "response": {"output": []}},
    {"type": "response.output_text.delta", "delta": "Ho ho"},
    {"type": "response.completed", "response": {"output": [OUTPUT], "usage": {"input_tokens": 8, "output_tokens": 2}}},
]


def sent(events: list[dict[str, Any]], newline: str = "\n") -> str:
    """As it goes over the wire."""
    parts = [f"event: {e.get('type', 'x')}{newline}data: {json.dumps(e, ensure_ascii=False)}" for e in events]
    return (newline * 2).join([": a comment", *parts, "data: [DONE]", ""])


@pytest.mark.parametrize(
    ("events", "answer"),
    [
        pytest.param(CHUNKS, "Ho ho", id="chat"),
        pytest.param(MESSAGE, 'Ho ho\nadd({"a": 1})', id="messages"),
        pytest.param(EVENTS, "Ho ho", id="responses"),
    ],
)
def test_stream_is_read_as_a_list_as_events_and_as_json(events: list[dict[str, Any]], answer: str) -> None:
    bodies = [events, sent(events), sent(events, "\r\n"), json.dumps(events), [json.dumps(e) for e in events]]

    assert [answer_of(body_of(body)) for body in bodies] == [answer] * 5
    assert [tokens_of(body_of(body)["usage"]) for body in bodies] == [(8, 2)] * 5


def test_model_and_time_are_the_chunks() -> None:
    body = body_of(CHUNKS)

    assert (body["id"], body["model"], body["created"]) == ("c", "m-1", 7)


def test_calls_of_tools_are_put_together_by_their_place() -> None:
    assert answer_of(body_of(CALLS)) == 'add({"a": 1})\nsub({})'


def test_refusal_is_the_answer() -> None:
    assert answer_of(body_of([chunk({"refusal": "N"}), chunk({"refusal": "o."})])) == "No."


def test_other_choices_are_left_out() -> None:
    second = {**CHUNKS[1], "choices": [{"index": 1, "delta": {"content": "no"}}]}

    assert answer_of(body_of([*CHUNKS, second])) == "Ho ho"


@pytest.mark.parametrize("error", [{"error": {"message": "overloaded"}}, {"type": "error", "message": "overloaded"}])
def test_stream_that_broke_off_with_an_error_failed(error: dict[str, Any]) -> None:
    assert failure_of(body_of([CHUNKS[1], error])) is not None


def test_stream_that_was_cut_keeps_what_came() -> None:
    assert answer_of(body_of(sent(CHUNKS[:2]).removesuffix("data: [DONE]\n\n")[:-20])) is None
    assert answer_of(body_of(sent(CHUNKS[:3])[:-60])) == "Ho"


@pytest.mark.parametrize("value", ["plain text", "data: 3", [], [1, None], [{"role": "user"}], None, 3, "{broken"])
def test_what_is_no_stream_is_an_empty_body(value: object) -> None:
    assert body_of(value) == {}


def test_body_that_was_not_streamed_is_itself() -> None:
    assert body_of({"choices": []}) == body_of('{"choices": []}') == {"choices": []}


@given(st.text().map("x".__add__), st.lists(st.integers(0, 40), max_size=5))
def test_text_is_whole_wherever_it_was_cut(text: str, cuts: list[int]) -> None:
    ends = sorted({0, len(text), *(min(c, len(text)) for c in cuts)})
    chunks = [chunk({"content": text[a:b]}) for a, b in pairwise(ends)] or [chunk({"content": ""})]

    assert (answer_of(body_of(chunks)) or "") == text
    assert (answer_of(body_of(sent(chunks))) or "") == text


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "object", "choices", "delta", "index", "content", "message", "usage"]), inner
        )
    ),
    max_leaves=10,
)


@given(st.sampled_from([CHUNKS, CALLS, MESSAGE, EVENTS]), st.lists(ANYTHING, max_size=3), st.integers(0, 8))
def test_no_chunk_breaks_the_reader(events: list[dict[str, Any]], strange: list[Any], place: int) -> None:
    answer_of(body_of([*events[:place], *strange, *events[place:]]))
