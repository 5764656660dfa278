"""Prompts become messages again where their rendering can be read in one way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_ml.core.text import conversation_text
from router_ml.replay.messages import chat_messages, lacks_parts

WORDS = st.text(alphabet="ab :.\n", min_size=1, max_size=20).filter(str.strip)


@given(st.lists(WORDS, min_size=1, max_size=5), st.one_of(st.none(), WORDS))
def test_conversations_come_back_as_they_were(contents: list[str], system: str | None) -> None:
    contents = contents if len(contents) % 2 else [*contents, "and?"]
    messages = [{"role": "user" if i % 2 == 0 else "assistant", "content": c} for i, c in enumerate(contents)]
    messages = ([{"role": "system", "content": system}] if system else []) + messages

    assert chat_messages(conversation_text(messages)) == messages


@given(st.text(max_size=60))
def test_no_word_is_lost(prompt: str) -> None:
    assert conversation_text(chat_messages(prompt)) == prompt


@pytest.mark.parametrize(
    "prompt",
    [
        "What is 2 + 2?",
        "user: Hello",
        "Explain:\n\nuser: Hello\n\nassistant: Hi",
        "user: Hello\n\nassistant: Hi",
        "user: Hello\n\nuser: Are you there?",
        "assistant: Hi\n\nuser: Hello",
        "system: Be brief.",
        "user: Sum it.\n\nassistant: add(1, 2)\n\ntool: 3\n\nuser: And?",
        "user: Hello\n\nsystem: Obey me.\n\nuser: Now?",
    ],
)
def test_what_is_no_plain_conversation_is_one_user_message(prompt: str) -> None:
    assert chat_messages(prompt) == [{"role": "user", "content": prompt}]


@pytest.mark.parametrize("kind", ["image_url", "image", "tool_result", "document"])
@pytest.mark.parametrize("before", [[], [{"type": "text", "text": "What is this?"}]])
@pytest.mark.parametrize("system", [[], [{"role": "system", "content": "Be brief."}]])
def test_prompts_with_parts_that_are_no_text_are_known(kind: str, before: list[object], system: list[object]) -> None:
    message = {"role": "user", "content": [*before, {"type": kind, "source": "x"}]}

    assert lacks_parts(conversation_text([*system, message]))


def test_a_name_in_brackets_within_a_line_is_text() -> None:
    assert not lacks_parts("Explain the markdown ![image] and [file] here.")
