from __future__ import annotations

import numpy as np
import pytest

from router_ml.evaluation.off_policy import Logged, ips

PI = np.array([[0.0, 1.0], [0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])
LOGGED = Logged([1, 0, 1, 0], [1.0, 1.0, 0.5, 0.0], [0.25, 0.5, 0.5, 0.8])


def test_by_hand():
    # Weights 1/.25, 0/.5, .5/.5, 1/.8; values 4, 0, .5, 0.
    found = ips(LOGGED, PI)
    assert found.value == pytest.approx(4.5 / 4)
    assert found.effective_n == pytest.approx(6.25**2 / (16 + 1 + 1.5625))
    spread = np.std([4, 0, 0.5, 0], ddof=1)
    assert found.standard_error == pytest.approx(spread / 2)
    # Two more rows of the largest weight and reward, 4 x 1: the variance grows by 2 x 16 / 4.
    assert found.high - found.value == pytest.approx(1.959964 * np.sqrt((spread**2 + 8) / 4))
    assert found.clipped_mass == 0


def test_clipped_by_hand():
    # Weights 2, 0, 1, 1.25: 2 of 4 is lost from one row, a mass of 2/4; they sum to 4.25, so the other estimate is
    # 1 - 4.25/4 < 0. Rewards run from 0 to 1: the interval goes up by .5 and down by nothing.
    found = ips(LOGGED, PI, max_weight=2)
    assert found.value == pytest.approx((2 + 0.5) / 4)
    assert found.clipped_mass == pytest.approx(0.5)
    assert found.high - found.value == pytest.approx(found.value - found.low + 0.5)


def test_it_is_unbiased(draw_log, truth):
    rng = np.random.default_rng(0)
    found = []
    for _ in range(400):
        world = draw_log(rng, 200)
        found.append(ips(world.logged, world.pi).value)
    assert np.mean(found) == pytest.approx(truth, abs=3 * np.std(found) / 20)
