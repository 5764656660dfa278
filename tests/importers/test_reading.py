"""Reading records: each kind of file gives the same ones, and what can't be read costs only itself."""

from __future__ import annotations

import json
import tracemalloc
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from router_ml.importers.base import Found
from router_ml.importers.records import MAX_RECORD_BYTES, read_logs

RECORDS = [{"prompt": "Hi", "n": 1}, {"prompt": 'Say "hé,\nho"', "n": 2}]


def read(path: Path, data: bytes | None = None, **options: Any) -> list[Found]:
    if data is not None:
        path.write_bytes(data)
    return list(read_logs([path], lambda n: None, **options))


def values(found: list[Found]) -> list[Any]:
    return [f.value for f in found]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param("\n".join(map(json.dumps, RECORDS)), id="lines"),
        pytest.param("\ufeff" + "\r\n\r\n".join(map(json.dumps, RECORDS)) + "\n", id="BOM, CRLF, blank lines"),
        pytest.param(json.dumps(RECORDS), id="a list in a line"),
        pytest.param("\ufeff" + json.dumps(RECORDS, indent=2), id="a list in a document"),
        pytest.param("\n".join(json.dumps(r, indent=2) for r in RECORDS), id="documents in a row"),
        pytest.param(json.dumps({"meta": {"x": [1]}, "data": RECORDS}, indent=2), id="a list under a key"),
    ],
)
def test_json_is_read_in_every_form(tmp_path: Path, data: str) -> None:
    assert values(read(tmp_path / "log", data.encode(), lists=("data",))) == RECORDS


def test_parquet_gives_what_json_gives(tmp_path: Path) -> None:
    pl.DataFrame(RECORDS).write_parquet(tmp_path / "log")

    assert values(read(tmp_path / "log")) == RECORDS


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_csv_gives_text_by_column(tmp_path: Path, delimiter: str) -> None:
    pl.DataFrame(RECORDS).write_csv(tmp_path / "log.csv", separator=delimiter)

    assert values(read(tmp_path / "log.csv")) == [{**r, "n": str(r["n"])} for r in RECORDS]


def test_empty_csv_cells_are_null(tmp_path: Path) -> None:
    assert values(read(tmp_path / "log.csv", b"a,b\n,x\n")) == [{"a": None, "b": "x"}]


def test_csv_is_told_without_its_suffix(tmp_path: Path) -> None:
    assert values(read(tmp_path / "log", b"a,b\n1,2\n")) == [{"a": "1", "b": "2"}]


def test_csv_fields_may_be_longer_than_the_csv_module_likes(tmp_path: Path) -> None:
    assert values(read(tmp_path / "log.csv", b"a,b\n" + b"x" * 500_000 + b",2\n"))[0]["b"] == "2"


def test_parquet_times_are_text_whatever_their_year(tmp_path: Path) -> None:
    frame = pl.DataFrame({"t": [datetime(2026, 1, 2)]}).with_columns(late=pl.lit(10**17).cast(pl.Datetime("us", "UTC")))
    frame.write_parquet(tmp_path / "log")

    assert read(tmp_path / "log")[0].value == {"t": "2026-01-02 00:00:00.000000", "late": "5138-11-16 09:46:40.000000Z"}


def test_rows_say_where_they_stood(tmp_path: Path) -> None:
    assert [(f.file, f.row) for f in read(tmp_path / "log", b'{"a": 1}\n\n{"a": 2}')] == [
        (str(tmp_path / "log"), 1),
        (str(tmp_path / "log"), 3),
    ]


def test_csv_rows_say_on_which_line_they_start(tmp_path: Path) -> None:
    assert [f.row for f in read(tmp_path / "log.csv", b'a\n"1\n1"\n2\n')] == [2, 4]


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b'{"a": 1', id="cut short"),
        pytest.param(b"[" * 100_000, id="nested lists"),
        pytest.param(b'{"a":' * 100_000, id="nested objects"),
        pytest.param(b'{"a": "\xff"}', id="invalid UTF-8"),
        pytest.param(b"17", id="a number"),
        pytest.param(b"plain text", id="no JSON"),
        pytest.param(b'{"a": ' + b"1" * 5000 + b"}x", id="a long number"),
        pytest.param(b'{"a": "' + b"x" * (MAX_RECORD_BYTES + 1) + b'"}', id="too long"),
    ],
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_bad_line_costs_only_itself_wherever_it_stands(tmp_path: Path, line: bytes, place: int) -> None:
    lines = [b'{"a": 1}', b'{"a": 2}']
    lines.insert(place, line)

    found = read(tmp_path / "log.jsonl", b"\n".join(lines), lists=("data",))

    assert [f.value for f in found if f.problem is None] == [{"a": 1}, {"a": 2}]
    assert [f.row for f in found if f.problem] == [place + 1]


@pytest.mark.parametrize("row", [b"1,2,3", b"1", b'"a\x00b",1', b'"' + b"x" * (MAX_RECORD_BYTES + 1) + b'",1'])
def test_bad_csv_row_costs_only_itself(tmp_path: Path, row: bytes) -> None:
    found = read(tmp_path / "log.csv", b"a,b\n1,2\n" + row + b"\n3,4\n")

    assert [found[0].value, found[-1].value] == [{"a": "1", "b": "2"}, {"a": "3", "b": "4"}]
    assert len(found) == 3


def test_quotes_that_never_close_cost_no_more_than_the_longest_record(tmp_path: Path) -> None:
    line = b"x" * 99_999 + b"\n"
    n = MAX_RECORD_BYTES // len(line)

    found = read(tmp_path / "log.csv", b'a\n"' + line * (n + 2) + b"last\n")

    assert found[0].problem == f"not a usable CSV row: longer than {MAX_RECORD_BYTES:,} bytes"
    assert values(found)[-1] == {"a": "last"}


def test_line_of_100_megabytes_is_not_held(tmp_path: Path) -> None:
    with (tmp_path / "log.jsonl").open("wb") as file:
        file.write(b'{"a": 1}\n{"a": "')
        for _ in range(100):
            file.write(b"x" * 1_000_000)
        file.write(b'"}\n{"a": 2}\n')
    tracemalloc.start()
    found = read(tmp_path / "log.jsonl")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert [f.value for f in found] == [{"a": 1}, None, {"a": 2}]
    assert peak < 4 * MAX_RECORD_BYTES


@pytest.mark.parametrize(
    "bad",
    [
        "[" * 50_000,
        "[" * 50_000 + "]" * 50_000,
        '{"a": NaN}',
        '{"a": "' + "x" * (MAX_RECORD_BYTES + (1 << 18)) + '"}',
        "}",
    ],
)
def test_document_is_read_up_to_what_is_broken_and_the_rest_is_reported(tmp_path: Path, bad: str) -> None:
    found = read(tmp_path / "log.json", f'[\n{{"a": 1}},\n{bad},\n{{"a": 2}}]'.encode())

    assert (found[0].value, found[1].value, len(found)) == ({"a": 1}, None, 2)


def test_file_that_breaks_off_is_reported_and_the_next_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\x1f\x8b broken")
    (tmp_path / "b").write_bytes(b'{"a": 1}')

    found = list(read_logs([tmp_path / "a", tmp_path / "b"], lambda n: None))

    assert str(found[0].problem).startswith("the file can't be read from here on")
    assert found[1].value == {"a": 1}


def test_csv_without_a_usable_header_is_reported(tmp_path: Path) -> None:
    assert "has no usable CSV header" in str(read(tmp_path / "log.csv", b"a\rb\x00,c")[0].problem)


def test_broken_parquet_is_reported(tmp_path: Path) -> None:
    assert "can't be read as Parquet" in str(read(tmp_path / "log", b"PAR1 and no more")[0].problem)


@pytest.mark.parametrize("data", [b"", b"\n\n", b"\xef\xbb\xbf"])
def test_empty_file_holds_nothing(tmp_path: Path, data: bytes) -> None:
    assert read(tmp_path / "log", data) == []
