"""Queries unlike the training traffic go to the reference tier; and one query is decided as a batch of one, whatever is asked."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_ml.core.artifact import Artifact, read_artifact
from router_ml.core.decision import Decision
from router_ml.core.guarantee import Guarantee
from router_ml.core.policy import Reference, Shortfall, Single, Threshold, Utility
from router_ml.core.router import Router
from router_ml.errors import QueryError
from router_ml.ladder import CAPABILITIES, Ladder

LIKE = "What is the capital of Peru?"
UNLIKE = "Zxqv wrblk jjkw: hglrgks-oomph ytterbium qoph zzyzx vlb 7f3a kreek syzygy ptui brrgh qwrtz"
LONG = "word " * 3000
IMAGE = [{"role": "user", "content": [{"type": "text", "text": LIKE}, {"type": "image_url", "image_url": "x"}]}]
TOOL = [{"role": "user", "content": LIKE}, {"role": "tool", "content": "Lima"}]
CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": LIKE}]
QUERIES: list[Any] = [LIKE, UNLIKE, LONG, IMAGE, TOOL, CHAT, "Hi", "Write a poem about " + "the sea " * 40]
TABLE = (
    Guarantee("loss", 0.02, 0.05, Reference(), False, 400),
    Guarantee("loss", 0.05, 0.05, Shortfall(0.2), True, 400),
    Guarantee("loss", 0.05, 0.1, Threshold(0.7), True, 400),
    Guarantee("loss", 0.02, 0.05, Utility(5.0), True, 400, slice="category=law"),
    Guarantee("violation", 0.3, 0.05, Threshold(0.4), True, 400),
)


@pytest.fixture(scope="module")
def loaded(artifact: Path) -> Artifact:
    """With a reference tier that is not the last, and a novelty threshold between `LIKE` and `UNLIKE`."""
    found = read_artifact(artifact)
    like, unlike = Router(found).predict([LIKE, UNLIKE]).novelty.tolist()
    assert unlike > like
    metadata = dataclasses.replace(found.metadata, reference="mini", novelty_threshold=(like + unlike) / 2)
    return dataclasses.replace(found, metadata=metadata)


@pytest.fixture(scope="module")
def router(loaded: Artifact) -> Router:
    return Router(loaded)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"threshold": 0.0},
        {"lam": 1e9},
        {"policy": "reference"},
        {"policy": Single("nano")},
        {"policy": Shortfall(1e9)},
        {"at": "5pt"},
    ],
)
def test_a_novel_query_goes_to_the_reference_tier_and_says_so(router: Router, options: dict[str, Any]) -> None:
    decision = router.route(UNLIKE, **options)
    assert (decision.tier, decision.reason) == ("mini", "novel")
    assert "unlike the training traffic" in decision.explanation
    assert decision.novelty > (router.metadata.novelty_threshold or 0)


def test_a_query_like_the_training_traffic_does_not(router: Router) -> None:
    assert router.route(LIKE, threshold=0.0)[:2] == ("nano", "gpt-4.1-nano")


def test_novelty_can_be_ignored(router: Router) -> None:
    decision = router.route(UNLIKE, threshold=0.0, ignore_novelty=True)
    assert (decision.tier, decision.reason) == ("nano", "meets_bar")


def test_without_a_threshold_nothing_is_novel(loaded: Artifact) -> None:
    metadata = dataclasses.replace(loaded.metadata, novelty_threshold=None)
    decision = Router(dataclasses.replace(loaded, metadata=metadata)).route(UNLIKE, threshold=0.0)
    assert (decision.tier, decision.reason) == ("nano", "meets_bar")


def test_in_a_batch_only_novel_queries_are_sent_there(router: Router) -> None:
    decisions = router.route_batch([LIKE, UNLIKE, LIKE], threshold=0.0)
    assert [(d.tier, d.reason) for d in decisions] == [
        ("nano", "meets_bar"),
        ("mini", "novel"),
        ("nano", "meets_bar"),
    ]


def test_where_the_reference_tier_may_not_the_best_expected_stands_in(router: Router) -> None:
    decision = router.route(UNLIKE, threshold=0.0, forbidden=["mini"])
    quality = router.predict([UNLIKE]).quality[0]
    assert decision.tier == ("nano" if quality[0] >= quality[2] else "full")
    assert decision.reason == "novel"


def test_the_only_tier_that_may_is_no_matter_of_novelty(router: Router) -> None:
    decision = router.route(UNLIKE, allowed=["nano"])
    assert (decision.tier, decision.reason) == ("nano", "only_tier")


def test_the_reference_policy_says_so(router: Router) -> None:
    decision = router.route(LIKE, policy="reference")
    assert (decision.tier, decision.reason, decision.policy, decision.parameter) == (
        "mini",
        "reference",
        "reference",
        0,
    )
    assert "the policy is always the reference tier, or the best that may stand in for it." in decision.explanation


def test_the_policy_of_one_tier_says_so(router: Router) -> None:
    decision = router.route(LIKE, policy=Single("full"))
    assert (decision.tier, decision.reason, decision.policy, decision.parameter) == ("full", "single", "single", 0)
    assert "the policy is always one tier" in decision.explanation


# One path equals the other


@pytest.fixture(scope="module")
def limited(loaded: Artifact) -> Router:
    """With windows, capabilities and promises."""
    nano, mini, full = loaded.metadata.ladder
    tiers = (
        dataclasses.replace(nano, context_window=900, supports=("tools",)),
        dataclasses.replace(mini, context_window=None, supports=("vision", "json_schema")),
        dataclasses.replace(full, context_window=3000, supports=None),
    )
    metadata = dataclasses.replace(loaded.metadata, ladder=Ladder(tiers), guarantees=TABLE)
    return Router(dataclasses.replace(loaded, metadata=metadata))


NAMES = st.sets(st.sampled_from(["nano", "mini", "full"]), min_size=1)
POLICIES = st.one_of(
    st.builds(Shortfall, st.sampled_from([0.0, 1e9]) | st.floats(0, 2)),
    st.builds(Utility, st.floats(0, 1000)),
    st.builds(Threshold, st.floats(0, 1)),
    st.builds(Single, st.sampled_from(["nano", "mini", "full"])),
    st.just(Reference()),
)
CHOOSERS = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"at": st.sampled_from(["0pt", "1pt", "5pt"])}),
    st.fixed_dictionaries({"policy": st.just("reference") | POLICIES}),
    st.fixed_dictionaries({"threshold": st.sampled_from([0.0, 1.0]) | st.floats(0, 1)}),
    st.fixed_dictionaries({"lam": st.sampled_from([0.0, 1e12]) | st.floats(0, 1000)}),
    st.fixed_dictionaries(
        {"max_loss": st.sampled_from([0.02, 0.05, 0.3])},
        optional={"delta": st.sampled_from([0.05, 0.1]), "in_slice": st.just("category=law")},
    ),
    st.fixed_dictionaries({"max_violation": st.sampled_from([0.3, 0.5])}),
)
LIMITS = st.fixed_dictionaries(
    {},
    optional={
        "allowed": NAMES,
        "forbidden": NAMES,
        "requires": st.sets(st.sampled_from(CAPABILITIES)),
        "output_tokens": st.integers(1, 4000),
        "max_cost_usd": st.floats(0, 0.02),
        "ignore_novelty": st.booleans(),
    },
)


def both(chooser: dict[str, Any], limits: dict[str, Any]) -> dict[str, Any]:
    """What stands for a policy, and limits, without `ignore_novelty` where a promise is asked for."""
    promised = chooser.keys() & {"max_loss", "max_violation"}
    return chooser | {name: value for name, value in limits.items() if not (promised and name == "ignore_novelty")}


def outcome(route: Any, *args: Any, **options: Any) -> Decision | str:
    """The decision, its cost to the twelfth digit; or the refusal."""
    try:
        found = route(*args, **options)
    except QueryError as exc:
        return str(exc).removeprefix("Query 0 (from 0): ")
    decision: Decision = found[0] if isinstance(found, list) else found
    return decision._replace(cost_usd=float(f"{decision.cost_usd:.11e}"))


@settings(max_examples=300, deadline=None)
@given(query=st.sampled_from(QUERIES), chooser=CHOOSERS, limits=LIMITS)
def test_one_query_is_decided_as_a_batch_of_one(
    limited: Router, query: Any, chooser: dict[str, Any], limits: dict[str, Any]
) -> None:
    options = both(chooser, limits)
    alone = outcome(limited.route, query, **options)
    assert alone == outcome(limited.route_batch, [query], **options)
    explained = limited.explain(query, **options).decision
    assert (explained is None) == isinstance(alone, str)
    if explained is not None:
        assert outcome(lambda: explained) == alone


@settings(max_examples=30, deadline=None)
@given(chooser=CHOOSERS, limits=LIMITS)
def test_what_is_decided_keeps_every_limit(limited: Router, chooser: dict[str, Any], limits: dict[str, Any]) -> None:
    for query in QUERIES:
        explained = limited.explain(query, **both(chooser, limits))
        if explained.decision is None:
            continue
        assert next(t.why_not for t in explained.tiers if t.tier == explained.decision.tier) is None
        assert explained.decision.tier in limits.get("allowed", {"nano", "mini", "full"})
        assert explained.decision.tier not in limits.get("forbidden", set())


def test_a_whole_batch_is_decided_as_its_queries_are(limited: Router) -> None:
    for options in ({}, {"threshold": 0.6}, {"lam": 20.0}, {"max_loss": 0.05}, {"forbidden": ["nano"]}, {"at": "5pt"}):
        alone = [limited.route(q, **options).tier for q in QUERIES]  # type: ignore[arg-type]
        assert [d.tier for d in limited.route_batch(QUERIES, **options)] == alone  # type: ignore[arg-type]


def test_held_out_traffic_is_seldom_novel(artifact: Path) -> None:
    from router_ml.datasets import simulate

    prompts = simulate(500, random_state=77)["prompt"].unique().sort().to_list()
    reasons = [d.reason for d in Router.load(artifact).route_batch(prompts)]
    assert np.mean([reason == "novel" for reason in reasons]) <= 0.05


@pytest.mark.parametrize("nudge", [-1e-9, 0.0, 1e-9])
def test_one_query_is_a_batch_of_one_at_the_threshold(artifact: Path, nudge: float) -> None:
    loaded = read_artifact(artifact)
    threshold = float(Router(loaded).route("Hello there").novelty) * (1 + nudge)
    router = Router(
        dataclasses.replace(loaded, metadata=dataclasses.replace(loaded.metadata, novelty_threshold=threshold))
    )
    assert router.route("Hello there").reason == router.route_batch(["Hello there"])[0].reason
