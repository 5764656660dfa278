"""Policies: examples worked by hand, and what holds of any input."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from router_ml.core.policy import (
    POLICIES,
    Policy,
    Reference,
    Rule,
    Shortfall,
    Single,
    Threshold,
    Utility,
    choose_by_threshold,
    choose_by_utility,
    choose_single,
    policy_from_dict,
    policy_to_dict,
)
from router_ml.errors import InputError

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
def test_threshold_takes_the_cheapest_that_reaches_else_the_likeliest(
    p_meets: list[float], threshold: float, chosen: int
) -> None:
    assert choose_by_threshold(np.array([p_meets]), threshold).tolist() == [chosen]


def test_threshold_skips_a_tier_that_is_not_allowed() -> None:
    assert choose_by_threshold(np.array([[0.9, 0.9, 0.9]]), 0.8, np.array([False, True, True])).tolist() == [1]


def test_threshold_at_threshold_0_takes_the_cheapest_allowed_tier() -> None:
    assert choose_by_threshold(np.zeros((1, 3)), 0.0, np.array([False, True, True])).tolist() == [1]


def test_allowed_may_differ_by_prompt() -> None:
    allowed = np.array([[True, False], [False, True]])
    assert choose_by_threshold(np.full((2, 2), 0.9), 0.5, allowed).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("lam", "chosen"),
    # 0.6 - 0.001 lam, 0.8 - 0.011 lam, 0.9 - 0.111 lam: the lines cross at lam = 1 and lam = 20.
    [(0.0, 2), (0.9, 2), (1.1, 1), (19.9, 1), (20.1, 0), (1e9, 0)],
)
def test_utility_takes_the_best_quality_for_its_cost(lam: float, chosen: int) -> None:
    assert choose_by_utility(np.array([[0.6, 0.8, 0.9]]), np.array([[0.001, 0.011, 0.111]]), lam).tolist() == [chosen]


def test_utility_ties_go_to_the_cheaper() -> None:
    assert choose_by_utility(np.array([[0.5, 0.75]]), np.array([[0.0, 0.25]]), 1.0).tolist() == [0]


def test_no_prompts_get_no_tiers() -> None:
    assert (
        choose_by_threshold(np.empty((0, 3)), 0.5).shape
        == choose_by_utility(np.empty((0, 3)), np.empty((0, 3)), 1.0).shape
        == (0,)
    )


@settings(deadline=None)
@given(TABLE, st.floats(0, 1.5), st.integers(0, 1000))
def test_what_threshold_chooses_is_allowed(p_meets: Table, threshold: float, seed: int) -> None:
    allowed = some_allowed(p_meets, seed)
    chosen = choose_by_threshold(p_meets, threshold, allowed)
    assert allowed[np.arange(len(chosen)), chosen].all()


@settings(deadline=None)
@given(PAIR, LAM, st.integers(0, 1000))
def test_what_utility_chooses_is_allowed(tables: tuple[Table, Table], lam: float, seed: int) -> None:
    allowed = some_allowed(tables[0], seed)
    chosen = choose_by_utility(*tables, lam, allowed)
    assert allowed[np.arange(len(chosen)), chosen].all()


@settings(deadline=None)
@given(TABLE, UNIT)
def test_threshold_reaches_the_threshold_wherever_any_tier_does(p_meets: Table, threshold: float) -> None:
    chosen = choose_by_threshold(p_meets, threshold)
    reached = p_meets[np.arange(len(chosen)), chosen] >= threshold
    assert (reached == (p_meets >= threshold).any(axis=1)).all()


@settings(deadline=None)
@given(TABLE, UNIT)
def test_no_tier_cheaper_than_the_chosen_one_reaches_the_threshold(p_meets: Table, threshold: float) -> None:
    chosen = choose_by_threshold(p_meets, threshold)
    cheaper = np.arange(p_meets.shape[1]) < chosen[:, None]
    assert not (cheaper & (p_meets >= threshold)).any()


@settings(deadline=None)
@given(TABLE, UNIT, UNIT)
def test_a_higher_threshold_never_lowers_the_chosen_p_meets_below_a_lower_threshold_it_met(
    p_meets: Table, a: float, b: float
) -> None:
    low, high = sorted((a, b))
    rows = np.arange(len(p_meets))
    at_low, at_high = (p_meets[rows, choose_by_threshold(p_meets, t)] for t in (low, high))
    assert (at_high >= np.minimum(at_low, high)).all()


@settings(deadline=None)
@given(TABLE, UNIT, UNIT)
def test_a_higher_threshold_never_chooses_a_cheaper_tier_while_one_reaches_it(
    p_meets: Table, a: float, b: float
) -> None:
    low, high = sorted((a, b))
    reached = (p_meets >= high).any(axis=1)
    assert (choose_by_threshold(p_meets, high) >= choose_by_threshold(p_meets, low))[reached].all()


@settings(deadline=None)
@given(PAIR)
def test_lam_0_gives_the_highest_quality(tables: tuple[Table, Table]) -> None:
    quality, cost = tables
    chosen = choose_by_utility(quality, cost, 0.0)
    assert (quality[np.arange(len(chosen)), chosen] == quality.max(axis=1)).all()


@settings(deadline=None)
@given(PAIR, st.floats(0, 100), st.floats(0, 100))
def test_a_larger_lam_never_costs_more(tables: tuple[Table, Table], a: float, b: float) -> None:
    quality, cost = tables
    rows = np.arange(len(cost))
    at_low, at_high = (cost[rows, choose_by_utility(quality, cost, lam)] for lam in sorted((a, b)))
    # Where both lams are nearly equal, rounding decides between tiers of nearly equal value.
    assert (at_high <= at_low + 1e-9).all() or abs(a - b) < 1e-3


@settings(deadline=None)
@given(TABLE, st.floats(0, 1.5))
def test_equal_p_meets_go_to_the_cheapest(p_meets: Table, threshold: float) -> None:
    same = np.repeat(p_meets[:, :1], p_meets.shape[1], axis=1)
    assert (choose_by_threshold(same, threshold) == 0).all()


# The reference tier


def test_the_reference_tier_takes_every_prompt() -> None:
    assert choose_single(np.array([[0.9, 0.1], [0.1, 0.9]]), 0).tolist() == [0, 0]


def test_where_the_reference_tier_may_not_the_best_expected_stands_in() -> None:
    quality = np.array([[0.2, 0.9, 0.4], [0.7, 0.1, 0.7], [0.5, 0.9, 0.4]])
    allowed = np.array([[True, False, True], [True, False, True], [True, True, True]])
    assert choose_single(quality, 1, allowed).tolist() == [2, 0, 1]


def test_one_mask_may_stand_for_all_prompts() -> None:
    assert choose_single(np.array([[0.2, 0.9], [0.3, 0.1]]), 1, np.array([True, False])).tolist() == [0, 0]


def test_reference_of_no_prompts_is_no_tiers() -> None:
    assert choose_single(np.empty((0, 3)), 1).shape == (0,)
    assert choose_single(np.empty((0, 3)), 1, np.ones(3, dtype=bool)).shape == (0,)


@settings(deadline=None)
@given(TABLE, st.integers(0, 1000))
def test_what_the_reference_policy_chooses_is_allowed(quality: Table, seed: int) -> None:
    allowed = some_allowed(quality, seed)
    rows, reference = np.arange(len(quality)), seed % quality.shape[1]
    chosen = choose_single(quality, reference, allowed)
    assert allowed[rows, chosen].all()
    assert (chosen == reference)[allowed[:, reference]].all()
    stands_in = np.where(allowed, quality, -1).max(axis=1)
    assert (quality[rows, chosen] == stands_in)[~allowed[:, reference]].all()


# Policies as values

ANY_POLICY = st.one_of(
    st.builds(Shortfall, st.floats(0, 1e6)),
    st.builds(Threshold, st.floats(0, 1)),
    st.builds(Utility, st.floats(0, 1e6)),
    st.just(Reference()),
    st.builds(Single, st.sampled_from(["a", "b"])),
)


@pytest.mark.parametrize(
    ("policy", "kind", "parameter"),
    [
        (Shortfall(0.1), "shortfall", 0.1),
        (Threshold(0.9), "threshold", 0.9),
        (Utility(20.0), "utility", 20.0),
        (Reference(), "reference", 0.0),
        (Single("a"), "single", 0.0),
    ],
)
def test_a_policy_has_a_kind_and_a_parameter(policy: Policy, kind: str, parameter: float) -> None:
    assert (policy.kind, policy.parameter) == (kind, parameter)
    assert POLICIES[kind] is type(policy)


@given(ANY_POLICY)
def test_a_policy_survives_json(policy: Policy) -> None:
    assert policy_from_dict(json.loads(json.dumps(policy_to_dict(policy)))) == policy


@pytest.mark.parametrize("number", [np.float32(0.5), np.int64(1), True])
@pytest.mark.parametrize("policy", [Shortfall, Threshold, Utility])
def test_a_parameter_that_is_no_float_is_made_one(policy: Any, number: Any) -> None:
    found = policy(number)
    assert (type(found.parameter), found.parameter) == (float, float(number))
    assert json.dumps(policy_to_dict(found))


def test_a_policy_as_json_is_its_kind_and_its_fields() -> None:
    assert policy_to_dict(Threshold(0.9)) == {"kind": "threshold", "p_meets": 0.9}
    assert policy_to_dict(Reference()) == {"kind": "reference"}


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"kind": "bar"},
        {"kind": ["threshold"]},
        {"kind": "threshold"},
        {"kind": "threshold", "p_meets": 2.0},
        {"kind": "threshold", "knob": 0.5},
        {"kind": "reference", "parameter": 0.0},
    ],
)
def test_what_is_no_policy_is_not_read_as_one(values: dict[str, Any]) -> None:
    with pytest.raises((InputError, KeyError, TypeError)):
        policy_from_dict(values)


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf, "0.1", None, 10**400])
@pytest.mark.parametrize(
    ("policy", "says"), [(Shortfall, "'epsilon' is"), (Threshold, "The threshold is"), (Utility, "'lam' is")]
)
def test_a_parameter_out_of_range_is_refused(policy: Any, says: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"^{says} {repr(value)[:5]}"):
        policy(value)


def test_a_threshold_is_at_most_1() -> None:
    with pytest.raises(InputError, match=r"The threshold is 1\.01; it needs to be a probability in \[0, 1\]"):
        Threshold(1.01)


def test_a_policy_can_not_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Threshold(0.5).p_meets = 0.6  # type: ignore[misc]


# Rules

NO_NOVELTY = np.zeros(1)


def rule(policy: Policy, n_tiers: int = 3, **values: Any) -> Rule:
    """Of tiers a, b, ...; the reference tier is the last, a call to it costs 0.1 USD."""
    return Rule(policy, tuple("abcd"[:n_tiers]), **({"reference": n_tiers - 1, "reference_cost_usd": 0.1} | values))


def chosen_of(found: Rule, quality: list[float], cost_usd: list[float], **values: Any) -> str:
    """The tier for one request whose `p_meets` is its quality."""
    tables = {"novelty": NO_NOVELTY} | values
    row = np.array([quality])
    return found.tiers[int(found.choose(row, row, np.array([cost_usd]), **tables)[0])]


@pytest.mark.parametrize(
    ("epsilon", "tier"),
    # In calls to the reference tier the costs are 0.01, 0.11 and 1.11: the lines cross at 0.1 / 1 and at 0.2 / 0.1.
    [(0.0, "c"), (0.09, "c"), (0.11, "b"), (1.9, "b"), (2.1, "a"), (1e9, "a")],
)
def test_shortfall_takes_a_dearer_tier_where_it_is_better_by_more_than_its_price_is_worth(
    epsilon: float, tier: str
) -> None:
    assert chosen_of(rule(Shortfall(epsilon)), [0.6, 0.8, 0.9], [0.001, 0.011, 0.111]) == tier


@settings(deadline=None)
@given(PAIR, st.floats(0, 10), st.floats(1e-6, 10), st.integers(0, 1000))
def test_shortfall_is_utility_in_calls_to_the_reference_tier(
    tables: tuple[Table, Table], epsilon: float, reference_cost_usd: float, seed: int
) -> None:
    quality, cost = tables
    novelty, allowed = np.zeros(len(quality)), some_allowed(quality, seed)
    one, other = (
        rule(policy, quality.shape[1], reference_cost_usd=reference_cost_usd)
        for policy in (Shortfall(epsilon), Utility(epsilon / reference_cost_usd))
    )
    assert one.quality_per_usd == other.quality_per_usd
    for mask in (None, allowed):
        found = (r.choose(quality, quality, cost, novelty, mask).tolist() for r in (one, other))
        assert next(found) == next(found)


@settings(deadline=None)
@given(PAIR, st.floats(0, 10), st.floats(1e-3, 10), st.integers(0, 1000))
def test_the_expected_shortfall_is_at_most_epsilon_times_what_is_saved_in_reference_calls(
    tables: tuple[Table, Table], epsilon: float, reference_cost_usd: float, seed: int
) -> None:
    quality, cost = tables
    rows, reference = np.arange(len(quality)), seed % quality.shape[1]
    found = rule(Shortfall(epsilon), quality.shape[1], reference=reference, reference_cost_usd=reference_cost_usd)
    chosen = found.choose(quality, quality, cost, np.zeros(len(quality)))
    shortfall = quality[:, reference] - quality[rows, chosen]
    saved_calls = (cost[:, reference] - cost[rows, chosen]) / reference_cost_usd
    # The rounding of epsilon times a cost in calls to the reference tier, of which there are at most 1,000.
    assert (shortfall <= epsilon * saved_calls + 1e-9).all()


@pytest.mark.parametrize(
    ("policy", "price"),
    [(Shortfall(0.2), 2.0), (Utility(5.0), 5.0), (Threshold(0.5), None), (Reference(), None), (Single("a"), None)],
)
def test_policies_that_weigh_quality_against_cost_have_a_price(policy: Policy, price: float | None) -> None:
    assert rule(policy).quality_per_usd == price


@pytest.mark.parametrize(
    ("policy", "single"),
    [(Single("a"), 0), (Single("b"), 1), (Reference(), 2), (Threshold(0.0), None), (Shortfall(1.0), None)],
)
def test_policies_of_one_tier_have_its_index(policy: Policy, single: int | None) -> None:
    assert rule(policy).single == single


def test_a_single_tier_that_does_not_exist_is_refused_with_those_that_do() -> None:
    with pytest.raises(InputError, match="No tier is called 'd'; the tiers are a, b, c"):
        rule(Single("d"))


@pytest.mark.parametrize(("policy", "tier"), [(Single("a"), "a"), (Single("b"), "b"), (Reference(), "c")])
def test_a_policy_of_one_tier_takes_it_whatever_is_predicted(policy: Policy, tier: str) -> None:
    assert chosen_of(rule(policy), [0.5, 0.5, 0.5], [1.0, 2.0, 3.0]) == tier
    assert chosen_of(rule(policy), [0.0, 0.9, 0.1], [0.0, 0.0, 9.0]) in (tier,)


@pytest.mark.parametrize(
    ("policy", "allowed", "tier"),
    [
        (Single("b"), [True, False, True], "c"),
        (Reference(), [True, True, False], "a"),
        (Reference(), [False, True, False], "b"),
        (Single("b"), [False, True, False], "b"),
    ],
)
def test_where_the_one_tier_may_not_the_best_expected_stands_in(policy: Policy, allowed: list[bool], tier: str) -> None:
    assert chosen_of(rule(policy), [0.6, 0.5, 0.7], [1.0, 2.0, 3.0], allowed=np.array(allowed)) == tier


@pytest.mark.parametrize("policy", [Shortfall(1e9), Threshold(0.0), Utility(1e9), Single("a"), Reference()])
def test_novelty_comes_before_the_policy(policy: Policy) -> None:
    quality, found = np.full((3, 3), 0.5), rule(policy, reference=1, novelty_threshold=2.0)
    chosen = found.choose(quality, quality, np.array([[1.0, 2.0, 3.0]] * 3), np.array([1.0, 2.5, 2.0]))
    own = 1 if policy == Reference() else 0
    # At the threshold itself a request isn't novel.
    assert chosen.tolist() == [own, 1, own]


def test_where_the_reference_tier_may_not_take_a_novel_request_the_best_expected_does() -> None:
    found = rule(Threshold(0.0), reference=1, novelty_threshold=2.0)
    allowed = np.array([True, False, True])
    assert chosen_of(found, [0.4, 0.9, 0.5], [1.0, 2.0, 3.0], novelty=np.array([9.0]), allowed=allowed) == "c"


def test_without_a_novelty_threshold_nothing_is_novel() -> None:
    assert rule(Reference()).is_novel(np.array([0.0, 1e300])).tolist() == [False, False]


def test_a_rule_over_no_requests_chooses_nothing() -> None:
    none = np.empty((0, 3))
    for policy in (Shortfall(0.1), Threshold(0.5), Utility(1.0), Reference(), Single("a")):
        assert rule(policy).choose(none, none, none, np.empty(0)).shape == (0,)


@settings(deadline=None)
@given(PAIR, ANY_POLICY, st.integers(0, 1000))
def test_a_rule_applies_its_policy(tables: tuple[Table, Table], policy: Policy, seed: int) -> None:
    quality, cost = tables
    p_meets = quality[::-1]
    if quality.shape[1] == 1:
        policy = Single("a") if isinstance(policy, Single) else policy
    found = rule(policy, quality.shape[1])
    for mask in (None, some_allowed(quality, seed)):
        match policy:
            case Threshold():
                own = choose_by_threshold(p_meets, policy.p_meets, mask)
            case Utility() | Shortfall():
                own = choose_by_utility(quality, cost, found.quality_per_usd or 0.0, mask)
            case Single():
                own = choose_single(quality, "ab".index(policy.tier), mask)
            case _:
                own = choose_single(quality, quality.shape[1] - 1, mask)
        assert found.choose(p_meets, quality, cost, np.zeros(len(quality)), mask).tolist() == own.tolist()


@settings(deadline=None)
@given(PAIR, ANY_POLICY, st.integers(0, 1000))
def test_what_a_rule_chooses_is_allowed(tables: tuple[Table, Table], policy: Policy, seed: int) -> None:
    quality, cost = tables
    tiers = max(2, quality.shape[1])
    quality, cost = (np.hstack([t, t])[:, :tiers] for t in (quality, cost))
    allowed, novelty = some_allowed(quality, seed), np.random.default_rng(seed).random(len(quality))
    chosen = rule(policy, tiers, novelty_threshold=0.5).choose(quality, quality, cost, novelty, allowed)
    assert allowed[np.arange(len(chosen)), chosen].all()


def test_a_price_without_bounds_never_takes_a_tier_that_is_not_allowed() -> None:
    rule = Rule(Shortfall(1e308), ("nano", "mini"), 1, 1e-5)
    table = np.array([[0.5, 0.9]])
    assert rule.choose(table, table, np.array([[0.0, 1e-3]]), np.zeros(1), np.array([False, True])).tolist() == [1]


def test_among_allowed_tiers_without_a_price_the_first_is_taken() -> None:
    cost = np.array([[1e-3, np.nan, np.nan]])
    assert choose_by_utility(np.full((1, 3), 0.5), cost, 1.0, np.array([False, True, True])).tolist() == [1]
