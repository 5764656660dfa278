"""Ladders resolved against traffic: order, prices looked up or estimated, and what contradicts what."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from router_ml.errors import LadderError
from router_ml.ladder import Ladder, Tier
from router_ml.traffic.prices import (
    call_costs,
    call_tokens,
    dated_names,
    estimate_prices,
    list_price,
    mean_cost,
    resolve_ladder,
    token_counts,
)
from router_ml.traffic.schema import SCHEMA

NANO, NANO_IN, NANO_OUT = "gpt-4.1-nano", 0.10, 0.40
"""OpenAI's list price in USD per million tokens (https://platform.openai.com/docs/pricing)."""


def table(*rows: dict[str, object]) -> pl.DataFrame:
    return pl.DataFrame([{"prompt_id": str(i), "prompt": "p" * 40, **r} for i, r in enumerate(rows)], schema=SCHEMA)


def calls(model: str, price_in: float, price_out: float, n: int = 20, call: float = 0.0) -> list[dict[str, object]]:
    """Logged calls charged at so many USD per million tokens, and so many a call."""
    tokens = np.random.default_rng(0).integers(10, 1000, (n, 2)).tolist()
    return [
        {
            "model": model,
            "input_tokens": i,
            "output_tokens": o,
            "cost_usd": (i * price_in + o * price_out) / 1e6 + call,
        }
        for i, o in tokens
    ]


def cost(model: str, usd: float) -> dict[str, object]:
    return {"model": model, "cost_usd": usd, "input_tokens": 10, "output_tokens": 10}


def test_tiers_come_out_by_mean_cost() -> None:
    traffic = table(cost("x", 3), cost("y", 1), cost("z", 0), cost("z", 4))

    assert resolve_ladder(traffic).ladder.names == ("y", "z", "x")


def test_given_ladder_is_put_in_order_by_what_was_paid() -> None:
    ladder = Ladder((Tier("small", "x", 1, 1), Tier("large", "y", 2, 2)))

    assert resolve_ladder(table(cost("x", 5), cost("y", 1)), ladder).ladder.names == ("large", "small")


def test_given_prices_are_kept() -> None:
    ladder = Ladder((Tier("a", "x", 1, 1), Tier("b", "y", 2, 2)))

    assert resolve_ladder(table(cost("x", 1), cost("y", 2)), ladder).ladder == ladder


def test_prices_are_recovered_from_logged_costs() -> None:
    resolved = resolve_ladder(table(*calls("x", 0.3, 1.2), *calls("y", 2.0, 8.0)))
    prices = [(t.input_usd_per_mtok, t.output_usd_per_mtok) for t in resolved.ladder]

    assert prices == [pytest.approx((0.3, 1.2)), pytest.approx((2.0, 8.0))]


def test_estimated_prices_are_said_to_be() -> None:
    resolved = resolve_ladder(table(*calls("x", 0.3, 1.2), *calls("y", 2.0, 8.0)))

    assert {t.price_source for t in resolved.ladder} == {"estimated"}
    assert resolved.notes[0].startswith(
        "x: prices estimated from 20 logged costs (no list price is known): $0.3 in, $1.2 out"
    )


def test_estimated_prices_are_never_negative() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, 100, (50, 2)).astype(float)

    assert (estimate_prices(tokens, 100 - tokens[:, 0]) >= 0).all()


def test_calls_without_tokens_are_priced_by_the_call() -> None:
    assert estimate_prices(np.zeros((4, 2)), np.array([1.0, 2.0, 3.0, 2.0])).tolist() == [0, 0, 2]


def test_free_calls_cost_nothing() -> None:
    assert estimate_prices(np.ones((3, 2)), np.zeros(3)).tolist() == [0, 0, 0]


def test_list_price_is_looked_up() -> None:
    tier = list_price(Tier("t", NANO))

    assert tier is not None
    assert (tier.input_usd_per_mtok, tier.output_usd_per_mtok) == (pytest.approx(NANO_IN), pytest.approx(NANO_OUT))


def test_unknown_model_has_no_list_price() -> None:
    assert list_price(Tier("t", "no-such-model")) is None


def test_list_price_is_used_where_no_cost_was_logged() -> None:
    traffic = table({"model": NANO}, cost("dear", 9))
    resolved = resolve_ladder(traffic)

    assert resolved.ladder[0].price_source == "genai-prices"
    assert f"{NANO}: no logged cost; list price (genai-prices)." in resolved.notes


def test_list_price_is_used_where_the_logged_costs_agree() -> None:
    resolved = resolve_ladder(table(*calls(NANO, NANO_IN * 1.05, NANO_OUT * 1.05), cost("dear", 9)))

    assert resolved.ladder[0].price_source == "genai-prices"
    assert resolved.ladder[0].input_usd_per_mtok == pytest.approx(NANO_IN)


def test_logged_costs_win_over_a_list_price_that_they_contradict() -> None:
    resolved = resolve_ladder(table(*calls(NANO, 1.0, 4.0), cost("dear", 9)))

    assert resolved.ladder[0].input_usd_per_mtok == pytest.approx(1.0)
    assert any(n.startswith(NANO) and "(the list price contradicts them)" in n for n in resolved.notes)


def test_tier_without_any_price_is_an_error_that_names_it() -> None:
    with pytest.raises(LadderError, match="Tier 'mystery' has no price"):
        resolve_ladder(table({"model": "mystery"}, cost("y", 1)))


def test_model_that_the_traffic_lacks_is_named() -> None:
    ladder = Ladder((Tier("a", "x", 1, 1), Tier("b", "absent", 2, 2)))

    with pytest.raises(LadderError, match=r"no answer of \['absent'\].*it holds \['x', 'y'\]"):
        resolve_ladder(table(cost("x", 1), cost("y", 2)), ladder)


def test_models_that_the_ladder_lacks_are_noted() -> None:
    ladder = Ladder((Tier("a", "x", 1, 1), Tier("b", "y", 2, 2)))
    resolved = resolve_ladder(table(cost("x", 1), cost("y", 2), cost("w", 1), cost("v", 1)), ladder)

    assert resolved.notes == ("Left out, since the ladder doesn't name them: v, w.",)


def test_one_tier_is_not_enough() -> None:
    with pytest.raises(LadderError, match="one tier only"):
        resolve_ladder(table(cost("x", 1)))


def test_costs_not_logged_are_computed_from_tokens() -> None:
    rows = table({"model": "x", "input_tokens": 1000, "output_tokens": 500}, cost("x", 7))

    assert call_costs(Tier("t", "x", 2.0, 8.0, request_usd=1.0), rows).tolist() == pytest.approx([1.006, 7])


def test_mean_cost_mixes_logged_and_computed_costs() -> None:
    rows = table({"model": "x", "input_tokens": 1_000_000, "output_tokens": 0}, cost("x", 5))

    assert mean_cost(Tier("t", "x", 1.0, 1.0), rows) == pytest.approx(3.0)


def test_tokens_not_logged_are_a_quarter_of_the_characters() -> None:
    rows = table(
        {"model": "x", "response": "r" * 8}, {"model": "x"}, {"model": "x", "input_tokens": 3, "output_tokens": 4}
    )

    assert np.array_equal(token_counts(rows), [[10, 2], [10, np.nan], [3, 4]], equal_nan=True)


# What is not known is not 0


def test_one_answer_of_unknown_length_costs_what_the_tiers_others_do() -> None:
    rows = table({"model": "x", "input_tokens": 0, "output_tokens": 10**6}, {"model": "x", "input_tokens": 0})

    assert call_costs(Tier("t", "x", 1.0, 8.0), rows).tolist() == [8.0, 8.0]


def test_a_tier_of_unknown_lengths_answers_as_the_others_do() -> None:
    """Taken as 0 tokens long, gpt-4.1's answers would cost less than gpt-4.1-mini's, a fifth of its price."""
    traffic = table(
        *({"model": "gpt-4.1-mini", "input_tokens": 10, "output_tokens": 100} for _ in range(3)), {"model": "gpt-4.1"}
    )
    resolved = resolve_ladder(traffic)

    assert resolved.ladder.models == ("gpt-4.1-mini", "gpt-4.1")
    (warning,) = resolved.warnings
    assert warning.startswith("gpt-4.1: neither output_tokens nor response is logged")
    assert "100 tokens on the mean" in warning
    assert mean_cost(resolved.ladder[1], traffic[3:], 100.0) == pytest.approx((10 * 2.0 + 100 * 8.0) / 1e6)


def test_where_no_length_is_known_prices_alone_tell() -> None:
    resolved = resolve_ladder(table({"model": NANO}, {"model": "gpt-4.1"}))

    assert resolved.ladder.models == (NANO, "gpt-4.1")
    assert all("neither output_tokens nor response is logged" in w and "200 tokens" in w for w in resolved.warnings)
    assert len(resolved.warnings) == 2


def test_prices_of_a_call_do_where_no_length_is_known() -> None:
    ladder = Ladder((Tier("a", "x", 0, 0, request_usd=2.0), Tier("b", "y", 0, 0, request_usd=1.0)))

    assert resolve_ladder(table({"model": "x"}, {"model": "y"}), ladder).ladder.names == ("b", "a")


def test_costs_without_tokens_do_not_contradict_a_list_price() -> None:
    """Calls of 10 tokens in and 90 out; their lengths are what the logged cost pays for."""
    usd = (10 * NANO_IN + 90 * NANO_OUT) / 1e6
    traffic = table(*({"model": NANO, "cost_usd": usd} for _ in range(3)), cost("dear", 9))
    resolved = resolve_ladder(traffic)
    tier = resolved.ladder[0]

    assert (tier.model, tier.price_source) == (NANO, "genai-prices")
    assert call_tokens(tier, traffic[:3])[:, 1].tolist() == pytest.approx([90, 90, 90])
    assert any("can't be checked" in w and w.startswith(NANO) for w in resolved.warnings)


def test_costs_without_tokens_and_without_a_list_price_are_the_mean_of_a_call() -> None:
    resolved = resolve_ladder(
        table({"model": "x", "cost_usd": 1.0}, {"model": "x", "cost_usd": 3.0}, cost("dear", 9), cost("dear", 9))
    )
    tier = resolved.ladder[0]

    assert (tier.model, tier.input_usd_per_mtok, tier.output_usd_per_mtok, tier.request_usd) == ("x", 0, 0, 2.0)


def test_costs_that_are_all_0_do_not_beat_a_list_price() -> None:
    traffic = table(*calls(NANO, 0.0, 0.0), *calls("gpt-4.1-mini", 0.4, 1.6))
    resolved = resolve_ladder(traffic)
    nano = resolved.ladder[0]

    assert (nano.model, nano.input_usd_per_mtok) == (NANO, pytest.approx(NANO_IN))
    assert mean_cost(nano, traffic.filter(model=NANO)) > 0
    assert any(w.startswith(f"{NANO}: each logged cost_usd is 0") for w in resolved.warnings)


def test_a_tier_that_is_said_to_be_free_stays_free() -> None:
    ladder = Ladder((Tier("own", "x", 0, 0), Tier("b", "y", 2, 2)))
    resolved = resolve_ladder(table(cost("x", 0), cost("y", 2)), ladder)

    assert (mean_cost(resolved.ladder[0], table(cost("x", 0))), resolved.warnings) == (0, ())


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("gpt-4.1", "gpt-4.1-2025-04-14"),
        ("gpt-4.1-2025-04-14", "gpt-4.1"),
        ("claude-3-5-sonnet", "claude-3-5-sonnet-20241022"),
        ("gpt-4", "gpt-4-0613"),
        ("gpt-4.1", "openai/gpt-4.1"),
        ("gpt-4.1", "openai/gpt-4.1-2025-04-14"),
    ],
)
def test_a_model_is_known_under_its_dated_name(ours: str, theirs: str) -> None:
    said = dated_names([ours], ["other", theirs])
    assert f"{ours} as {theirs}" in said
    assert "--model-from request" in said


def test_another_model_is_no_dated_name() -> None:
    assert dated_names(["gpt-4.1", "gpt-4"], ["gpt-4.1-mini-2025-04-14", "gpt-4o"]) == ""


def test_a_ladder_of_undated_names_is_told_how_to_import_the_log() -> None:
    traffic = table(*calls("gpt-4.1-2025-04-14", 2, 8), *calls("gpt-4.1-nano-2025-04-14", 0.1, 0.4))
    with pytest.raises(LadderError, match="--model-from request"):
        resolve_ladder(traffic, Ladder((Tier(name="nano", model=NANO), Tier(name="full", model="gpt-4.1"))))
