"""Feedback becomes quality by the stated mapping, and by no guess."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_ml.errors import InputError, TrafficError
from router_ml.importers.feedback import Scale


@pytest.mark.parametrize(
    "feedback", [True, 1, "1", "true", "up", "thumbs_up", "Good", " yes ", "pass", "👍", {"value": True}]
)
def test_thumbs_up_are_one(feedback: object) -> None:
    assert Scale().quality(feedback) == 1.0


@pytest.mark.parametrize(
    "feedback", [False, 0, "0", "down", "thumbs_down", "bad", "no", "fail", "👎", {"rating": False}]
)
def test_thumbs_down_are_zero(feedback: object) -> None:
    assert Scale().quality(feedback) == 0.0


@pytest.mark.parametrize(("stars", "quality"), [(1, 0.0), (2, 0.25), ("5", 1.0), (3.5, 0.625)])
def test_stars_run_from_one_to_five(stars: object, quality: float) -> None:
    assert Scale.parse("stars").quality(stars) == quality


@pytest.mark.parametrize(
    ("scale", "feedback", "quality"), [("0..100", 85, 0.85), ("-1..1", 0, 0.5), ("1..10", "10", 1.0)]
)
def test_numbers_are_placed_in_their_range(scale: str, feedback: object, quality: float) -> None:
    assert Scale.parse(scale).quality(feedback) == pytest.approx(quality)


def test_categories_are_as_declared_whatever_their_case() -> None:
    scale = Scale.parse("Very good=1, fair=0.5,poor=0")

    assert [scale.quality(word) for word in ("very good", "Fair", "POOR")] == [1.0, 0.5, 0.0]


def test_numbers_may_be_categories() -> None:
    assert Scale.parse("1=0,2=0.4,3=1").quality(2) == 0.4


@pytest.mark.parametrize("nothing", [None, "", " ", {"value": None}])
def test_no_feedback_is_no_quality(nothing: object) -> None:
    assert Scale().quality(nothing) is None


@pytest.mark.parametrize("feedback", [3, -1, "4", math.nan, math.inf, "-inf", "wonderful", [1], {"x": 1}, 10**400])
def test_what_is_not_on_the_scale_is_an_error_not_a_guess(feedback: object) -> None:
    with pytest.raises(TrafficError, match="quality: got"):
        Scale().quality(feedback)


def test_unknown_category_is_an_error_that_names_the_known() -> None:
    with pytest.raises(TrafficError, match=r"needed one of \['bad', 'good'\]"):
        Scale.parse("good=1,bad=0").quality("up")


@pytest.mark.parametrize("text", ["", "5..1", "1..nan", "a..b", "good=2", "good=x", "thumbs", "1..inf"])
def test_scale_that_makes_no_sense_is_an_error(text: str) -> None:
    with pytest.raises(InputError):
        Scale.parse(text)


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.floats(0, 1))
def test_quality_never_leaves_its_range(low: float, width: float, share: float) -> None:
    scale = Scale(low, low + width)

    assert 0 <= (scale.quality(min(low + share * width, scale.high)) or 0) <= 1
