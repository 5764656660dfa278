"""Which format the first records of a file look like, and which columns are likely to be which."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from router_ml.errors import TrafficError
from router_ml.importers.glimpse import glimpse, import_hints, likely_columns
from router_ml.importers.registry import IMPORTERS
from router_ml.traffic.validate import load_traffic

CALL = {"request": {"messages": []}, "response": {"id": "chatcmpl-1", "choices": []}}
RECORDS: list[tuple[str, dict[str, Any]]] = [
    ("openai-batch", {"custom_id": "a", "url": "/v1/chat/completions", "body": {}}),
    ("openai-batch", {"id": "b", "custom_id": "a", "response": {"status_code": 200}, "error": None}),
    ("openai-stored", CALL),
    ("openai-stored", {"id": "c", "object": "chat.completion", "choices": [{}], "messages": []}),
    ("openrouter", {**CALL, "response": {"id": "gen-1", "choices": []}}),
    ("openrouter", {"data": {"id": "gen-1", "total_cost": 0.1, "native_tokens_prompt": 3}}),
    ("helicone", {"request_body": {}, "response_body": {}, "request_path": "/v1/chat/completions"}),
    ("litellm", {"request_id": "r", "call_type": "acompletion", "startTime": 1.0, "messages": {}, "response": {}}),
    ("litellm", {"data": [{"call_type": "completion", "startTime": 1.0}]}),
    ("langfuse", {"id": "o", "trace_id": "t", "type": "SPAN", "start_time": "2026-01-01"}),
    ("langfuse", {"id": "o", "traceId": "t", "type": "GENERATION", "startTime": "2026-01-01"}),
    ("langfuse", {"id": "s", "trace_id": "t", "name": "helpful", "value": 1, "data_type": "NUMERIC"}),
    ("otel", {"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "1"}]}]}]}),
    ("otel", {"traceId": "1", "spanId": "2", "startTimeUnixNano": "3"}),
    ("mlflow", {"info": {"trace_id": "t"}, "data": {"spans": [{"attributes": {"mlflow.spanType": "LLM"}}]}}),
    ("routerbench", {"prompt": "p", "gpt-4": 1.0, "gpt-4|model_response": "r", "gpt-4|total_cost": 0.1}),
    ("routellm", {"prompt": "p", "mixtral_response": "r", "mixtral_score": 3}),
]


@pytest.mark.parametrize(("name", "record"), RECORDS, ids=[f"{name}-{i}" for i, (name, _) in enumerate(RECORDS)])
def test_a_record_is_known_by_its_keys(name: str, record: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text(json.dumps(record))
    seen = glimpse(tmp_path / "log.jsonl").format
    assert seen is not None
    assert seen.name == name


def test_each_format_but_the_table_is_known() -> None:
    assert {name for name, _ in RECORDS} == {*IMPORTERS} - {"table"}


def test_a_csv_is_known_by_its_header(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("request_id,call_type,startTime\nr,acompletion,2026-01-01\n")
    assert glimpse(tmp_path / "log.csv").format is IMPORTERS["litellm"]


def test_an_indented_document_is_known_by_the_records_within(tmp_path: Path) -> None:
    (tmp_path / "page.json").write_text(json.dumps({"data": [RECORDS[10][1]]}, indent=2))
    assert glimpse(tmp_path / "page.json").format is IMPORTERS["langfuse"]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"{broken", b"PK\x03\x04", b"[1, 2]"])
def test_a_file_that_cannot_be_read_has_no_columns(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(content)
    assert (glimpse(tmp_path / "log").columns, glimpse(tmp_path / "log").format) == ((), None)


def test_the_command_quotes_what_a_shell_would_split(tmp_path: Path) -> None:
    (tmp_path / "my log.csv").write_text("User Query,model\nq,m\n")
    assert (
        glimpse(tmp_path / "my log.csv")
        .next_step()
        .endswith(f"ingest table '{tmp_path}/my log.csv' --column 'prompt=User Query' --out traffic.parquet")
    )


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        *((name, "prompt") for name in ("question", "Input", "query", "user_prompt")),
        *((name, "model") for name in ("model_name", "Model Name", "model_id", "engine")),
        *((name, "response") for name in ("answer", "output", "completion")),
        *((name, "created_at") for name in ("timestamp", "ts")),
    ],
)
def test_usual_names_are_known(theirs: str, ours: str) -> None:
    assert likely_columns([theirs]) == {ours: theirs}


def test_a_column_stands_for_one_thing_and_a_mapped_one_for_none() -> None:
    assert likely_columns(["prompt", "question", "engine", "llm"], {"model": "engine"}) == {}


def test_a_log_that_is_no_table_is_told_with_its_columns_and_the_command_that_imports_it(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("question,answerer\nHi,m\n")

    with (
        pytest.raises(
            TrafficError, match=r"lacks the column\(s\).*It has \['question', 'answerer'\].*router-ml ingest"
        ),
        import_hints(),
    ):
        load_traffic([path])


def test_a_file_that_is_no_table_is_told_with_its_columns_and_the_command_that_maps_them(tmp_path: Path) -> None:
    path = tmp_path / "logs.csv"
    path.write_text("question,model_name,thumbs\nq,m,up\n")
    with pytest.raises(TrafficError) as raised, import_hints():
        load_traffic([path])
    assert "It has ['question', 'model_name', 'thumbs']." in str(raised.value)
    assert f"router-ml ingest table {path} --column prompt=question --column model=model_name" in str(raised.value)


def test_a_raw_log_is_told_with_the_command_that_imports_it(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps({"call_type": "acompletion", "startTime": "2026-01-01", "model": "m"}))
    with pytest.raises(TrafficError, match=rf"router-ml ingest litellm {path} --out traffic\.parquet"), import_hints():
        load_traffic([path])


def test_a_log_of_a_suffix_that_is_no_tables_is_told_in_the_same_way(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.write_text(json.dumps({"data": [{"traceId": "t", "type": "GENERATION", "startTime": "2026-01-01"}]}))
    with pytest.raises(TrafficError, match=rf"router-ml ingest langfuse {path} --out traffic\.parquet"), import_hints():
        load_traffic([path])
