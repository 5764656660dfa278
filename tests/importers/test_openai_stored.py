"""Stored completions and logged pairs: from what the openai client gives to the traffic table."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from openai import OpenAI

from router_ml.importers.feedback import Scale

ANSWER = {"role": "assistant", "content": "Ho", "refusal": None}


def completion(number: int, **values: Any) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "created": 1767323045,
        "model": "gpt-4.1-nano-2025-04-14",
        "choices": [{"index": 0, "message": ANSWER, "finish_reason": "stop", "logprobs": None}],
        "usage": {"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 10},
        "metadata": {"stars": "4", "session_id": "s1"},
        **values,
    }


MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
RENDERED = "system: Be brief.\n\nuser: Hi"


def page(items: list[dict[str, Any]]) -> dict[str, Any]:
    ids = [item["id"] for item in items]
    return {"object": "list", "data": items, "first_id": ids[0], "last_id": ids[-1], "has_more": False}


class StoredCompletions(BaseHTTPRequestHandler):
    """The part of the API that lists stored completions and their messages."""

    def do_GET(self) -> None:
        parts = self.path.partition("?")[0].split("/")
        if parts[-1] == "messages":
            stored = [
                {**m, "id": f"{parts[-2]}-{i}", "name": None, "content_parts": None} for i, m in enumerate(MESSAGES)
            ]
            body = page(stored[::-1])  # the order isn't what counts
        else:
            body = page([completion(1), completion(2)])
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@pytest.fixture
def client() -> Iterator[OpenAI]:
    with HTTPServer(("127.0.0.1", 0), StoredCompletions) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield OpenAI(api_key="none", base_url=f"http://127.0.0.1:{server.server_port}/v1", max_retries=0)
        server.shutdown()
        thread.join()


def test_pages_that_the_client_lists_are_joined_with_their_messages(imported: Any, client: OpenAI) -> None:
    completions = client.chat.completions.list()
    messages = [client.chat.completions.messages.list(c.id) for c in completions.data]

    table = imported(
        "openai-stored",
        completions.model_dump_json(indent=1).encode(),
        b"\n".join(m.model_dump_json().encode() for m in messages),
    )

    expected = {
        "prompt": RENDERED,
        "model": "gpt-4.1-nano-2025-04-14",
        "response": "Ho",
        "input_tokens": 8,
        "output_tokens": 2,
        "session_id": "s1",
        "created_at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "quality": None,
    }
    assert table.select(*expected).to_dicts() == [expected, expected]


def test_completion_may_hold_its_messages(imported: Any) -> None:
    assert imported("openai-stored", [completion(1, messages=MESSAGES)])["prompt"].to_list() == [RENDERED]


def test_completion_without_messages_is_rejected(imported: Any) -> None:
    imported("openai-stored", [completion(1, messages=MESSAGES), completion(2)])

    assert imported.rejects() == [(2, "prompt: the completion has no 'messages', and no file given holds them")]


def test_logged_pair_brings_columns_of_its_own(imported: Any) -> None:
    pair = {
        "request": {"model": "gpt-4.1-nano", "messages": MESSAGES},
        "response": completion(1, metadata=None),
        "latency_ms": 120,
        "cost_usd": 0.25,
        "session_id": "mine",
        "category": "chat",
    }

    row = imported("openai-stored", [pair]).row(0, named=True)

    assert {k: row[k] for k in ("prompt", "response", "latency_ms", "cost_usd", "session_id", "category")} == {
        "prompt": RENDERED,
        "response": "Ho",
        "latency_ms": 120,
        "cost_usd": 0.25,
        "session_id": "mine",
        "category": "chat",
    }


def test_logged_pair_may_be_plain_texts(imported: Any) -> None:
    pair = {"request": MESSAGES, "response": "Ho", "model": "m", "output_tokens": 2, "created_at": 1767323045000}

    row = imported("openai-stored", [pair, {**pair, "request": "Hi"}])

    assert row["prompt"].to_list() == [RENDERED, "Hi"]
    assert row.select("model", "response", "output_tokens", "created_at").unique().rows() == [
        ("m", "Ho", 2, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    ]


def test_streamed_answer_is_put_together(imported: Any) -> None:
    chunks = [
        {"object": "chat.completion.chunk", "model": "m-1", "choices": [{"index": 0, "delta": {"content": piece}}]}
        for piece in ("H", "o")
    ]
    stream = "".join(f"data: {json.dumps(c)}\n\n" for c in chunks)
    request = {"model": "m", "messages": MESSAGES}

    table = imported(
        "openai-stored",
        [
            {"request": request, "response": chunks},
            {"request": request, "response": {"status_code": 200, "body": stream}},
        ],
    )

    assert table.select("response", "model").rows() == [("Ho", "m-1")] * 2


@pytest.mark.parametrize(("option", "model"), [("request", "gpt-4.1-nano"), ("response", "gpt-4.1-nano-2025-04-14")])
def test_model_is_the_one_that_answered_or_the_one_asked_for(imported: Any, option: str, model: str) -> None:
    pair = {"request": {"model": "gpt-4.1-nano", "messages": MESSAGES}, "response": completion(1)}

    assert imported("openai-stored", [pair], model_from=option)["model"].to_list() == [model]


def test_feedback_stands_beside_the_pair_or_in_its_metadata(imported: Any) -> None:
    pair = {"request": {"messages": MESSAGES}, "response": completion(1)}
    records = [{**pair, "stars": 5}, {**pair, "metadata": {"stars": 2}}, pair]

    table = imported("openai-stored", records, quality_from="stars", scale=Scale.parse("stars"))

    assert table["quality"].to_list() == [1.0, 0.25, 0.75]


FAILED = {
    "request": {"model": "m", "messages": MESSAGES},
    "response": {"error": {"message": "overloaded"}},
    "status_code": 529,
}
FINE = {"request": {"model": "m", "messages": MESSAGES}, "response": completion(1)}


def test_failed_call_is_skipped_with_its_status(imported: Any) -> None:
    assert imported("openai-stored", [FAILED, FINE]).height == 1
    assert imported.rejects() == [(1, "skipped: the call failed with status 529")]
    assert imported.result.n_rejects == 0


def test_failed_call_may_be_kept_as_an_answer_of_no_quality(imported: Any) -> None:
    table = imported("openai-stored", [FAILED, FINE], keep_failed=True)

    assert table.select("prompt", "model", "response", "quality").row(0) == (RENDERED, "m", None, 0.0)
