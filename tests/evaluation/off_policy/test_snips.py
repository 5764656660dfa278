from __future__ import annotations

import numpy as np
import pytest

from router_ml.evaluation.off_policy import Logged, ips, snips

PI = np.array([[0.0, 1.0], [0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])


def test_by_hand():
    # Weights 4, 0, 1, 1.25.
    found = snips(Logged([1, 0, 1, 0], [1.0, 1.0, 0.5, 0.0], [0.25, 0.5, 0.5, 0.8]), PI)
    value = (4 + 0.5) / 6.25
    assert found.value == pytest.approx(value)
    influence = np.array([4, 0, 1, 1.25]) * (np.array([1, 1, 0.5, 0]) - value) / (6.25 / 4)
    assert found.standard_error == pytest.approx(influence.std(ddof=1) / 2)


def test_adding_a_constant_to_the_rewards_adds_it_to_the_estimate(draw_log):
    world = draw_log(np.random.default_rng(0), 300)
    raised = Logged(world.logged.action, world.logged.reward + 5, world.logged.propensity)
    before, after = snips(world.logged, world.pi), snips(raised, world.pi)
    assert after.value == pytest.approx(before.value + 5)
    assert after.high == pytest.approx(before.high + 5)


def test_its_interval_is_shorter_than_that_of_ips(draw_log):
    world = draw_log(np.random.default_rng(1), 1000)
    short, long = snips(world.logged, world.pi), ips(world.logged, world.pi)
    assert short.high - short.low < 0.7 * (long.high - long.low)
