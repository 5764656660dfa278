"""From a prompt of the traffic table back to the messages that are sent."""

from __future__ import annotations

import re

from router_ml.core.text import conversation_text

__all__ = ["chat_messages", "lacks_parts"]

_TURN = re.compile(r"(?:\A|\n\n)(system|developer|user|assistant|tool|function): ")
_PARTS = (
    *("image_url", "input_image", "input_audio", "audio", "file", "input_file", "video_url", "video", "image"),
    *("document", "tool_use", "tool_result", "blob", "uri", "part"),
)
"""What OpenAI, Anthropic and OpenTelemetry call parts that aren't text; ``part`` is one that had no name."""

_PART = re.compile(rf"^(?:\w+: )?\[(?:{'|'.join(_PARTS)})\]$", re.MULTILINE)


def chat_messages(prompt: str) -> list[dict[str, str]]:
    r"""The messages whose rendering (:func:`router_ml.core.text.conversation_text`) is the prompt.

    A prompt is taken for a conversation where it reads as one from its first character to its last: at most one system (or
    developer) message, which stands first, then user and assistant in turn, beginning and ending with the user, none of them empty, and
    rendered again it gives the same text. Any other prompt, one with tool calls included, is sent as one user message.

    Notes
    -----
    Rendering isn't one to one: a single message that itself reads as such a transcript comes back as the conversation that it
    quotes. The words sent are the same; only their roles differ.

    Examples
    --------
    >>> chat_messages("system: Be brief.\n\nuser: Hello")
    [{'role': 'system', 'content': 'Be brief.'}, {'role': 'user', 'content': 'Hello'}]
    >>> chat_messages("user: Hello")
    [{'role': 'user', 'content': 'user: Hello'}]
    """
    turns = list(_TURN.finditer(prompt))
    if turns and turns[0].start() == 0:
        ends = [t.start() for t in turns[1:]] + [len(prompt)]
        messages = [
            {"role": turn[1], "content": prompt[turn.end() : end]} for turn, end in zip(turns, ends, strict=True)
        ]
        if _is_conversation(messages) and conversation_text(messages) == prompt:
            return messages
    return [{"role": "user", "content": prompt}]


def lacks_parts(prompt: str) -> bool:
    """Whether the prompt had an image, a sound or a file, of which its rendering holds the name only."""
    return "[" in prompt and _PART.search(prompt) is not None


def _is_conversation(messages: list[dict[str, str]]) -> bool:
    turns = messages[1:] if messages[0]["role"] in ("system", "developer") else messages
    roles = [m["role"] for m in turns]
    expected = ["user", "assistant"] * (len(turns) // 2) + ["user"]
    return roles == expected and all(m["content"].strip() for m in messages)
