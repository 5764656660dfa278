"""Every importer, whatever a log holds: rows, rejects, or an error of ours; and what was read is accounted for.

``ROUTER_ML_FUZZ=1000`` tries so many logs of each kind, not 25.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router_ml.errors import RouterError
from router_ml.importers import IMPORTERS, ImportOptions, Scale, import_traffic
from router_ml.traffic.schema import SCHEMA

LOCAL = sorted(IMPORTERS)

CALL = {
    "request": {"model": "m", "messages": [{"role": "user", "content": "Hi"}]},
    "response": {
        "id": "gen-1",
        "model": "m",
        "choices": [{"message": {"role": "assistant", "content": "Ho"}}],
        "created": 1,
    },
}
SEEDS: dict[str, list[dict[str, Any]]] = {
    "openai-batch": [
        {"custom_id": "a", "url": "/v1/chat/completions", "body": CALL["request"]},
        {"custom_id": "a", "response": {"status_code": 200, "body": CALL["response"]}, "error": None},
    ],
    "openai-stored": [
        CALL,
        {"id": "c", "choices": [{"message": {"content": "x"}}], "model": "m", "metadata": {"a": "b"}},
        {"id": "c-0", "role": "user", "content": "Hi", "content_parts": None},
        {"object": "list", "data": [CALL["response"]]},
    ],
    "openrouter": [
        CALL,
        {"data": {"id": "gen-1", "total_cost": 0.1, "latency": 3, "created_at": "2026-01-01", "model": "m"}},
    ],
    "helicone": [
        {
            "request_body": CALL["request"],
            "response_body": CALL["response"],
            "response_status": 200,
            "scores": {"s": {"value": 1}},
            "request_properties": {"Helicone-Session-Id": "s"},
            "request_path": "/v1/chat/completions",
        }
    ],
    "litellm": [
        {
            "call_type": "acompletion",
            "status": "success",
            "cache_hit": "False",
            "startTime": 1.0,
            "endTime": "2026-01-01",
            "metadata": "{}",
            "proxy_server_request": json.dumps(CALL["request"]),
            "messages": [],
            "response": CALL["response"],
        }
    ],
    "langfuse": [
        {
            "id": "o",
            "trace_id": "t",
            "type": "GENERATION",
            "input": CALL["request"]["messages"],
            "output": {"role": "assistant", "content": "Ho"},
            "model": "m",
            "usage_details": {"input": 1},
            "start_time": "2026-01-01",
        },
        {"id": "x", "trace_id": "t", "name": "s", "value": 1, "data_type": "BOOLEAN", "timestamp": "2026-01-01"},
        {"data": [{"id": "t", "timestamp": "2026-01-01", "observations": [{"type": "SPAN"}], "scores": ["x"]}]},
    ],
    "otel": [
        {
            "resourceSpans": [
                {
                    "scopeSpans": [
                        {
                            "spans": [
                                {
                                    "traceId": "1",
                                    "spanId": "2",
                                    "startTimeUnixNano": "1767323045000000000",
                                    "endTimeUnixNano": "1767323046000000000",
                                    "status": {},
                                    "attributes": [
                                        {"key": "gen_ai.request.model", "value": {"stringValue": "m"}},
                                        {"key": "gen_ai.prompt.0.content", "value": {"stringValue": "Hi"}},
                                        {"key": "gen_ai.completion.0.tool_calls.0.name", "value": {"stringValue": "f"}},
                                    ],
                                    "events": [{"name": "gen_ai.choice", "attributes": []}],
                                }
                            ]
                        }
                    ]
                }
            ]
        },
        {
            "resourceLogs": [
                {
                    "scopeLogs": [
                        {
                            "logRecords": [
                                {
                                    "traceId": "1",
                                    "spanId": "2",
                                    "eventName": "gen_ai.client.inference.operation.details",
                                    "attributes": [
                                        {
                                            "key": "gen_ai.input.messages",
                                            "value": {"arrayValue": {"values": [{"kvlistValue": {"values": []}}]}},
                                        }
                                    ],
                                }
                            ]
                        }
                    ]
                }
            ]
        },
    ],
    "mlflow": [
        {
            "info": {
                "trace_metadata": {"mlflow.trace.session": "s"},
                "assessments": [{"assessment_name": "s", "feedback": {"value": 1}, "valid": True, "span_id": ""}],
            },
            "data": {
                "spans": [
                    {
                        "span_id": "AAAA",
                        "parent_span_id": None,
                        "start_time_unix_nano": 1,
                        "status": {"code": "STATUS_CODE_OK"},
                        "attributes": {
                            "mlflow.spanType": '"CHAT_MODEL"',
                            "mlflow.spanInputs": json.dumps(CALL["request"]),
                            "mlflow.spanOutputs": CALL["response"],
                            "mlflow.chat.tokenUsage": '{"input_tokens": 1}',
                        },
                    }
                ]
            },
        }
    ],
    "routerbench": [{"prompt": "['Hi']", "eval_name": "e", "m": 1, "m|model_response": "['x']", "m|total_cost": 0.1}],
    "routellm": [
        {"prompt": "Hi", "m": True, "m_response": "x"},
        {"prompt": "Hi", "mixtral_score": 3, "mixtral_response": "x"},
    ],
    "table": [{"prompt": [{"role": "user", "content": "Hi"}], "model": "m", "created_at": 1, "quality": "up"}],
}

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.just("2026-01-01")
    | st.just("[1]")
)
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def keys_of(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*map(keys_of, value.values()))
    return set().union(*map(keys_of, value)) if isinstance(value, list) else set()


@st.composite
def damaged(draw: st.DrawFn, value: Any) -> Any:
    """`value`, with anything in place of some of its parts."""
    if draw(st.integers(0, 9)) == 0:
        return draw(ANYTHING)
    if isinstance(value, dict):
        kept = {k: draw(damaged(v)) for k, v in value.items() if draw(st.integers(0, 14))}
        return kept | (
            draw(st.dictionaries(st.sampled_from(sorted(keys_of(value))), ANYTHING, max_size=1)) if value else {}
        )
    return [draw(damaged(v)) for v in value] if isinstance(value, list) else value


OPTIONS = st.builds(
    ImportOptions,
    quality_from=st.sampled_from([None, "a", "metadata.a", "choices", "s", "quality"]),
    scale=st.sampled_from([Scale(), Scale.parse("stars"), Scale.parse("b=1,c=0")]),
    keep_failed=st.booleans(),
    model_from=st.sampled_from(["response", "request"]),
    columns=st.just({}) | st.just({"prompt": "a", "response": "choices"}),
)

N_EXAMPLES = int(os.environ.get("ROUTER_ML_FUZZ", "25"))
THOROUGH = settings(
    max_examples=N_EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def imports(name: str, data: bytes, options: ImportOptions, suffix: str = "") -> None:
    """Import, and check that the table holds what is promised; errors of ours are fine."""
    if name != "table":  # which alone has columns to map
        options = dataclasses.replace(options, columns={})
    with tempfile.TemporaryDirectory() as folder:
        log, out = Path(folder, f"log{suffix}"), Path(folder, "out.parquet")
        log.write_bytes(data)
        try:
            result = import_traffic(name, [log], out, options=options, max_rejects=1)
        except RouterError:
            assert not out.exists()
        else:
            table = pl.read_parquet(out)
            assert table.schema == SCHEMA
            assert table.height == result.n_rows == len(table.rows())
            assert table["quality"].drop_nulls().is_between(0, 1).all()
        assert {p.name for p in Path(folder).iterdir()} <= {log.name, "out.parquet", "out.rejects.csv"}


def lines(records: Iterable[Any]) -> bytes:
    return b"\n".join(json.dumps(r).encode() for r in records)


@pytest.mark.parametrize("name", LOCAL)
@given(data=st.data(), options=OPTIONS)
@THOROUGH
def test_damaged_records_raise_nothing_but_our_errors(name: str, data: st.DataObject, options: ImportOptions) -> None:
    seeds = SEEDS.get(name, [CALL])
    records = [data.draw(damaged(seed)) for seed in seeds * 2]

    imports(name, lines([*records, *seeds]), options)


@pytest.mark.parametrize("name", LOCAL)
@given(
    data=st.binary(max_size=200) | st.text(max_size=200).map(str.encode),
    suffix=st.sampled_from(["", ".csv", ".jsonl", ".json"]),
)
@THOROUGH
def test_any_bytes_raise_nothing_but_our_errors(name: str, data: bytes, suffix: str) -> None:
    imports(name, data, ImportOptions(), suffix)


@given(data=st.data())
@THOROUGH
def test_damaged_archives_raise_nothing_but_our_errors(data: st.DataObject) -> None:
    packed = bytearray(gzip.compress(lines(SEEDS["table"] * 20), mtime=0))
    for _ in range(data.draw(st.integers(0, 3))):
        packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))

    imports("table", bytes(packed[: data.draw(st.integers(0, len(packed)))]), ImportOptions())


@given(
    st.lists(
        st.sampled_from([b'{"prompt": "p", "model": "m"}', b"{", b"[1]", b"[]", b"[[[", b'{"prompt": 1}', b'"\xff"']),
        max_size=12,
    )
)
@THOROUGH
def test_every_line_ends_as_rows_or_as_a_reject(given_lines: list[bytes]) -> None:
    good = b'{"prompt": "p", "model": "m"}'
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "log.jsonl")
        log.write_bytes(b"\n".join([good, *given_lines]))
        result = import_traffic("table", [log], Path(folder, "out.parquet"), max_rejects=1)

    assert result.n_rows == 1 + given_lines.count(good)
    assert result.n_rejects == sum(line not in (good, b"[]") for line in given_lines)


@pytest.mark.parametrize("name", LOCAL)
@pytest.mark.parametrize("bomb", [b'{"a":' * 900 + b"1" + b"}" * 900, b"[" * 900 + b"]" * 900])
def test_deep_nesting_in_any_place_costs_only_its_record(name: str, bomb: bytes) -> None:
    for key in sorted(set().union(*map(keys_of, SEEDS.get(name, [CALL])))):
        records = [
            json.loads(json.dumps(seed).replace(f'"{key}": ', f'"{key}": "BOMB", "_": ', 1))
            for seed in SEEDS.get(name, [CALL])
        ]
        imports(name, lines(records).replace(b'"BOMB"', bomb) + b"\n" + lines(SEEDS.get(name, [CALL])), ImportOptions())
