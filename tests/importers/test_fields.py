"""Reading values: whatever they are, a value or nothing, never an exception but ours."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_ml.errors import RouterError
from router_ml.importers.fields import at, blank, decode, elapsed_ms, lookup, mapping, number, text, utc

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def test_path_leads_through_objects_and_lists() -> None:
    assert at({"a": [{"b": 1}]}, "a", 0, "b") == 1


@pytest.mark.parametrize("path", [("x",), ("a", 5), ("a", 0, 0), ("a", "b"), (0,)])
def test_path_that_leads_nowhere_gives_none(path: tuple[str | int, ...]) -> None:
    assert at({"a": [{"b": 1}]}, *path) is None


def test_key_with_dots_goes_before_a_path() -> None:
    assert lookup("a.b", {"a": {"b": 1}, "a.b": 2}) == 2


def test_first_place_that_has_the_name_is_taken() -> None:
    assert lookup("a.b", {"a": None}, {"a": {"b": 0}}, {"a": {"b": 1}}) == 0


def test_objects_in_strings_are_read() -> None:
    assert mapping('{"a": 1}') == {"a": 1}


@pytest.mark.parametrize("value", ["{broken", "[1]", None, 3, "text"])
def test_what_is_no_object_is_an_empty_one(value: object) -> None:
    assert mapping(value) == {}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1_767_323_045, "2026-01-02T03:04:05+00:00"),
        (1_767_323_045_000, "2026-01-02T03:04:05+00:00"),
        (1_767_323_045_250_000, "2026-01-02T03:04:05.250000+00:00"),
        ("1767323045250000000", "2026-01-02T03:04:05.250000+00:00"),
        ("20260102", "20260102"),
        ("1767323045.25", "2026-01-02T03:04:05.250000+00:00"),
        ("2026-01-02", "2026-01-02"),
        (None, None),
        (1e300, "1e+300"),
    ],
)
def test_times_are_converted_from_epochs_and_else_left(value: object, expected: str | None) -> None:
    assert utc(value) == expected


def test_elapsed_time_may_mix_epochs_and_text() -> None:
    assert elapsed_ms(1_767_323_045, "2026-01-02T03:04:06.5+00:00") == 1500


def test_elapsed_time_of_a_naive_and_an_aware_time_is_unknown() -> None:
    assert elapsed_ms("2026-01-02T03:04:05", "2026-01-02T03:04:06Z") is None


def test_python_only_json_is_read() -> None:
    assert math.isnan(decode(b'{"a": NaN}')["a"])


def test_nested_bomb_is_our_error() -> None:
    with pytest.raises(RouterError, match="not usable JSON"):
        decode(b"[" * 1_000_000)


def test_number_of_too_many_digits_is_our_error() -> None:
    with pytest.raises(RouterError, match="too long"):
        text(10**5000)


@given(ANYTHING)
def test_no_value_breaks_a_reader(value: Any) -> None:
    for read in (
        blank,
        mapping,
        number,
        text,
        utc,
        lambda v: elapsed_ms(v, v),
        lambda v: at(v, "a", 0),
        lambda v: lookup("a", v),
    ):
        with contextlib.suppress(RouterError):
            read(value)


@given(st.binary())
def test_no_line_breaks_the_parser(line: bytes) -> None:
    with contextlib.suppress(RouterError):
        decode(line)
