"""Decisions: what they say of themselves, and of the tier that was not taken. Explanations are worked by hand."""

from __future__ import annotations

import dataclasses
import json
import pickle
from collections.abc import Sequence

import pytest

from router_ml.core.decision import Decision, Estimates
from router_ml.core.policy import Policy, Reference, Rule, Shortfall, Single, Threshold, Utility

TIERS = ("nano", "mini", "full")
P_MEETS, QUALITY, COST_USD = (0.4, 0.7, 0.9), (0.5, 0.75, 0.9), (0.0001, 0.0005, 0.005)


def decide(
    tier: str,
    policy: Policy,
    reason: str,
    *,
    quality: Sequence[float] = QUALITY,
    cost_usd: Sequence[float] = COST_USD,
    allowed: Sequence[bool] | None = None,
    reference: str = "full",
) -> Decision:
    """A decision for the tier; a call to the reference tier costs 0.005 USD."""
    t = TIERS.index(tier)
    rule = Rule(policy, TIERS, TIERS.index(reference), 0.005)
    fields = (tier, f"gpt-{tier}", P_MEETS[t], quality[t], cost_usd[t], policy.kind, policy.parameter, reason, 1.25)
    return Decision.of(fields, Estimates(rule, P_MEETS, quality, cost_usd, allowed))


ALL = [
    decide("nano", Shortfall(1.0), "will_do"),
    decide("mini", Shortfall(0.5), "will_do"),
    decide("full", Utility(1.0), "best_utility"),
    decide("mini", Threshold(0.6), "meets_bar"),
    decide("full", Threshold(0.95), "none_meets_bar"),
    decide("full", Reference(), "reference"),
    decide("mini", Single("mini"), "single"),
    decide("full", Threshold(0.0), "novel"),
    decide("mini", Shortfall(0.5), "probe"),
    decide("mini", Shortfall(0.5), "only_tier", allowed=(False, True, False)),
]


# The explanation


def test_the_cheapest_tier_that_will_do_is_compared_with_the_reference_tier() -> None:
    # 90 points less 50, against 0.0049 USD of calls to the reference tier at 0.005 USD, each worth a whole point of quality.
    assert decide("nano", Shortfall(1.0), "will_do").explanation == (
        "nano will do: it would meet the bar with 40 % and is expected to lose 40.0 points of quality against full, and its saving is "
        "worth 98.0 points. full would meet the bar with 90 % and costs 50 times more."
    )


def test_a_tier_that_loses_nothing_says_so() -> None:
    assert "expected to lose nothing against full" in (
        decide("nano", Shortfall(1.0), "will_do", quality=(0.95, 0.75, 0.9)).explanation
    )


def test_a_dearer_tier_is_compared_with_the_best_of_the_cheaper_ones() -> None:
    # 25 points more than nano; 0.0004 USD is 0.08 calls, of 50 points each.
    assert decide("mini", Shortfall(0.5), "will_do").explanation == (
        "nano would meet the bar with 40 % and costs 5.0 times less; mini was taken because it is expected to be 25.0 points better, and "
        "its extra cost is worth 4.0 points."
    )


def test_utility_weighs_in_dollars() -> None:
    # mini is the better of the cheaper tiers, by 0.75 - 0.0005 against 0.5 - 0.0001; 0.0045 USD are worth 0.45 points.
    assert decide("full", Utility(1.0), "best_utility").explanation == (
        "mini would meet the bar with 70 % and costs 10 times less; full was taken because it is expected to be 15.0 points better, and "
        "its extra cost is worth 0.5 points."
    )


@pytest.mark.parametrize(
    ("decision", "own", "other"),
    [
        (
            decide("mini", Threshold(0.6), "meets_bar"),
            "mini is the cheapest tier whose answer is likely enough to meet the bar (70 %, threshold 60 %).",
            "nano would meet the bar with 40 % and costs 5.0 times less.",
        ),
        (
            decide("full", Threshold(0.95), "none_meets_bar"),
            "No tier reaches the threshold of 95 %; full comes nearest (90 %).",
            "mini would meet the bar with 70 % and costs 10 times less.",
        ),
        (
            decide("full", Reference(), "reference"),
            "full was taken because the policy is always the reference tier, or the best that may stand in for it.",
            "mini would meet the bar with 70 % and costs 10 times less.",
        ),
        (
            decide("nano", Single("nano"), "single"),
            "nano was taken because the policy is always one tier, or the best that may stand in for it.",
            "full would meet the bar with 90 % and costs 50 times more.",
        ),
        (
            decide("mini", Threshold(0.0), "novel", reference="mini"),
            "mini was taken because the query is unlike the training traffic (novelty 1.25): such queries go to the reference tier, "
            "or the best that may stand in for it.",
            "nano would meet the bar with 40 % and costs 5.0 times less.",
        ),
        (
            decide("mini", Shortfall(0.5), "probe"),
            "mini is asked first, for what its answer tells; then another may be.",
            "nano would meet the bar with 40 % and costs 5.0 times less.",
        ),
    ],
)
def test_each_reason_is_followed_by_another_tier_and_its_cost(decision: Decision, own: str, other: str) -> None:
    assert decision.explanation == f"{own} {other}"


def test_a_tier_that_may_not_take_the_query_is_not_compared_with() -> None:
    decision = decide("mini", Threshold(0.6), "meets_bar", allowed=(False, True, True))
    assert decision.explanation.endswith("full would meet the bar with 90 % and costs 10 times more.")


def test_the_only_tier_is_compared_with_none() -> None:
    decision = decide("mini", Shortfall(0.5), "only_tier", allowed=(False, True, False))
    assert decision.explanation == "mini is the only tier that may take this query."


@pytest.mark.parametrize("cost_usd", [(0.0, 0.0005, 0.005), (0.0005, 0.0005, 0.005)])
def test_where_there_is_no_ratio_the_cost_itself_is_named(cost_usd: tuple[float, ...]) -> None:
    decision = decide("full", Reference(), "reference", quality=(0.9, 0.1, 0.9), cost_usd=(0.0, 0.0, 0.005))
    assert decision.explanation.endswith("nano would meet the bar with 40 % and costs $0.000000.")
    decision = decide("mini", Threshold(0.6), "meets_bar", cost_usd=cost_usd, allowed=(True, True, False))
    assert decision.explanation.endswith(f"nano would meet the bar with 40 % and costs ${cost_usd[0]:.6f}.")


@pytest.mark.parametrize("reason", ["will_do", "best_utility", "meets_bar", "reference", "single", "novel", "probe"])
def test_without_estimates_there_is_a_reason_but_no_other_tier(reason: str) -> None:
    decision = Decision("mini", "m", 0.9, 0.8, 0.002, "shortfall", 0.1, reason, 1.25)
    assert "mini" in decision.explanation
    assert "would meet the bar with" not in decision.explanation


# The value


@pytest.mark.parametrize("decision", ALL, ids=lambda d: f"{d.reason}-{d.tier}")
def test_a_decision_is_plain_json_with_its_explanation(decision: Decision) -> None:
    found = json.loads(json.dumps(decision._asdict(), allow_nan=False))
    assert list(found) == [*Decision._fields, "explanation"]
    assert found["explanation"] == decision.explanation


def test_a_decision_shows_its_fields_with_three_digits_and_its_explanation() -> None:
    decision = Decision("mini", "m", 0.83456, 0.8, 0.00212345, "single", 0.0, "only_tier", 1.25)
    assert repr(decision) == (
        "Decision(tier='mini', model='m', p_meets=0.835, quality=0.8, cost_usd=0.00212, policy='single', parameter=0, "
        "reason='only_tier', novelty=1.25, explanation='mini is the only tier that may take this query.')"
    )


def test_two_decisions_that_differ_in_their_estimates_alone_are_equal() -> None:
    one, other = (decide("mini", Shortfall(0.5), "will_do", quality=(q, 0.75, 0.9)) for q in (0.1, 0.2))
    assert one.estimates != other.estimates
    assert one == other
    assert hash(one) == hash(other)


def test_estimates_are_no_part_of_the_tuple() -> None:
    assert len(ALL[0]) == len(Decision._fields) == 9
    assert "estimates" not in Decision._fields


@pytest.mark.parametrize("decision", ALL, ids=lambda d: f"{d.reason}-{d.tier}")
def test_a_decision_survives_pickle_with_its_explanation(decision: Decision) -> None:
    found = pickle.loads(pickle.dumps(decision))
    assert (found, found.explanation) == (decision, decision.explanation)


def test_a_decision_with_another_field_rests_on_the_same_estimates() -> None:
    assert ALL[0]._replace(cost_usd=0.0).estimates is ALL[0].estimates


def test_estimates_hold_the_rule_by_which_the_tier_was_chosen() -> None:
    known = decide("mini", Shortfall(0.5), "will_do").estimates
    assert known is not None
    assert known.rule == dataclasses.replace(known.rule, policy=Shortfall(0.5))
