"""Reading: the same table from every format, and what can't be read becomes a row's reason, not a crash."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from router_ml.errors import TrafficError
from router_ml.traffic.read import FILE, REASON, ROW, find_files, scan
from router_ml.traffic.schema import SCHEMA
from router_ml.traffic.validate import load_traffic

ROWS = [
    {"prompt": "Hi", "model": "a", "quality": 0.5, "input_tokens": 3, "created_at": "2026-01-02T03:04:05Z"},
    {"prompt": 'Say "hé,\nho"', "model": "b", "quality": 1.0, "input_tokens": 7, "created_at": "2026-01-03T00:00:00Z"},
]


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    frame = pl.DataFrame(rows)
    match path.suffix:
        case ".parquet":
            if "created_at" in frame.columns:
                frame = frame.with_columns(pl.col("created_at").str.to_datetime(time_zone="UTC"))
            frame.write_parquet(path)
        case ".csv":
            frame.write_csv(path)
        case _:
            path.write_text("\n".join(json.dumps(r) for r in rows), encoding="utf-8")
    return path


def read_lines(path: Path, *lines: bytes) -> pl.DataFrame:
    path.write_bytes(b"\n".join(lines))
    return scan([path]).collect()


def read_one(tmp_path: Path, suffix: str = ".jsonl", **values: object) -> dict[str, object]:
    return (
        scan([write(tmp_path / f"one{suffix}", [{"prompt": "p", "model": "m", **values}])]).collect().row(0, named=True)
    )


@pytest.mark.parametrize("suffix", [".jsonl", ".ndjson", ".csv"])
def test_text_formats_give_the_table_that_parquet_gives(tmp_path: Path, suffix: str) -> None:
    expected = scan([write(tmp_path / "a.parquet", ROWS)]).select(SCHEMA.names()).collect()

    assert scan([write(tmp_path / f"a{suffix}", ROWS)]).select(SCHEMA.names()).collect().equals(expected)


def test_columns_are_the_schemas_typed_then_where_and_why(tmp_path: Path) -> None:
    schema = scan([write(tmp_path / "a.csv", ROWS)]).collect().schema

    assert dict(schema) == {**SCHEMA, FILE: pl.String(), ROW: pl.Int64(), REASON: pl.String()}
    assert list(schema) == [*SCHEMA, FILE, ROW, REASON]


def test_folder_is_searched_recursively_in_order_and_other_files_are_left(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("b.csv", "a.csv", "deep/c.csv"):
        write(tmp_path / name, ROWS)
    (tmp_path / "notes.txt").write_text("no traffic")

    assert find_files([tmp_path]) == [tmp_path / n for n in ("a.csv", "b.csv", "deep/c.csv")]


def test_glob_takes_what_matches(tmp_path: Path) -> None:
    for name in ("x2.csv", "x1.csv", "y.csv"):
        write(tmp_path / name, ROWS)

    assert find_files([tmp_path / "x*.csv"]) == [tmp_path / "x1.csv", tmp_path / "x2.csv"]


def test_paths_stay_in_the_order_given(tmp_path: Path) -> None:
    b, a = write(tmp_path / "b.csv", ROWS), write(tmp_path / "a.csv", ROWS)

    assert scan([b, a]).collect()[FILE].unique(maintain_order=True).to_list() == [str(b), str(a)]


def test_file_whose_name_holds_glob_characters_is_found(tmp_path: Path) -> None:
    path = write(tmp_path / "log[1].csv", ROWS)

    assert find_files([path]) == [path]


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrafficError, match=r"absent\.csv: no such file"):
        scan([tmp_path / "absent.csv"])


def test_folder_without_traffic_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TrafficError, match="holds no file that ends in"):
        scan([tmp_path])


def test_no_path_at_all_is_an_error() -> None:
    with pytest.raises(TrafficError, match="No traffic file was given"):
        scan([])


def test_unknown_suffix_is_an_error_that_names_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").write_text("")

    with pytest.raises(TrafficError, match=r"'\.xlsx' can't be read; give \.parquet"):
        scan([tmp_path / "a.xlsx"])


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv"])
def test_missing_column_is_named(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}", [{"prompt": "p", "answerer": "m"}])

    with pytest.raises(TrafficError, match=r"lacks the column\(s\) \['model'\]"):
        scan([path])


def test_corrupt_parquet_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and then nothing of use PAR1")

    with pytest.raises(TrafficError, match=r"a\.parquet can't be read as parquet"):
        scan([tmp_path / "a.parquet"])


def test_truncated_parquet_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", ROWS)
    path.write_bytes(path.read_bytes()[:-20])

    with pytest.raises(TrafficError, match="can't be read"):
        load_traffic([path])


def test_csv_that_is_not_utf8_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"prompt,model\n\xff\xfe,m\n")

    with pytest.raises(TrafficError, match="can't be read"):
        load_traffic([tmp_path / "a.csv"])


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b'{"prompt": "p", "mod', id="malformed"),
        pytest.param(b'["p", "m"]', id="not an object"),
        pytest.param(b'{"prompt": "\xff", "model": "m"}', id="invalid UTF-8"),
        pytest.param(b'{"prompt": "\\ud83d", "model": "m"}', id="lone surrogate"),
        pytest.param(b'{"prompt": [{"content": "no role"}, {}], "model": "m"}', id="messages without roles"),
        pytest.param(b"[" * 100_000, id="nested too deep"),
    ],
)
def test_bad_json_line_gets_a_reason_and_the_others_stay(tmp_path: Path, line: bytes) -> None:
    good = b'{"prompt": "p", "model": "m"}'

    table = read_lines(tmp_path / "a.jsonl", good, line, b"", good)

    assert table[ROW].to_list() == [1, 2, 4]
    assert table[REASON].str.starts_with("not a usable JSON line: ").to_list() == [None, True, None]
    assert table["prompt"].to_list() == ["p", None, "p"]


def test_messages_as_prompt_are_rendered(tmp_path: Path) -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]

    assert read_one(tmp_path, prompt=messages)["prompt"] == "system: Be brief.\n\nuser: Hi"


def test_nested_values_in_other_columns_are_kept_as_json(tmp_path: Path) -> None:
    assert read_one(tmp_path, response={"text": "é", "n": [1]})["response"] == json.dumps({"text": "é", "n": [1]})


def test_byte_order_mark_is_no_obstacle(tmp_path: Path) -> None:
    table = read_lines(tmp_path / "a.jsonl", b'\xef\xbb\xbf{"prompt": "p", "model": "m"}')

    assert table.select("prompt", REASON).row(0) == ("p", None)


def test_column_that_first_appears_late_in_a_jsonl_file_is_read(tmp_path: Path) -> None:
    lines = [b'{"prompt": "p", "model": "m"}'] * 1200 + [b'{"prompt": "p", "model": "m", "quality": 0.25}']

    assert read_lines(tmp_path / "a.jsonl", *lines)["quality"][-1] == 0.25


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("value", ["12.0", 12.0, "12"])
def test_whole_numbers_written_as_floats_are_read(tmp_path: Path, suffix: str, value: object) -> None:
    assert read_one(tmp_path, suffix, input_tokens=value)["input_tokens"] == 12


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("input_tokens", 12.5, "input_tokens: got '12.5', needed a whole number"),
        ("input_tokens", "many", "input_tokens: got 'many', needed a whole number"),
        ("quality", "abc", "quality: got 'abc', needed a number"),
    ],
)
def test_values_of_another_type_get_a_reason(
    tmp_path: Path, suffix: str, column: str, value: object, reason: str
) -> None:
    row = read_one(tmp_path, suffix, **{column: value})

    assert (row[column], row[REASON]) == (None, reason)


def test_first_reason_is_kept_when_two_values_are_wrong(tmp_path: Path) -> None:
    assert str(read_one(tmp_path, quality="x", latency_ms="y")[REASON]).startswith("quality: got 'x'")


DATES = {
    "2026-01-02T03:04:05Z": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    "2026-01-02T03:04:05+02:00": datetime(2026, 1, 2, 1, 4, 5, tzinfo=UTC),
    "2026-01-02T03:04:05": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    "2026-01-02 03:04:05": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    "2026-01-02T03:04:05.25Z": datetime(2026, 1, 2, 3, 4, 5, 250_000, tzinfo=UTC),
    "2026-01-02": datetime(2026, 1, 2, tzinfo=UTC),
    "2026-01-02T03:04": datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
    "2026-01-02 03:04:05.25+02": datetime(2026, 1, 2, 1, 4, 5, 250_000, tzinfo=UTC),
    "02.01.2026 03:04": datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
    "2.1.2026": datetime(2026, 1, 2, tzinfo=UTC),
    "2026/01/02 03:04:05": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
}


@pytest.mark.parametrize("text", DATES)
def test_dates_are_read_as_utc(tmp_path: Path, text: str) -> None:
    assert read_one(tmp_path, created_at=text)["created_at"] == DATES[text]


def test_dates_of_several_forms_may_stand_in_one_column(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", [{"prompt": "p", "model": "m", "created_at": d} for d in DATES])

    assert scan([path]).collect()["created_at"].to_list() == list(DATES.values())


@pytest.mark.parametrize("text", ["yesterday", "03/04/2026"])
def test_dates_of_no_or_of_two_meanings_get_a_reason_not_a_guess(tmp_path: Path, text: str) -> None:
    reason = str(read_one(tmp_path, created_at=text)[REASON])
    assert reason.startswith(f"created_at: got '{text}', needed a date and time such as 2026-09-01T00:13:00Z")
    assert reason.endswith("--date-format'")


@pytest.mark.parametrize(
    "epoch", [1_767_323_045.25, 1_767_323_045_250, 1_767_323_045_250_000, 1_767_323_045_250_000_000]
)
def test_numbers_in_parquet_are_epochs_in_the_unit_of_their_size(tmp_path: Path, epoch: float) -> None:
    pl.DataFrame({"prompt": ["p"], "model": ["m"], "created_at": [epoch]}).write_parquet(tmp_path / "a.parquet")

    expected = datetime(2026, 1, 2, 3, 4, 5, 250_000, tzinfo=UTC)
    assert scan([tmp_path / "a.parquet"]).collect()["created_at"][0] == expected


def test_naive_parquet_times_are_utc(tmp_path: Path) -> None:
    frame = pl.DataFrame({"prompt": ["p"], "model": ["m"], "created_at": [datetime(2026, 1, 2, 3)]})
    frame.write_parquet(tmp_path / "a.parquet")

    assert scan([tmp_path / "a.parquet"]).collect()["created_at"][0] == datetime(2026, 1, 2, 3, tzinfo=UTC)


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
@pytest.mark.parametrize("text", ["", "\n \n"])
def test_an_empty_file_is_said_to_be_empty(name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text("" if name == "a.parquet" else text, encoding="utf-8")
    with pytest.raises(TrafficError, match="is empty"):
        load_traffic([path])
