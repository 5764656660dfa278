from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from router_ml.core.policy import choose_by_threshold, choose_by_utility
from router_ml.errors import InputError
from router_ml.evaluation import Hull, Sweep, constant, hull, points, sweep_bar, sweep_value

unit = st.floats(0, 1, allow_subnormal=False)
clouds = arrays(np.float64, st.tuples(st.integers(1, 30), st.just(2)), elements=unit)
tables = arrays(np.float64, st.tuples(st.integers(1, 12), st.integers(2, 5)), elements=unit)


def test_value_takes_the_dear_tier_only_while_its_gain_is_worth_the_price(example):
    _, cost, predicted = example  # gains .1, .8, .3, .5 for 3 USD more
    sweep = sweep_value(predicted, cost, [0.0, 0.05, 0.12, 0.2, 0.3])
    np.testing.assert_array_equal(sweep.choices, [[1, 1, 1, 1], [0, 1, 1, 1], [0, 1, 0, 1], [0, 1, 0, 0], [0, 0, 0, 0]])


def test_value_gives_ties_to_the_cheaper_tier():
    assert sweep_value([[0.5, 0.5, 0.5]], [[1.0, 2.0, 3.0]], [0.0]).choices[0].tolist() == [0]


def test_bar_takes_the_cheapest_that_reaches_and_else_the_likeliest():
    p = [[0.9, 0.95, 0.5], [0.2, 0.6, 0.7], [0.3, 0.2, 0.3]]
    sweep = sweep_bar(p, [0.6, 0.99, 0.0])
    np.testing.assert_array_equal(sweep.choices, [[0, 1, 0], [1, 2, 0], [0, 0, 0]])


@pytest.mark.parametrize("lams", [[0.0], [0.0, 0.01]])
def test_value_appends_always_the_cheapest_where_no_setting_is_it(example, lams):
    _, cost, predicted = example
    sweep = sweep_value(predicted, cost, lams)
    assert sweep.knob.tolist() == [*lams, np.inf]
    assert not sweep.choices[-1].any()


def test_bar_appends_always_the_cheapest_where_no_setting_is_it():
    sweep = sweep_bar([[0.2, 0.8], [0.9, 0.95]], [0.5])
    assert sweep.knob.tolist() == [0.5, 0.0]
    assert sweep.choices.tolist() == [[1, 0], [0, 0]]


def test_the_cheapest_end_is_not_appended_twice(example):
    _, cost, predicted = example
    assert sweep_value(predicted, cost, [0.0, 9.0]).knob.tolist() == [0.0, 9.0]


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e6])
def test_the_default_lams_adapt_to_the_scale_of_cost(scale):
    rng = np.random.default_rng(0)
    quality, cost = rng.random((200, 3)), np.array([1.0, 2.0, 5.0]) * rng.lognormal(0, 1, (200, 1))
    sweep = sweep_value(quality, cost * scale)
    assert len(sweep.knob) >= 300
    np.testing.assert_array_equal(sweep.choices[0], quality.argmax(axis=1))
    assert not sweep.choices[-1].any()
    assert len(np.unique(sweep.choices, axis=0)) > 150


def test_the_default_thresholds_reach_from_the_likeliest_to_the_cheapest():
    p = np.random.default_rng(0).random((500, 3))
    sweep = sweep_bar(p)
    assert len(sweep.knob) >= 300
    assert sweep.knob[0] > 1
    assert sweep.knob[-1] == 0
    np.testing.assert_array_equal(sweep.choices[0], p.argmax(axis=1))
    assert not sweep.choices[-1].any()


@settings(max_examples=50)
@given(tables, tables)
def test_what_is_swept_is_what_the_core_would_choose(p, cost):
    cost = np.resize(cost, p.shape)
    bar, value = sweep_bar(p), sweep_value(p, cost)
    for s in range(0, len(bar.knob), 7):
        np.testing.assert_array_equal(bar.choices[s], choose_by_threshold(p, bar.knob[s]))
    for s in range(0, len(value.knob) - 1, 7):
        np.testing.assert_array_equal(value.choices[s], choose_by_utility(p, cost, value.knob[s]))


def test_points_are_means_of_what_was_picked(example):
    quality, cost, _ = example
    sweep = Sweep(np.array([0.0, 1.0]), np.array([[0, 1, 0, 1], [1, 1, 1, 1]]))
    at = points(sweep, quality, cost)
    assert at.cost.tolist() == [2.5, 4.0]
    assert at.quality.tolist() == [0.5, 0.75]


def test_weights_count_prompts_as_often_as_they_say(example):
    quality, cost, _ = example
    sweep = Sweep(np.array([0.0]), np.array([[0, 1, 0, 1]]))
    weighted = points(sweep, quality, cost, [[1, 1, 1, 1], [2, 0, 1, 1], [0, 0, 0, 0]])
    again = points(Sweep(sweep.knob, sweep.choices[:, [0, 0, 2, 3]]), quality[[0, 0, 2, 3]], cost[[0, 0, 2, 3]])
    np.testing.assert_allclose(weighted.cost[:2, 0], [2.5, again.cost[0]])
    np.testing.assert_allclose(weighted.quality[:2, 0], [0.5, again.quality[0]])
    assert np.isnan(weighted.cost[2]).all()


def test_constant_sends_everything_to_one_tier():
    assert constant(3, 2).choices.tolist() == [[2, 2, 2]]


def test_the_hull_of_a_worked_example():
    found = hull([1.0, 1.75, 2.5, 3.25, 4.0], [0.25, 0.5, 0.5, 0.75, 0.75])
    assert found.cost.tolist() == [1.0, 1.75, 3.25]
    assert found.quality.tolist() == [0.25, 0.5, 0.75]


def test_of_equally_cheap_points_the_hull_keeps_the_best():
    found = hull([1.0, 1.0, 2.0], [0.1, 0.4, 0.3])
    assert (found.cost.tolist(), found.quality.tolist()) == ([1.0], [0.4])


def test_a_hull_interpolates_is_flat_to_the_right_and_undefined_to_the_left():
    curve = Hull(np.array([1.0, 3.0]), np.array([0.2, 0.6]))
    np.testing.assert_allclose(curve.at([0.9, 1.0, 2.0, 3.0, 99.0]), [np.nan, 0.2, 0.4, 0.6, 0.6])
    assert curve.at(1.0 - 1e-15) == pytest.approx(0.2)


@given(clouds)
def test_a_hull_is_above_every_point_concave_and_rising(cloud):
    cost, quality = cloud.T
    found = hull(cost, quality)
    assert (found.at(cost) >= quality - 1e-9).all()
    assert (np.diff(found.cost) > 0).all()
    assert (np.diff(found.quality) > 0).all()
    gain, run = np.diff(found.quality), np.diff(found.cost)
    assert (gain[:-1] * run[1:] >= gain[1:] * run[:-1] - 1e-12).all()


@given(clouds)
def test_a_hull_is_made_of_its_points_and_hulling_again_changes_nothing(cloud):
    found = hull(*cloud.T)
    assert {*zip(found.cost, found.quality, strict=True)} <= {*map(tuple, cloud)}
    again = hull(found.cost, found.quality)
    np.testing.assert_array_equal(again.cost, found.cost)


@given(tables)
def test_value_with_the_truth_reaches_the_best_mean_quality_at_lam_0(quality):
    cost = np.arange(1.0, quality.shape[1] + 1) * np.ones((len(quality), 1))
    at = points(sweep_value(quality, cost), quality, cost)
    assert at.quality[0] == pytest.approx(quality.max(axis=1).mean())
    assert at.quality[0] == pytest.approx(at.quality.max())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sweep_value([[0.5, np.nan]], [[1.0, 2.0]]), "quality holds 1 NaN .* prompt 0, tier 1"),
        (lambda: sweep_value([[0.5, 0.6]], [[1.0, 2.0], [1.0, 2.0]]), r"shape \(1, 2\); needed \(2, 2\)"),
        (lambda: sweep_value([[0.5]], [[1.0]]), "one tier"),
        (lambda: sweep_value([0.5, 0.6], [1.0, 2.0]), r"needed \[n prompts, T tiers\]"),
        (lambda: sweep_value([[0.5, 0.6]], [[1.0, 2.0]], [-1.0]), "lams holds -1"),
        (lambda: sweep_value([[0.5, 0.6]], [[1.0, 2.0]], [np.inf]), "lams .* finite"),
        (lambda: sweep_bar([[0.5, 1.6]]), "needed probabilities"),
        (lambda: sweep_bar([[0.5, 0.6]], []), "thresholds has shape"),
        (lambda: points(constant(3, 0), np.ones((2, 2)), np.ones((2, 2))), "covers 3 prompts and the tables 2"),
        (lambda: points(constant(2, 2), np.ones((2, 2)), np.ones((2, 2))), "needed 0 to 1"),
        (lambda: points(constant(2, 0), np.ones((2, 2)), -np.ones((2, 2))), "cost_usd is -1 at prompt 0"),
        (lambda: points(constant(2, 0), np.ones((2, 2)), np.ones((2, 2)), [1.0, 1.0]), r"needed \[B, 2\]"),
        (lambda: Sweep(np.zeros(2), np.zeros((1, 3), dtype=int)), r"needed knob \[S\]"),
        (lambda: constant(0, 0), "n >= 1"),
        (lambda: hull([], []), "a hull got"),
        (lambda: hull([1.0, np.nan], [0.1, 0.2]), "without NaN"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(InputError, match=message):
        call()
