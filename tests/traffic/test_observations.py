"""Observations: the traffic as arrays by prompt and tier."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from router_ml.ladder import Ladder, Tier
from router_ml.traffic.observations import Observations, observe, slices
from router_ml.traffic.schema import SCHEMA

LADDER = Ladder((Tier("small", "s", 1, 1), Tier("large", "l", 10, 10)))
ROWS = [
    {"prompt_id": "b", "prompt": "second", "model": "l", "quality": 0.9, "cost_usd": 2.0, "output_tokens": 7},
    {"prompt_id": "a", "prompt": "first", "model": "s", "quality": 0.4, "cost_usd": 1.0, "category": "x"},
    {"prompt_id": "b", "prompt": "second", "model": "s", "quality": 0.5, "cost_usd": 1.5, "session_id": "t"},
    {"prompt_id": "a", "prompt": "first", "model": "other", "quality": 1.0, "cost_usd": 9.0},
]


@pytest.fixture
def observations() -> Observations:
    return observe(pl.DataFrame(ROWS, schema=SCHEMA), LADDER)


def test_prompts_are_sorted_by_id(observations: Observations) -> None:
    assert observations.prompt_id.tolist() == ["a", "b"]
    assert observations.prompt.tolist() == ["first", "second"]


def test_columns_follow_the_ladder_and_untried_tiers_are_nan(observations: Observations) -> None:
    assert np.array_equal(observations.quality, [[0.4, np.nan], [0.5, 0.9]], equal_nan=True)


def test_logged_costs_are_taken(observations: Observations) -> None:
    assert np.array_equal(observations.cost_usd, [[1.0, np.nan], [1.5, 2.0]], equal_nan=True)


def test_costs_not_logged_are_computed_from_the_tiers_prices() -> None:
    rows = [{"prompt_id": "a", "prompt": "p", "model": m, "input_tokens": 10**6, "output_tokens": 0} for m in "sl"]

    assert observe(pl.DataFrame(rows, schema=SCHEMA), LADDER).cost_usd.tolist() == [[1.0, 10.0]]


def test_output_tokens_not_logged_are_told_by_the_response() -> None:
    rows = [{"prompt_id": "a", "prompt": "p", "model": m, "response": "r" * 40} for m in "sl"]

    assert observe(pl.DataFrame(rows, schema=SCHEMA), LADDER).output_tokens.tolist() == [[10, 10]]


def test_output_tokens_of_a_tier_that_tells_nothing_are_the_others_mean() -> None:
    rows = [
        {"prompt_id": "a", "prompt": "p", "model": "s"},
        {"prompt_id": "a", "prompt": "p", "model": "l", "output_tokens": 7},
        {"prompt_id": "b", "prompt": "q", "model": "l"},
    ]
    seen = observe(pl.DataFrame(rows, schema=SCHEMA), LADDER)

    assert np.array_equal(seen.output_tokens, [[7, 7], [np.nan, np.nan]], equal_nan=True)


def test_texts_given_on_any_row_of_a_prompt_are_found_and_else_empty(observations: Observations) -> None:
    assert observations.session_id.tolist() == ["", "t"]
    assert observations.category.tolist() == ["x", ""]


def test_complete_prompts_have_every_tiers_quality_and_cost(observations: Observations) -> None:
    assert observations.complete.tolist() == [False, True]


@pytest.mark.parametrize("rows", [np.array([1]), np.array([False, True])])
def test_take_takes_the_rows_of_every_array(observations: Observations, rows: np.ndarray) -> None:
    taken = observations.take(rows)

    assert len(taken) == 1
    assert (taken.prompt_id[0], taken.quality.tolist(), taken.session_id[0]) == ("b", [[0.5, 0.9]], "t")


def test_row_order_of_the_traffic_does_not_matter(observations: Observations) -> None:
    again = observe(pl.DataFrame(ROWS[::-1], schema=SCHEMA), LADDER)

    assert np.array_equal(again.quality, observations.quality, equal_nan=True)


def test_slices_are_the_columns_with_more_than_one_value(observations: Observations) -> None:
    assert slices(observations) == {"category": ["x", ""]}
