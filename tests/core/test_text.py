"""What the one text of a query is, and what isn't a query."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_ml.core.text import HEAD_CHARS, MAX_CHARS, TAIL_CHARS, conversation_text, render
from router_ml.errors import QueryError

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")).filter(
    lambda s: s and not s.isspace()
)
KEYS = st.sampled_from(["role", "content", "type", "text", "tool_calls", "function", "name", "arguments", "image_url"])
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["user", "assistant", "tool"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant"]), "content": JSON}, optional={"tool_calls": JSON}
    ),
    max_size=3,
)


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def call(name: str, arguments: Any) -> dict[str, Any]:
    return {"id": "1", "type": "function", "function": {"name": name, "arguments": arguments}}


def test_a_string_stands_for_itself() -> None:
    assert conversation_text("  Hello\n") == "  Hello\n"


def test_a_single_user_message_is_its_content() -> None:
    assert render([user("Hello")]) == render("Hello")


def test_a_tuple_of_messages_is_a_list_of_them() -> None:
    assert conversation_text((user("a"), user("b"))) == conversation_text([user("a"), user("b")])


def test_a_single_system_message_keeps_its_role() -> None:
    assert conversation_text([{"role": "system", "content": "Be brief."}]) == "system: Be brief."


def test_turns_stand_in_order_with_a_blank_line_between() -> None:
    turns = [user("Hi"), {"role": "assistant", "content": "Hello!"}, user("Bye")]
    assert conversation_text(turns) == "user: Hi\n\nassistant: Hello!\n\nuser: Bye"


def test_text_parts_are_kept_and_others_named() -> None:
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": "https://x"}},
        "Say.",
    ]
    assert conversation_text([user(parts)]) == "What is this?\n[image_url]\nSay."


def test_a_part_without_a_type_is_called_part() -> None:
    assert conversation_text([user([{"data": 1}])]) == "[part]"


def test_a_tool_call_is_its_name_and_arguments() -> None:
    message = {"role": "assistant", "content": None, "tool_calls": [call("add", '{"a": 1}'), call("stop", "")]}
    assert conversation_text([message]) == 'assistant: add({"a": 1})\nstop()'


def test_arguments_that_are_no_string_become_sorted_json() -> None:
    message = {"role": "assistant", "content": "So:", "tool_calls": [call("add", {"b": 2, "a": "é"})]}
    assert conversation_text([message]) == 'assistant: So:\nadd({"a": "é", "b": 2})'


def test_a_tool_result_is_a_turn() -> None:
    assert (
        conversation_text([user("1+1?"), {"role": "tool", "tool_call_id": "1", "content": "2"}])
        == "user: 1+1?\n\ntool: 2"
    )


def test_a_text_of_the_largest_size_is_whole() -> None:
    assert render("x" * MAX_CHARS).text == "x" * MAX_CHARS


def test_a_longer_text_keeps_its_head_and_its_tail() -> None:
    text = "h" * HEAD_CHARS + "m" + "t" * TAIL_CHARS
    assert render(text).text == "h" * HEAD_CHARS + " " + "t" * TAIL_CHARS


def test_a_text_of_wide_characters_is_bounded_in_bytes() -> None:
    # 2,304 and 768 bytes, of 3 bytes each; of the two-byte ones at the end no half is left.
    assert render("日" * 1025).text == "日" * 768 + " " + "日" * 256
    assert render("日" * 1024).text == "日" * 1024
    assert render("x" * 3000 + "é" * 100 + "y").text == "x" * 2304 + " " + "x" * 567 + "é" * 100 + "y"
    assert render("x" * 3000 + "é" * 500 + "y").text == "x" * 2304 + " " + "é" * 383 + "y"


def test_the_bounds_in_bytes_and_in_characters_are_one() -> None:
    assert (
        render("x" * (HEAD_CHARS - 1) + "é" * 9000 + "x" * TAIL_CHARS).text
        == "x" * (HEAD_CHARS - 1) + " " + "x" * TAIL_CHARS
    )


def test_a_text_that_is_blank_at_both_ends_is_empty() -> None:
    with pytest.raises(QueryError, match="empty"):
        render("\u3000" * 3000 + "日" + "\u3000" * 3000)


def test_n_chars_is_the_length_before_the_cut() -> None:
    assert render("x" * 100_000).n_chars == 100_000


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("", "empty"),
        (" \n\t\u3000", "empty"),
        ([], "empty"),
        ([user("")], "empty"),
        ([user(None)], "empty"),
        (b"bytes", "bytes"),
        (None, "NoneType"),
        (7, "int"),
        (user("not in a list"), "dict"),
        (["not a message"], "'role'"),
        ([{"content": "no role"}], "'role'"),
        ([{"role": 3, "content": "x"}], "'role'"),
        ([user("a"), None], "'role'"),
        ([user(b"bytes")], "bytes"),
        ([user({"text": "x"})], "dict"),
        ([user([7])], "content part"),
        ([{"role": "assistant", "tool_calls": "x"}], "'tool_calls'"),
        ([{"role": "assistant", "tool_calls": [7]}], "tool call"),
        ("a\0b", "NUL"),
        ("a\ud800b", r"U\+D800 at character 1"),
        ([user("x\udfff")], r"U\+DFFF"),
    ],
)
def test_what_is_no_query_is_refused(query: Any, says: str) -> None:
    with pytest.raises(QueryError, match=says):
        render(query)


def test_arguments_that_contain_themselves_are_refused() -> None:
    arguments: dict[str, Any] = {}
    arguments["self"] = arguments
    with pytest.raises(QueryError, match="arguments"):
        render([{"role": "assistant", "tool_calls": [call("f", arguments)]}])


def nested() -> list[Any]:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    return value


@pytest.mark.parametrize(
    "message",
    [
        user(nested()),
        {"role": nested(), "content": "x"},
        {"role": "assistant", "tool_calls": nested()},
        {"role": "assistant", "tool_calls": [call("f", nested())]},
    ],
    ids=["content", "role", "tool_calls", "arguments"],
)
def test_endless_nesting_is_a_query_error(message: dict[str, Any]) -> None:
    with pytest.raises(QueryError):
        render([message])


def test_a_type_that_is_no_string_is_not_written_out() -> None:
    assert render([user([{"type": nested()}])]).text == "[part]"


@settings(deadline=None)
@given(TEXT)
def test_any_text_renders_as_its_message_does(text: str) -> None:
    assert render(text) == render([user(text)])


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20), st.integers(1, 2000))
def test_no_rendered_text_is_longer_than_the_bound(text: str, times: int) -> None:
    assert len(render("a" + text * times + "z").text.encode()) <= MAX_CHARS + 1


@settings(deadline=None)
@given(JSON | MESSAGES)
def test_anything_else_is_a_query_error(value: Any) -> None:
    try:
        rendered = render(value)
    except QueryError:
        return
    assert rendered.text.strip()
    assert rendered.text.encode()
