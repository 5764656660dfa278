"""What a router decides, and what it refuses."""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from router_ml.core.artifact import Artifact, read_artifact
from router_ml.core.decision import Decision
from router_ml.core.menu import OperatingPoint
from router_ml.core.policy import Reference, Shortfall, Single, Threshold, Utility
from router_ml.core.probes import Probes
from router_ml.core.router import Router
from router_ml.errors import ArtifactError, InputError, QueryError
from router_ml.ladder import Ladder

QUERIES = [f"Question {i}: " + "why is that so? " * (i * 37 % 50) for i in range(600)]
"""More than two runs of the graph, of lengths that are out of order."""


@pytest.fixture(scope="module")
def loaded(artifact: Path) -> Artifact:
    return read_artifact(artifact)


@pytest.fixture(scope="module")
def router(loaded: Artifact) -> Router:
    return Router(loaded)


def with_windows(artifact: Artifact, *windows: int | None) -> Router:
    ladder = Ladder(
        tuple(dataclasses.replace(t, context_window=w) for t, w in zip(artifact.metadata.ladder, windows, strict=True))
    )
    return Router(
        dataclasses.replace(
            artifact, metadata=dataclasses.replace(artifact.metadata, ladder=ladder, novelty_threshold=None)
        )
    )


def test_load_answers_as_the_artifact_does(artifact: Path, router: Router) -> None:
    assert Router.load(artifact).route("Hello") == router.route("Hello")


def test_a_router_can_be_loaded_with_more_threads(artifact: Path, router: Router) -> None:
    assert Router.load(artifact, threads=2).route("Hello").tier == router.route("Hello").tier


@pytest.mark.parametrize("options", [{"threshold": 0.6}, {"threshold": 1.0}, {"lam": 5.0}, {"lam": 0.0}])
def test_route_is_a_batch_of_one(router: Router, options: dict[str, float]) -> None:
    alone, batch = router.route("Hello", **options), router.route_batch(["Hello"], **options)[0]
    assert alone._replace(cost_usd=0) == batch._replace(cost_usd=0)
    assert alone.cost_usd == pytest.approx(batch.cost_usd, rel=1e-12)


def test_a_decision_holds_what_was_predicted(router: Router) -> None:
    decision, prediction = router.route("Hello"), router.predict(["Hello"])
    k = router.ladder.index(decision.tier)
    assert (decision.p_meets, decision.quality) == (prediction.p_meets[0, k], prediction.quality[0, k])
    assert decision.cost_usd == pytest.approx(prediction.cost_usd[0, k], rel=1e-12)


def test_a_batch_keeps_its_order(router: Router) -> None:
    alone = [router.predict([q]).p_meets[0] for q in QUERIES[::50]]
    np.testing.assert_allclose(router.predict(QUERIES).p_meets[::50], alone, atol=1e-5)


def test_predictions_have_a_row_a_query_and_a_column_a_tier(router: Router) -> None:
    prediction = router.predict(QUERIES)
    tables = (
        prediction.p_meets,
        prediction.quality,
        prediction.output_tokens,
        prediction.cost_usd,
        prediction.input_tokens,
    )
    assert {t.shape for t in tables} == {(600, 3)}


def test_novelty_is_one_figure_a_query(router: Router) -> None:
    assert router.predict(QUERIES).novelty.shape == (600,)


@pytest.mark.parametrize("name", ["p_meets", "quality"])
def test_probabilities_and_qualities_lie_between_0_and_1(router: Router, name: str) -> None:
    values = getattr(router.predict(QUERIES), name)
    assert ((values >= 0) & (values <= 1)).all()


def test_cost_is_what_the_ladder_asks_for_the_tokens(router: Router) -> None:
    prediction = router.predict(["Hello", "x" * 1000])
    expected = router.ladder.cost_usd(prediction.input_tokens, prediction.output_tokens)
    np.testing.assert_array_equal(prediction.cost_usd, expected)


def test_a_longer_prompt_costs_more_to_read(router: Router) -> None:
    short, long = router.predict(["x " * 10, "x " * 10_000]).input_tokens
    assert (long > short).all()


def test_no_queries_give_no_decisions(router: Router) -> None:
    assert router.route_batch([]) == []


def test_no_queries_give_empty_tables(router: Router) -> None:
    assert router.predict([]).cost_usd.shape == (0, 3)


def test_a_string_and_its_message_are_one_query(router: Router) -> None:
    assert router.route([{"role": "user", "content": "Hello"}]) == router.route("Hello")


def test_text_without_a_known_token_is_answered(router: Router) -> None:
    assert router.route("\ue000").tier in router.ladder.names


def test_a_prompt_of_5_mb_is_answered_where_no_window_is_known(loaded: Artifact) -> None:
    assert with_windows(loaded, None, None, None).route("word " * 1_000_000, threshold=0).tier == "nano"


def test_many_threads_decide_as_one_does(router: Router) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(router.route, QUERIES[:200])) == [router.route(q) for q in QUERIES[:200]]


# Policies


def test_threshold_0_takes_the_cheapest_tier(router: Router) -> None:
    assert {d.tier for d in router.route_batch(QUERIES, threshold=0)} == {"nano"}


def test_threshold_1_takes_the_likeliest_where_none_is_certain(router: Router) -> None:
    p_meets = router.predict(QUERIES).p_meets
    chosen = [router.ladder.index(d.tier) for d in router.route_batch(QUERIES, threshold=1)]
    assert chosen == p_meets.argmax(axis=1).tolist()


def test_without_a_policy_the_default_operating_point_is_used(router: Router) -> None:
    decision, default = router.route("Hello"), router.default
    assert (decision.policy, decision.parameter) == (default.policy.kind, default.policy.parameter)


def test_the_default_gives_up_at_most_a_point_of_quality(router: Router) -> None:
    assert (router.default.name, router.default.max_quality_drop) == ("1pt", 0.01)


def test_each_point_of_the_menu_is_usable_by_its_name(router: Router) -> None:
    for point in router.menu.points:
        decision = router.route("Hello", at=point.name)
        assert (decision.policy, decision.parameter) == (point.policy.kind, point.policy.parameter)


def test_a_point_decides_as_its_policy_does(router: Router) -> None:
    queries = QUERIES[:50]
    for point in router.menu.points:
        assert router.route_batch(queries, at=point.name) == router.route_batch(queries, policy=point.policy)


def test_a_bolder_point_never_costs_more(router: Router) -> None:
    costs = [
        np.array([d.cost_usd for d in router.route_batch(QUERIES[:100], at=name)]) for name in ("0pt", "1pt", "5pt")
    ]
    for safer, bolder in itertools.pairwise(costs):
        assert (bolder <= safer + 1e-12).all()


def test_the_menu_is_the_artifacts(router: Router) -> None:
    assert router.menu == router.metadata.menu
    assert router.default in router.menu.points


@pytest.mark.parametrize(("short", "policy"), [({"threshold": 0.5}, Threshold(0.5)), ({"lam": 20.0}, Utility(20.0))])
def test_an_option_is_short_for_its_policy(router: Router, short: dict[str, Any], policy: Threshold | Utility) -> None:
    assert router.route_batch(QUERIES[:50], **short) == router.route_batch(QUERIES[:50], policy=policy)


def test_a_decision_names_its_policy_by_its_kind(router: Router) -> None:
    policies = (Shortfall(0.1), Threshold(0.5), Utility(1.0), Reference(), Single("mini"))
    kinds = [router.route("Hello", policy=policy).policy for policy in policies]
    assert kinds == ["shortfall", "threshold", "utility", "reference", "single"]


def test_against_the_reference_tier_a_decision_loses_at_most_epsilon_for_each_call_saved(router: Router) -> None:
    prediction, reference = router.predict(QUERIES), router.ladder.index(router.metadata.reference)
    decisions = router.route_batch(QUERIES, policy=Shortfall(0.3), ignore_novelty=True)
    lost = prediction.quality[:, reference] - np.array([d.quality for d in decisions])
    saved = prediction.cost_usd[:, reference] - np.array([d.cost_usd for d in decisions])
    assert (lost <= 0.3 * saved / router.metadata.reference_cost_usd + 1e-9).all()


def test_a_stream_of_queries_is_answered_as_they_come(router: Router) -> None:
    # An endless stream: nothing but reading ahead a little can answer it.
    decisions = router.route_iter(QUERIES[i % 600] for i in itertools.count())
    expected = [d.tier for d in router.route_batch((QUERIES * 3)[:1500])]
    assert [d.tier for d in itertools.islice(decisions, 1500)] == expected


def test_parts_of_a_stream_are_the_whole(router: Router) -> None:
    parts = list(router.predict_iter(QUERIES * 4))
    assert len(parts) > 1
    np.testing.assert_array_equal(np.concatenate([p.p_meets for p in parts]), router.predict(QUERIES * 4).p_meets)


def test_a_threshold_given_is_in_the_decision(router: Router) -> None:
    assert router.route("Hello", threshold=0.25).parameter == 0.25


def test_utility_at_lam_0_takes_the_best_quality(router: Router) -> None:
    quality = router.predict(QUERIES).quality
    chosen = [router.ladder.index(d.tier) for d in router.route_batch(QUERIES, lam=0)]
    assert chosen == quality.argmax(axis=1).tolist()


def test_utility_at_a_huge_lam_takes_the_cheapest_tier(router: Router) -> None:
    cost = router.predict(QUERIES).cost_usd
    chosen = [router.ladder.index(d.tier) for d in router.route_batch(QUERIES, lam=1e12)]
    assert chosen == cost.argmin(axis=1).tolist()


def test_only_allowed_tiers_are_chosen(router: Router) -> None:
    assert {d.tier for d in router.route_batch(QUERIES, threshold=0, allowed=["full", "mini"])} == {"mini"}


def test_a_tier_may_be_allowed_by_its_models_name(router: Router) -> None:
    assert router.route("Hello", allowed={"gpt-4.1"}).tier == "full"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"threshold": -0.1}, r"-0\.1.*\[0, 1\]"),
        ({"threshold": 1.5}, r"1\.5.*\[0, 1\]"),
        ({"threshold": math.nan}, "nan"),
        ({"threshold": "high"}, "'high'"),
        ({"threshold": 10**400}, "threshold is 1000"),
        ({"policy": Threshold(0.5), "lam": 1.0}, "'policy' and 'lam' are given together"),
        ({"threshold": 0.5, "lam": 1.0}, "'threshold' and 'lam' are given together"),
        ({"at": "1pt", "threshold": 0.5}, "'at' and 'threshold' are given together"),
        ({"at": "3pt"}, "no operating point '3pt'; its menu holds: 0pt, 0.5pt, 1pt, 2pt, 5pt"),
        ({"treshold": 0.5}, "no option 'treshold'. Did you mean 'threshold'"),
        ({"lam": -1}, "-1"),
        ({"lam": math.inf}, "inf"),
        ({"lam": "much"}, "'much'"),
        ({"policy": "cheap"}, "The policy is 'cheap'; it needs to be a value of router_ml.core.policy"),
        ({"policy": Single("huge")}, "'huge'; the tiers are nano, mini, full"),
        ({"allowed": []}, "non-empty"),
        ({"allowed": "mini"}, "non-empty collection"),
        ({"allowed": ["huge"]}, "'huge'.*nano, mini, full"),
    ],
)
def test_an_option_out_of_range_is_refused(router: Router, options: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        router.route("Hello", **options)


@pytest.mark.parametrize("query", ["", " ", "a\0", "\ud800", None, b"x", [{"role": "user"}]])
def test_what_is_no_query_is_refused(router: Router, query: Any) -> None:
    with pytest.raises(QueryError):
        router.route(query)


@pytest.mark.parametrize("queries", ["Hello", {"role": "user", "content": "Hello"}, None])
def test_what_is_no_sequence_is_no_batch(router: Router, queries: Any) -> None:
    with pytest.raises(InputError, match=f"'queries' is a {type(queries).__name__}"):
        router.route_batch(queries)


@pytest.mark.parametrize("threads", [0, -1, "2"])
def test_threads_are_a_number(loaded: Artifact, threads: Any) -> None:
    with pytest.raises(InputError, match=f"'threads' is {threads!r}"):
        Router(loaded, threads=threads)


@pytest.mark.parametrize("n", [0, 5, 1500, 5000])
@pytest.mark.parametrize("what", ["source", "query", "tier"])
def test_a_stream_that_fails_gives_first_what_came_before(loaded: Artifact, n: int, what: str) -> None:
    router = with_windows(loaded, 500, 500, 500)

    def source() -> Iterator[str]:
        for i in range(n):
            yield f"question {i % 50}"
        if what == "source":
            raise ZeroDivisionError
        yield " " if what == "query" else "words " * 20_000
        yield "never read"

    decisions: list[Decision] = []
    with pytest.raises(ZeroDivisionError if what == "source" else QueryError) as failure:
        decisions.extend(router.route_iter(source()))

    assert len(decisions) == n
    assert what == "source" or str(failure.value).startswith(f"Query {n} (from 0): ")


# What a router says of itself


def test_a_router_names_its_file_tiers_default_and_learner(artifact: Path) -> None:
    router = Router.load(artifact)
    assert repr(router) == "Router('router.onnx': nano < mini < full; default 1pt; learner logistic)"


@pytest.mark.parametrize("path", ["router.onnx", Path("router.onnx"), None])
def test_a_router_of_a_path_says_how_to_load_it(path: Any) -> None:
    with pytest.raises(InputError, match=r"Use Router\.load\(path\)"):
        Router(path)


def test_a_router_without_an_acceptance_model_can_be_inspected(router: Router) -> None:
    found = dict(inspect.getmembers(router))
    assert (found["can_accept"], found["caution"], found["probes"]) == (False, 1.0, Probes())


def test_an_artifact_whose_default_is_another_point_decides_by_that(loaded: Artifact) -> None:
    points = (*loaded.metadata.points, OperatingPoint("cheap", Single("nano")))
    metadata = dataclasses.replace(loaded.metadata, points=points, default="cheap", novelty_threshold=None)
    router = Router(dataclasses.replace(loaded, metadata=metadata))
    assert (router.route("Hello").tier, router.default.name) == ("nano", "cheap")


# Context windows


def test_a_tier_whose_window_is_too_small_is_passed_over(loaded: Artifact) -> None:
    assert with_windows(loaded, 100, None, None).route("word " * 1000, threshold=0).tier == "mini"


def test_a_short_prompt_still_goes_to_the_small_window(loaded: Artifact) -> None:
    decisions = with_windows(loaded, 100, None, None).route_batch(["word " * 1000, "Hi"], threshold=0)
    assert [d.tier for d in decisions] == ["mini", "nano"]


def test_a_prompt_too_long_for_every_tier_is_refused_naming_each(loaded: Artifact) -> None:
    with pytest.raises(QueryError, match=r"nano: about [\d,]+ tokens.*100; mini: .*200; full: .*300\)"):
        with_windows(loaded, 100, 200, 300).route("word " * 10_000)


def test_the_refusal_says_which_tiers_were_not_allowed(loaded: Artifact) -> None:
    with pytest.raises(QueryError, match="full: not allowed"):
        with_windows(loaded, 100, 200, None).route("word " * 10_000, allowed={"nano", "mini"})


def test_a_window_is_as_full_of_chinese_as_of_as_many_bytes(loaded: Artifact) -> None:
    router = with_windows(loaded, 1000, None, None)
    texts = ["word " * 600, "长文" * 300, "长文" * 700]

    assert [router.route(text, threshold=0).tier for text in texts] == ["nano", "nano", "mini"]
    assert [d.tier for d in router.route_batch(texts, threshold=0)] == ["nano", "nano", "mini"]


# What a decision says


@pytest.mark.parametrize(
    ("options", "reason", "says"),
    [
        ({"threshold": 0.0}, "meets_bar", "nano is the cheapest tier whose answer is likely enough"),
        ({"threshold": 1.0}, "none_meets_bar", "No tier reaches the threshold of 100 %"),
        ({"lam": 1e9}, "best_utility", "nano will do: it would meet the bar with"),
        ({"policy": Shortfall(1e9)}, "will_do", "nano will do: it would meet the bar with"),
        ({"policy": "reference"}, "reference", "full was taken because the policy is always the reference tier"),
        ({"policy": Single("mini")}, "single", "mini was taken because the policy is always one tier"),
        ({"allowed": {"mini"}}, "only_tier", "mini is the only tier that may take this query."),
    ],
)
def test_a_decision_says_why(router: Router, options: dict[str, Any], reason: str, says: str) -> None:
    decision = router.route("Prove it.", **options)
    assert (decision.reason, says in decision.explanation) == (reason, True)


def test_the_sentence_of_a_met_bar_holds_both_probabilities() -> None:
    decision = Decision("mini", "gpt-4.1-mini", 0.834, 0.8, 0.001, "threshold", 0.8, "meets_bar", 1.0)
    assert decision.explanation.endswith("(83 %, threshold 80 %).")


# Files that pass the checks of their bytes and still can't be run


def test_a_graph_that_onnxruntime_cannot_load_is_refused(loaded: Artifact) -> None:
    with pytest.raises(ArtifactError, match="onnxruntime"):
        Router(dataclasses.replace(loaded, model=b"\x3a\x03abc"))


def test_a_tokenizer_that_cannot_be_read_is_refused(loaded: Artifact) -> None:
    with pytest.raises(ArtifactError, match="tokenizer"):
        Router(dataclasses.replace(loaded, tokenizer="{}"))
