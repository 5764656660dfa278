"""Hard limits: what each one excludes, up to which token, and that a refusal names each tier's reason."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_ml.core.artifact import Artifact, read_artifact
from router_ml.core.decision import Prediction
from router_ml.core.limits import Limits
from router_ml.core.policy import Rule, Threshold
from router_ml.core.request import Request
from router_ml.core.router import Router
from router_ml.errors import QueryError
from router_ml.ladder import CAPABILITIES, Ladder, Tier

LADDER = Ladder(
    (
        Tier("small", "s", 1.0, 10.0, context_window=1000, supports=("tools",)),
        Tier("middle", "m", 2.0, 20.0, context_window=4000, supports=("vision",)),
        Tier("large", "l", 10.0, 100.0, request_usd=0.001),
    )
)
IMAGE = [{"role": "user", "content": [{"type": "text", "text": "What?"}, {"type": "image_url", "image_url": "x"}]}]
TOOL = [{"role": "user", "content": "6 x 7?"}, {"role": "tool", "content": "42"}]


def request(**options: Any) -> Request:
    chosen = {"allowed": (True, True, True), "requires": frozenset(), "output_tokens": None, "max_cost_usd": None}
    chosen |= options
    allowed = np.array(chosen.pop("allowed"))
    rule = Rule(Threshold(0.5), LADDER.names, 2, 0.01)
    return Request(rule, allowed=allowed, is_plain=False, **chosen)


def predicted(input_tokens: float, output_tokens: float = 100.0, n: int = 1) -> Prediction:
    shape = (n, len(LADDER))
    tokens, answer = np.full(shape, input_tokens), np.full(shape, output_tokens, dtype=np.float32)
    half = np.full(shape, 0.5, dtype=np.float32)
    return Prediction(half, half, answer, LADDER.cost_usd(tokens, answer), np.ones(n, np.float32), tokens)


def permitted(said: Prediction, needs: list[frozenset[str]] | None = None, **options: Any) -> list[list[bool]]:
    return Limits(LADDER).permitted(request(**options), needs, said).tolist()


def test_without_limits_each_tier_may() -> None:
    assert permitted(predicted(10)) == [[True, True, True]]


@pytest.mark.parametrize(
    ("input_tokens", "output_tokens", "small"),
    [(999, None, True), (1000, None, False), (900, 100, True), (900, 101, False), (999, 1, True), (0, 1001, False)],
)
def test_prompt_and_answer_have_to_fit_into_the_window(
    input_tokens: float, output_tokens: int | None, small: bool
) -> None:
    assert permitted(predicted(input_tokens), output_tokens=output_tokens)[0] == [small, True, True]


def test_the_expected_answer_does_not_count_against_the_window() -> None:
    assert permitted(predicted(999, output_tokens=5000)) == [[True, True, True]]


def test_a_window_that_is_not_known_does_not_limit() -> None:
    assert permitted(predicted(1e9)) == [[False, False, True]]


@pytest.mark.parametrize(
    ("requires", "may"),
    [
        ({"tools"}, [True, False, True]),
        ({"vision"}, [False, True, True]),
        ({"json_schema"}, [False, False, True]),
        ({"tools", "vision"}, [False, False, True]),
    ],
)
def test_what_is_required_has_to_be_supported_where_that_is_known(requires: set[str], may: list[bool]) -> None:
    assert permitted(predicted(10), requires=frozenset(requires)) == [may]


def test_each_query_needs_its_own() -> None:
    needs = [frozenset[str](), frozenset({"vision"}), frozenset({"tools"})]
    assert permitted(predicted(10, n=3), needs) == [[True, True, True], [False, True, True], [True, False, True]]


def test_needs_add_to_what_the_request_requires() -> None:
    assert permitted(predicted(10), [frozenset({"tools"})], requires=frozenset({"vision"})) == [[False, False, True]]


def test_the_ceiling_is_on_the_expected_cost() -> None:
    # 100 tokens in and 100 out: 0.0011, 0.0022, and 0.011 with 0.001 for the call.
    said = predicted(100, 100)
    assert said.cost_usd[0].tolist() == pytest.approx([0.0011, 0.0022, 0.012])
    assert permitted(said, max_cost_usd=0.0022) == [[True, True, False]]
    assert permitted(said, max_cost_usd=0.0021) == [[True, False, False]]
    assert permitted(said, max_cost_usd=0) == [[False, False, False]]


def test_with_output_tokens_the_ceiling_is_on_an_answer_of_that_length() -> None:
    # 100 in and 200 out: 0.0021 and 0.0042.
    assert permitted(predicted(100, 100), max_cost_usd=0.0022, output_tokens=200) == [[True, False, False]]


def test_a_tier_without_prices_is_not_under_any_ceiling() -> None:
    unpriced = Ladder((Tier("a", "a"), Tier("b", "b", 1.0, 1.0)))
    tokens = np.full((1, 2), 10.0)
    said = Prediction(
        *(np.full((1, 2), 0.5, np.float32) for _ in range(3)),
        unpriced.cost_usd(tokens, tokens),
        np.ones(1, np.float32),
        tokens,
    )
    asked = request(allowed=(True, True), max_cost_usd=1.0)
    assert Limits(unpriced).permitted(asked, None, said).tolist() == [[False, True]]
    assert Limits(unpriced).why_not(asked, frozenset(), said)[0] is not None


@pytest.mark.parametrize(
    ("options", "needs", "reasons"),
    [
        ({}, set(), [None, None, None]),
        ({"allowed": (True, False, True)}, set(), [None, "not allowed", None]),
        ({"requires": frozenset({"json_schema"})}, {"tools"}, ["doesn't support json_schema", "doesn't support tools, json_schema", None]),
        ({"output_tokens": 700}, set(), ["about 500 tokens and 700 for the answer, its context window is 1,000", None, None]),
        ({"max_cost_usd": 0.002}, set(), [None, "about $0.003000, the ceiling is $0.002000", "about $0.016000, the ceiling is $0.002000"]),
    ],
)  # fmt: skip
def test_each_reason_is_a_phrase(options: dict[str, Any], needs: set[str], reasons: list[str | None]) -> None:
    assert Limits(LADDER).why_not(request(**options), frozenset(needs), predicted(500)) == reasons


SETS = st.sets(st.sampled_from(CAPABILITIES)).map(frozenset)


@settings(deadline=None)
@given(
    st.lists(st.booleans(), min_size=3, max_size=3),
    SETS,
    SETS,
    st.none() | st.integers(1, 5000),
    st.none() | st.floats(0, 0.02),
    st.sampled_from([0.0, 1.0, 999.0, 1000.0, 3999.0, 4000.0]) | st.floats(0, 5000),
)
def test_a_tier_may_exactly_where_there_is_no_reason_against(
    allowed: list[bool],
    requires: frozenset[str],
    needs: frozenset[str],
    output_tokens: int | None,
    max_cost_usd: float | None,
    input_tokens: float,
) -> None:
    asked = request(allowed=allowed, requires=requires, output_tokens=output_tokens, max_cost_usd=max_cost_usd)
    limits, said = Limits(LADDER), predicted(input_tokens)
    reasons = limits.why_not(asked, needs, said)
    assert [reason is None for reason in reasons] == limits.permitted(asked, [needs], said)[0].tolist()


# Through the router


@pytest.fixture(scope="module")
def loaded(artifact: Path) -> Artifact:
    return read_artifact(artifact)


@pytest.fixture(scope="module")
def router(loaded: Artifact) -> Router:
    """Its cheapest tier supports nothing, the next one images; the dearest has a window of 2000 tokens."""
    nano, mini, full = loaded.metadata.ladder
    tiers = (
        dataclasses.replace(nano, supports=()),
        dataclasses.replace(mini, supports=("vision",)),
        dataclasses.replace(full, context_window=2000),
    )
    metadata = dataclasses.replace(loaded.metadata, ladder=Ladder(tiers), novelty_threshold=None)
    return Router(dataclasses.replace(loaded, metadata=metadata))


@pytest.mark.parametrize(("query", "tier"), [("Hello", "nano"), (IMAGE, "mini"), (TOOL, "full")])
def test_a_query_goes_to_the_cheapest_tier_that_can(router: Router, query: Any, tier: str) -> None:
    assert router.route(query, threshold=0).tier == tier


def test_in_a_batch_each_query_goes_where_it_can(router: Router) -> None:
    decisions = router.route_batch(["Hello", IMAGE, TOOL, "Hello again"], threshold=0)
    assert [d.tier for d in decisions] == ["nano", "mini", "full", "nano"]


def test_a_long_stream_keeps_needs_with_their_queries(router: Router) -> None:
    queries = [IMAGE if i % 7 == 3 else "word " * (i % 50 + 1) for i in range(2500)]
    tiers = [d.tier for d in router.route_batch(queries, threshold=0)]  # type: ignore[arg-type]
    assert tiers == ["mini" if i % 7 == 3 else "nano" for i in range(2500)]


def test_what_is_required_need_not_show(router: Router) -> None:
    assert router.route("Hello", threshold=0, requires=["json_schema"]).tier == "full"


def test_a_query_that_only_one_tier_can_take_says_so(router: Router) -> None:
    assert router.route(TOOL).reason == "only_tier"


def test_an_answer_that_is_too_long_for_a_window_goes_elsewhere(router: Router) -> None:
    assert router.route("Hello", threshold=0, allowed=["full", "mini"], output_tokens=2100).tier == "mini"


def test_under_a_ceiling_the_dear_tiers_are_out(router: Router) -> None:
    prices = router.predict(["Hello"]).cost_usd[0]
    ceiling = float(prices[1] + prices[2]) / 2
    assert router.route("Hello", policy="reference").tier == router.metadata.reference == "full"
    assert router.route("Hello", policy="reference", max_cost_usd=ceiling).tier in {"nano", "mini"}


def test_the_refusal_names_each_tiers_reason(router: Router) -> None:
    says = (
        r"nano: not allowed; mini: doesn't support tools; full: about [\d,]+ tokens and 5,000 for the answer.*2,000\)"
    )
    with pytest.raises(QueryError, match=says):
        router.route(TOOL, forbidden=["nano"], output_tokens=5000)


def test_one_query_of_a_batch_that_no_tier_can_take_is_an_error(router: Router) -> None:
    with pytest.raises(QueryError, match="mini: doesn't support tools"):
        router.route_batch(["Hello", TOOL], forbidden=["nano", "full"])
