"""The cascade: what the joint policy does, and that every call is paid for."""

from __future__ import annotations

import numpy as np
import pytest

from router_ml.core.probes import Probes
from router_ml.errors import InputError
from router_ml.evaluation.bootstrap import paired_bootstrap
from router_ml.evaluation.cascade import Cascade, cascade_figures, simulate_cascade
from router_ml.evaluation.frontier import points, sweep_value
from router_ml.evaluation.metrics import frontier_metrics

QUALITY, COST = np.array([[0.5, 0.6]] * 4), np.array([[1.0, 4.0]] * 4)
GOOD = np.array([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0], [1.0, 0.0]])
TOLD = {(0,): np.where(GOOD[:, [0]] > 0, [0.95, 0.6], [0.05, 0.6])}


def test_without_an_acceptance_model_it_is_the_router(draw):
    world = draw(np.random.default_rng(0), 200, 0.5)
    lams = [0.0, 10.0, 100.0]
    played = simulate_cascade(world.quality_hat, world.cost_hat, {}, world.quality, world.cost, lams=lams)
    routed = points(sweep_value(world.quality_hat, world.cost_hat, lams), world.quality, world.cost)
    assert played.cost_usd.mean(axis=1)[:3] == pytest.approx(routed.cost[:3])
    assert played.quality.mean(axis=1)[:3] == pytest.approx(routed.quality[:3])


def test_both_calls_are_paid_for_where_the_first_answer_is_not_accepted():
    played = simulate_cascade(QUALITY, COST, TOLD, GOOD, COST, lams=[0.1])
    assert played.cost_usd[0].tolist() == [1.0, 5.0, 5.0, 1.0]
    assert played.n_calls[0].tolist() == [1.0, 2.0, 2.0, 1.0]


def test_the_answer_used_is_the_best_of_those_seen():
    regret = {**TOLD, (0, 1): np.array([[0.9, 0.1]] * 4)}
    played = simulate_cascade(QUALITY, COST, regret, GOOD, COST, lams=[0.1])
    assert played.quality[0].tolist() == GOOD[:, 0].tolist()


def test_caution_keeps_it_from_asking_again():
    played = simulate_cascade(QUALITY, COST, TOLD, GOOD, COST, lams=[0.1], caution=2.0)
    assert played.n_calls[0].tolist() == [1.0] * 4


def test_probes_are_all_asked_before_anything_else_and_paid_for():
    cost = np.array([[1.0, 2.0, 30.0]] * 2)
    told = {(0, 1): np.array([[0.9, 0.8, 0.9], [0.1, 0.2, 0.9]])}
    probes = Probes((0.0,), (((), (), (0, 1)),))
    played = simulate_cascade(
        [[0.1, 0.1, 0.9]] * 2, cost, told, [[1, 0, 1], [0, 0, 1]], cost, lams=[0.01], probes=probes
    )
    assert played.cost_usd[0].tolist() == [3.0, 33.0]
    assert played.n_calls[0].tolist() == [2.0, 3.0]
    assert played.quality[0].tolist() == [1.0, 1.0]


def test_where_the_router_begins_elsewhere_nothing_is_probed():
    probes = Probes((0.0,), (((), (0, 1)),))
    same = [simulate_cascade(QUALITY, COST, TOLD, GOOD, COST, lams=[0.1], probes=p) for p in (None, probes)]
    assert np.array_equal(same[0].cost_usd, same[1].cost_usd)


def test_states_of_more_answers_than_were_learned_go_by_the_last():
    cost = np.array([[1.0, 2.0, 3.0]])
    told = {(t,): np.array([[0.1, 0.2, 0.3]]) for t in range(3)}
    played = simulate_cascade([[0.1, 0.1, 0.1]], cost, told, [[0.0, 0.0, 1.0]], cost, lams=[1e-6])
    assert (played.cost_usd[0, 0], played.quality[0, 0]) == (4.0, 1.0)  # the first, then the third


def test_the_last_setting_is_the_cheapest_tier_alone():
    played = simulate_cascade(QUALITY, COST, TOLD, GOOD, COST)
    assert (played.knob[-1], played.cost_usd[-1].tolist()) == (np.inf, [1.0] * 4)


def test_figures_are_those_of_the_frontier_where_nothing_is_asked_twice(draw):
    world = draw(np.random.default_rng(1), 300, 0.8)
    lams = np.geomspace(0.1, 1e4, 60)
    alone = simulate_cascade(world.quality_hat, world.cost_hat, {}, world.quality, world.cost, lams=lams)
    found = cascade_figures(alone, alone, world.quality, world.cost, caution=1.0, n_resamples=20, random_state=0)
    swept = frontier_metrics(sweep_value(world.quality_hat, world.cost_hat, lams), world.quality, world.cost)
    assert (found.aiq, found.gap_closed) == pytest.approx((swept.aiq, swept.gap_closed))
    assert (found.gain, found.gain_low, found.gain_high) == (0.0, 0.0, 0.0)


def test_an_acceptance_model_that_knows_gains_and_the_interval_says_so(draw):
    world = draw(np.random.default_rng(2), 600, 0.0)
    after = {(t,): np.where(np.arange(3) == t, world.quality, 0.8) for t in range(3)}
    tables = world.quality_hat, world.cost_hat
    cascade = simulate_cascade(*tables, after, world.quality, world.cost)
    alone = simulate_cascade(*tables, {}, world.quality, world.cost)
    found = cascade_figures(cascade, alone, world.quality, world.cost, caution=1.0, n_resamples=50, random_state=0)
    assert found.gain_low > 0.1


@pytest.mark.parametrize("options", [{"lams": [-1.0]}, {"lams": []}, {"caution": -1.0}])
def test_knobs_out_of_range_are_refused(options):
    with pytest.raises(InputError, match="lams"):
        simulate_cascade(QUALITY, COST, TOLD, GOOD, COST, **options)


def test_a_table_of_other_prompts_is_refused():
    with pytest.raises(InputError, match=r"after \(0,\)"):
        simulate_cascade(QUALITY, COST, {(0,): QUALITY[:2]}, GOOD, COST)


def test_its_points_are_means_over_prompts():
    played = Cascade(np.array([1.0]), np.array([[1.0, 3.0]]), np.array([[0.0, 1.0]]), np.ones((1, 2)))
    assert [part.tolist() for part in points(played, GOOD[:2], COST[:2])] == [[2.0], [0.5]]


def test_other_prompts_than_were_played_are_refused():
    played = simulate_cascade(QUALITY, COST, TOLD, GOOD, COST)
    with pytest.raises(InputError, match="covers 4 prompts and the tables 2"):
        points(played, GOOD[:2], COST[:2])


def test_intervals_are_those_of_the_sweep_where_nothing_is_asked_twice(draw):
    world = draw(np.random.default_rng(3), 200, 0.5)
    swept = sweep_value(world.quality_hat, world.cost_hat, [0.0, 10.0, 100.0])
    alone = simulate_cascade(world.quality_hat, world.cost_hat, {}, world.quality, world.cost, lams=[0.0, 10.0, 100.0])
    policies = {"swept": swept, "played": alone}
    found = paired_bootstrap(policies, world.quality, world.cost, n_resamples=20, random_state=0)
    assert found.routers["played"].gap_closed.low == pytest.approx(found.routers["swept"].gap_closed.low)
