"""Bodies of requests and responses, as the openai package's own types write them, and Anthropic's."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion
from openai.types.responses import Response

from router_ml.core.text import conversation_text
from router_ml.errors import TrafficError
from router_ml.importers.base import ImportOptions, SkippedError
from router_ml.importers.chat import answer_of, call_row, failure_of, prompt_of, tokens_of

CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}


def chat(message: dict[str, Any], **values: Any) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", **message}}
    found = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], **values}
    return ChatCompletion.model_validate(found).model_dump(mode="json")


def response(output: list[dict[str, Any]], **values: Any) -> dict[str, Any]:
    found = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1767323045.0,
        "model": "m",
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        **values,
    }
    return Response.model_validate(found).model_dump(mode="json")


def message_item(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": list(parts)}


TEXT = {"type": "output_text", "text": "Ho", "annotations": []}
FUNCTION_CALL = {"type": "function_call", "call_id": "c1", "name": "add", "arguments": '{"a": 1}'}


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        pytest.param(chat({"content": "Ho"}), "Ho", id="chat"),
        pytest.param(chat({"content": None, "tool_calls": [CALL]}), 'add({"a": 1})', id="tool call"),
        pytest.param(chat({"content": "Wait", "tool_calls": [CALL]}), 'Wait\nadd({"a": 1})', id="text and tool call"),
        pytest.param(
            chat({"content": None, "function_call": CALL["function"]}),
            'add({"a": 1})',
            id="function call, before tools",
        ),
        pytest.param(
            {
                "candidates": [
                    {
                        "content": {
                            "parts": [
                                {"text": "hm", "thought": True},
                                {"text": "Ho"},
                                {"functionCall": {"name": "add", "args": {"a": 1}}},
                            ]
                        }
                    }
                ]
            },
            'Ho\nadd({"a": 1})',
            id="Gemini's candidates",
        ),
        pytest.param({"choices": [{"delta": {"content": "Ho"}}]}, "Ho", id="delta, as Helicone writes a stream"),
        pytest.param(chat({"content": None, "refusal": "No."}), "No.", id="refusal"),
        pytest.param(chat({"content": ""}), None, id="nothing"),
        pytest.param(response([message_item(TEXT, TEXT)]), "Ho\nHo", id="responses"),
        pytest.param(
            response([{"type": "reasoning", "id": "r", "summary": []}, message_item(TEXT)]), "Ho", id="reasoning"
        ),
        pytest.param(response([message_item({"type": "refusal", "refusal": "No."})]), "No.", id="responses' refusal"),
        pytest.param(response([message_item(TEXT), FUNCTION_CALL]), 'Ho\nadd({"a": 1})', id="responses' tool call"),
        pytest.param(
            Completion.model_validate(
                {
                    "id": "x",
                    "object": "text_completion",
                    "created": 1,
                    "model": "m",
                    "choices": [{"index": 0, "text": "Ho", "finish_reason": "stop", "logprobs": None}],
                }
            ).model_dump(mode="json"),
            "Ho",
            id="completions",
        ),
        pytest.param(
            {"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Ho"}]}, "Ho", id="messages"
        ),
        pytest.param(
            {"content": [{"type": "tool_use", "name": "add", "input": {"a": 1}}]},
            'add({"a": 1})',
            id="messages' tool call",
        ),
    ],
)
def test_answers(body: dict[str, Any], answer: str | None) -> None:
    assert answer_of(body) == answer


SYSTEM, USER = {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}
BOTH = "system: Be brief.\n\nuser: Hi"


@pytest.mark.parametrize(
    ("request_body", "prompt"),
    [
        pytest.param({"messages": [SYSTEM, USER]}, BOTH, id="chat"),
        pytest.param({"messages": [USER]}, "Hi", id="one message"),
        pytest.param({"messages": '[{"role": "user", "content": "Hi"}]'}, "Hi", id="messages as JSON"),
        pytest.param({"system": "Be brief.", "messages": [USER]}, BOTH, id="messages"),
        pytest.param(
            {"system": [{"type": "text", "text": "Be brief."}], "messages": [USER]}, BOTH, id="messages, in parts"
        ),
        pytest.param({"input": "Hi"}, "Hi", id="responses"),
        pytest.param({"input": "Hi", "instructions": "Be brief."}, BOTH, id="responses with instructions"),
        pytest.param(
            {"input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}]}, "Hi", id="input items"
        ),
        pytest.param(
            {"input": [USER, FUNCTION_CALL, {"type": "function_call_output", "call_id": "c1", "output": "2"}]},
            'user: Hi\n\nassistant: add({"a": 1})\n\ntool: 2',
            id="input items with tools",
        ),
        pytest.param(
            {
                "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
                "systemInstruction": {"parts": [{"text": "Be brief."}]},
            },
            BOTH,
            id="Gemini's contents",
        ),
        pytest.param(
            {"contents": ["Hi", {"role": "model", "parts": [{"text": "Ho"}, {"inlineData": {}}]}]},
            "user: Hi\n\nassistant: Ho\n[part]",
            id="Gemini's contents of several turns",
        ),
        pytest.param({"contents": "Hi"}, "Hi", id="Gemini's contents as text"),
        pytest.param({"prompt": "Hi"}, "Hi", id="completions"),
        pytest.param({"prompt": ["Hi"]}, "Hi", id="completions, a list of one"),
    ],
)
def test_prompts(request_body: dict[str, Any], prompt: str) -> None:
    assert conversation_text(prompt_of(request_body)) == prompt


@pytest.mark.parametrize("body", [{}, {"prompt": [1, 2]}, {"prompt": ["a", "b"]}, {"input": []}, {"messages": 1}])
def test_request_without_a_prompt_is_an_error(body: dict[str, Any]) -> None:
    with pytest.raises(TrafficError, match="prompt: the request has no text in messages, input or prompt"):
        prompt_of(body)


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}}, (3, 2)),
        ({"input_tokens": 3, "output_tokens": 2}, (3, 2)),
        (
            {"input_tokens": 3, "output_tokens": 2, "cache_read_input_tokens": 10, "cache_creation_input_tokens": 5},
            (18, 2),
        ),
        ({"promptTokenCount": 3, "candidatesTokenCount": 2, "thoughtsTokenCount": 4, "totalTokenCount": 9}, (3, 6)),
        # LiteLLM's own count has the cached ones in it already.
        ({"prompt_tokens": 18, "completion_tokens": 2, "cache_read_input_tokens": 10}, (18, 2)),
        (None, (None, None)),
    ],
)
def test_tokens(usage: object, tokens: object) -> None:
    assert tokens_of(usage) == tokens


@pytest.mark.parametrize(
    ("body", "status", "failed"),
    [
        ({"choices": []}, 200, False),
        ({"choices": []}, None, False),
        ({"choices": []}, "success", False),
        ({}, 429, True),
        ({}, "500", True),
        ({}, -3.0, True),
        ({"error": {"message": "x"}}, None, True),
        ({"type": "error", "error": {}}, None, True),
        ({"error": None, "status": "completed"}, 200, False),
        ({"status": "failed"}, 200, True),
    ],
)
def test_failures(body: dict[str, Any], status: object, failed: bool) -> None:
    assert (failure_of(body, status) is not None) == failed


@pytest.mark.parametrize(
    "body", [{"object": "list", "data": [{"embedding": [0.1]}]}, {"results": [{"flagged": False}]}]
)
def test_answer_that_is_no_text_is_skipped(body: dict[str, Any]) -> None:
    with pytest.raises(SkippedError, match="no text"):
        call_row({"input": "Hi"}, body, ImportOptions())
