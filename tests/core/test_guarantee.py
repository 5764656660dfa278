"""Which promise of an artifact's table answers a request, and how it reads."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_ml.core.guarantee import Guarantee, GuaranteeKind, find_guarantee
from router_ml.core.policy import Reference, Threshold, Utility
from router_ml.errors import InputError

TABLE = tuple(
    Guarantee("loss", limit, delta, Reference() if lam is None else Utility(lam), lam is not None, 500)
    for limit, delta, lam in [
        (0.01, 0.05, None),
        (0.01, 0.1, 10),
        (0.02, 0.05, 20),
        (0.02, 0.1, 30),
        (0.05, 0.05, 40),
        (0.05, 0.1, 50),
    ]
)


@pytest.mark.parametrize(
    ("limit", "delta", "lam"),
    [
        (0.02, 0.05, 20),
        (0.02, 0.1, 30),
        (0.03, 0.07, 20),
        (0.5, 0.5, 50),
        (0.05, 0.099, 40),
        (0.01, 0.1, 10),
        (0.01, 0.05, None),
        (0.1 * 0.1 * 2, 0.05, 20),  # 0.020000000000000004
        (0.3 - 0.28, 0.05, 20),  # 0.019999999999999962
    ],
)
def test_the_boldest_promise_as_strict_as_asked_is_found(limit: float, delta: float, lam: float | None) -> None:
    found = find_guarantee(TABLE, "loss", limit, delta)
    assert found.policy == (Reference() if lam is None else Utility(lam))


def test_a_stricter_promise_is_taken_where_the_one_asked_for_was_not_certified() -> None:
    table = (TABLE[2], Guarantee("loss", 0.05, 0.05, Reference(), False, 500))
    assert find_guarantee(table, "loss", 0.05, 0.05) == TABLE[2]


@pytest.mark.parametrize(("limit", "delta"), [(0.005, 0.05), (0.02, 0.01)])
def test_what_the_table_does_not_hold_is_refused_with_what_it_holds(limit: float, delta: float) -> None:
    with pytest.raises(
        InputError, match=rf"max_loss as strict as {limit:g}.*0\.01 \(delta 0\.05\).*--max-loss {limit:g}"
    ):
        find_guarantee(TABLE, "loss", limit, delta)


def test_an_empty_table_says_so() -> None:
    with pytest.raises(InputError, match=r"holds: none\. Fit it again with 'router-ml fit --max-violation 0\.2"):
        find_guarantee(TABLE, "violation", 0.2, 0.05)


@pytest.mark.parametrize("value", [0, 1, -0.1, 2, math.nan])
@pytest.mark.parametrize(("name", "place"), [("max_loss", 0), ("delta", 1)])
def test_numbers_out_of_range_are_refused(value: float, name: str, place: int) -> None:
    asked = [0.02, 0.05]
    asked[place] = value
    with pytest.raises(InputError, match=f"'{name}' is {value}"):
        find_guarantee(TABLE, "loss", *asked)


# Slices


def in_law(limit: float, delta: float, lam: float) -> Guarantee:
    return Guarantee("loss", limit, delta, Utility(lam), True, 300, slice="category=law")


def test_a_slice_has_promises_of_its_own() -> None:
    table = (*TABLE, in_law(0.02, 0.05, 99.0))
    assert find_guarantee(table, "loss", 0.02, 0.05, "category=law").policy == Utility(99)
    assert find_guarantee(table, "loss", 0.02, 0.05).policy == Utility(20)


def test_a_slice_without_promises_is_refused_with_those_that_have_some() -> None:
    with pytest.raises(
        InputError, match=r"slice 'category=physics'; it has some for: category=law\. Leave 'in_slice' out"
    ):
        find_guarantee((*TABLE, in_law(0.02, 0.05, 99.0)), "loss", 0.02, 0.05, "category=physics")


def test_a_slices_promises_are_not_those_of_another_kind() -> None:
    table = (Guarantee("violation", 0.2, 0.05, Threshold(0.5), True, 500), in_law(0.2, 0.05, 9.0))
    with pytest.raises(InputError, match=r"has some for: none"):
        find_guarantee(table, "violation", 0.2, 0.05, "category=law")


SOME = st.builds(
    Guarantee,
    st.sampled_from(["loss", "violation"]),
    st.floats(0.001, 0.999),
    st.floats(0.001, 0.999),
    st.builds(Threshold, st.floats(0, 1)),
    st.booleans(),
    st.just(100),
    slice=st.sampled_from([None, "category=law"]),
)


@settings(deadline=None)
@given(
    st.lists(SOME, max_size=8),
    st.sampled_from(["loss", "violation"]),
    st.floats(0.001, 0.999),
    st.floats(0.001, 0.999),
    st.sampled_from([None, "category=law", "category=physics"]),
)
def test_what_is_found_is_never_looser_than_asked(
    table: list[Guarantee], kind: GuaranteeKind, limit: float, delta: float, in_slice: str | None
) -> None:
    fits = [g for g in table if g.kind == kind and g.limit <= limit and g.delta <= delta]
    try:
        found = find_guarantee(table, kind, limit, delta, in_slice)
    except InputError:
        assert not any(g.slice == in_slice for g in fits)
        return
    assert (found.kind, found.slice in (None, in_slice)) == (kind, True)
    assert (found.limit <= limit + 1e-9, found.delta <= delta + 1e-9) == (True, True)
    if not found.certified:
        assert not any(g.certified for g in fits if g.slice == found.slice)


# Sentences


def test_a_promise_reads_as_a_sentence() -> None:
    text = str(Guarantee("loss", 0.02, 0.05, Utility(20.0), True, 1234))
    assert text == (
        "quality loss against the reference tier <= 0.02 with probability 95 % over the draw of 1,234 calibration prompts, "
        "for traffic like them"
    )


def test_a_promise_names_its_slice_and_what_it_rests_on() -> None:
    promise = Guarantee("violation", 0.3, 0.1, Threshold(0.5), True, 400, slice="category=law", note="as logged")
    text = str(promise)
    assert text.startswith("share of answers under the bar <= 0.3 on category=law with probability 90 %")
    assert text.endswith("; as logged")


def test_what_is_not_certified_says_how_many_more_prompts_it_would_take() -> None:
    none = Guarantee("loss", 0.02, 0.05, Reference(), False, 400, rows_needed=1500.0)
    assert (
        "not certified on 400 prompts, about 1,500 more prompts to certify on might certify some policy for it; everything goes to the reference"
        in str(none)
    )
    assert "no number of prompts like these would certify any" in str(dataclasses.replace(none, rows_needed=math.inf))


def test_the_saving_on_the_calibration_prompts_is_part_of_the_sentence() -> None:
    text = str(Guarantee("loss", 0.02, 0.05, Utility(20.0), True, 1234, mean_loss=0.01, saving=0.304))
    assert "calibration prompts, saving 30 % of the reference tier's cost there, for traffic like them" in text


@pytest.mark.parametrize(
    ("certified", "saving", "useful"),
    [(True, 0.3, True), (True, 0.01, True), (True, 0.0099, False), (True, None, True), (False, None, False)],
)
def test_useful_is_a_promise_that_saves_a_hundredth(certified: bool, saving: float | None, useful: bool) -> None:
    assert Guarantee("loss", 0.02, 0.05, Utility(20.0), certified, 500, saving=saving).is_useful == useful


@pytest.mark.parametrize("promise", [*TABLE, dataclasses.replace(TABLE[0], rows_needed=math.inf, note="too few")])
def test_a_promise_survives_json(promise: Guarantee) -> None:
    assert Guarantee.from_dict(json.loads(json.dumps(promise.to_dict(), allow_nan=False))) == promise
