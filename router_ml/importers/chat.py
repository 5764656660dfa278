"""What a request asked and a response answered, in the shapes of OpenAI's, Anthropic's and Google's APIs.

Known: chat completions (``messages``, ``choices``), responses (``input``, ``output``), completions (``prompt``, ``choices[].text``),
Anthropic's messages (``system`` and ``messages``, ``content``), and Gemini's (``contents``, ``candidates``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from router_ml.core.text import conversation_text
from router_ml.errors import TrafficError
from router_ml.importers.base import ImportOptions, Record, Row, SkippedError
from router_ml.importers.fields import at, blank, first, lookup, mapping, number, text, unpacked, utc

__all__ = ["answer_of", "call_row", "failure_of", "prompt_of", "rated", "tokens_of", "with_extras"]


def call_row(
    request: Record,
    response: Record,
    options: ImportOptions,
    *,
    feedback: Sequence[Any] = (),
    failure: str | None = None,
) -> dict[str, Any]:
    """The row of one call, by the bodies of its request and response.

    Parameters
    ----------
    request, response : mapping
    options : ImportOptions
    feedback : sequence
        Where to look for ``quality_from``, before the two bodies' metadata.
    failure : str or None
        Why the call failed, where its envelope says so.

    Raises
    ------
    SkippedError
        If the call failed (and failed calls aren't kept), or its answer is no text.
    TrafficError
        If there is no prompt, or the feedback isn't on its scale.
    """
    failure = failure or failure_of(response)
    names = [request.get("model"), first(response.get("model"), response.get("modelVersion"))]
    session = first(at(request, "metadata", "session_id"), at(response, "metadata", "session_id"))
    row: dict[str, Any] = {
        "prompt": None,
        "model": first(*names) if options.model_from == "request" else first(*reversed(names)),
        "session_id": session,
        "created_at": utc(first(response.get("created"), response.get("created_at"))),
    }
    if failure is not None:
        if not options.keep_failed:
            raise SkippedError(failure)
        return {**row, "prompt": prompt_of(request), "quality": 0.0}
    if not any(key in response for key in ("choices", "output", "content")) and (
        "data" in response or "results" in response
    ):
        raise SkippedError("an answer that is no text (an embedding, an image, a moderation)")
    places = (*feedback, request.get("metadata"), response.get("metadata"), response)
    input_tokens, output_tokens = tokens_of(first(response.get("usage"), response.get("usageMetadata")))
    return {
        **row,
        "prompt": prompt_of(request),
        "response": answer_of(response),
        "quality": rated(options, *places),
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "cost_usd": at(response, "usage", "cost"),  # as OpenRouter and LiteLLM say it
    }


def rated(options: ImportOptions, *places: Any) -> float | None:
    """Quality by the feedback that the user named, looked for in `places` in order; None where it isn't there."""
    if options.quality_from is None:
        return None
    return options.scale.quality(lookup(options.quality_from, *places))


def failure_of(response: Record, status: Any = None) -> str | None:
    """Why a call failed, or None if it answered."""
    code = number(status)
    if code is not None and not 200 <= code < 300:
        return f"the call failed with status {int(code)}" if code in range(-9, 600) else "the call failed"
    if response.get("error") and not response.get("choices"):
        return "the call failed"
    if response.get("type") == "error" or response.get("status") in ("failed", "cancelled"):
        return "the call failed"
    return None


def prompt_of(request: Record) -> str | Sequence[Any]:
    """What was asked: text, or chat messages; raises TrafficError where there is nothing."""
    messages, asked, prompt = (unpacked(request.get(key)) for key in ("messages", "input", "prompt"))
    if isinstance(messages, list):
        return [*_system(request.get("system")), *messages]
    if isinstance(asked, str | list) and asked:
        instructions = _system(request.get("instructions"))
        if isinstance(asked, str):
            return [*instructions, {"role": "user", "content": asked}]
        return [*instructions, *(message for item in asked for message in _messages_of_item(item))]
    contents = unpacked(request.get("contents"))
    if isinstance(contents, str | list) and contents:
        return _of_gemini(contents, first(request.get("systemInstruction"), request.get("system_instruction")))
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if isinstance(prompt, str):
        return prompt
    raise TrafficError(f"prompt: the request has no text in messages, input or prompt; it has {_keys(request)}")


def answer_of(response: Record) -> str | None:
    """What was answered, calls of tools as ``name(arguments)``; None where there is nothing."""
    candidate, choice = at(response, "candidates", 0, "content", "parts"), at(response, "choices", 0)
    if isinstance(candidate, list):
        return _of_candidate(candidate)
    if isinstance(choice, Mapping):
        return _of_choice(choice)
    parts = response.get("output") if isinstance(response.get("output"), list) else response.get("content")
    return _of_parts(parts) if isinstance(parts, list) else text(parts)


def _of_candidate(parts: Sequence[Any]) -> str | None:
    told = [part for part in parts if at(part, "thought") is not True]
    calls = [call for call in (at(part, "functionCall") for part in told) if isinstance(call, Mapping)]
    named = [{"name": call.get("name"), "arguments": call.get("args")} for call in calls]
    return _rendered([part for part in told if isinstance(at(part, "text"), str)], named)


def _of_choice(choice: Record) -> str | None:
    # Helicone writes a streamed answer as one delta.
    message = first(choice.get("message"), choice.get("delta"))
    if not isinstance(message, Mapping):
        return text(choice.get("text"))
    # Before there were tools, there was one function.
    calls = message.get("tool_calls") or [c for c in [message.get("function_call")] if c]
    return _rendered(first(message.get("content"), message.get("refusal")), calls)


def _of_parts(parts: Sequence[Any]) -> str | None:
    """Of Anthropic's content, or the items of the responses API."""
    found: list[Any] = []
    calls = []
    for part in parts:
        if at(part, "type") in ("function_call", "tool_use"):
            calls.append({"name": at(part, "name"), "arguments": first(at(part, "arguments"), at(part, "input"))})
        elif at(part, "type") == "message":
            content = at(part, "content")
            found += content if isinstance(content, list) else [content]
        elif isinstance(at(part, "text"), str):
            found.append(part)
    return _rendered([_refusal_as_text(part) for part in found if part is not None], calls)


def tokens_of(usage: Any) -> tuple[Any, Any]:
    """Input and output tokens; Anthropic's ``input_tokens`` leave out what it read from and wrote to its cache."""
    usage = mapping(usage)
    if "promptTokenCount" in usage:
        told = [usage.get("candidatesTokenCount"), usage.get("thoughtsTokenCount")]
        counts = [n for n in told if isinstance(n, int)]
        return usage["promptTokenCount"], sum(counts) if counts else None
    n_input = usage.get("prompt_tokens")
    if blank(n_input):
        n_input = usage.get("input_tokens")
        cached = [usage.get("cache_read_input_tokens"), usage.get("cache_creation_input_tokens")]
        if isinstance(n_input, int):
            n_input += sum(n for n in cached if isinstance(n, int))
    return n_input, first(usage.get("completion_tokens"), usage.get("output_tokens"))


def _rendered(content: Any, calls: Any) -> str | None:
    message = {"role": "assistant", "content": content, "tool_calls": calls}
    return conversation_text([message]).removeprefix("assistant: ") or None


def _refusal_as_text(part: Any) -> Any:
    refusal = at(part, "refusal")
    return refusal if isinstance(refusal, str) else part


def _system(content: Any) -> list[Record]:
    return [] if blank(content) or content == [] else [{"role": "system", "content": content}]


def _of_gemini(contents: str | Sequence[Any], system: Any) -> list[Any]:
    """Contents as messages: of the model's the role is called otherwise, and what is said stands in parts."""
    items = [{"parts": [{"text": contents}]}] if isinstance(contents, str) else contents
    roles = {"model": "assistant", "function": "tool"}
    messages = [
        {"role": roles.get(str(at(item, "role")), "user"), "content": at(item, "parts")}
        if isinstance(item, Mapping)
        else {"role": "user", "content": item}
        for item in items
    ]
    return [*_system(at(system, "parts")), *messages]


def _messages_of_item(item: Any) -> list[Any]:
    """The responses API lists calls of tools and their results beside the messages."""
    match at(item, "type"):
        case "function_call":
            return [{"role": "assistant", "tool_calls": [{"function": item}]}]
        case "function_call_output":
            return [{"role": "tool", "content": text(at(item, "output"))}]
        case "reasoning" | "item_reference":
            return []
        case _:
            return [item]


def _keys(record: Record) -> list[str]:
    return [str(key)[:40] for key in list(record)[:20]]


def with_extras(row: Row, record: Record, names: Sequence[str]) -> Row:
    """`row`, with the values that `record` itself holds under the traffic table's names where the row has none."""
    return {**row, **{name: record[name] for name in names if row.get(name) is None and name in record}}
