"""Langfuse: the blob storage export and pages of the API, written by hand after its field reference."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from router_ml.errors import TrafficError
from router_ml.importers import Scale

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a prime."}]


def generation(**values: Any) -> dict[str, Any]:
    """A row of ``observations_v2/``."""
    return {
        "id": "o-1",
        "trace_id": "t-1",
        "type": "GENERATION",
        "start_time": "2026-01-02 03:04:05.000000",
        "end_time": "2026-01-02 03:04:05.850000",
        "level": "DEFAULT",
        "metadata": {"thumb": "up"},
        "input": json.dumps(MESSAGES),
        "output": json.dumps({"role": "assistant", "content": "Two."}),
        "provided_model_name": "gpt-4.1-nano",
        "usage_details": {"input": 3, "input_cached_tokens": 5, "output": 2, "total": 10},
        "cost_details": {"input": 0.001, "output": 0.002},
        "total_cost": 0.003,
        "latency": 850,  # milliseconds, as integrations made before April 2026 write it
        "session_id": "s",
        **values,
    }


def score(**values: Any) -> dict[str, Any]:
    """A row of ``scores/``."""
    return {
        "id": "x",
        "timestamp": "2026-01-03 00:00:00.000000",
        "trace_id": "t-1",
        "observation_id": "o-1",
        "name": "score",
        "value": 0.75,
        "data_type": "NUMERIC",
        "string_value": None,
        **values,
    }


EXPECTED = {
    "prompt": "system: Be brief.\n\nuser: Name a prime.",
    "model": "gpt-4.1-nano",
    "response": "Two.",
    "quality": 0.75,
    "input_tokens": 8,
    "output_tokens": 2,
    "cost_usd": 0.003,
    "latency_ms": 850,
    "session_id": "s",
    "created_at": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
}


def values_of(table: Any) -> dict[str, Any]:
    return {name: table.row(0, named=True)[name] for name in EXPECTED}


def csv_file(record: dict[str, Any]) -> bytes:
    file = io.StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(record)
    writer.writerow([json.dumps(v) if isinstance(v, dict) else v for v in record.values()])
    return file.getvalue().encode()


def test_generation_with_its_score(imported: Any) -> None:
    assert values_of(imported("langfuse", [generation()], [score()], quality_from="score")) == EXPECTED


def test_csv_export(imported: Any) -> None:
    table = imported("langfuse", csv_file(generation()), csv_file(score()), quality_from="score")

    assert values_of(table) == EXPECTED


def test_parquet_export(imported: Any, tmp_path: Path) -> None:
    counts = pa.map_(pa.string(), pa.int64())
    columns = {
        name: pa.array([list(v.items())], counts) if name == "usage_details" else pa.array([v])
        for name, v in generation().items()
    }
    pq.write_table(pa.table(columns), tmp_path / "observations.parquet")

    table = imported("langfuse", tmp_path / "observations.parquet", [score()], quality_from="score")

    assert values_of(table) == EXPECTED


def test_pages_of_the_api(imported: Any) -> None:
    observation = generation(usage_details=None, provided_model_name=None, total_cost=None)
    renamed = {"trace_id": "traceId", "start_time": "startTime", "end_time": "endTime", "session_id": "sessionId"}
    observation = {renamed.get(k, k): v for k, v in observation.items()}
    observation |= {"model": "gpt-4.1-nano", "usage": {"input": 8, "output": 2, "unit": "TOKENS"}, "totalCost": 0.003}
    subject = {"kind": "observation", "id": "o-1", "traceId": "t-1"}
    typed = {"id": "x", "name": "score", "value": 0.75, "dataType": "NUMERIC", "subject": subject}
    pages = [json.dumps({"data": [record], "meta": {}}, indent=1).encode() for record in (observation, typed)]

    assert values_of(imported("langfuse", *pages, quality_from="score")) == EXPECTED


def test_trace_of_the_api_holds_its_observations_and_scores(imported: Any) -> None:
    trace = {
        "id": "t-1",
        "timestamp": "2026-01-01",
        "sessionId": "s",
        "observations": [generation()],
        "scores": [score()],
    }

    table = imported("langfuse", json.dumps(trace, indent=1).encode(), quality_from="score")

    assert values_of(table) == EXPECTED


def test_session_of_the_legacy_export_is_the_traces(imported: Any) -> None:
    observation = generation()
    del observation["session_id"]

    table = imported(
        "langfuse", [observation], [{"id": "t-1", "timestamp": "2026-01-01", "session_id": "of the trace"}]
    )

    assert table["session_id"].to_list() == ["of the trace"]


def test_score_of_a_trace_is_that_of_its_only_generation(imported: Any) -> None:
    alone, of_trace = generation(), score(observation_id=None)
    several = [generation(trace_id="t-2"), generation(trace_id="t-2", id="o-2"), generation(trace_id="t-2", id="o-3")]

    table = imported("langfuse", [alone, *several, of_trace, {**of_trace, "trace_id": "t-2"}], quality_from="score")

    assert table["quality"].to_list() == [0.75, None, None, None]


def test_generation_that_was_exported_twice_is_still_alone(imported: Any) -> None:
    table = imported("langfuse", [generation(), generation(), score(observation_id=None)], quality_from="score")

    assert table["quality"].to_list() == [0.75, 0.75]


def test_own_score_comes_before_the_traces_and_the_latest_before_others(imported: Any) -> None:
    scores = [
        score(value=0.5, timestamp="2026-01-03 00:00:02.000000"),
        score(value=0.25, timestamp="2026-01-03 00:00:01.000000"),
        score(value=0, observation_id=None, timestamp="2026-01-03 00:00:03.000000"),
    ]

    assert imported("langfuse", [generation(), *scores], quality_from="score")["quality"].to_list() == [0.5]


@pytest.mark.parametrize(
    ("values", "scale", "quality"),
    [
        ({"data_type": "BOOLEAN", "value": 1, "string_value": "True"}, "stars", 1.0),
        ({"data_type": "BOOLEAN", "value": "0"}, "auto", 0.0),
        ({"data_type": "CATEGORICAL", "value": 2, "string_value": "fair"}, "good=1,fair=0.5,poor=0", 0.5),
        ({"data_type": "NUMERIC", "value": 4}, "stars", 0.75),
        ({"data_type": "CORRECTION", "value": 0, "string_value": "Three."}, "auto", None),
    ],
)
def test_types_of_scores(imported: Any, values: dict[str, Any], scale: str, quality: float | None) -> None:
    table = imported("langfuse", [generation(), score(**values)], quality_from="score", scale=Scale.parse(scale))

    assert table["quality"].to_list() == [quality]


@pytest.mark.parametrize(
    ("asked", "answered", "expected"),
    [
        ("Hi", "Ho", ("Hi", "Ho")),
        ({"messages": MESSAGES[1:], "tools": []}, {"content": "Ho"}, ("Name a prime.", "Ho")),
        (MESSAGES[1:], [{"role": "assistant", "content": "Ho"}], ("Name a prime.", "Ho")),
        ({"role": "user", "content": "Hi"}, {"choices": [{"message": {"content": "Ho"}}]}, ("Hi", "Ho")),
        ("Hi", [{"type": "message", "content": [{"type": "output_text", "text": "Ho"}]}], ("Hi", "Ho")),
        ({"city": "Oslo"}, {"degrees": 3}, ('{"city": "Oslo"}', '{"degrees": 3}')),
    ],
)
def test_shapes_of_input_and_output(imported: Any, asked: Any, answered: Any, expected: tuple[str, str]) -> None:
    texts = [v if isinstance(v, str) else json.dumps(v) for v in (asked, answered)]

    both = [generation(input=asked, output=answered), generation(input=texts[0], output=texts[1])]

    assert imported("langfuse", both).select("prompt", "response").rows() == [expected, expected]


def test_cost_without_a_price_is_unknown(imported: Any) -> None:
    records = [generation(total_cost=0, cost_details={}), generation(total_cost=0, cost_details={"input": 0})]

    assert imported("langfuse", records)["cost_usd"].to_list() == [None, 0]


def test_metadata_is_feedback(imported: Any) -> None:
    assert imported("langfuse", [generation()], quality_from="thumb")["quality"].to_list() == [1]


def test_other_observations_failures_and_orphans_are_skipped(imported: Any) -> None:
    others = [generation(type="SPAN"), generation(level="ERROR"), generation(input="")]
    imported("langfuse", [generation(), *others, score(trace_id="elsewhere")])

    assert dict(imported.result.skipped) == {
        "an observation that is no generation": 1,
        "the call failed": 1,
        "a generation without its input (the field group io of the export)": 1,
        "a score or a trace without a generation in the log": 1,
    }


def test_a_score_that_nothing_has_is_an_error_that_names_those_there_are(imported: Any) -> None:
    with pytest.raises(TrafficError, match=r"--quality-from scoer names; there is \[.*'score'"):
        imported("langfuse", [generation()], [score()], quality_from="scoer")
    assert not list(imported.out.parent.iterdir())
