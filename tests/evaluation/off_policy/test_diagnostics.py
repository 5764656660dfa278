from __future__ import annotations

import numpy as np
import pytest

from router_ml.errors import InputError
from router_ml.evaluation.off_policy import Logged, check_overlap, require_overlap


def test_figures_by_hand():
    logged = Logged([1, 0, 1, 0], [1.0, 1.0, 0.5, 0.0], [0.25, 0.5, 0.5, 0.8])
    pi = [[0.0, 1.0], [0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]
    behaviour = [[0.75, 0.25], [0.995, 0.005], [0.5, 0.5], [0.8, 0.2]]
    found = check_overlap(logged, pi, logging_policy=behaviour)
    # Weights 4, 0, 1, 1.25; the second prompt's tier has a propensity under .01.
    assert found.effective_n == pytest.approx(6.25**2 / 18.5625)
    assert (found.largest_weight, found.largest_share) == (4.0, pytest.approx(4 / 6.25))
    assert (found.mean_weight, found.unsupported, found.never_tried) == (pytest.approx(1.5625), 0.25, ())
    assert not found.answerable


def test_a_log_with_exploration_can_answer(draw_log):
    world = draw_log(np.random.default_rng(0), 1000)
    assert require_overlap(world.logged, world.pi).answerable
    assert require_overlap(world.logged, world.pi, logging_policy=world.behaviour).unsupported == 0


def test_a_log_without_exploration_can_not(draw_log):
    # Serves tiers 0 and 1 only, each where the target mostly does: on the last 30 % the target uses tier 2.
    world = draw_log(np.random.default_rng(0), 2000, 1e-9)
    found = check_overlap(world.logged, world.pi)
    assert found.never_tried == (2,)
    assert found.unsupported == pytest.approx(0.4, abs=0.04)  # and tier 1 on a further 10 %
    assert check_overlap(world.logged, world.pi, logging_policy=world.behaviour).unsupported == pytest.approx(
        0.4, abs=0.04
    )
    with pytest.raises(InputError, match=r"never tried.*hardly ever tried"):
        require_overlap(world.logged, world.pi)


def test_a_policy_of_which_nothing_was_logged_has_no_effective_rows():
    found = check_overlap(Logged([0, 0], [1.0, 0.0], [1.0, 1.0]), [[0.0, 1.0]] * 2)
    assert (found.effective_n, found.mean_weight, found.unsupported) == (0, 0, 1)
    assert np.isnan(found.largest_share)
    assert len(found.problems) == 3


def test_propensities_that_are_too_low_are_noticed(draw_log):
    world = draw_log(np.random.default_rng(1), 3000)
    halved = Logged(world.logged.action, world.logged.reward, world.logged.propensity / 2)
    assert any("mean weight is" in problem for problem in check_overlap(halved, world.pi).problems)


def test_sound_logs_are_seldom_refused(draw_log):
    rng = np.random.default_rng(2)
    worlds = [draw_log(rng, 500) for _ in range(200)]
    assert np.mean([check_overlap(world.logged, world.pi).answerable for world in worlds]) >= 0.97


def test_mistakes_are_named():
    logged = Logged([0, 1], [1.0, 0.0], [0.5, 0.5])
    with pytest.raises(InputError, match="floor is 0"):
        check_overlap(logged, [[0.5, 0.5]] * 2, floor=0)
    with pytest.raises(InputError, match="logging_policy has shape"):
        check_overlap(logged, [[0.5, 0.5]] * 2, logging_policy=[[0.5, 0.5]])
