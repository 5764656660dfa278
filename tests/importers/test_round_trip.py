"""The same traffic, told in each format, comes back as the same table; and what comes back can be learned from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from router_ml import Router
from router_ml.datasets import sample_ladder
from router_ml.importers import ImportOptions, import_traffic
from router_ml.workflow import FitOptions, fit

Rows = list[dict[str, Any]]


def request(row: dict[str, Any]) -> dict[str, Any]:
    return {"model": row["model"], "messages": [{"role": "user", "content": row["prompt"]}]}


def response(row: dict[str, Any], i: int) -> dict[str, Any]:
    usage = {"prompt_tokens": row["input_tokens"], "completion_tokens": row["output_tokens"], "cost": row["cost_usd"]}
    message = {"role": "assistant", "content": row["response"]}
    return {"id": f"gen-{i}", "model": row["model"], "choices": [{"message": message}], "usage": usage}


def batch(rows: Rows) -> list[Any]:
    inputs = [{"custom_id": f"{i}", "body": request(row)} for i, row in enumerate(rows)]
    outputs = [
        {"custom_id": f"{i}", "response": {"status_code": 200, "body": response(row, i)}, "score": row["quality"]}
        for i, row in enumerate(rows)
    ]
    return [*outputs, *inputs]


def pairs(rows: Rows) -> list[Any]:
    return [{"request": request(r), "response": response(r, i), "score": r["quality"]} for i, r in enumerate(rows)]


def openrouter(rows: Rows) -> list[Any]:
    generations = [
        {
            "id": f"gen-{i}",
            "total_cost": r["cost_usd"],
            "native_tokens_prompt": r["input_tokens"],
            "native_tokens_completion": r["output_tokens"],
        }
        for i, r in enumerate(rows)
    ]
    bare = [
        {"request": request(r), "response": {**response(r, i), "usage": None}, "score": r["quality"]}
        for i, r in enumerate(rows)
    ]
    return [*generations, *bare]


def helicone(rows: Rows) -> list[Any]:
    return [
        {
            "request_body": json.dumps(request(r)),
            "response_body": json.dumps(response(r, i)),
            "scores": {"score": r["quality"]},
        }
        for i, r in enumerate(rows)
    ]


def wide(rows: Rows, names: tuple[str, str, str]) -> list[Any]:
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        values = zip(names, (row["quality"], row["response"], row["cost_usd"]), strict=True)
        found.setdefault(row["prompt"], {"prompt": row["prompt"]}).update(
            {name.format(row["model"]): value for name, value in values if name}
        )
    return list(found.values())


def table(rows: Rows) -> list[Any]:
    return [{**r, "score": r["quality"], "created_at": str(r["created_at"])} for r in rows]


def litellm(rows: Rows) -> list[Any]:
    return [
        {
            "request_id": f"{i}",
            "call_type": "acompletion",
            "status": "success",
            "cache_hit": "False",
            "spend": r["cost_usd"],
            "prompt_tokens": r["input_tokens"],
            "completion_tokens": r["output_tokens"],
            "model": r["model"],
            "metadata": "{}",
            "messages": "{}",
            "proxy_server_request": json.dumps({**request(r), "metadata": {"score": r["quality"]}}),
            "response": json.dumps(response(r, i)),
        }
        for i, r in enumerate(rows)
    ]


def langfuse(rows: Rows) -> list[Any]:
    observations = [
        {
            "id": f"o-{i}",
            "trace_id": f"t-{i}",
            "type": "GENERATION",
            "input": json.dumps(request(r)["messages"]),
            "output": r["response"],
            "provided_model_name": r["model"],
            "usage_details": {"input": r["input_tokens"], "output": r["output_tokens"]},
            "total_cost": r["cost_usd"],
        }
        for i, r in enumerate(rows)
    ]
    scores = [
        {"trace_id": f"t-{i}", "name": "score", "value": r["quality"], "data_type": "NUMERIC"}
        for i, r in enumerate(rows)
    ]
    return [*observations, *scores]


def pairs_of(attributes: dict[str, Any]) -> list[Any]:
    return [{"key": name, "value": {kind: value}} for name, (kind, value) in attributes.items()]


def otel(rows: Rows) -> list[Any]:
    def message(role: str, content: str) -> str:
        return json.dumps([{"role": role, "parts": [{"type": "text", "content": content}]}])

    spans = [
        {
            "traceId": "0af7651916cd43dd8448eb211c80319c",
            "spanId": f"{i + 1:016x}",
            "startTimeUnixNano": "1767323045000000000",
            "attributes": pairs_of(
                {
                    "gen_ai.operation.name": ("stringValue", "chat"),
                    "gen_ai.response.model": ("stringValue", r["model"]),
                    "gen_ai.usage.input_tokens": ("intValue", f"{r['input_tokens']}"),
                    "gen_ai.usage.output_tokens": ("intValue", f"{r['output_tokens']}"),
                    "gen_ai.usage.cost": ("doubleValue", r["cost_usd"]),
                    "gen_ai.input.messages": ("stringValue", message("user", r["prompt"])),
                    "gen_ai.output.messages": ("stringValue", message("assistant", r["response"])),
                }
            ),
        }
        for i, r in enumerate(rows)
    ]
    logs = [
        {
            "traceId": span["traceId"],
            "spanId": span["spanId"],
            "eventName": "gen_ai.evaluation.result",
            "attributes": pairs_of(
                {
                    "gen_ai.evaluation.name": ("stringValue", "score"),
                    "gen_ai.evaluation.score.value": ("doubleValue", r["quality"]),
                }
            ),
        }
        for span, r in zip(spans, rows, strict=True)
    ]
    return [
        {"resourceLogs": [{"scopeLogs": [{"logRecords": logs}]}]},
        {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]},
    ]


def mlflow(rows: Rows) -> list[Any]:
    return [
        {
            "info": {"assessments": [{"assessment_name": "score", "feedback": {"value": r["quality"]}, "valid": True}]},
            "data": {
                "spans": [
                    {
                        "attributes": {
                            "mlflow.spanType": '"CHAT_MODEL"',
                            "mlflow.spanInputs": json.dumps(request(r)),
                            "mlflow.spanOutputs": json.dumps(response(r, i)),
                        }
                    }
                ]
            },
        }
        for i, r in enumerate(rows)
    ]


FORMATS: dict[str, Callable[[Rows], list[Any]]] = {
    "openai-batch": batch,
    "openai-stored": pairs,
    "openrouter": openrouter,
    "helicone": helicone,
    "litellm": litellm,
    "langfuse": langfuse,
    "otel": otel,
    "mlflow": mlflow,
    "routerbench": lambda rows: wide(rows, ("{}", "{}|model_response", "{}|total_cost")),
    "routellm": lambda rows: wide(rows, ("{}", "{}_response", "")),
    "table": table,
}
LOST = {"routerbench": ["input_tokens", "output_tokens"], "routellm": ["input_tokens", "output_tokens", "cost_usd"]}
COLUMNS = ["prompt", "model", "response", "quality", "input_tokens", "output_tokens", "cost_usd"]


def ingest(name: str, rows: Rows, folder: Path) -> Path:
    log = folder / "log.jsonl"
    log.write_bytes(b"\n".join(json.dumps(record).encode() for record in FORMATS[name](rows)))
    return import_traffic(name, [log], folder / "traffic.parquet", options=ImportOptions(quality_from="score")).out


@pytest.mark.parametrize("name", FORMATS)
def test_traffic_comes_back_from_each_format(name: str, sample_traffic: pl.DataFrame, tmp_path: Path) -> None:
    columns = [c for c in COLUMNS if c not in LOST.get(name, [])]
    rows = sample_traffic.head(300)

    found = pl.read_parquet(ingest(name, rows.to_dicts(), tmp_path)).select(columns).sort("prompt", "model")

    assert found.equals(rows.select(columns).sort("prompt", "model"))


# A whole fit each: of all formats where the slow tests run, else of one, and of those that lose columns.
@pytest.mark.parametrize(
    "name",
    [n if n in ("openai-batch", *LOST) else pytest.param(n, marks=pytest.mark.slow) for n in FORMATS],
)
def test_imported_log_can_be_learned_from(name: str, sample_traffic: pl.DataFrame, tmp_path: Path) -> None:
    traffic = ingest(name, sample_traffic.head(300).to_dicts(), tmp_path)

    options = FitOptions(learner="logistic" if name == "openai-batch" else "constant", n_folds=2)
    fit([traffic], tmp_path / "router.onnx", ladder=sample_ladder(), options=options, track=False)

    assert Router.load(tmp_path / "router.onnx").route("Hi").tier in {t.name for t in sample_ladder()}
