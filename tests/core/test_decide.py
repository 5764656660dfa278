"""The fast path for one query decides as the rule does on arrays, for every policy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_ml.core.artifact import Metadata
from router_ml.core.decide import Decider
from router_ml.core.menu import OperatingPoint
from router_ml.core.policy import Policy, Reference, Shortfall, Single, Threshold, Utility
from router_ml.core.request import resolve
from router_ml.ladder import Ladder, Tier

METADATA = Metadata(
    ladder=Ladder((Tier("a", "a", 1.0, 10.0), Tier("b", "b", 2.0, 20.0), Tier("c", "c", 10.0, 100.0))),
    bar={"kind": "absolute", "value": 0.8, "reference": None},
    reference="b",
    reference_cost_usd=0.002,
    points=(OperatingPoint("1pt", Shortfall(0.1), 0.01),),
    default="1pt",
    guarantees=(),
    novelty_threshold=1.5,
    input_tokens_per_char=(0.25, 0.25, 0.25),
    input_tokens_base=(0.0, 0.0, 5.0),
    inputs=("input_ids", "log_n_chars"),
    pad_id=0,
    max_tokens=None,
    add_special_tokens=False,
    encoder={},
    learner={},
)
DECIDER = Decider(METADATA)

# Few different values, so that ties and thresholds hit exactly come up often.
UNIT = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]) | st.floats(0, 1, width=32)
ROW = st.tuples(
    *[st.lists(UNIT, min_size=3, max_size=3)] * 2,
    st.lists(st.sampled_from([0.0, 10.0]) | st.floats(0, 1e4, width=32), min_size=3, max_size=3),
    st.sampled_from([1.0, 1.5]) | st.floats(0, 3, width=32),
)
ANY_POLICY = st.one_of(
    st.builds(Shortfall, st.sampled_from([0.0, 1e9]) | st.floats(0, 2)),
    st.builds(Threshold, UNIT),
    st.builds(Utility, st.sampled_from([0.0, 1e12]) | st.floats(0, 1000)),
    st.builds(Single, st.sampled_from("abc")),
    st.just(Reference()),
)


@settings(max_examples=500, deadline=None)
@given(ROW, st.integers(1, 5000), ANY_POLICY, st.booleans())
def test_one_query_in_plain_numbers_is_decided_as_the_rule_does(
    row: tuple[Any, ...], n_chars: int, policy: Policy, ignore_novelty: bool
) -> None:
    p_meets, quality, tokens, novelty = row
    request = resolve(METADATA, policy=policy, ignore_novelty=ignore_novelty)
    decision = DECIDER.decide_row([*p_meets, *quality, *tokens, novelty], n_chars, request)
    known = decision.estimates
    assert known is not None
    tables = (np.array([t]) for t in (p_meets, quality, known.cost_usd))
    chosen = request.rule.choose(*tables, np.array([novelty]))
    assert METADATA.ladder.index(decision.tier) == chosen[0]
    assert (decision.reason == "novel") == request.rule.is_novel(np.array([novelty]))[0]


@settings(deadline=None)
@given(ROW, st.integers(1, 5000))
def test_a_call_in_plain_numbers_costs_what_the_ladder_asks(row: tuple[Any, ...], n_chars: int) -> None:
    p_meets, quality, tokens, novelty = row
    decision = DECIDER.decide_row([*p_meets, *quality, *tokens, novelty], n_chars, resolve(METADATA))
    assert decision.estimates is not None
    input_tokens = 0.25 * n_chars + np.array([0.0, 0.0, 5.0])
    assert decision.estimates.cost_usd == pytest.approx(METADATA.ladder.cost_usd(input_tokens, np.array(tokens)))


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        (Shortfall(0.1), "will_do"),
        (Threshold(0.5), "meets_bar"),
        (Threshold(1.0), "none_meets_bar"),
        (Utility(1.0), "best_utility"),
        (Reference(), "reference"),
        (Single("a"), "single"),
    ],
)
def test_each_policy_has_its_reason(policy: Policy, reason: str) -> None:
    row = [0.9, 0.9, 0.9, 0.5, 0.5, 0.5, 10.0, 10.0, 10.0, 1.0]
    assert DECIDER.decide_row(row, 100, resolve(METADATA, policy=policy)).reason == reason
