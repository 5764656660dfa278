"""Helicone's export with bodies (``npx @helicone/export --include-body``) or pages of its request API.

``latency_ms`` is ``delay_ms``, ``session_id`` the property ``Helicone-Session-Id``. For ``quality_from``: ``feedback_rating`` (the thumb that
users give), or the name of a score or of a property. Bodies that Helicone left out (too large, or not asked for) make a
record a reject; nothing is fetched.

References
----------
https://docs.helicone.ai/tools/export
https://docs.helicone.ai/rest/request/post-v1requestquery-clickhouse
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from router_ml.importers.base import Importer, ImportOptions, Record, Row, SkippedError, has_all_of
from router_ml.importers.chat import call_row, failure_of
from router_ml.importers.fields import first, mapping, utc
from router_ml.importers.streams import body_of

__all__ = ["HELICONE"]

_ANSWERED = ("choices", "content", "output")
_NO_TEXT = ("/embeddings", "/images", "/moderations", "/audio")


def _unpack(record: Record) -> Iterable[Record]:
    data = record.get("data")
    if isinstance(data, list) and "request_body" not in record:
        return (mapping(item) for item in data)
    return (record,)


def _parse(record: Record, options: ImportOptions, kept: Sequence[Record]) -> Iterable[Row]:  # noqa: ARG001
    path = record.get("request_path")
    if isinstance(path, str) and any(name in path for name in _NO_TEXT):
        raise SkippedError("an answer that is no text (an embedding, an image, a moderation)")
    request, response = mapping(record.get("request_body")), body_of(record.get("response_body"))
    if not any(key in response for key in _ANSWERED):
        response = {**response, **body_of(response.get("streamed_data"))}
    properties = {**mapping(record.get("request_properties")), **mapping(record.get("properties"))}
    scores = {name: _score(value) for name, value in mapping(record.get("scores")).items()}
    row = call_row(
        request,
        response,
        options,
        feedback=(scores, record, properties),
        failure=failure_of(response, record.get("response_status")),
    )
    answered = [record.get("response_model"), record.get("model"), row["model"]]
    asked = [row["model"], record.get("request_model"), record.get("model")]
    known = {
        "model": first(*(asked if options.model_from == "request" else answered)),
        "cost_usd": first(record.get("costUSD"), record.get("cost")),
        "input_tokens": record.get("prompt_tokens"),
        "output_tokens": record.get("completion_tokens"),
        "latency_ms": first(record.get("delay_ms"), record.get("latency")),
        "created_at": utc(record.get("request_created_at")),
        "session_id": properties.get("Helicone-Session-Id"),
    }
    return ({**row, **{name: value for name, value in known.items() if value is not None}},)


def _score(value: object) -> object:
    return value.get("value") if isinstance(value, dict) else value


def _names(record: Record) -> Iterable[str]:
    """What feedback is called: a score, a field of the record, a property."""
    places = (mapping(record.get(key)) for key in ("scores", "request_properties", "properties"))
    return [*record, *(name for place in places for name in place)]


HELICONE = Importer(
    name="helicone",
    summary="Helicone's export with bodies, or pages of its request API",
    parse=_parse,
    unpack=_unpack,
    names=_names,
    knows=has_all_of(("request_body", "response_body"), ("request_path", "request_created_at")),
    lists=("data",),
)
