from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from router_ml.errors import InputError
from router_ml.evaluation import (
    Hull,
    Sweep,
    aiq,
    best_single,
    constant,
    cost_range,
    cost_save,
    frontier_metrics,
    gap_closed,
    oracle_hull,
    sweep_bar,
    sweep_value,
    zero_router_hull,
)

tables = arrays(np.float64, st.tuples(st.integers(2, 10), st.just(3)), elements=st.floats(0, 1, allow_subnormal=False))
ladder = np.array([1.0, 2.0, 5.0])


def test_all_figures_of_the_worked_example(example):
    quality, cost, predicted = example
    # The router's points are (1, .25) (1.75, .5) (2.5, .5) (3.25, .75) (4, .75); its hull skips the third.
    found = frontier_metrics(sweep_value(predicted, cost), quality, cost)
    assert (found.low_usd, found.high_usd) == (1.0, 4.0)
    # .75 x (.25 + .5) / 2 + 1.5 x (.5 + .75) / 2 + .75 x .75 = 1.78125, over a range of 3 USD.
    assert found.aiq == pytest.approx(0.59375)
    # The line from (1, .25) to (4, .75).
    assert found.zero == pytest.approx(0.5)
    # (1, .25) to (2.5, .75), then flat: (.75 + 1.125) / 3.
    assert found.oracle == pytest.approx(0.625)
    assert found.gap_closed == pytest.approx(0.75)
    # Quality .75 is reached at 3.25 USD instead of 4; .7125 at 1.75 + 1.5 x .2125 / .25 = 3.025 USD.
    assert found.cost_save_100 == pytest.approx(0.1875)
    assert found.cost_save_95 == pytest.approx(0.24375)


def test_aiq_counts_nothing_left_of_the_first_point():
    assert aiq(Hull(np.array([2.0]), np.array([0.6])), 1.0, 3.0) == pytest.approx(0.3)


def test_aiq_forgives_rounding_at_the_first_point():
    assert aiq(Hull(np.array([1.0 + 1e-14]), np.array([0.6])), 1.0, 3.0) == pytest.approx(0.6, abs=1e-15)


def test_aiq_leaves_out_what_lies_outside_the_range():
    # From 1 to 3 the line through (0, 0) and (4, 1) has a mean height of 1/2.
    assert aiq(Hull(np.array([0.0, 4.0, 9.0]), np.array([0.0, 1.0, 1.2])), 1.0, 3.0) == pytest.approx(0.5)


def test_the_zero_router_skips_a_tier_that_mixing_beats():
    quality, cost = np.array([[0.2, 0.3, 0.8]]), np.array([[1.0, 2.0, 3.0]])
    found = zero_router_hull(quality, cost)
    assert (found.cost.tolist(), found.quality.tolist()) == ([1.0, 3.0], [0.2, 0.8])


def test_the_oracle_of_the_worked_example(example):
    quality, cost, _ = example
    found = oracle_hull(quality, cost)
    np.testing.assert_allclose(found.cost, [1.0, 1.75, 2.5])
    np.testing.assert_allclose(found.quality, [0.25, 0.5, 0.75])


def test_the_oracle_begins_at_each_prompts_own_cheapest_tier():
    found = oracle_hull([[0.5, 0.5], [0.1, 0.4]], [[1.0, 3.0], [3.0, 2.0]])
    assert found.cost[0] == pytest.approx(1.5)
    assert found.quality[0] == pytest.approx(0.45)


@settings(max_examples=50)
@given(tables, tables)
def test_no_sweep_rises_above_the_oracle(quality, predicted):
    cost = ladder * np.linspace(0.5, 2, len(quality))[:, None]
    predicted = np.resize(predicted, quality.shape)
    for sweep in (sweep_value(predicted, cost), sweep_bar(predicted), sweep_value(quality, cost)):
        found = frontier_metrics(sweep, quality, cost)
        assert found.oracle >= found.aiq - 1e-9
        assert found.oracle >= found.zero - 1e-9


@settings(max_examples=50)
@given(tables, st.randoms(use_true_random=False))
def test_the_order_of_prompts_does_not_matter(quality, random):
    cost = ladder * np.linspace(0.5, 2, len(quality))[:, None]
    sweep = sweep_value(quality, cost)
    order = list(range(len(quality)))
    random.shuffle(order)
    before = frontier_metrics(sweep, quality, cost)
    after = frontier_metrics(Sweep(sweep.knob, sweep.choices[:, order]), quality[order], cost[order])
    assert after.aiq == pytest.approx(before.aiq, abs=1e-12)
    assert after.oracle == pytest.approx(before.oracle, abs=1e-12)


def test_the_value_sweep_of_the_truth_closes_the_gap_but_for_its_grid(draw):
    world = draw(np.random.default_rng(0), 500, 1.0)
    found = frontier_metrics(sweep_value(world.quality, world.cost), world.quality, world.cost)
    assert found.gap_closed == pytest.approx(1.0, abs=1e-3)


def test_constant_predictions_are_the_zero_router(draw):
    world = draw(np.random.default_rng(0), 500, 1.0)
    means = np.tile(world.quality.mean(axis=0), (500, 1)), np.tile(world.cost.mean(axis=0), (500, 1))
    assert frontier_metrics(sweep_value(*means), world.quality, world.cost).gap_closed == pytest.approx(0, abs=1e-9)


def test_always_one_tier_saves_nothing_where_it_is_the_best(example):
    quality, cost, _ = example
    found = frontier_metrics(constant(4, 1), quality, cost)
    assert found.cost_save_100 == 0
    assert found.aiq == 0  # nothing can be had for less than the range's end


def test_the_gap_is_undefined_where_the_oracle_gains_nothing():
    assert np.isnan(gap_closed(0.5, 0.5, 0.5))
    assert gap_closed(0.4, 0.5, 0.7) == pytest.approx(-0.5)


@pytest.mark.parametrize(("x", "saved"), [(1.0, 0.2), (0.5, 0.6), (0.1, 0.9), (1.1, np.nan)])
def test_cost_save_reads_the_polyline(x, saved):
    # Against quality .8 at 10 USD: .8 is had for 8 USD, .4 for 4, .08 for the first point's 1, .88 not at all.
    curve = Hull(np.array([1.0, 4.0, 8.0]), np.array([0.2, 0.4, 0.8]))
    assert cost_save(curve, 10.0, 0.8, x) == pytest.approx(saved, nan_ok=True)


def test_cost_save_is_negative_where_the_router_needs_more():
    assert cost_save(Hull(np.array([6.0]), np.array([0.9])), 5.0, 0.8) == pytest.approx(-0.2)


def test_cost_save_against_a_free_tier_is_undefined():
    assert np.isnan(cost_save(Hull(np.array([0.0]), np.array([0.9])), 0.0, 0.8))


def test_ties_for_the_best_tier_go_to_the_cheapest():
    assert best_single([[0.2, 0.7, 0.7], [0.2, 0.7, 0.7]], [[1.0, 3.0, 2.0], [1.0, 3.0, 2.0]]) == 2


def test_the_cost_range_begins_at_the_first_tier_even_where_another_is_cheaper():
    assert cost_range(np.array([[2.0, 1.9, 5.0, 4.0]])) == (2.0, 5.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cost_range(np.array([[2.0, 1.0]])), "cheapest first"),
        (lambda: aiq(Hull(np.array([1.0]), np.array([0.5])), 2.0, 2.0), "low < high"),
        (lambda: frontier_metrics(constant(1, 0), [[0.5, np.nan]], [[1.0, 2.0]]), "NaN"),
        (lambda: frontier_metrics(constant(1, 0), [[0.5]], [[1.0]]), "one tier"),
        (lambda: frontier_metrics(constant(2, 0), [[0.5, 0.6]], [[1.0, 2.0]]), "covers 2 prompts"),
        (lambda: best_single([[0.5, 0.6]], [[1.0, 2.0, 3.0]]), "the shape of the tables beside it"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(InputError, match=message):
        call()
