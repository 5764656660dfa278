"""Explanations: the decision that route makes, with all that it rests on."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from router_ml.core.decision import Decision
from router_ml.core.explanation import Explanation, TierView
from router_ml.core.neighbours import Neighbour
from router_ml.core.policy import Shortfall, Single
from router_ml.core.router import Router
from router_ml.errors import InputError, QueryError

QUERY = "Prove that there are infinitely many primes."


@pytest.fixture(scope="module")
def router(artifact: Path) -> Router:
    return Router.load(artifact)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"threshold": 0.9},
        {"lam": 10.0},
        {"policy": "reference"},
        {"policy": Single("mini")},
        {"policy": Shortfall(0.5)},
        {"at": "5pt"},
        {"allowed": ["nano", "mini"]},
        {"forbidden": ["full"], "output_tokens": 50},
        {"ignore_novelty": True, "max_cost_usd": 1.0},
    ],
)
def test_the_decision_is_that_of_route(router: Router, options: dict[str, Any]) -> None:
    explained, decided = router.explain(QUERY, **options).decision, router.route(QUERY, **options)
    assert explained is not None
    assert explained._replace(cost_usd=0) == decided._replace(cost_usd=0)
    assert explained.cost_usd == pytest.approx(decided.cost_usd, rel=1e-12)


def test_each_tier_is_seen_with_what_is_predicted_of_it(router: Router) -> None:
    said, explained = router.predict([QUERY]), router.explain(QUERY)
    assert [(t.tier, t.model) for t in explained.tiers] == [(t.name, t.model) for t in router.ladder]
    for name in ("p_meets", "quality", "output_tokens", "cost_usd"):
        assert [getattr(t, name) for t in explained.tiers] == getattr(said, name)[0].tolist()
    assert explained.novelty == said.novelty[0]
    assert explained.novelty_threshold == router.metadata.novelty_threshold


def test_a_tier_that_may_not_says_why(router: Router) -> None:
    explained = router.explain(QUERY, forbidden=["nano"])
    assert [t.why_not for t in explained.tiers] == ["not allowed", None, None]


def test_where_no_tier_may_there_is_no_decision_but_an_explanation(router: Router) -> None:
    explained = router.explain(QUERY, max_cost_usd=0)
    assert explained.decision is None
    assert all("the ceiling is $0.000000" in (t.why_not or "") for t in explained.tiers)
    assert explained.to_text().startswith("No tier may take this query.\n")


def test_what_is_no_query_or_option_is_refused(router: Router) -> None:
    with pytest.raises(QueryError):
        router.explain("")
    with pytest.raises(InputError, match="threshold"):
        router.explain(QUERY, threshold=2)


def test_an_artifact_without_training_prompts_names_none(router: Router) -> None:
    assert router.explain(QUERY).neighbours == ()


@pytest.mark.parametrize("options", [{}, {"max_cost_usd": 0}])
def test_an_explanation_is_plain_json(router: Router, options: dict[str, Any]) -> None:
    explained = router.explain(QUERY, **options)
    found = json.loads(json.dumps(explained.to_dict(), allow_nan=False))
    assert [t["tier"] for t in found["tiers"]] == list(router.ladder.names)
    assert (found["decision"] or {}).get("explanation") == (explained.decision and explained.decision.explanation)


def by_hand() -> Explanation:
    decision = Decision("mini", "m", 0.9, 0.8, 0.002, "threshold", 0.85, "meets_bar", 1.25)
    tiers = (
        TierView("nano", "n", 0.5, 0.4, 100.0, 0.0001, "not allowed"),
        TierView("mini", "m", 0.9, 0.8, 100.0, 0.002, None),
    )
    return Explanation(decision, tiers, 1.25, 2.0, (Neighbour("q7", 0.875, {"nano": 0.0, "mini": 1.0}),))


def test_the_text_has_a_line_for_all_that_is_known() -> None:
    assert by_hand().to_text().splitlines() == [
        "mini is the cheapest tier whose answer is likely enough to meet the bar (90 %, threshold 85 %).",
        "  nano  p_meets 0.50  quality 0.40  $0.000100  may not: not allowed",
        "  mini  p_meets 0.90  quality 0.80  $0.002000",
        "Novelty 1.25, to the reference tier above 2.00",
        "  like q7 (0.88): nano 0.00, mini 1.00",
    ]


def test_without_a_novelty_threshold_the_text_names_none() -> None:
    assert "Novelty 1.25\n" in dataclasses.replace(by_hand(), novelty_threshold=None).to_text()


def test_neighbours_are_plain_values() -> None:
    assert by_hand().to_dict()["neighbours"] == [
        {"prompt_id": "q7", "similarity": 0.875, "quality": {"nano": 0.0, "mini": 1.0}}
    ]
