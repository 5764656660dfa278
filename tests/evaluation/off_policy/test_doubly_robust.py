from __future__ import annotations

import numpy as np
import pytest

from router_ml.evaluation.off_policy import Logged, doubly_robust, ips


def test_by_hand():
    logged = Logged([1, 0], [1.0, 0.0], [0.5, 0.8])
    found = doubly_robust(logged, [[0.0, 1.0], [1.0, 0.0]], [[0.2, 0.6], [0.3, 0.9]])
    # .6 + 2 x (1 - .6) = 1.4, and .3 + 1.25 x (0 - .3) = -.075.
    assert found.value == pytest.approx((1.4 - 0.075) / 2)
    assert found.standard_error == pytest.approx(np.std([1.4, -0.075], ddof=1) / np.sqrt(2))


def test_it_is_right_where_either_the_model_or_the_propensities_are(draw_log, truth):
    rng = np.random.default_rng(0)
    wrong_model, wrong_propensities, both_wrong = [], [], []
    for _ in range(60):
        world = draw_log(rng, 1000, 0.6)
        flat = Logged(world.logged.action, world.logged.reward, np.full(1000, 0.9))
        wrong_model.append(doubly_robust(world.logged, world.pi, world.wrong).value)
        wrong_propensities.append(doubly_robust(flat, world.pi, world.right).value)
        both_wrong.append(doubly_robust(flat, world.pi, world.wrong).value)
    assert np.mean(wrong_model) == pytest.approx(truth, abs=0.01)
    assert np.mean(wrong_propensities) == pytest.approx(truth, abs=0.01)
    assert abs(np.mean(both_wrong) - truth) > 0.02


def test_a_good_model_makes_it_sharper_than_ips(draw_log):
    world = draw_log(np.random.default_rng(1), 1000)
    sharp, blunt = doubly_robust(world.logged, world.pi, world.right), ips(world.logged, world.pi)
    assert sharp.standard_error < 0.6 * blunt.standard_error
