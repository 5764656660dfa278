"""OpenRouter: your own log of requests and responses, joined to OpenRouter's generation records on their id.

A generation record (``GET /api/v1/generation?id=``, as it comes or its ``data``) holds no text but what the call really cost, the native
token counts and the provider's latency. The log holds ``{"request": ..., "response": ...}`` as for `openai-stored`; the response's ``id``
is the generation's. A call without a generation record is imported with what its response says.

``latency_ms`` is the record's ``latency`` or, where that is longer, its ``generation_time``: documented as the total, ``latency`` can
be the time to the first token.

References
----------
https://openrouter.ai/docs/api-reference/get-a-generation
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from router_ml.errors import TrafficError
from router_ml.importers.base import Importer, ImportOptions, Join, Record, Row, has_all_of
from router_ml.importers.fields import at, first, mapping, number
from router_ml.importers.openai_stored import parse_pair

__all__ = ["OPENROUTER"]

_NAMES = (
    "model",
    "total_cost",
    "native_tokens_prompt",
    "native_tokens_completion",
    "tokens_prompt",
    "tokens_completion",
    "latency",
    "generation_time",
    "created_at",
    "session_id",
)


def _unpack(record: Record) -> Iterable[Record]:
    data = record.get("data")
    if isinstance(data, list):
        return (mapping(item) for item in data)
    return (data,) if isinstance(data, Mapping) else (record,)


def _keep(record: Record) -> tuple[Sequence[str], Record] | None:
    if not isinstance(record.get("id"), str) or "request" in record or "total_cost" not in record:
        return None
    return (record["id"],), {name: record.get(name) for name in _NAMES}


def _keys(record: Record) -> Sequence[str]:
    found = [
        at(record, "response", "id"),
        at(record, "response", "body", "id"),
        record.get("generation_id"),
        record.get("id"),
    ]
    return [key for key in found if isinstance(key, str)][:1]


def _parse(record: Record, options: ImportOptions, kept: Sequence[Record]) -> Iterable[Row]:
    if "request" not in record:
        raise TrafficError(
            "got neither a generation record (id, total_cost) nor an object with 'request' and 'response'"
        )
    row = parse_pair(record, options)
    for generation in kept[:1]:
        times = [t for t in (number(generation["latency"]), number(generation["generation_time"])) if t is not None]
        known = {
            "model": None if options.model_from == "request" else generation["model"],
            "cost_usd": generation["total_cost"],
            "input_tokens": first(generation["native_tokens_prompt"], generation["tokens_prompt"]),
            "output_tokens": first(generation["native_tokens_completion"], generation["tokens_completion"]),
            "latency_ms": max(times, default=None),
            "created_at": generation["created_at"],
            "session_id": generation["session_id"],
        }
        row = {**row, **{name: value for name, value in known.items() if value is not None}}
    return (row,)


_IS_GENERATION = has_all_of(("id", "total_cost", "native_tokens_prompt"))


def _knows(record: Record) -> bool:
    return _IS_GENERATION(record) or ("request" in record and any(key.startswith("gen-") for key in _keys(record)))


OPENROUTER = Importer(
    name="openrouter",
    summary="a log of {request, response} with OpenRouter's generation records, joined on id",
    parse=_parse,
    unpack=_unpack,
    lists=("data",),
    knows=_knows,
    join=Join(keep=_keep, keys=_keys, unused="a generation whose request and response aren't in the files"),
)
