"""What came back, read: answers, failures, and what servers say about waiting."""

from __future__ import annotations

import datetime as dt
import email.utils
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_ml.replay.answers import Answer, Failure, failed_status, read_answer, retry_after_s, seconds


def completion(message: Any = None, **fields: Any) -> bytes:
    choice = {"message": {"content": "Hi"} if message is None else message, "finish_reason": "stop"}
    body = {"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
    return json.dumps({**body, **fields}).encode()


def test_an_answer_is_read() -> None:
    assert read_answer(completion()) == Answer("Hi", 3, 2, "stop")


def test_a_refusal_is_an_answer() -> None:
    assert read_answer(completion({"content": None, "refusal": "I won't."})).text == "I won't."


def test_no_content_is_an_empty_answer() -> None:
    assert read_answer(completion({"content": None})).text == ""


@pytest.mark.parametrize("n", [-1, True, 1.5, "7", None, 10**18])
def test_tokens_that_cant_be_arent_told(n: Any) -> None:
    answer = read_answer(completion(usage={"prompt_tokens": n, "completion_tokens": 2}))

    assert (answer.input_tokens, answer.output_tokens) == (None, 2)


def test_a_lone_surrogate_is_replaced() -> None:
    assert read_answer(completion({"content": "a\ud800b"})).text == "a?b"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"{}",
        b'{"choices": []}',
        b'{"choices": [{}]}',
        b'{"choices": [{"message": {"content": 3}}]}',
        b"\xff\xfe",
        b"[" * 100_000,
        completion()[:-5],
    ],
)
def test_another_body_is_a_failure_that_may_have_been_charged(body: bytes) -> None:
    with pytest.raises(Failure) as caught:
        read_answer(body)

    assert caught.value.again
    assert caught.value.unsure


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda v: (
        st.lists(v, max_size=3)
        | st.dictionaries(st.sampled_from(["choices", "message", "content", "usage", "refusal", "error", "code"]), v)
    ),
    max_leaves=15,
)


@given(JSON)
def test_any_json_is_an_answer_or_a_failure(value: Any) -> None:
    try:
        answer = read_answer(json.dumps(value).encode())
    except Failure:
        return
    answer.text.encode()


@given(st.integers(400, 599), JSON)
def test_any_error_body_is_a_failure_with_a_reason_of_one_line(status: int, body: Any) -> None:
    failure = failed_status(status, body, {})

    assert failure.reason.startswith(f"HTTP {status}")
    assert "\n" not in failure.reason


@pytest.mark.parametrize(
    ("status", "again", "unsure", "for_all"),
    [
        (400, False, False, False),
        (401, False, False, True),
        (404, False, False, True),
        (408, True, False, False),
        (409, True, False, False),
        (422, False, False, False),
        (429, True, False, False),
        (500, True, False, False),
        (502, True, True, False),
        (503, True, False, False),
        (504, True, True, False),
    ],
)
def test_a_status_says_whether_to_try_again(status: int, again: bool, unsure: bool, for_all: bool) -> None:
    failure = failed_status(status, None, {})

    assert (failure.again, failure.unsure, failure.for_all) == (again, unsure, for_all)


def test_want_of_credit_isnt_waited_for() -> None:
    failure = failed_status(429, {"error": {"code": "insufficient_quota", "message": "Pay."}}, {})

    assert (failure.again, failure.for_all) == (False, True)


@pytest.mark.parametrize(
    ("headers", "pause"),
    [
        ({"retry-after": "2"}, 2.0),
        ({"retry-after-ms": "250", "retry-after": "2"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "2"}, 2.0),
        ({"retry-after": "1e9"}, 3600.0),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
        ({}, None),
    ],
)
def test_retry_after_is_read(headers: dict[str, str], pause: float | None) -> None:
    assert retry_after_s(headers) == pause


def test_retry_after_may_be_a_date() -> None:
    later = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=10)

    pause = retry_after_s({"retry-after": email.utils.format_datetime(later, usegmt=True)})

    assert pause is not None
    assert 0 < pause <= 600


@given(st.text(max_size=20))
def test_any_header_is_a_duration_or_nothing(text: str) -> None:
    value = seconds(text)

    assert value is None or value >= 0
    retry_after_s({"retry-after": text, "retry-after-ms": text})
