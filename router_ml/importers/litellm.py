"""LiteLLM: the proxy's ``LiteLLM_SpendLogs`` table (from PostgreSQL by URL, or as JSON lines or CSV), and its ``StandardLoggingPayload``.

The proxy stores prompts only with ``general_settings: store_prompts_in_spend_logs: true``, in ``proxy_server_request`` (the body of the
request; ``messages`` is ``{}`` then), and cuts the middle out of long ones. What it did not store, redacted or cut is skipped, with the
setting that mends it as the reason; of an answer that was cut, the row has none.

``model_from="request"`` is the name of the proxy's model list (``model_group``). ``latency_ms`` is from start to end, since
``response_time`` of a streamed answer is the time to its first token. An answer from LiteLLM's cache has neither cost nor latency: they are
the cache's. For ``quality_from``: a key of the request's metadata, or of ``spend_logs_metadata``.

A URL is what LiteLLM calls ``DATABASE_URL`` (``postgresql://user:password@host/database``, with Prisma's ``?schema=`` if need be).

References
----------
https://docs.litellm.ai/docs/proxy/ui_logs
https://docs.litellm.ai/docs/proxy/logging_spec
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from router_ml.core.text import conversation_text
from router_ml.errors import MissingExtraError, TrafficError
from router_ml.importers.base import Found, Importer, ImportOptions, Record, Row, SkippedError, has_all_of
from router_ml.importers.chat import call_row
from router_ml.importers.fields import elapsed_ms, first, mapping, unpacked, utc
from router_ml.importers.records import MAX_RECORD_BYTES
from router_ml.importers.streams import body_of

__all__ = ["LITELLM"]

_ANSWERED = {
    "completion",
    "text_completion",
    "responses",
    "anthropic_messages",
    "generate_content",
    "generate_content_stream",
    "pass_through_endpoint",
}
"""``call_type`` of what answers a prompt with text; asynchronous ones have an "a" before it."""

_CUT = re.compile(r"\.\.\. \(litellm_truncated skipped \d+ chars")
_REDACTED = "redacted-by-litellm"

_NOT_STORED = "the proxy did not store its prompt; set general_settings.store_prompts_in_spend_logs: true in LiteLLM"
_IS_REDACTED = "its prompt is redacted; switch off turn_off_message_logging in LiteLLM"
_IS_CUT = "LiteLLM cut its prompt when it was stored; raise MAX_STRING_LENGTH_PROMPT_IN_DB there"


def _unpack(record: Record) -> Iterable[Record]:
    pages = record.get("data")
    return map(mapping, pages) if isinstance(pages, list) and "request_id" not in record else (record,)


def _parse(record: Record, options: ImportOptions, kept: Sequence[Record]) -> Iterable[Row]:  # noqa: ARG001
    call_type = record.get("call_type")
    if isinstance(call_type, str) and call_type and call_type not in _ANSWERED and call_type[1:] not in _ANSWERED:
        raise SkippedError("a call that answers no prompt (an embedding, an image, a file)")
    request, response, metadata = _request(record), _response(record), mapping(record.get("metadata"))
    failed = "failure" in (record.get("status"), metadata.get("status"))
    feedback = (metadata, mapping(metadata.get("spend_logs_metadata")), mapping(metadata.get("requester_metadata")))
    places = (mapping(request.get("metadata")), *feedback, record)
    row = call_row(request, response, options, feedback=places, failure="the call failed" if failed else None)
    asked = [record.get("model_group"), request.get("model"), record.get("model")]
    answered = [response.get("model"), record.get("model")]
    start, end = record.get("startTime"), record.get("endTime")
    known = {
        "model": first(*(asked if options.model_from == "request" else answered)),
        "cost_usd": first(record.get("spend"), record.get("response_cost")),
        "input_tokens": record.get("prompt_tokens"),
        "output_tokens": record.get("completion_tokens"),
        "latency_ms": elapsed_ms(start, end),
        "created_at": utc(start),
        "session_id": first(record.get("session_id"), record.get("trace_id")),
    }
    row |= {name: value for name, value in known.items() if value is not None}
    row |= {"prompt": _usable(row["prompt"]), "response": _whole(row.get("response"))}
    if record.get("cache_hit") in (True, "True", "true"):
        row |= {"cost_usd": None, "latency_ms": None}
    elif mapping(record.get("response_cost_failure_debug_info")):
        row["cost_usd"] = None  # LiteLLM had no price for the model
    return (row,)


def _request(record: Record) -> Record:
    """The body of the request; raises SkippedError where there is none."""
    body = mapping(record.get("proxy_server_request"))
    if any(body.get(key) for key in ("messages", "input", "prompt", "contents")):
        return body
    if "messages" not in record and "proxy_server_request" not in record:
        raise TrafficError("prompt: got neither messages nor proxy_server_request; is it a row of LiteLLM_SpendLogs?")
    messages = unpacked(record.get("messages"))
    if not messages or isinstance(messages, Mapping):
        raise SkippedError(_NOT_STORED)
    if isinstance(messages, str):
        return {**body, "messages": [{"role": "user", "content": messages}]}
    # Items of the responses API need not be messages.
    return {**body, "input" if record.get("call_type") in ("responses", "aresponses") else "messages": messages}


def _response(record: Record) -> Record:
    response = unpacked(record.get("response"))
    return body_of(response) or ({"content": response} if isinstance(response, str) else {})


def _usable(prompt: Any) -> str:
    text = conversation_text(prompt)
    if _CUT.search(text):
        raise SkippedError(_IS_CUT)
    if _REDACTED in text:
        raise SkippedError(_IS_REDACTED)
    return text


def _whole(answer: Any) -> Any:
    return None if isinstance(answer, str) and (_CUT.search(answer) or answer == _REDACTED) else answer


# ------------------------------------------------------------------------------------------------------------ PostgreSQL

_TABLE = "LiteLLM_SpendLogs"
_COLUMNS = (
    *(
        "request_id",
        "call_type",
        "spend",
        "prompt_tokens",
        "completion_tokens",
        "startTime",
        "endTime",
        "model",
        "model_group",
    ),
    *("metadata", "cache_hit", "session_id", "status", "messages", "response", "proxy_server_request"),
)
_ROWS_AT_ONCE = 200
_OF_PRISMA = ("connection_limit", "pool_timeout", "pgbouncer", "sslaccept", "statement_cache_size", "schema")


def _read(urls: Sequence[str]) -> Iterator[Found]:
    try:
        import psycopg
    except ImportError as exc:
        raise MissingExtraError("postgres", "Reading LiteLLM's logs from PostgreSQL") from exc
    for url in urls:
        address, shown = _address(url)
        row = 0
        try:
            with psycopg.connect(address) as connection:
                connection.read_only = True
                for row, value in enumerate(_rows(connection), start=1):
                    long = sum(len(cell) for cell in value.values() if cell) > MAX_RECORD_BYTES
                    problem = f"longer than {MAX_RECORD_BYTES:,} characters" if long else None
                    yield Found(shown, row, None if long else value, problem)
        except psycopg.Error as exc:
            # What was read is no table without the rest, and the next try starts anew.
            raise TrafficError(f"{shown} can't be read (after {row:,} rows): {exc!s:.300}") from exc


def _rows(connection: Any) -> Iterator[dict[str, str | None]]:
    """Rows as text by column, oldest first, held a few at a time; columns that this version of LiteLLM lacks are left out."""
    from psycopg import sql

    table = sql.Identifier(_TABLE)
    known = {c.name for c in connection.execute(sql.SQL("SELECT * FROM {} LIMIT 0").format(table)).description}
    names = [name for name in _COLUMNS if name in known]
    # Longer cells are cut in the database, and refused here.
    cells = [sql.SQL("left({}::text, {})").format(sql.Identifier(n), MAX_RECORD_BYTES + 1) for n in names]
    query = sql.SQL('SELECT {} FROM {} ORDER BY "startTime", request_id').format(sql.SQL(", ").join(cells), table)
    with connection.cursor("router_ml_import") as cursor:
        cursor.itersize = _ROWS_AT_ONCE
        cursor.execute(query)
        for cells in cursor:
            yield dict(zip(names, cells, strict=True))


def _address(url: str) -> tuple[str, str]:
    """The URL as PostgreSQL's own library takes it, and without its secrets, for messages."""
    try:
        parts = urlsplit(url)
        shown = f"postgresql://{parts.hostname or ''}{parts.path}"
    except ValueError as exc:
        raise TrafficError(f"The URL of the database isn't one: {exc}.") from None
    if parts.scheme not in ("postgresql", "postgres"):
        raise TrafficError(
            f"LiteLLM's logs are read from files or from PostgreSQL (postgresql://...), and this is {parts.scheme}://."
        )
    query = dict(parse_qsl(parts.query))
    if schema := query.get("schema"):
        query["options"] = f"{query.get('options', '')} -csearch_path={schema}".strip()
    kept = {name: value for name, value in query.items() if name not in _OF_PRISMA}
    return urlunsplit(parts._replace(query=urlencode(kept, quote_via=quote))), shown


LITELLM = Importer(
    name="litellm",
    summary="LiteLLM's spend logs (files, or postgresql://...) or StandardLoggingPayload lines",
    parse=_parse,
    unpack=_unpack,
    lists=("data",),
    knows=has_all_of(("call_type", "startTime")),
    read=_read,
)
