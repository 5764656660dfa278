"""Which prompts are asked, and what that would cost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_ml import Router
from router_ml.core.decision import Prediction
from router_ml.errors import InputError, LadderError, TrafficError
from router_ml.ladder import Ladder, Tier
from router_ml.replay import Endpoint, ReplayOptions, estimate_replay
from router_ml.replay.messages import chat_messages
from router_ml.replay.plan import clusters, interleave, make_plan
from router_ml.replay.prices import Price, most_input_tokens, tier_prices
from router_ml.traffic.calls import calls_seconds
from router_ml.traffic.schema import SCHEMA


def table(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame([{"prompt_id": r["prompt"], "response": "yes", **r} for r in rows], schema=SCHEMA)


def test_a_tier_is_missing_where_it_never_answered(ladder: Ladder) -> None:
    plan = make_plan(
        table(
            {"prompt": "a", "model": "mini-model"},
            {"prompt": "a", "model": "full-model"},
            {"prompt": "b", "model": "full-model"},
            {"prompt": "c", "model": "other"},
            {"prompt": "d", "model": "full-model", "response": None},
        ),
        ladder,
    )

    assert plan.prompts["prompt"].to_list() == ["b", "c", "d"]
    assert plan.missing.tolist() == [[True, False], [True, True], [True, True]]


def test_equal_texts_are_asked_once(ladder: Ladder) -> None:
    traffic = table(
        {"prompt": "a", "model": "mini-model", "prompt_id": "1"}, {"prompt": "a", "model": "x", "prompt_id": "2"}
    )

    plan = make_plan(traffic, ladder)

    assert plan.prompts["prompt_id"].to_list() == ["1"]
    assert plan.missing.tolist() == [[False, True]]


def test_a_log_of_none_of_the_tiers_is_warned_of(ladder: Ladder, caplog: pytest.LogCaptureFixture) -> None:
    make_plan(table({"prompt": "a", "model": "x"}, {"prompt": "b", "model": "y"}), ladder)
    assert "None of the 2 logged rows belongs to a tier" in caplog.text


def test_a_tier_that_the_log_calls_otherwise_is_warned_of(ladder: Ladder, caplog: pytest.LogCaptureFixture) -> None:
    make_plan(
        table({"prompt": "a", "model": "mini-model"}, {"prompt": "a", "model": "full-model-2025-04-14"}),
        ladder,
    )
    assert "No logged row belongs to full-model." in caplog.text
    assert "--model-from request" in caplog.text


def test_a_tier_that_was_never_tried_is_not_warned_of(ladder: Ladder, caplog: pytest.LogCaptureFixture) -> None:
    make_plan(table({"prompt": "a", "model": "mini-model"}), ladder)
    assert caplog.text == ""


def test_prompts_without_their_images_are_left_out(ladder: Ladder) -> None:
    plan = make_plan(table({"prompt": "What?\n[image_url]", "model": "x"}, {"prompt": "a", "model": "x"}), ladder)

    assert (plan.prompts["prompt"].to_list(), plan.n_left_out) == (["a"], 1)


def test_a_complete_table_has_nothing_to_replay(ladder: Ladder) -> None:
    traffic = table({"prompt": "a", "model": "mini-model"}, {"prompt": "a", "model": "full-model"})

    with pytest.raises(TrafficError, match="nothing to replay"):
        make_plan(traffic, ladder)


@pytest.mark.parametrize("choose", ["all", "random", "informative"])
def test_a_shorter_plan_is_the_head_of_a_longer(
    choose: Any, ladder: Ladder, make_traffic: Callable[[int], pl.DataFrame]
) -> None:
    traffic = make_traffic(40)
    ids = [make_plan(traffic, ladder, choose=choose, n_prompts=n).prompts["prompt_id"].to_list() for n in (10, None)]

    assert ids[0] == ids[1][:10]
    assert sorted(ids[1]) == traffic["prompt_id"].to_list()


def test_another_seed_is_another_sample(ladder: Ladder, make_traffic: Callable[[int], pl.DataFrame]) -> None:
    plans = [make_plan(make_traffic(40), ladder, choose="random", random_state=s) for s in (0, 1)]

    assert plans[0].prompts["prompt_id"].to_list() != plans[1].prompts["prompt_id"].to_list()


def test_the_informative_come_from_all_clusters(ladder: Ladder) -> None:
    sums = [f"add the numbers {i} and {i + 1} please" for i in range(140)]
    poems = [f"write verse about roses number {i}" for i in range(4)]
    traffic = table(*({"prompt": p, "model": "x"} for p in sums + poems))

    head = make_plan(traffic, ladder, choose="informative", n_prompts=12).prompts["prompt"].to_list()

    assert any(p.startswith("write") for p in head)


def test_clusters_dont_mix_topics() -> None:
    texts = [f"{w} {i}" for i in range(40) for w in ("ripe red apples and pears", "fast cars on wet roads")]

    groups = clusters(texts, random_state=0)

    assert not set(groups[::2].tolist()) & set(groups[1::2].tolist())


class KnowingRouter:
    """A router whose predictions are given: for prompt i, p_meets[i] of its one tier and novelty[i]."""

    def __init__(self, p_meets: list[float], novelty: list[float]) -> None:
        self.ladder = Ladder((Tier("full", "full-model"),))
        self._p, self._novelty = np.array(p_meets, dtype=np.float32), np.array(novelty, dtype=np.float32)

    def predict(self, queries: list[str]) -> Prediction:
        rows = [int(q.split()[1]) for q in queries]
        p = self._p[rows, None]
        return Prediction(p, p, p, p.astype(np.float64), self._novelty[rows], p.astype(np.float64))


@pytest.mark.parametrize(
    ("p_meets", "novelty", "order"),
    [([0.9, 0.5, 0.99], [1, 1, 1], [1, 0, 2]), ([0.9, 0.9, 0.9], [1, 3, 2], [1, 2, 0])],
    ids=["doubt", "novelty"],
)
def test_within_a_cluster_doubt_and_novelty_come_first(
    p_meets: list[float], novelty: list[float], order: list[int], ladder: Ladder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router_ml.replay.plan._MAX_CLUSTERS", 1)
    traffic = table(*({"prompt": f"prompt {i}", "model": "mini-model"} for i in range(3)))

    plan = make_plan(traffic, ladder, choose="informative", router=cast(Router, KnowingRouter(p_meets, novelty)))

    assert plan.prompts["prompt"].to_list() == [f"prompt {i}" for i in order]


def test_a_router_of_other_models_cant_choose() -> None:
    router = cast(Router, KnowingRouter([0.5] * 3, [1] * 3))

    with pytest.raises(InputError, match="knows none"):
        make_plan(
            table({"prompt": "prompt 1", "model": "x"}, {"prompt": "prompt 2", "model": "x"}),
            Ladder((Tier("mini", "mini-model"),)),
            choose="informative",
            router=router,
        )


@pytest.mark.parametrize("options", [{"choose": "best"}, {"n_prompts": 0}])
def test_bad_options_are_refused(options: Any, ladder: Ladder, make_traffic: Callable[[int], pl.DataFrame]) -> None:
    with pytest.raises(InputError):
        make_plan(make_traffic(2), ladder, **options)


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(0, 1)), max_size=30))
def test_interleaving_takes_one_of_each_in_turn(items: list[tuple[int, float]]) -> None:
    groups = np.array([g for g, _ in items], dtype=np.intp)
    order = interleave(groups, np.array([s for _, s in items], dtype=np.float64))

    assert sorted(order.tolist()) == list(range(len(items)))
    n_groups = len(set(groups.tolist()))
    assert len(set(groups[order[:n_groups]].tolist())) == n_groups


def test_clusters_are_the_same_each_time() -> None:
    texts = [f"{w} {i}" for i in range(20) for w in ("red apples", "fast cars")]

    assert (clusters(texts, random_state=3) == clusters(texts, random_state=3)).all()


@given(st.text(max_size=200))
def test_no_tokenizer_needs_more_tokens_than_bytes(prompt: str) -> None:
    from tokenizers import ByteLevelBPETokenizer  # type: ignore[attr-defined]

    assert len(ByteLevelBPETokenizer().encode(prompt).ids) <= most_input_tokens(chat_messages(prompt))


def test_prices_are_the_ladders_or_listed(ladder: Ladder) -> None:
    listed = tier_prices(Ladder((Tier("nano", "gpt-4.1-nano"),)))

    assert tier_prices(ladder)[0] == Price(1e-5, 4e-5, 0.0)
    assert listed[0].output_usd == pytest.approx(0.4e-6)


def test_nothing_is_bought_at_an_unknown_price() -> None:
    with pytest.raises(LadderError, match="no price"):
        tier_prices(Ladder((Tier("mine", "my-own-model"),)))


def test_an_estimate_can_be_checked_by_hand(ladder: Ladder) -> None:
    traffic = table(
        {"prompt": "a" * 40, "model": "mini-model", "input_tokens": 10, "output_tokens": 5},
        {"prompt": "b" * 40, "model": "other", "output_tokens": 15},
    )

    got = estimate_replay(traffic, ladder, [Endpoint(max_tokens=100)] * 2)

    mini, full = got.tiers
    assert (mini.n_calls, mini.input_tokens, mini.output_tokens) == (1, 10, 5)
    # The log holds none of full's answers: as long as all of them, 10 tokens.
    assert (full.n_calls, full.input_tokens, full.output_tokens) == (2, 20, 20)
    assert mini.expected_usd == pytest.approx(10 * 1e-5 + 5 * 4e-5)
    assert full.expected_usd == pytest.approx(20 * 1e-3 + 20 * 4e-3)
    assert full.worst_usd == pytest.approx(2 * ((40 + 64 + 16) * 1e-3 + 100 * 4e-3))
    assert "2 prompts" in got.summary()
    # Two calls of 10 tokens, 8 at a time; mini's one call is asked beside them.
    assert got.seconds == calls_seconds(2, 10, 8)
    assert "Takes about 10 seconds" in got.summary()


def test_an_estimate_says_how_far_a_budget_reaches(ladder: Ladder, make_traffic: Callable[[int], pl.DataFrame]) -> None:
    each = (9 * 10 + 6 * 40 + 9 * 1000 + 6 * 4000) / 1e6

    got = estimate_replay(make_traffic(20), ladder, [Endpoint()] * 2, options=ReplayOptions(max_usd=each * 7.5))

    assert got.n_affordable == 7


def test_a_batch_is_estimated_at_half_the_price(ladder: Ladder, make_traffic: Callable[[int], pl.DataFrame]) -> None:
    live, batch = (
        estimate_replay(make_traffic(5), ladder, [Endpoint()] * 2, options=ReplayOptions(batch=b))
        for b in (False, True)
    )

    assert batch.expected_usd == pytest.approx(live.expected_usd / 2)
    assert batch.worst_usd == pytest.approx(live.worst_usd / 2)
