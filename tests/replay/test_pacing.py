"""Pacing, by a clock that the tests set."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_ml.replay.pacing import Pace


def limit(kind: str, left: int, reset: str) -> dict[str, str]:
    return {f"x-ratelimit-remaining-{kind}": str(left), f"x-ratelimit-reset-{kind}": reset}


def test_without_limits_nothing_waits() -> None:
    pace = Pace()

    assert [pace.wait_s(0, 1e9) for _ in range(100)] == [0] * 100


def test_requests_a_minute_are_spread() -> None:
    pace = Pace(rpm=60)

    assert pace.wait_s(10, 1) == 0
    assert pace.wait_s(10, 1) == 1
    assert pace.wait_s(11, 1) == 0


def test_tokens_a_minute_are_spread() -> None:
    pace = Pace(tpm=600)

    assert pace.wait_s(0, 30) == 0
    assert pace.wait_s(0, 1) == 3


def test_requests_left_are_counted_down_until_the_reset() -> None:
    pace = Pace()
    pace.observe(0, limit("requests", 2, "6s"))

    assert [pace.wait_s(1, 1) for _ in range(3)] == [0, 0, 5]
    assert pace.wait_s(6, 1) == 0


def test_tokens_left_hold_up_what_needs_more() -> None:
    pace = Pace()
    pace.observe(0, limit("tokens", 100, "1m0s"))

    assert pace.wait_s(0, 101) == 60
    assert pace.wait_s(0, 100) == 0


def test_a_pause_is_for_all() -> None:
    pace = Pace()
    pace.pause(0, 2.5)

    assert pace.wait_s(1, 1) == 1.5


@given(st.dictionaries(st.sampled_from([*limit("requests", 1, ""), *limit("tokens", 1, "")]), st.text(max_size=12)))
def test_no_header_stops_it_for_ever(headers: dict[str, str]) -> None:
    pace = Pace()
    pace.observe(0, headers)

    assert pace.wait_s(0, 1) <= 3600
    assert pace.wait_s(3601, 1) == 0


@given(st.floats(1, 1e4), st.lists(st.floats(0, 2), min_size=1, max_size=50))
def test_no_more_than_rpm_in_any_minute(rpm: float, gaps: list[float]) -> None:
    pace, now, sent = Pace(rpm=rpm), 0.0, []
    for gap in gaps:
        now += gap
        if (pause := pace.wait_s(now, 1)) > 0:
            now += pause
            assert pace.wait_s(now + 1e-9, 1) == 0
        sent.append(now)

    assert all(b - a >= 60 / rpm * (1 - 1e-6) - 1e-6 for a, b in pairwise(sent))
    assert sent == pytest.approx(sorted(sent))
