"""One text: how a query becomes the text that is embedded, in training and in serving alike."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from router_ml.errors import QueryError

__all__ = [
    "HEAD_CHARS",
    "MAX_CHARS",
    "RENDER_VERSION",
    "TAIL_CHARS",
    "Message",
    "Query",
    "Rendered",
    "bounded",
    "conversation_text",
    "cut",
    "render",
]

RENDER_VERSION = "5"
"""Raise it whenever the same query would give another text: an artifact is refused by a core that renders otherwise."""

HEAD_CHARS = 2304
TAIL_CHARS = 768
MAX_CHARS = HEAD_CHARS + TAIL_CHARS
"""A longer text keeps its head and its tail: instructions stand at either end, and a bound keeps a decision's time fixed.

So many characters, and so many bytes in UTF-8: a tokenizer's time goes by bytes, of which a Chinese character has three.
"""

BYTES_PER_TOKEN = 4
"""A token of most vocabularies is about so much UTF-8 in any script; by characters, learned on English, Chinese would be a third of it."""

Message = Mapping[str, Any]
Query = str | Sequence[Message]


class Rendered(NamedTuple):
    """The text that is embedded (at most `MAX_CHARS` characters or bytes, and a line break) and its length before it was cut."""

    text: str
    n_chars: int

    @property
    def least_tokens(self) -> float:
        """About how many tokens it has at least, by its script; 0 for ASCII, of which training traffic tells."""
        return 0.0 if self.text.isascii() else self.n_chars * len(self.text.encode()) / len(self.text) / BYTES_PER_TOKEN


def render(query: Query) -> Rendered:
    r"""Turn a query into the text that is embedded: :func:`conversation_text`, bounded, its white space collapsed.

    Parameters
    ----------
    query : str or sequence of mappings
        A prompt, or messages in the form of OpenAI's chat completions.

    Returns
    -------
    Rendered
        The text, of more than `MAX_CHARS` bytes in UTF-8 the whole characters within the first `HEAD_CHARS` and the last
        `TAIL_CHARS` of them, with single spaces for all white space; and its whole length in characters before that.

    Raises
    ------
    QueryError
        If the query is neither, is empty, or isn't text (NUL characters, lone surrogates).

    Examples
    --------
    >>> render([{"role": "user", "content": "Hello"}])
    Rendered(text='Hello', n_chars=5)
    """
    text, n_chars = bounded(query)
    return Rendered(" ".join(text.split()), n_chars)


def bounded(query: Query) -> Rendered:
    """What :func:`render` does before it collapses white space; a tokenizer that splits into words can do that itself."""
    text = query if isinstance(query, str) else _render_messages(query)
    n_chars = len(text)
    # Asked here, so that the common case is spared a call.
    if n_chars > MAX_CHARS or not text.isascii():
        text = cut(text, HEAD_CHARS, TAIL_CHARS)
    if not text or text.isspace():
        raise QueryError("The query is empty; it needs some text to route by.")
    if "\0" in text:
        raise QueryError("The query holds NUL characters, so it is binary data; only text can be routed.")
    return Rendered(text, n_chars)


def cut(text: str, head: int, tail: int) -> str:
    """Of a text of more than ``head + tail`` characters, or bytes in UTF-8, what stands whole within so many at either end.

    Raises
    ------
    QueryError
        If it isn't text (lone surrogates).
    """
    if len(text) > head + tail:
        text = text[:head] + "\n" + text[-tail:]
    if text.isascii():
        return text
    try:
        encoded = text.encode()
    except UnicodeEncodeError as exc:
        raise QueryError(
            f"The query isn't valid Unicode: a lone surrogate U+{ord(text[exc.start]):04X} at character {exc.start}. "
            "Decode it as UTF-8 before you route it."
        ) from exc
    if len(encoded) <= head + tail:
        return text
    # What is cut in two at either end is left out.
    return "\n".join(end.decode(errors="ignore") for end in (encoded[:head], encoded[-tail:]))


def conversation_text(query: Query) -> str:
    r"""The whole text of a query, unbounded: what the traffic table holds as ``prompt``.

    A string stands for itself. Of a list of chat messages each becomes ``role: content``, in order, a blank line
    between them; a single user message is its content alone, so that a string and the same string as a message are
    one query. Of multi-part content the text parts stay, and other parts are named (``[image_url]``). Tool calls
    become ``name(arguments)``.

    Examples
    --------
    >>> conversation_text([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}])
    'system: Be brief.\n\nuser: Hello'
    """
    return query if isinstance(query, str) else _render_messages(query)


def _render_messages(messages: Sequence[Message]) -> str:
    if isinstance(messages, bytes | bytearray | Mapping) or not isinstance(messages, Sequence):
        raise QueryError(f"A query is a {type(messages).__name__}; it needs to be a string or a list of chat messages.")
    if len(messages) == 1 and isinstance(messages[0], Mapping) and messages[0].get("role") == "user":
        return _render_content(messages[0].get("content"))
    return "\n\n".join([_render_message(m) for m in messages])


def _render_message(message: Message) -> str:
    # What nearly all messages are, and long conversations of: a fifth of the time.
    if type(message) is dict and not message.get("tool_calls"):
        role, content = message.get("role"), message.get("content")
        if type(role) is str and type(content) is str:
            return f"{role}: {content}"
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise QueryError(
            f"A chat message is {reprlib.repr(message)}; it needs to be a mapping with 'role' and 'content'."
        )
    parts = [_render_content(message.get("content"))]
    calls = message.get("tool_calls") or ()
    if not isinstance(calls, Sequence) or isinstance(calls, str):
        raise QueryError(f"'tool_calls' is {reprlib.repr(calls)}; it needs to be a list.")
    parts += [_render_call(c) for c in calls]
    body = "\n".join(p for p in parts if p)
    return f"{message['role']}: {body}"


def _render_content(content: object) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence) and not isinstance(content, bytes | bytearray):
        return "\n".join(_render_part(p) for p in content)
    raise QueryError(f"A message's content is a {type(content).__name__}; it needs to be a string or a list of parts.")


def _render_part(part: object) -> str:
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping):
        text, kind = part.get("text"), part.get("type")
        return text if isinstance(text, str) else f"[{kind if isinstance(kind, str) else 'part'}]"
    raise QueryError(f"A content part is {reprlib.repr(part)}; it needs to be a string or a mapping with 'type'.")


def _render_call(call: object) -> str:
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping):
        raise QueryError(f"A tool call is {reprlib.repr(call)}; it needs to be a mapping with 'function'.")
    name, arguments = function.get("name"), function.get("arguments", "")
    if not isinstance(arguments, str):
        try:
            arguments = json.dumps(arguments, ensure_ascii=False, sort_keys=True, default=str)
        except (TypeError, ValueError, RecursionError) as exc:
            raise QueryError(
                f"A tool call's arguments can't be written as JSON ({exc}); give them as a JSON string."
            ) from exc
    return f"{name if isinstance(name, str) else 'tool'}({arguments})"
