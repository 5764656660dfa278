from __future__ import annotations

import numpy as np
import pytest

from router_ml.errors import InputError
from router_ml.evaluation import Row, summary_table
from router_ml.evaluation.controls import oracle_choice


@pytest.fixture
def rows(example):
    quality, cost, _ = example
    found = summary_table(
        quality, cost, tiers=["mini", "full"], default_choice=[0, 1, 0, 1], settings={"high": [1, 1, 1, 1]}
    )
    return {row.name: row for row in found}


def test_the_table_holds_every_control_in_order(rows):
    assert list(rows) == ["always mini", "always full", "random mix", "zero router", "router", "router, high", "oracle"]


def test_each_tier_alone_says_what_it_is(rows):
    assert rows["always mini"] == Row("always mini", 1.0, 0.25, (1.0, 0.0), "the cheapest")
    assert rows["always full"] == Row("always full", 4.0, 0.75, (0.0, 1.0), "the best single tier, the dearest")


def test_the_random_mix_is_half_way(rows):
    row = rows["random mix"]
    assert (row.cost_usd, row.quality, row.share) == (2.5, 0.5, (0.5, 0.5))


def test_the_router_at_its_default_and_at_a_named_setting(rows):
    assert rows["router"] == Row("router", 2.5, 0.5, (0.5, 0.5), "at its default")
    assert rows["router, high"] == Row("router, high", 4.0, 0.75, (0.0, 1.0))


def test_the_zero_router_is_shown_at_the_routers_cost(rows):
    row = rows["zero router"]
    assert (row.cost_usd, row.share) == (2.5, None)
    assert row.quality == pytest.approx(0.5)
    assert row.note.endswith("AIQ 0.5000")


def test_the_oracle_gives_the_best_answers_at_least_cost(rows):
    row = rows["oracle"]
    assert (row.cost_usd, row.quality, row.share) == (2.5, 0.75, (0.5, 0.5))
    assert row.note.endswith("AIQ 0.6250")


def test_the_oracle_takes_the_cheapest_of_equal_answers_even_against_the_ladder():
    assert oracle_choice(np.array([[0.5, 0.5, 0.1]]), np.array([[2.0, 1.0, 0.5]])).tolist() == [1]


def test_where_the_cheapest_is_the_best_the_mix_is_that_tier():
    found = summary_table([[0.9, 0.5]], [[1, 2]], tiers=["a", "b"], default_choice=[0])
    assert next(row for row in found if row.name == "random mix").share == (1.0, 0.0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"tiers": ["a"]}, "got 1 tier names"),
        ({"default_choice": [0.0]}, "type float64"),
        ({"default_choice": [0, 1]}, "covers 2 prompts"),
        ({"default_choice": [2]}, "chooses tiers 2 to 2"),
        ({"settings": {"high": [[1]]}}, "'router, high'"),
    ],
)
def test_mistakes_are_named(changed, message):
    with pytest.raises(InputError, match=message):
        summary_table([[0.1, 0.5]], [[1, 2]], **({"tiers": ["a", "b"], "default_choice": [0]} | changed))
