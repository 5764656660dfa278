"""The menu: what an operating point is called, what it is expected to give up and to save, and how that is shown."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_ml.core.menu import Menu, OperatingPoint, Tradeoff, find_point, point_name
from router_ml.core.policy import Policy, Reference, Shortfall, Single, Threshold, Utility
from router_ml.errors import InputError

SAVES = Tradeoff(
    quality_drop=0.0123,
    quality_drop_low=0.004,
    quality_drop_high=0.021,
    saving=0.304,
    saving_low=0.25,
    saving_high=0.358,
    cost_usd=0.00139,
    reference_cost_usd=0.002,
    share=(0.1, 0.4, 0.5),
    mix_quality_drop=0.02,
    n=500,
)
NOTHING = dataclasses.replace(
    SAVES,
    **dict.fromkeys(("quality_drop", "quality_drop_low", "quality_drop_high"), 0.0),
    **dict.fromkeys(("saving", "saving_low", "saving_high"), 0.0),
    cost_usd=0.002,
    share=(0.0, 0.0, 1.0),
)
POINT = OperatingPoint("1pt", Shortfall(0.1), 0.01, SAVES)


def menu(*points: OperatingPoint, default: str = "1pt") -> Menu:
    return Menu(points, default, "full", ("nano", "mini", "full"))


def of(**values: Any) -> Menu:
    """A menu of one point, which is expected to do as `SAVES` does but for these values."""
    return menu(dataclasses.replace(POINT, expected=dataclasses.replace(SAVES, **values)))


# Operating points


@pytest.mark.parametrize(
    ("drop", "name"),
    [(0.01, "1pt"), (0.005, "0.5pt"), (0.0, "0pt"), (0.02, "2pt"), (0.1, "10pt"), (0.29, "29pt"), (0.0125, "1.25pt")],
)
def test_a_point_is_named_by_the_points_of_quality_that_it_may_lose(drop: float, name: str) -> None:
    assert point_name(drop) == name


def test_a_point_is_found_by_its_name() -> None:
    points = (POINT, dataclasses.replace(POINT, name="2pt"))
    assert find_point(points, "2pt") is points[1]


def test_a_name_that_no_point_has_is_refused_with_the_names_that_there_are() -> None:
    with pytest.raises(InputError, match=r"no operating point '3pt'; its menu holds: 1pt, 2pt\."):
        find_point((POINT, dataclasses.replace(POINT, name="2pt")), "3pt")


FLOATS = st.floats(-1, 1)
POLICIES = st.one_of(
    st.builds(Shortfall, st.floats(0, 10)),
    st.builds(Threshold, st.floats(0, 1)),
    st.builds(Utility, st.floats(0, 1e6)),
    st.just(Reference()),
    st.builds(Single, st.text(max_size=5)),
)
TRADEOFFS = st.builds(
    Tradeoff,
    *[FLOATS] * 8,
    share=st.lists(st.floats(0, 1), min_size=3, max_size=3).map(tuple),
    mix_quality_drop=st.none() | FLOATS,
    n=st.integers(0, 10**9),
)
POINTS = st.builds(
    OperatingPoint,
    st.text(max_size=5),
    POLICIES,
    st.none() | st.floats(0, 1),
    st.none() | TRADEOFFS,
    st.text(max_size=9),
)


@settings(deadline=None)
@given(POINTS)
def test_a_point_survives_json(point: OperatingPoint) -> None:
    assert OperatingPoint.from_dict(json.loads(json.dumps(point.to_dict(), allow_nan=False))) == point


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        (Shortfall(0.12345), "the cheapest tier that will do; a saved call to the reference tier is worth 12.3 points"),
        (Threshold(0.75), "the cheapest tier whose p_meets reaches 0.75"),
        (Utility(20.0), "largest quality - 20 x USD"),
        (Reference(), "always the reference tier"),
        (Single("mini"), "always mini"),
    ],
)
def test_a_policy_is_described_with_its_parameter(policy: Policy, says: str) -> None:
    assert policy.describe() == says


def test_a_point_reads_as_a_line() -> None:
    assert (
        str(POINT)
        == "1pt (the cheapest tier that will do; a saved call to the reference tier is worth 10 points); not certified"
    )
    certified = OperatingPoint("certified", Reference(), guarantee="loss <= 0.02", note="too few prompts")
    assert str(certified) == "certified (always the reference tier); certified: loss <= 0.02; too few prompts"


# The headline


def test_the_headline_is_in_dollars_and_points() -> None:
    assert menu(POINT).headline == (
        "Saves 30 % (25 to 36 %) of what always using full costs, $1.39 instead of $2.00 per 1,000 requests, "
        "for 1.2 points of quality (0.4 to 2.1)."
    )


def test_the_headline_is_the_defaults() -> None:
    bolder = dataclasses.replace(POINT, name="5pt", expected=dataclasses.replace(SAVES, saving=0.6))
    assert menu(POINT, bolder, default="5pt").headline.startswith("Saves 60 %")


@pytest.mark.parametrize(
    ("low", "drop", "high", "says"),
    [
        (-0.02, -0.0123, -0.001, "with 1.2 points of quality gained (points lost: -2.0 to -0.1)."),
        (-0.01, 0.0004, 0.01, "with no quality lost (points lost: -1.0 to 1.0)."),
        (-0.0001, -0.0004, 0.0001, "with no quality lost (points lost: 0.0 to 0.0)."),
        (0.0, 0.0006, 0.001, "for 0.1 points of quality (0.0 to 0.1)."),
    ],
)
def test_the_headline_says_whether_quality_is_lost_or_gained(low: float, drop: float, high: float, says: str) -> None:
    found = of(quality_drop=drop, quality_drop_low=low, quality_drop_high=high)
    assert found.headline.endswith(says)


def test_small_amounts_have_as_many_decimals_as_tell_them_apart() -> None:
    found = of(cost_usd=2e-6, reference_cost_usd=4e-6)
    assert "$0.002 instead of $0.004 per 1,000 requests" in found.headline


def test_a_point_that_always_takes_the_reference_tier_saves_nothing() -> None:
    headline = menu(dataclasses.replace(POINT, expected=NOTHING)).headline
    assert headline == "Saves nothing against always using full, $2.00 per 1,000 requests."


def test_a_point_that_costs_more_says_so() -> None:
    headline = of(saving=-0.25, saving_low=-0.3, saving_high=-0.2, cost_usd=0.0025).headline
    assert headline.startswith("Costs 25 % more (20 to 30 %)")
    assert "$2.50 instead of $2.00 per 1,000 requests" in headline


def test_what_could_not_be_compared_is_not_known() -> None:
    headline = menu(OperatingPoint("1pt", Reference())).headline
    assert headline.startswith("What the router saves isn't known: too few requests were answered by every tier")


# Warnings


@pytest.mark.parametrize(("share", "warned"), [(0.95, False), (0.96, True), (1.0, True)])
def test_a_router_that_hardly_routes_is_warned_of(share: float, warned: bool) -> None:
    warnings = of(share=(1 - share, 0.0, share)).warnings
    assert len(warnings) == warned
    assert not warned or warnings[0].startswith(f"{100 * share:.0f} % of the requests go to full at the default, 1pt")


def test_the_warning_names_the_tier_and_the_point() -> None:
    expected = dataclasses.replace(SAVES, share=(0.98, 0.01, 0.01))
    point = dataclasses.replace(POINT, expected=expected, note="nano is as good")
    assert menu(point).warnings == ("98 % of the requests go to nano at the default, 1pt.",)


def test_only_the_default_is_warned_of() -> None:
    constant = dataclasses.replace(POINT, name="0pt", expected=NOTHING)
    assert menu(constant, POINT).warnings == ()


def test_what_is_not_known_is_not_warned_of() -> None:
    assert menu(OperatingPoint("1pt", Reference())).warnings == ()


def test_a_ladder_of_one_tier_has_nothing_to_route() -> None:
    expected = dataclasses.replace(NOTHING, share=(1.0,))
    assert Menu((dataclasses.replace(POINT, expected=expected),), "1pt", "full", ("full",)).warnings == ()


# The table


def test_a_row_is_worked_by_hand() -> None:
    assert menu(POINT).rows == [
        ("1pt *", "30 %", "25 to 36 %", "1.39", "1.2", "0.4 to 2.1", "10 / 40 / 50", "no"),
    ]


def test_the_default_alone_has_a_star() -> None:
    points = [dataclasses.replace(POINT, name=name) for name in ("0pt", "1pt", "5pt")]
    assert [row[0] for row in menu(*points).rows] == ["0pt", "1pt *", "5pt"]


def test_a_point_with_a_guarantee_is_certified() -> None:
    certified = dataclasses.replace(POINT, name="certified", guarantee="loss <= 0.02")
    assert [row[-1] for row in menu(POINT, certified).rows] == ["no", "yes"]


def test_what_is_not_known_is_a_dash() -> None:
    assert menu(OperatingPoint("1pt", Reference())).rows == [("1pt *", *["-"] * 6, "no")]


def test_dollars_of_one_table_have_as_many_decimals() -> None:
    cheap = dataclasses.replace(POINT, name="5pt", expected=dataclasses.replace(SAVES, cost_usd=0.0001))
    assert [row[3] for row in menu(POINT, cheap).rows] == ["1.39", "0.10"]


@settings(deadline=None)
@given(st.lists(POINTS, min_size=1, max_size=4))
def test_each_row_has_a_cell_for_each_column(points: list[OperatingPoint]) -> None:
    found = menu(*points, default=points[0].name)
    assert {len(row) for row in found.rows} == {len(found.columns)}


@pytest.mark.parametrize("value", [-0.0, -1e-9, -0.0004, 0.0, 0.0004])
def test_zero_has_no_sign(value: float) -> None:
    names = ("quality_drop", "quality_drop_low", "quality_drop_high", "saving", "saving_low", "saving_high")
    found = of(**dict.fromkeys(names, value))
    assert found.rows[0][1:3] == ("0 %", "0 to 0 %")
    assert found.rows[0][4:6] == ("0.0", "0.0 to 0.0")
    assert "-0" not in found.headline


# Notes


def test_the_first_note_says_what_the_columns_mean() -> None:
    first, *others = menu(POINT).notes
    assert first.startswith("Against always using full, on average over requests")
    assert "nano, mini, full" in first
    assert others == []


def test_a_note_that_points_share_is_said_once() -> None:
    points = [
        dataclasses.replace(POINT, name=n, note=note) for n, note in [("1pt", "few"), ("2pt", ""), ("5pt", "few")]
    ]
    assert menu(*points).notes[1:] == ("1pt, 5pt: few.",)
