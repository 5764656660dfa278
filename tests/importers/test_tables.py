"""RouterBench, RouteLLM and any table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

WIDE = pl.DataFrame(
    {
        "sample_id": ["a.1", "a.2"],
        "prompt": ["['Say \\'hi\\'.', \"Now.\"]", "Plain"],
        "eval_name": ["arc", "mbpp"],
        "m/small": [0.0, None],
        "m/large": [1.0, 0.5],
        "m/small|model_response": ["['B']", None],
        "m/large|model_response": ["A", "C"],
        "m/small|total_cost": [0.001, None],
        "m/large|total_cost": [0.01, 0.02],
        "oracle_model_to_route_to": ["m/large", "m/large"],
    }
)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_wide_routerbench_becomes_a_row_a_model(imported: Any, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"wide{suffix}"
    WIDE.write_csv(path) if suffix == ".csv" else WIDE.write_parquet(path)

    table = imported("routerbench", path)

    assert table.select("prompt", "model", "response", "quality", "cost_usd", "source", "category").rows() == [
        ("Say 'hi'.\n\nNow.", "m/small", "B", 0.0, 0.001, "routerbench", "arc"),
        ("Say 'hi'.\n\nNow.", "m/large", "A", 1.0, 0.01, "routerbench", "arc"),
        ("Plain", "m/large", "C", 0.5, 0.02, "routerbench", "mbpp"),
    ]


@pytest.mark.parametrize(
    "text", ["[1, 2]", "['a', ['b']]", "__import__('os')", "['a'] + ['b']", "['a'", "['\\N{nope}']"]
)
def test_what_is_no_flat_list_of_strings_is_text(imported: Any, text: str) -> None:
    assert imported("routerbench", [{"prompt": text, "m": 1, "m|total_cost": 0.1}])["prompt"].to_list() == [text]


def test_routerbench_without_models_is_rejected(imported: Any) -> None:
    imported("routerbench", [{"prompt": "p", "m": 1, "m|total_cost": 1}, {"prompt": "p", "m": 1}])

    assert imported.rejects()[0][1].startswith("got no column 'prompt', or none that ends in")


def test_routellm_benchmark_has_a_verdict_a_model(imported: Any) -> None:
    log = b'prompt,weak,strong,weak_response,strong_response\n"2+2?\nA. 4",True,False,four,five\n'

    table = imported("routellm", log)

    assert table.select("prompt", "model", "response", "quality", "source").rows() == [
        ("2+2?\nA. 4", "weak", "four", 1.0, "routellm"),
        ("2+2?\nA. 4", "strong", "five", 0.0, "routellm"),
    ]


def test_routellm_judged_pair_has_a_score_for_the_weak_model_only(imported: Any) -> None:
    record = {"prompt": "p", "source": ["sharegpt"], "gpt4_response": "g", "mixtral_response": "x", "mixtral_score": 4}

    table = imported("routellm", [record])

    assert table.select("model", "response", "quality", "category").rows() == [
        ("mixtral-8x7b-instruct-v0.1", "x", 0.75, "sharegpt"),
        ("gpt-4-1106-preview", "g", None, "sharegpt"),
    ]


MAPPING = {"prompt": "question", "model": "meta.engine", "quality": "ok", "cost_usd": "usd"}


def test_columns_are_mapped_and_others_keep_their_names(imported: Any) -> None:
    record = {
        "question": "Hi",
        "meta": {"engine": "m"},
        "ok": True,
        "usd": "0.5",
        "latency_ms": 3,
        "prompt": "not this",
    }

    table = imported("table", [record], columns=MAPPING)

    assert table.select("prompt", "model", "quality", "cost_usd", "latency_ms").rows() == [("Hi", "m", 1.0, 0.5, 3.0)]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_every_kind_of_table_gives_the_same_rows(imported: Any, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t{suffix}"
    frame = pl.DataFrame({"prompt": ["a", "b"], "model": "m", "quality": [0.5, None], "input_tokens": [3, 4]})
    {".csv": frame.write_csv, ".parquet": frame.write_parquet, ".jsonl": frame.write_ndjson}[suffix](path)

    rows = imported("table", path).select("prompt", "model", "quality", "input_tokens").rows()

    assert rows == [("a", "m", 0.5, 3), ("b", "m", None, 4)]


MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]


@pytest.mark.parametrize("prompt", [MESSAGES, json.dumps(MESSAGES)])
def test_conversations_are_rendered_as_objects_and_as_json(imported: Any, prompt: object) -> None:
    assert imported("table", [{"prompt": prompt, "model": "m"}])["prompt"].to_list() == [
        "system: Be brief.\n\nuser: Hi"
    ]


@pytest.mark.parametrize("prompt", ["[1, 2, 3]", '[{"a": 1}]', "[not json", "{}"])
def test_text_that_looks_like_json_stays_text(imported: Any, prompt: str) -> None:
    assert imported("table", [{"prompt": prompt, "model": "m"}])["prompt"].to_list() == [prompt]


def test_column_that_is_missing_is_named_with_those_there(imported: Any) -> None:
    imported("table", [{"prompt": "p", "model": "m"}, {"question": "p", "model": "m"}])

    assert imported.rejects() == [(2, "prompt: got no column 'prompt', but ['question', 'model']")]
