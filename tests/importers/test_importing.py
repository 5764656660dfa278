"""Importing: what ends up in the table, what beside it, and that nothing else is left behind."""

from __future__ import annotations

import csv
import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from router_ml.errors import InputError, TrafficError
from router_ml.importers import (
    IMPORTERS,
    ImportOptions,
    Progress,
    Scale,
    check_options,
    get_importer,
    import_traffic,
)
from router_ml.importers.registry import ALIASES
from router_ml.importers.writing import TableWriter
from router_ml.traffic.schema import SCHEMA
from router_ml.traffic.validate import load_traffic

A_DATE = (
    "a date and time such as 2026-09-01T00:13:00Z or 01.09.2026 00:13 (day first); name another form with 'ingest table "
    "--date-format'"
)
ROW = {"prompt": "p", "model": "m"}


def json_lines(records: list[Any]) -> bytes:
    return b"\n".join(json.dumps(r).encode() for r in records)


def rows(n: int, **values: object) -> list[dict[str, object]]:
    return [{"prompt": f"p{i}", "model": "m", **values} for i in range(n)]


def test_names_of_the_formats() -> None:
    assert set(IMPORTERS) == {
        *("openai-batch", "openai-stored", "openrouter", "helicone", "litellm", "langfuse", "otel", "mlflow"),
        *("routerbench", "routellm", "table"),
    }
    assert all(IMPORTERS[name].name == name for name in IMPORTERS)


def test_unknown_format_is_an_error_that_names_the_known() -> None:
    with pytest.raises(InputError, match="no format 'xls'; choose from openai-batch"):
        get_importer("xls")


def test_table_has_the_schema_and_passes_validation(imported: Any) -> None:
    table = imported("table", rows(3, quality=0.5, created_at="2026-01-02"))

    assert table.schema == SCHEMA
    assert load_traffic([imported.out]).traffic.height == 3


def test_prompt_id_is_what_validation_makes_of_the_prompt(imported: Any, tmp_path: Path) -> None:
    table = imported("table", [ROW])
    table.with_columns(prompt_id=pl.lit(None, pl.String)).write_parquet(tmp_path / "again.parquet")

    assert load_traffic([tmp_path / "again.parquet"]).traffic["prompt_id"].to_list() == table["prompt_id"].to_list()


def test_row_groups_follow_each_other(imported: Any) -> None:
    assert imported("table", rows(20_000))["prompt"].to_list() == [f"p{i}" for i in range(20_000)]


def test_counts_are_summed_up(imported: Any) -> None:
    imported("table", [*rows(2, quality=1), ROW, {"model": "m"}])
    assert imported.result is not None

    assert imported.result.summary() == "4 records read: 3 rows written (2 with quality), 1 rejected"


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"cost_usd": math.nan}, "cost_usd: got NaN, needed a finite number >= 0"),
        ({"cost_usd": math.inf}, "cost_usd: got inf, needed a finite number >= 0"),
        ({"input_tokens": 1.5}, "input_tokens: got '1.5', needed a whole number"),
        ({"input_tokens": 10**30}, "input_tokens: got '1e+30', needed a whole number"),
        ({"latency_ms": True}, "latency_ms: got 'True', needed a number"),
        ({"quality": -0.5}, "quality: got -0.5, needed a number in 0..1; give its range with a scale"),
        ({"prompt": ""}, "prompt: got nothing, needed some text"),
        ({"prompt": "a\0b"}, "prompt: holds NUL characters, so it isn't text"),
        ({"response": "\ud83d"}, "response: isn't valid Unicode: '\\ud83d' at character 0"),
        ({"created_at": "0000-01-01T00:00:00Z"}, "created_at: got a time outside of 1970 to 2199"),
        ({"created_at": "0001-01-01T00:00:00Z"}, "created_at: got a time outside of 1970 to 2199"),
        ({"created_at": "9999-12-31T23:59:59-05:00"}, "created_at: got a time outside of 1970 to 2199"),
        ({"created_at": "yesterday"}, f"created_at: got 'yesterday', needed {A_DATE}"),
        ({"created_at": -1e300}, f"created_at: got '-1e+300', needed {A_DATE}"),
    ],
)
def test_value_that_cannot_be_is_rejected_with_its_reason(imported: Any, values: dict[str, Any], reason: str) -> None:
    table = imported("table", [ROW, {**ROW, **values}, ROW])

    assert table.height == 2
    assert imported.rejects() == [(2, reason)]


def test_empty_text_in_a_column_of_numbers_is_null(imported: Any) -> None:
    assert imported("table", [{**ROW, "cost_usd": "", "created_at": " "}])["cost_usd"].to_list() == [None]


def test_defaults_fill_what_the_log_lacks(imported: Any) -> None:
    table = imported(
        "table", [{"prompt": "a"}, {"prompt": "b", "model": "other"}], defaults={"model": "m", "source": "x"}
    )

    assert table.select("model", "source").rows() == [("m", "x"), ("other", "x")]


@pytest.mark.parametrize(
    "options",
    [
        {"columns": {"nope": "x"}},
        {"defaults": {"nope": "x"}},
        {"model_from": "log"},
        {"date_format": "%H:%M"},
        {"date_format": "day"},
    ],
)
def test_options_that_make_no_sense_are_errors(options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        ImportOptions(**options)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "＝"])
def test_cells_that_a_spreadsheet_would_run_are_made_harmless(tmp_path: Path, start: str) -> None:
    with TableWriter(tmp_path / "out.parquet") as table:
        table.reject(f"{start}cmd|' /C calc'!A1", 1, f"{start}1+1")
        table.commit(table=False)

    with (tmp_path / "out.rejects.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file))[1] == [f"'{start}cmd|' /C calc'!A1", "1", f"'{start}1+1"]


def test_transform_sees_rows_before_they_are_written(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(json_lines(rows(3)))

    def redact(batch: pl.DataFrame) -> pl.DataFrame:
        return batch.filter(pl.col("prompt") != "p1").with_columns(pl.col("prompt").str.replace("p", "x"))

    import_traffic("table", [log], tmp_path / "out.parquet", transform=redact)

    assert pl.read_parquet(tmp_path / "out.parquet")["prompt"].to_list() == ["x0", "x2"]


def test_progress_ends_with_all_that_was_read(tmp_path: Path) -> None:
    log, seen = tmp_path / "log", list[Progress]()
    log.write_bytes(json_lines(rows(2500)))

    import_traffic("table", [log], tmp_path / "out.parquet", on_progress=seen.append)

    assert [p.n_records for p in seen] == [1000, 2000, 2500]
    assert (seen[-1].n_bytes, seen[-1].total_bytes) == (log.stat().st_size, log.stat().st_size)


def test_too_many_rejects_leave_their_list_but_no_table(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(json_lines([*rows(8), {}, {}]))

    with pytest.raises(
        TrafficError, match=r"2 records or rows can't be used, and 8 can; the first is .*log, row 9: prompt: got no"
    ):
        import_traffic("table", [log], tmp_path / "out.parquet")

    assert sorted(p.name for p in tmp_path.iterdir()) == ["log", "out.rejects.csv"]


def refusal(folder: Path, name: str, records: list[dict[str, Any]], **options: Any) -> str:
    """What import of records that it can't use says."""
    (folder / "log").write_bytes(json_lines(records))
    with pytest.raises(TrafficError) as raised:
        import_traffic(name, [folder / "log"], folder / "out.parquet", options=ImportOptions(**options))
    return str(raised.value)


QUESTION = {"question": "q", "model_name": "m", "thumbs": "up"}


def test_a_table_of_other_columns_is_told_with_the_command_that_maps_them(tmp_path: Path) -> None:
    said = refusal(tmp_path, "table", [QUESTION])
    assert said.endswith(
        f"router-ml ingest table {tmp_path / 'log'} --column prompt=question --column model=model_name --out traffic.parquet"
    )


def test_a_mapping_that_is_begun_is_completed(tmp_path: Path) -> None:
    said = refusal(tmp_path, "table", [QUESTION], columns={"prompt": "question"})
    assert "--column prompt=question --column model=model_name" in said


def test_a_column_that_nothing_looks_like_is_asked_for(tmp_path: Path) -> None:
    assert "--column prompt=NAME --default model=NAME" in refusal(tmp_path, "table", [{"a": 1}])


@pytest.mark.parametrize("name", ["table", "langfuse", "litellm"])
def test_accepting_rejects_is_never_proposed_where_all_are(name: str, tmp_path: Path) -> None:
    assert "--max-rejects" not in refusal(tmp_path, name, [{"a": 1}])


@pytest.mark.parametrize(
    ("given", "record", "right"),
    [
        ("langfuse", {"call_type": "completion", "startTime": "2026-01-01", "messages": []}, "litellm"),
        ("litellm", {"type": "GENERATION", "trace_id": "t", "start_time": "2026-01-01"}, "langfuse"),
        ("table", {"custom_id": "a", "body": {}}, "openai-batch"),
    ],
)
def test_a_log_of_another_format_is_told_with_the_command_that_imports_it(
    given: str, record: dict[str, Any], right: str, tmp_path: Path
) -> None:
    assert f"router-ml ingest {right} {tmp_path / 'log'}" in refusal(tmp_path, given, [record])


def test_dates_of_a_named_form_are_read(imported: Any) -> None:
    table = imported("table", [{**ROW, "created_at": "09/01/2026 00:13"}], date_format="%m/%d/%Y %H:%M")
    assert table["created_at"].to_list() == [datetime(2026, 9, 1, 0, 13, tzinfo=UTC)]


def test_a_date_of_another_form_than_the_named_one_is_a_reject(imported: Any) -> None:
    imported("table", [ROW, {**ROW, "created_at": "2026-09-01"}], date_format="%d/%m/%Y")
    assert imported.rejects() == [
        (2, "created_at: got '2026-09-01', needed the form '%d/%m/%Y', as the date format says")
    ]


def test_columns_that_nothing_was_taken_from_are_named_with_how_to_take_them(imported: Any) -> None:
    imported("table", [{**ROW, "thumbs": "up", "user": "u", "when.at": 1}], columns={"created_at": "when.at"})
    assert imported.result.unused == ("thumbs", "user")
    assert imported.result.unused_text() == "Columns not used: thumbs, user. To use some: --quality-from thumbs"


@pytest.mark.parametrize("name", ALIASES)
def test_how_a_table_is_written_is_another_name_of_it(name: str, imported: Any) -> None:
    assert imported(name, [ROW]).height == 1


@pytest.mark.parametrize("options", [{"columns": {"prompt": "q"}}, {"date_format": "%Y-%m-%d"}])
def test_options_of_tables_are_for_tables_only(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="for 'table' only"):
        check_options(IMPORTERS["litellm"], ImportOptions(**options))


def test_log_without_a_row_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"")

    with pytest.raises(TrafficError, match="No row was found in 0 records of format 'table'"):
        import_traffic("table", [tmp_path / "log"], tmp_path / "out.parquet")


def test_import_that_breaks_leaves_the_old_table_and_nothing_else(tmp_path: Path) -> None:
    log, out = tmp_path / "log", tmp_path / "out.parquet"
    log.write_bytes(json_lines(rows(3)))
    out.write_bytes(b"old")

    def fail(batch: pl.DataFrame) -> pl.DataFrame:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_traffic("table", [log], out, transform=fail)

    assert out.read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log", "out.parquet"]


def test_rejects_of_an_earlier_import_do_not_stay(imported: Any) -> None:
    imported("table", [ROW, {}])
    imported("table", [ROW])

    assert imported.rejects() == []


@pytest.mark.parametrize("name", ["log.jsonl", "log.rejects.csv"])
def test_log_is_not_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(json_lines([ROW]))

    with pytest.raises(InputError, match="among the logs and would be overwritten"):
        import_traffic("table", [tmp_path], tmp_path / "log.jsonl")


@pytest.mark.parametrize("out", ["log/out.parquet", "folder"])
def test_output_that_cannot_be_written_is_our_error(tmp_path: Path, out: str) -> None:
    (tmp_path / "log").write_bytes(json_lines([ROW]))
    (tmp_path / "folder").mkdir()

    with pytest.raises(InputError, match="can't be written"):
        import_traffic("table", [tmp_path / "log"], tmp_path / out)

    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "log"]


def test_names_in_a_log_lead_to_no_file(tmp_path: Path) -> None:
    climbing = "../../../escaped"
    body = {"model": climbing, "messages": [{"role": "user", "content": climbing}]}
    lines = [
        {"custom_id": climbing, "body": body},
        {"custom_id": climbing, "response": {"status_code": 200, "body": {**body}}},
    ]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "log.jsonl").write_bytes(json_lines(lines))

    import_traffic("openai-batch", [tmp_path / "in"], tmp_path / "in" / "out" / "t.parquet")

    found = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert found == ["in/log.jsonl", "in/out/t.parquet"]


def test_created_at_is_utc(imported: Any) -> None:
    assert imported("table", [{**ROW, "created_at": 1767323045}])["created_at"].to_list() == [
        datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    ]


def test_feedback_is_taken_by_name_and_scale(imported: Any) -> None:
    table = imported("table", [{**ROW, "user": {"stars": 4}}], quality_from="user.stars", scale=Scale.parse("stars"))

    assert table["quality"].to_list() == [0.75]


# Names that match nothing


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"columns": {"quality": "scoer"}}, "--column quality=scoer"),
        ({"quality_from": "helpfulnes"}, "--quality-from helpfulnes"),
        ({"quality_from": "user.stars"}, "--quality-from user.stars"),
    ],
)
def test_a_name_that_no_record_has_is_an_error_that_names_those_there_are(
    imported: Any, options: dict[str, Any], says: str
) -> None:
    """Such a table would be written, and hold no quality at all."""
    with pytest.raises(TrafficError, match=rf"{says} names; there is \[.*'score'") as refused:
        imported("table", [{**ROW, "score": 0.5}, {"broken": 1}], **options)
    assert "Nothing was written" in str(refused.value)
    assert not list(imported.out.parent.iterdir())


def test_a_name_that_a_later_record_has_is_found(imported: Any) -> None:
    table = imported("table", [ROW, {**ROW, "score": 0.5}], columns={"quality": "score"})
    assert table["quality"].to_list() == [None, 0.5]


def test_columns_of_a_format_without_any_are_an_error(imported: Any) -> None:
    with pytest.raises(InputError, match=r"'openai-batch' has no columns to map; \['model'\]"):
        imported("openai-batch", [{}], columns={"model": "foo"})
