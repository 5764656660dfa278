"""Batch API: answers find their prompts in the input files, or are rejected for a reason that helps."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types.chat import ChatCompletion

from router_ml.importers.feedback import Scale


def asked(custom_id: str, content: str = "Hi", model: str = "gpt-4.1-nano", **values: Any) -> dict[str, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": content}], **values}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body}


def answered(custom_id: str, content: str = "Ho", model: str = "gpt-4.1-nano-2025-04-14") -> dict[str, Any]:
    message = {"role": "assistant", "content": content}
    body = ChatCompletion.model_validate(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1767323045,
            "model": model,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 10},
        }
    )
    response = {"status_code": 200, "request_id": "r", "body": body.model_dump(mode="json")}
    return {"id": "batch_req_1", "custom_id": custom_id, "response": response, "error": None}


def test_output_is_joined_to_its_input(imported: Any) -> None:
    table = imported(
        "openai-batch", [asked("a", "Hi"), asked("b", "Bye")], [answered("b", "Ciao"), answered("a", "Ho")]
    )

    assert table.select("prompt", "model", "response", "input_tokens", "output_tokens").rows() == [
        ("Bye", "gpt-4.1-nano-2025-04-14", "Ciao", 8, 2),
        ("Hi", "gpt-4.1-nano-2025-04-14", "Ho", 8, 2),
    ]


def test_files_may_come_in_any_order(imported: Any) -> None:
    assert imported("openai-batch", [answered("a")], [asked("a")])["prompt"].to_list() == ["Hi"]


def test_same_prompts_sent_to_two_models_are_no_conflict(imported: Any) -> None:
    table = imported(
        "openai-batch", [asked("a")], [answered("a", model="x")], [asked("a", model="y")], [answered("a", model="y")]
    )

    assert table.select("prompt", "model").rows() == [("Hi", "x"), ("Hi", "y")]


def test_one_id_for_two_prompts_is_rejected_not_guessed(imported: Any) -> None:
    imported("openai-batch", [asked("a", "Hi"), asked("b")], [asked("a", "Bye")], [answered("a"), answered("b")])

    assert imported.rejects() == [
        (1, "prompt: its custom_id stands for different prompts in the input files; import one batch at a time")
    ]


def test_model_asked_for_is_not_guessed_either(imported: Any) -> None:
    inputs = [asked("a", model="x"), asked("a", model="y"), asked("b")]
    table = imported("openai-batch", inputs, [answered("a"), answered("b")], model_from="request")

    assert table["model"].to_list() == ["gpt-4.1-nano"]
    assert imported.rejects()[0][1].startswith("model: its custom_id stands for different models")


def test_answer_without_its_input_is_rejected(imported: Any) -> None:
    imported("openai-batch", [asked("a")], [answered("a"), answered("zz")])

    assert imported.rejects() == [
        (2, "prompt: no input line with its custom_id is in the files given; give the batch's input file too")
    ]


def test_requests_that_failed_or_got_no_answer_are_skipped(imported: Any) -> None:
    expired = {"id": "x", "custom_id": "c", "response": None, "error": {"code": "batch_expired", "message": "late"}}
    refused = {"custom_id": "b", "response": {"status_code": 400, "body": {"error": {"message": "bad"}}}, "error": None}
    inputs = [asked(custom_id) for custom_id in "abcd"]

    assert imported("openai-batch", inputs, [answered("a"), refused, expired]).height == 1
    assert dict(imported.result.skipped) == {
        "the call failed with status 400": 1,
        "the call failed": 1,
        "a batch request without an answer in the files": 1,
    }


def test_embeddings_are_skipped(imported: Any) -> None:
    embedding = {"custom_id": "e", "url": "/v1/embeddings", "body": {"model": "m", "input": "Hi"}}
    vectors = {"custom_id": "e", "response": {"status_code": 200, "body": {"object": "list", "data": []}}}

    assert imported("openai-batch", [embedding, asked("a")], [vectors, answered("a")]).height == 1
    assert imported.result.n_rejects == 0


@pytest.mark.parametrize("place", ["line", "metadata"])
def test_feedback_may_stand_in_the_line_or_in_the_request(imported: Any, place: str) -> None:
    request = asked("a", metadata={"stars": 3}) if place == "metadata" else asked("a")
    answer = {**answered("a"), "stars": 3} if place == "line" else answered("a")

    table = imported("openai-batch", [request], [answer], quality_from="stars", scale=Scale.parse("stars"))

    assert table["quality"].to_list() == [0.5]
