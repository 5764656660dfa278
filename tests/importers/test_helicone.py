"""Helicone's export: bodies, measures, sessions and feedback."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest


def record(**values: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "Ho"}
    return {
        "response_id": "r",
        "response_status": 200,
        "request_id": "q",
        "request_created_at": "2026-01-02T03:04:05.000Z",
        "request_path": "https://api.openai.com/v1/chat/completions",
        "request_body": {"model": "gpt-4.1-nano", "messages": [{"role": "user", "content": "Hi"}]},
        "response_body": {"model": "gpt-4.1-nano-2025-04-14", "choices": [{"message": message}]},
        "request_model": "gpt-4.1-nano",
        "response_model": "gpt-4.1-nano-2025-04-14",
        "delay_ms": 850,
        "prompt_tokens": 8,
        "completion_tokens": 2,
        "costUSD": 0.0001,
        "feedback_rating": True,
        "scores": {"helpfulness": 0.5},
        "request_properties": {"Helicone-Session-Id": "s", "Plan": "free"},
        "signed_body_url": "http://127.0.0.1:9/never-fetched",
        **values,
    }


def test_record_becomes_a_row(imported: Any) -> None:
    row = imported("helicone", [record()]).row(0, named=True)

    expected = {
        "prompt": "Hi",
        "model": "gpt-4.1-nano-2025-04-14",
        "response": "Ho",
        "quality": None,
        "input_tokens": 8,
        "output_tokens": 2,
        "cost_usd": 0.0001,
        "latency_ms": 850,
        "session_id": "s",
        "created_at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    }
    assert {name: row[name] for name in expected} == expected


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [{"delta": {"role": "assistant", "content": "Ho"}, "index": 0}], "streamed_data": "data: {}"},
        {"streamed_data": 'data: {"choices": [{"index": 0, "delta": {"content": "Ho"}}]}\n\ndata: [DONE]\n\n'},
    ],
)
def test_streamed_answer_is_read(imported: Any, body: dict[str, Any]) -> None:
    assert imported("helicone", [record(response_body=body)])["response"].to_list() == ["Ho"]


@pytest.mark.parametrize(("name", "quality"), [("feedback_rating", 1.0), ("helpfulness", 0.5)])
def test_thumbs_and_scores_become_quality(imported: Any, name: str, quality: float) -> None:
    assert imported("helicone", [record()], quality_from=name)["quality"].to_list() == [quality]


def test_json_export_and_pages_are_read(imported: Any) -> None:
    pages = json.dumps({"data": [record()], "error": None})

    assert imported("helicone", json.dumps([record(), record()], indent=2).encode(), pages.encode()).height == 3


def test_failed_and_unfinished_calls_are_skipped(imported: Any) -> None:
    imported("helicone", [record(), record(response_status=500), record(response_status=-2)])

    assert dict(imported.result.skipped) == {"the call failed with status 500": 1, "the call failed with status -2": 1}


def test_embeddings_are_skipped(imported: Any) -> None:
    imported("helicone", [record(), record(request_path="https://api.openai.com/v1/embeddings")])

    assert imported.result.n_rejects == 0
    assert len(imported.result.skipped) == 1


def test_body_that_was_left_out_is_a_reject(imported: Any) -> None:
    imported("helicone", [record(), record(request_body={"helicone_message": "request body too large"})])

    assert imported.rejects() == [
        (2, "prompt: the request has no text in messages, input or prompt; it has ['helicone_message']")
    ]


def test_model_asked_for(imported: Any) -> None:
    assert imported("helicone", [record()], model_from="request")["model"].to_list() == ["gpt-4.1-nano"]
