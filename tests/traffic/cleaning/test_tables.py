"""Tables as text: aligned, bounded, and closed to what untrusted cells hold."""

from __future__ import annotations

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from router_ml.traffic.cleaning.tables import MAX_ROWS, aligned, markdown

TABLE = pl.DataFrame({"name": ["a", "longer"], "n": [1, 2000], "share": [0.5, None], "cost": [0.0000813, 12345.6]})


def test_text_is_to_the_left_and_numbers_to_the_right() -> None:
    assert aligned(TABLE).splitlines() == [
        "name        n   share       cost",
        "a           1  50.0 %  0.0000813",
        "longer  2,000       -     12,346",
    ]


def test_header_can_be_left_out() -> None:
    assert aligned(TABLE.select("n"), header=False) == "    1\n2,000"


def test_markdown_has_a_rule_that_aligns() -> None:
    assert markdown(TABLE.select("name", "n")) == "| name | n |\n| --- | --: |\n| a | 1 |\n| longer | 2,000 |"


def test_long_tables_are_cut_and_the_rest_is_counted() -> None:
    table = pl.DataFrame({"n": range(MAX_ROWS + 7)})

    assert aligned(table).endswith("\n… and 7 more")
    assert markdown(table).endswith("\n\n… and 7 more")


def test_long_cells_are_cut() -> None:
    assert len(aligned(pl.DataFrame({"a": ["x" * 1000]})).splitlines()[1]) == 100


@given(st.text(), st.text())
def test_a_cell_stays_one_cell_on_one_line(first: str, second: str) -> None:
    table = pl.DataFrame({"a": [first], "b": [second]})
    row = markdown(table).split("\n")[2]

    assert aligned(table).count("\n") == 1
    assert row.replace("\\\\", "").replace("\\|", "").count("|") == 3
    assert "<" not in row
    assert "\x1b" not in aligned(table)
