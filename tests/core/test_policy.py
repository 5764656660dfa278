"""The two policies: examples worked by hand, and what holds of any input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from router_ml.core.policy import choose, choose_by_bar, choose_by_value, choose_reference

Table = NDArray[np.float64]
SHAPE = st.tuples(st.integers(1, 5), st.integers(1, 4))
# Few different values, so that ties and thresholds hit exactly come up often.
UNIT = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]) | st.floats(0, 1)
TABLE = SHAPE.flatmap(lambda s: hnp.arrays(np.float64, s, elements=UNIT))
PAIR = SHAPE.flatmap(lambda s: st.tuples(*[hnp.arrays(np.float64, s, elements=UNIT)] * 2))
LAM = st.sampled_from([0.0, 1.0, 2.0]) | st.floats(0, 1e6)


def some_allowed(table: Table, seed: int) -> NDArray[np.bool_]:
    """Random tiers, at least one a row."""
    rng = np.random.default_rng(seed)
    allowed = rng.random(table.shape) < 0.5
    allowed[np.arange(len(table)), rng.integers(table.shape[1], size=len(table))] = True
    return allowed


@pytest.mark.parametrize(
    ("p_meets", "threshold", "chosen"),
    [
        ([0.9, 0.95, 0.99], 0.8, 0),
        ([0.5, 0.8, 0.9], 0.8, 1),
        ([0.5, 0.9, 0.8], 0.8, 1),
        ([0.5, 0.7, 0.6], 0.8, 1),
        ([0.7, 0.7, 0.6], 0.8, 0),
        ([0.1, 0.2, 0.3], 0.0, 0),
        ([1.0, 0.9, 1.0], 1.0, 0),
        ([0.2, 0.9, 0.8], 1.1, 1),
    ],
)
def test_bar_takes_the_cheapest_that_reaches_else_the_likeliest(
    p_meets: list[float], threshold: float, chosen: int
) -> None:
    assert choose_by_bar(np.array([p_meets]), threshold).tolist() == [chosen]


def test_bar_skips_a_tier_that_is_not_allowed() -> None:
    assert choose_by_bar(np.array([[0.9, 0.9, 0.9]]), 0.8, np.array([False, True, True])).tolist() == [1]


def test_bar_at_threshold_0_takes_the_cheapest_allowed_tier() -> None:
    assert choose_by_bar(np.zeros((1, 3)), 0.0, np.array([False, True, True])).tolist() == [1]


def test_allowed_may_differ_by_prompt() -> None:
    allowed = np.array([[True, False], [False, True]])
    assert choose_by_bar(np.full((2, 2), 0.9), 0.5, allowed).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("lam", "chosen"),
    # 0.6 - 0.001 lam, 0.8 - 0.011 lam, 0.9 - 0.111 lam: the lines cross at lam = 1 and lam = 20.
    [(0.0, 2), (0.9, 2), (1.1, 1), (19.9, 1), (20.1, 0), (1e9, 0)],
)
def test_value_takes_the_best_quality_for_its_cost(lam: float, chosen: int) -> None:
    assert choose_by_value(np.array([[0.6, 0.8, 0.9]]), np.array([[0.001, 0.011, 0.111]]), lam).tolist() == [chosen]


def test_value_ties_go_to_the_cheaper() -> None:
    assert choose_by_value(np.array([[0.5, 0.75]]), np.array([[0.0, 0.25]]), 1.0).tolist() == [0]


def test_no_prompts_get_no_tiers() -> None:
    assert (
        choose_by_bar(np.empty((0, 3)), 0.5).shape
        == choose_by_value(np.empty((0, 3)), np.empty((0, 3)), 1.0).shape
        == (0,)
    )


@settings(deadline=None)
@given(TABLE, st.floats(0, 1.5), st.integers(0, 1000))
def test_what_bar_chooses_is_allowed(p_meets: Table, threshold: float, seed: int) -> None:
    allowed = some_allowed(p_meets, seed)
    chosen = choose_by_bar(p_meets, threshold, allowed)
    assert allowed[np.arange(len(chosen)), chosen].all()


@settings(deadline=None)
@given(PAIR, LAM, st.integers(0, 1000))
def test_what_value_chooses_is_allowed(tables: tuple[Table, Table], lam: float, seed: int) -> None:
    allowed = some_allowed(tables[0], seed)
    chosen = choose_by_value(*tables, lam, allowed)
    assert allowed[np.arange(len(chosen)), chosen].all()


@settings(deadline=None)
@given(TABLE, UNIT)
def test_bar_reaches_the_threshold_wherever_any_tier_does(p_meets: Table, threshold: float) -> None:
    chosen = choose_by_bar(p_meets, threshold)
    reached = p_meets[np.arange(len(chosen)), chosen] >= threshold
    assert (reached == (p_meets >= threshold).any(axis=1)).all()


@settings(deadline=None)
@given(TABLE, UNIT)
def test_no_tier_cheaper_than_bars_choice_reaches_the_threshold(p_meets: Table, threshold: float) -> None:
    chosen = choose_by_bar(p_meets, threshold)
    cheaper = np.arange(p_meets.shape[1]) < chosen[:, None]
    assert not (cheaper & (p_meets >= threshold)).any()


@settings(deadline=None)
@given(TABLE, UNIT, UNIT)
def test_a_higher_threshold_never_lowers_the_chosen_p_meets_below_a_lower_threshold_it_met(
    p_meets: Table, a: float, b: float
) -> None:
    low, high = sorted((a, b))
    rows = np.arange(len(p_meets))
    at_low, at_high = (p_meets[rows, choose_by_bar(p_meets, t)] for t in (low, high))
    assert (at_high >= np.minimum(at_low, high)).all()


@settings(deadline=None)
@given(TABLE, UNIT, UNIT)
def test_a_higher_threshold_never_chooses_a_cheaper_tier_while_one_reaches_it(
    p_meets: Table, a: float, b: float
) -> None:
    low, high = sorted((a, b))
    reached = (p_meets >= high).any(axis=1)
    assert (choose_by_bar(p_meets, high) >= choose_by_bar(p_meets, low))[reached].all()


@settings(deadline=None)
@given(PAIR)
def test_lam_0_gives_the_highest_quality(tables: tuple[Table, Table]) -> None:
    quality, cost = tables
    chosen = choose_by_value(quality, cost, 0.0)
    assert (quality[np.arange(len(chosen)), chosen] == quality.max(axis=1)).all()


@settings(deadline=None)
@given(PAIR, st.floats(0, 100), st.floats(0, 100))
def test_a_larger_lam_never_costs_more(tables: tuple[Table, Table], a: float, b: float) -> None:
    quality, cost = tables
    rows = np.arange(len(cost))
    at_low, at_high = (cost[rows, choose_by_value(quality, cost, lam)] for lam in sorted((a, b)))
    # Where both lams are nearly equal, rounding decides between tiers of nearly equal value.
    assert (at_high <= at_low + 1e-9).all() or abs(a - b) < 1e-3


@settings(deadline=None)
@given(TABLE, st.floats(0, 1.5))
def test_equal_p_meets_go_to_the_cheapest(p_meets: Table, threshold: float) -> None:
    same = np.repeat(p_meets[:, :1], p_meets.shape[1], axis=1)
    assert (choose_by_bar(same, threshold) == 0).all()


# The reference tier


def test_the_reference_tier_takes_every_prompt() -> None:
    assert choose_reference(np.array([[0.9, 0.1], [0.1, 0.9]]), 0).tolist() == [0, 0]


def test_where_the_reference_tier_may_not_the_best_expected_stands_in() -> None:
    quality = np.array([[0.2, 0.9, 0.4], [0.7, 0.1, 0.7], [0.5, 0.9, 0.4]])
    allowed = np.array([[True, False, True], [True, False, True], [True, True, True]])
    assert choose_reference(quality, 1, allowed).tolist() == [2, 0, 1]


def test_one_mask_may_stand_for_all_prompts() -> None:
    assert choose_reference(np.array([[0.2, 0.9], [0.3, 0.1]]), 1, np.array([True, False])).tolist() == [0, 0]


def test_reference_of_no_prompts_is_no_tiers() -> None:
    assert choose_reference(np.empty((0, 3)), 1).shape == (0,)
    assert choose_reference(np.empty((0, 3)), 1, np.ones(3, dtype=bool)).shape == (0,)


@settings(deadline=None)
@given(PAIR, st.floats(0, 1), LAM, st.integers(0, 1000))
def test_a_policy_is_called_by_its_name(tables: tuple[Table, Table], threshold: float, lam: float, seed: int) -> None:
    quality, cost = tables
    allowed = some_allowed(quality, seed)
    reference = seed % quality.shape[1]
    for mask in (None, allowed):
        by_name = [
            choose("bar", threshold, quality, quality, cost, mask),
            choose("value", lam, quality, quality, cost, mask),
            choose("reference", float(reference), quality, quality, cost, mask),
        ]
        own = [
            choose_by_bar(quality, threshold, mask),
            choose_by_value(quality, cost, lam, mask),
            choose_reference(quality, reference, mask),
        ]
        assert [c.tolist() for c in by_name] == [c.tolist() for c in own]


@settings(deadline=None)
@given(TABLE, st.integers(0, 1000))
def test_what_the_reference_policy_chooses_is_allowed(quality: Table, seed: int) -> None:
    allowed = some_allowed(quality, seed)
    rows, reference = np.arange(len(quality)), seed % quality.shape[1]
    chosen = choose_reference(quality, reference, allowed)
    assert allowed[rows, chosen].all()
    assert (chosen == reference)[allowed[:, reference]].all()
    stands_in = np.where(allowed, quality, -1).max(axis=1)
    assert (quality[rows, chosen] == stands_in)[~allowed[:, reference]].all()
