"""OpenRouter: calls of a log with what their generation records say they cost."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

GENERATION = {
    "id": "gen-1",
    "model": "openai/gpt-4.1-nano",
    "total_cost": 0.0015,
    "created_at": "2026-01-02T03:04:05.433273+00:00",
    "latency": 1250,
    "generation_time": 1200,
    "tokens_prompt": 10,
    "tokens_completion": 25,
    "native_tokens_prompt": 11,
    "native_tokens_completion": 27,
    "session_id": "s",
}


def call(number: int = 1, **usage: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": "Ho"}
    response = {
        "id": f"gen-{number}",
        "model": "openai/gpt-4.1-nano",
        "choices": [{"message": message}],
        "usage": usage,
    }
    return {
        "request": {"model": "openrouter/auto", "messages": [{"role": "user", "content": "Hi"}]},
        "response": response,
    }


def test_generation_record_says_what_the_call_cost(imported: Any) -> None:
    row = imported("openrouter", [call(prompt_tokens=1)], [{"data": GENERATION}]).row(0, named=True)

    expected = {
        "prompt": "Hi",
        "model": "openai/gpt-4.1-nano",
        "response": "Ho",
        "cost_usd": 0.0015,
        "input_tokens": 11,
        "output_tokens": 27,
        "latency_ms": 1250,
        "session_id": "s",
        "created_at": datetime(2026, 1, 2, 3, 4, 5, 433273, tzinfo=UTC),
    }
    assert {name: row[name] for name in expected} == expected


def test_latency_is_no_shorter_than_the_generation(imported: Any) -> None:
    table = imported("openrouter", [call()], [{**GENERATION, "latency": 300, "generation_time": 5000}])

    assert table["latency_ms"].to_list() == [5000]


def test_call_without_a_record_keeps_what_its_response_says(imported: Any) -> None:
    table = imported("openrouter", [call(2, prompt_tokens=8, completion_tokens=2, cost=0.5)])

    assert table.select("input_tokens", "output_tokens", "cost_usd").rows() == [(8, 2, 0.5)]


def test_record_without_a_call_is_skipped(imported: Any) -> None:
    imported("openrouter", [call()], [GENERATION, {**GENERATION, "id": "gen-9"}])

    assert imported.rejects() == [(2, "skipped: a generation whose request and response aren't in the files")]


def test_model_asked_for_stays_if_wanted(imported: Any) -> None:
    assert imported("openrouter", [call()], [GENERATION], model_from="request")["model"].to_list() == [
        "openrouter/auto"
    ]
