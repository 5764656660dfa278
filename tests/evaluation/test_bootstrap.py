from __future__ import annotations

import numpy as np
import pytest

from router_ml.errors import InputError
from router_ml.evaluation import Interval, Points, Sweep, frontier_metrics, paired_bootstrap, sweep_bar, sweep_value
from router_ml.evaluation.bootstrap import ZERO_ROUTER
from router_ml.evaluation.resampling import drawn_weights, measure, out_of_fold

# Coarse, so that the simulations below take seconds.
LAMS = np.concatenate(([0.0], np.geomspace(1, 2000, 15)))


def swept(world):
    return sweep_value(world.quality_hat, world.cost_hat, LAMS)


@pytest.fixture
def world(draw):
    return draw(np.random.default_rng(7), 400, 1.0)


def test_settings_are_picked_on_one_fold_and_measured_on_the_other():
    # Two tiers at 1 and 3 USD; folds A (prompts 0, 1) and B (2, 3). The middle setting sends the first prompt of each
    # fold to the dear tier: right on A, wrong on B. Points of A: (1, .25) (2, .75) (3, .75); of B: the middle (2, .25).
    quality = np.array([[0.0, 1.0], [0.5, 0.5], [0.5, 0.5], [0.0, 1.0]])
    cost = np.tile([1.0, 3.0], (4, 1))
    sweep = Sweep(np.arange(3.0), np.array([[0, 0, 0, 0], [1, 0, 1, 0], [1, 1, 1, 1]]))
    found = measure([sweep], quality, cost, [np.array([0, 1]), np.array([2, 3])], [np.ones((1, 4))])
    # At budgets 1, 2, 3 B's corners give A (1, .25) (2, .5) (3, .75), and A's give B (1, .25) (2, .25) (2, .25).
    # Together: (1, .25) (2, .375) (2.5, .5), flat on: (.3125 + .21875 + .25) / 2.
    assert found.aiq[0, 1] == pytest.approx(0.390625)
    # The single tiers are the line from .25 to .75 on both folds; the oracle has (2, .75), flat on.
    assert found.aiq[0, 0] == pytest.approx(0.5)
    assert found.oracle[0] == pytest.approx(0.625)
    # .75 is reached with the knob right up, at 3 USD; .7125 at 2.5 + .5 x .2125 / .25 = 2.925 USD.
    assert found.cost_save_100[0, 1] == pytest.approx(0)
    assert found.cost_save_95[0, 1] == pytest.approx(1 - 2.925 / 3)


def test_the_path_of_a_router_whose_folds_agree_is_its_hull():
    sums = Points(np.array([[1.0, 2.0, 4.0]] * 3), np.array([[0.2, 0.3, 0.8]] * 3))
    path = out_of_fold(sums, np.ones(3))
    np.testing.assert_allclose(path.cost, [1, 4, 4])
    np.testing.assert_allclose(path.quality, [0.2, 0.8, 0.8])


def test_one_fold_with_all_the_weight_leaves_nothing_to_pick_on():
    assert out_of_fold(Points(np.ones((2, 1)), np.ones((2, 1))), np.array([0.0, 3.0])) is None


def test_weights_count_like_repeated_prompts(world):
    drawn = np.random.default_rng(0).integers(0, 3, 400)
    folds = np.arange(150), np.arange(150, 400)
    weighted = measure([swept(world)], world.quality, world.cost, folds, [drawn[None].astype(float)])
    at, cut = np.repeat(np.arange(400), drawn), drawn[:150].sum()
    again = Sweep(swept(world).knob, swept(world).choices[:, at])
    folds = np.arange(cut), np.arange(cut, len(at))
    repeated = measure([again], world.quality[at], world.cost[at], folds, [np.ones((1, len(at)))])
    np.testing.assert_allclose(weighted.aiq, repeated.aiq, rtol=1e-9)
    np.testing.assert_allclose(weighted.cost_save_95, repeated.cost_save_95, rtol=1e-9)
    np.testing.assert_allclose(weighted.oracle, repeated.oracle, rtol=1e-9)


def test_every_resample_draws_n_prompts_after_the_prompts_as_they_are():
    weights = np.concatenate(list(drawn_weights(np.random.default_rng(0), 50, 20)))
    assert weights.shape == (21, 50)
    assert (weights[0] == 1).all()
    assert (weights.sum(axis=1) == 50).all()


def test_the_size_of_the_blocks_changes_nothing():
    small, large = (
        np.concatenate(list(drawn_weights(np.random.default_rng(0), 50, 20, width))) for width in (2_000_000, 1)
    )
    np.testing.assert_array_equal(small, large)


def test_the_same_seed_gives_the_same_result(world):
    found = [
        paired_bootstrap({"r": swept(world)}, world.quality, world.cost, n_resamples=50, random_state=3)
        for _ in range(2)
    ]
    # As text, since NaN isn't equal to itself.
    assert repr(found[0]) == repr(found[1])


def test_estimates_lie_near_the_plain_figures_and_inside_their_intervals(world):
    found = paired_bootstrap({"r": swept(world)}, world.quality, world.cost, n_resamples=200, random_state=0)
    plain = frontier_metrics(swept(world), world.quality, world.cost)
    own = found.routers["r"]
    for interval, figure, slack in (
        (found.zero_aiq, plain.zero, 0.01),
        (found.oracle_aiq, plain.oracle, 1e-12),
        (own.aiq, plain.aiq, 0.02),
        (own.gap_closed, plain.gap_closed, 0.1),
        (own.cost_save_95, plain.cost_save_95, 0.2),
    ):
        assert interval.low <= interval.estimate <= interval.high
        assert interval.estimate == pytest.approx(figure, abs=slack)


def test_a_router_does_not_differ_from_itself_and_differences_turn_round(world):
    sweeps = {"a": swept(world), "b": swept(world), "c": sweep_bar(world.quality_hat)}
    found = paired_bootstrap(sweeps, world.quality, world.cost, n_resamples=50, random_state=0)
    assert found.difference("a", "b").aiq == Interval(0.0, 0.0, 0.0)
    assert not found.difference("a", "b").aiq.excludes_zero
    there, back = found.difference("a", "c").aiq, found.difference("c", "a").aiq
    assert (there.estimate, there.low, there.high) == (-back.estimate, -back.high, -back.low)
    pairs = [(d.first, d.second) for d in found.differences]
    assert pairs == [("a", ZERO_ROUTER), ("b", ZERO_ROUTER), ("c", ZERO_ROUTER), ("a", "b"), ("a", "c"), ("b", "c")]
    assert found.difference("a").gap_closed == found.routers["a"].gap_closed


def test_constant_predictions_do_not_differ_from_the_zero_router(world):
    means = np.tile(world.quality.mean(axis=0), (400, 1)), np.tile(world.cost.mean(axis=0), (400, 1))
    found = paired_bootstrap({"r": sweep_value(*means)}, world.quality, world.cost, n_resamples=100, random_state=0)
    assert not found.difference("r").aiq.excludes_zero
    assert found.difference("r").aiq.estimate == pytest.approx(0, abs=1e-12)


def test_noise_is_seldom_called_better_than_the_zero_router_though_its_hull_is_above(draw):
    rng = np.random.default_rng(0)
    called, above = [], []
    for _ in range(30):
        world = draw(rng, 200, 0.0)
        found = paired_bootstrap({"r": swept(world)}, world.quality, world.cost, n_resamples=60, random_state=rng)
        called.append(found.difference("r").aiq.low > 0)
        above.append(frontier_metrics(swept(world), world.quality, world.cost).gap_closed > 0)
    assert np.mean(above) > 0.8  # what makes cross-fitting necessary
    assert np.mean(called) <= 0.05


def test_intervals_cover_the_truth_and_see_skill(draw):
    rng = np.random.default_rng(1)
    many = draw(rng, 100_000, 1.0)
    truth = frontier_metrics(swept(many), many.quality, many.cost)
    covered, boasted, seen = [], [], []
    for _ in range(30):
        world = draw(rng, 600, 1.0)
        found = paired_bootstrap({"r": swept(world)}, world.quality, world.cost, n_resamples=60, random_state=rng)
        gap, height = found.difference("r").gap_closed, found.routers["r"].aiq
        covered.append((gap.low <= truth.gap_closed <= gap.high, height.low <= truth.aiq <= height.high))
        boasted.append(gap.low > truth.gap_closed)
        seen.append(gap.low > 0)
    # Settings picked on four fifths of the prompts are a little worse than they could be: misses err on the low side.
    assert (np.mean(covered, axis=0) >= 0.85).all()
    assert np.mean(boasted) <= 0.05
    assert np.mean(seen) > 0.5


def test_quality_that_is_never_reached_leaves_the_saving_undefined(world):
    cheap = Sweep(np.zeros(1), np.zeros((1, 400), dtype=np.int8))
    found = paired_bootstrap({"r": cheap}, world.quality, world.cost, n_resamples=50, random_state=0)
    saving = found.routers["r"].cost_save_100
    assert np.isnan([saving.estimate, saving.low, saving.high]).all()
    assert not saving.excludes_zero


def test_two_prompts_are_enough_not_to_fail():
    found = paired_bootstrap(
        {"r": sweep_bar([[0.2, 0.9], [0.9, 0.95]])}, [[0, 1], [1, 1]], [[1, 2], [1, 2]], n_resamples=30, random_state=0
    )
    assert found.n_resamples == 30


@pytest.mark.parametrize(
    ("sweeps", "n_resamples", "message"),
    [
        ({}, 10, "needed at least one"),
        ({ZERO_ROUTER: sweep_bar([[0.2, 0.9]] * 3)}, 10, "none of them named"),
        ({"r": sweep_bar([[0.2, 0.9]] * 2)}, 10, "covers 2 prompts"),
        ({"r": sweep_bar([[0.2, 0.9]] * 3)}, 0, "n_resamples is 0"),
    ],
)
def test_mistakes_are_named(sweeps, n_resamples, message):
    with pytest.raises(InputError, match=message):
        paired_bootstrap(sweeps, [[0.1, 0.9]] * 3, [[1, 2]] * 3, n_resamples=n_resamples, random_state=0)


def test_one_prompt_and_unknown_pairs_are_refused(world):
    with pytest.raises(InputError, match="got one prompt"):
        paired_bootstrap({"r": sweep_bar([[0.2, 0.9]])}, [[0.1, 0.9]], [[1, 2]], random_state=0)
    found = paired_bootstrap({"r": swept(world)}, world.quality, world.cost, n_resamples=2, random_state=0)
    with pytest.raises(InputError, match="no difference of 'r' and 'q'"):
        found.difference("r", "q")
